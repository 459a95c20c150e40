"""Client of the configured OpenAI-compatible API that writes scripts and search terms."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from vidqueue.errors import VidqueueError, WaitingError
from vidqueue.ops import active_time
from vidqueue.ops.addresses import AddressGuard, parse_url
from vidqueue.ops.http_client import ExchangeError, Stop, exchange
from vidqueue.processors.parts.film_settings import ComposeSettings

_ANSWER_S = 180.0
_TICK_S = 0.1
_MOST_BYTES = 1024 * 1024
_LONGEST = 20_000
_LONGEST_TERM = 100
_AGAIN_S = 30.0
_SERVICE, _OF_SERVICE = "The service that writes scripts", "The answer of the service that writes scripts"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ASKED = (
    "Write the narration of a short video about the subject that follows, {language}{paragraphs}. Answer with the "
    "words to be spoken and nothing else: no title, no headings, no lists, no stage directions, no markup.\n\nSubject: "
)
_ASKED_TERMS = (
    "Name {amount} search terms for stock videos that suit the video that follows. Each has one to three words, in "
    'English. Answer with a JSON array of strings and nothing else, such as ["calm sea", "fishing boat"].'
    "\n\nSubject: {subject}\n\nNarration: {script}"
)


@dataclass(frozen=True, slots=True)
class ScriptWriter:
    """The API of the configuration.

    Attributes:
        config: the section `compose`; `script_url` is set.
        check: called ten times a second while the client waits for the response; an exception from it ends the wait.
        redact: called with the API key, which must not appear in logs and errors.

    Each method may raise:
        WaitingError: the API does not answer, or is too busy to.
        VidqueueError: `model_failed`, its answer is not what was asked for; `processor_unavailable`, its key is lost.
    """

    config: ComposeSettings
    check: Callable[[], None]
    redact: Callable[[str], None] = lambda secret: None

    def script(self, subject: str, *, language: str = "", paragraphs: int = 1) -> str:
        """Return a script about a subject, in its language if no other one is given."""
        asked = _ASKED.format(
            language=f"in this language: {language}" if language else "in its language",
            paragraphs=f", in {paragraphs} paragraphs" if paragraphs > 1 else "",
        )
        return self._asked(asked + subject)[:_LONGEST]

    def terms(self, subject: str, script: str, amount: int) -> list[str]:
        """Return search terms for stock videos, at most `amount`."""
        answer = self._asked(_ASKED_TERMS.format(amount=amount, subject=subject, script=script))
        try:
            told: Any = json.loads(answer[answer.index("[") : answer.rindex("]") + 1])
        except (ValueError, RecursionError):
            told = []
        found = [one.strip()[:_LONGEST_TERM] for one in told if isinstance(one, str) and one.strip()]
        if not found:
            raise VidqueueError("model_failed", f"{_OF_SERVICE} has no terms.")
        return found[:amount]

    def _asked(self, prompt: str) -> str:
        """Return the response of the model."""
        messages = [{"role": "user", "content": prompt}]
        asked = {"model": self.config.script_model, "messages": messages, "stream": False}
        stop = Stop()
        pool = ThreadPoolExecutor(1, "script")
        try:
            answering = pool.submit(_answer, self.config, json.dumps(asked).encode(), self._headers(), stop)
            status, data = self._waited_for(answering)
        except ExchangeError as error:
            raise WaitingError("peer_unavailable", f"{_SERVICE}: {error}.", retry_after_s=_AGAIN_S) from error
        finally:
            stop.stop()
            # A thread that still looks for the address cannot be stopped.
            pool.shutdown(wait=False)
        return _content(_judged(status, data))

    def _waited_for(self, answering: Future[tuple[int, bytes]]) -> tuple[int, bytes]:
        until = active_time.now() + _ANSWER_S
        while True:
            self.check()
            try:
                return answering.result(_TICK_S)
            except NotYetError:
                if active_time.now() > until:
                    raise WaitingError(
                        "peer_unavailable", f"{_SERVICE} took longer than {_ANSWER_S:g} s.", retry_after_s=_AGAIN_S
                    ) from None

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.config.script_key_file is not None:
            try:
                key = self.config.script_key_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeError) as error:
                raise VidqueueError(
                    "processor_unavailable",
                    f"The key of the service that writes scripts cannot be read: {error}.",
                    hint="Correct compose.script_key_file.",
                ) from error
            self.redact(key)
            headers["Authorization"] = f"Bearer {key}"
        return headers


def _answer(config: ComposeSettings, body: bytes, headers: dict[str, str], stop: Stop) -> tuple[int, bytes]:
    url = parse_url(config.script_url.rstrip("/") + "/chat/completions")
    # The URL is set by the operator, so private addresses are allowed.
    guard = AddressGuard([ip_network("0.0.0.0/0"), ip_network("::/0")], "compose.script_url")
    found = bytearray()
    with exchange(url, guard, stop, method="POST", headers=headers, body=body, idle_s=_ANSWER_S) as answer:
        for piece in answer.body:
            found += piece
            if len(found) > _MOST_BYTES:
                break
    return answer.status, bytes(found)


def _judged(status: int, data: bytes) -> bytes:
    """The answer, if it is one.

    Raises:
        WaitingError: it may be another one later.
        VidqueueError: `model_failed`.
    """
    words = _CONTROL.sub(" ", data[:300].decode("utf-8", "replace"))
    if status == 429 or status >= 500:
        raise WaitingError(
            "peer_unavailable", f"{_SERVICE} answered with status {status}: {words}", retry_after_s=_AGAIN_S
        )
    if status != 200:
        raise VidqueueError("model_failed", f"{_SERVICE} answered with status {status}: {words}")
    if len(data) > _MOST_BYTES:
        raise VidqueueError("model_failed", f"{_SERVICE} answered with more than {_MOST_BYTES >> 20} MiB.")
    return data


def _content(data: bytes) -> str:
    try:
        told: Any = json.loads(data)
        content = told["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        content = ""
    # Models that reason may say their reasoning first.
    words = content.rpartition("</think>")[2] if isinstance(content, str) else ""
    words = _CONTROL.sub("", words).encode("utf-8", "replace").decode().strip()
    if not words:
        raise VidqueueError("model_failed", f"{_OF_SERVICE} has no text.")
    return words
