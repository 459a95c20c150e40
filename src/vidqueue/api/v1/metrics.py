"""Figures for Prometheus over HTTP."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.endpoint import Answer, Endpoint
from vidqueue.api.metrics.exposition import CONTENT_TYPE, Metrics


async def get_metrics(request: Request) -> Response:
    """Read the figures of the queue, of all lanes and of this process, for Prometheus."""
    metrics: Metrics = request.app.state.metrics
    return Response(await metrics.text(), media_type=CONTENT_TYPE)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/metrics",
        handler=get_metrics,
        tag="probes",
        answers={200: Answer("The figures, in Prometheus' text format.", {"text/plain": None})},
    ),
)
