"""Having a script written by an OpenAI-compatible API, at the address that the operator has named."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from ipaddress import ip_network
from typing import Any

from vidqueue.errors import VidqueueError, WaitingError
from vidqueue.ops.addresses import AddressGuard, parse_url
from vidqueue.ops.http_client import ExchangeError, Stop, exchange
from vidqueue.processors.base import Context
from vidqueue.processors.compose import ComposeSettings

_ANSWER_S = 180.0
_TICK_S = 0.1
_MOST_BYTES = 1024 * 1024
_LONGEST = 20_000
_ASKED = (
    "Write the narration of a short video about the subject that follows, in its language. Answer with the "
    "words to be spoken and nothing else: no title, no headings, no lists, no stage directions, no markup.\n\nSubject: "
)


def written(subject: str, config: ComposeSettings, ctx: Context) -> str:
    """The script about a subject.

    Raises:
        WaitingError: the API does not answer.
        VidqueueError: `model_failed`, its answer is no script.
        CanceledError: the job was canceled.
    """
    asked = {"model": config.script_model, "messages": [{"role": "user", "content": _ASKED + subject}], "stream": False}
    stop = Stop()
    with ThreadPoolExecutor(1, "script") as pool:
        answering = pool.submit(_answer, config, json.dumps(asked).encode(), _headers(config, ctx), stop)
        try:
            while True:
                ctx.check_canceled()
                try:
                    status, data = answering.result(_TICK_S)
                    break
                except NotYetError:
                    continue
        except ExchangeError as error:
            raise WaitingError(
                "peer_unavailable", f"The service that writes scripts: {error}.", retry_after_s=30
            ) from error
        finally:
            stop.stop()
    if status != 200:
        words = data[:300].decode("utf-8", "replace")
        raise VidqueueError("model_failed", f"The service that writes scripts answered with status {status}: {words}")
    return _script(data)


def _headers(config: ComposeSettings, ctx: Context) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if config.script_key_file is not None:
        key = config.script_key_file.read_text(encoding="utf-8").strip()
        ctx.redact(key)
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _answer(config: ComposeSettings, body: bytes, headers: dict[str, str], stop: Stop) -> tuple[int, bytes]:
    url = parse_url(config.script_url.rstrip("/") + "/chat/completions")
    # The operator has named it, so it may be anywhere.
    guard = AddressGuard([ip_network("0.0.0.0/0"), ip_network("::/0")], "compose.script_url")
    found = bytearray()
    with exchange(url, guard, stop, method="POST", headers=headers, body=body, idle_s=_ANSWER_S) as answer:
        for piece in answer.body:
            found += piece
            if len(found) > _MOST_BYTES:
                break
    return answer.status, bytes(found)


def _script(data: bytes) -> str:
    try:
        told: Any = json.loads(data)
        script = str(told["choices"][0]["message"]["content"]).strip()
    except (ValueError, LookupError, TypeError, RecursionError):
        script = ""
    if not script:
        raise VidqueueError("model_failed", "The answer of the service that writes scripts has no script.")
    return script[:_LONGEST]
