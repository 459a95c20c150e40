"""The plain stack: two Starlette routes over psycopg's pool, on uvicorn as we run it. What HTTP and one statement cost.

`python -m benchmarks.contenders.plain URL` says its port and serves until it is terminated.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import uvicorn
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

SCHEMA = """
CREATE TABLE job (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), processor text NOT NULL, input jsonb NOT NULL,
                  state text NOT NULL DEFAULT 'queued', created_at timestamptz NOT NULL DEFAULT now())
"""
INSERT = """
WITH new AS (INSERT INTO job (processor, input) VALUES (%s, %s) RETURNING id, processor, input, state, created_at::text)
SELECT new.*, pg_notify('job', new.id::text)::text AS told FROM new
"""
SELECT = "SELECT id, processor, input, state, created_at::text FROM job WHERE id = %s"


def application(url: str) -> Starlette:
    """Submit and read, one statement each."""
    pool = AsyncConnectionPool(
        url, min_size=2, max_size=8, open=False, kwargs={"row_factory": dict_row, "autocommit": True}
    )

    @asynccontextmanager
    async def opened(app: Starlette) -> AsyncIterator[None]:
        del app
        async with pool:
            yield

    async def answer(status: int, query: str, *values: object) -> JSONResponse:
        async with pool.connection() as connection:
            row = await (await connection.execute(query.encode(), values)).fetchone()
        assert row is not None
        return JSONResponse(dict(row, id=str(row["id"])), status)  # type: ignore[call-overload]

    async def submit(request: Request) -> JSONResponse:
        job = await request.json()
        return await answer(202, INSERT, job["processor"], Jsonb(job["input"]))

    async def read(request: Request) -> JSONResponse:
        return await answer(200, SELECT, UUID(request.path_params["id"]))

    routes = [Route("/v1/jobs", submit, methods=["POST"]), Route("/v1/jobs/{id}", read)]
    return Starlette(routes=routes, lifespan=opened)


def main() -> None:
    """Listen on a free port."""
    # With the protocol named, asyncio sets TCP_NODELAY on what it accepts.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    server = uvicorn.Server(
        uvicorn.Config(application(sys.argv[1]), http="httptools", log_level="warning", access_log=False)
    )
    print("ready", listener.getsockname()[1], flush=True)
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
