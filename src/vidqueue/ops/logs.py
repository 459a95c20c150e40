"""Configure the daemon's log: JSON lines for machines, colours on a terminal.

Passwords and keys are masked last, in texts of exceptions and in the finished line too. A storm of one event is thinned
(`storm`). A terminal gets no control characters that came from outside.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, Literal

import structlog

from vidqueue.ops.log_throttle import Limiter, ThrottledEvent
from vidqueue.sanitize import REDACTED, Redactor, visible

# `user:password@` of a URL; a password may hold an @ that nobody has quoted.
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*):[^/\s\"']*@")
# password=..., "api_key": "...", Authorization: Bearer ...; also as it stands in a repr or in JSON.
_NAMED_SECRET = re.compile(
    r"""(?ix) \b( password | passwd | pwd | secret | token | api[_-]?key | access[_-]?key | secret[_-]?key
    | client[_-]?secret | credential | signature | authorization )
    ( \\?["']? \s? [:=] \s? \\?["']? ) (?: (?: bearer | basic | token ) \s )? [^\s"'&,;)}\]\\]+"""
)
_BEARER = re.compile(r"(?i)\b(bearer) [\w.~+/=-]{8,}")
# Text without any of these words cannot match the two patterns above, and searching words is 20 times as fast.
_WORDS_OF_SECRETS = ("pass", "pwd", "secret", "token", "key", "credential", "signature", "authorization", "bearer")
DEEPEST = 8

Event = MutableMapping[str, Any]

log = structlog.get_logger(__name__)


def configure(
    level: str,
    format: Literal["auto", "json", "console"] = "auto",  # noqa: A002 - the key's name
    redactor: Redactor | None = None,
) -> None:
    """Set up structlog and route the standard library's loggers through it. No line has what `redactor` hides."""
    json = format == "json" or (format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(processors=_final(Mask(redactor), json=json), foreign_pre_chain=shared))
    handler.addFilter(Limiter().admit)
    # No line says which thread or which line of the source it comes from, so nobody looks for that.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("procrastinate", "uvicorn.access", "uvicorn.error", "psycopg.pool", "httpx2", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    pool = logging.getLogger("psycopg.pool")
    pool.handlers, pool.propagate = [_PoolHandler()], False
    # It logs a warning for each invalid byte in a client's form; the response to the client reports the error.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    # Python would print the traceback as it is.
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


class _PoolHandler(logging.Handler):
    """Logs the warnings of the pools of connections as an event, each kind once a minute.

    While the database is away each pool warns of every attempt to connect, in texts of several lines.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told: dict[str, ThrottledEvent] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log a warning, or count it."""
        told = self._told.setdefault(str(record.msg), ThrottledEvent(log.warning, "database_pool"))
        told.tell(error=" ".join(record.getMessage().split()))


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Makes a line of a record. Those of structlog, two for each attempt, are not copied like those of others."""

    def format(self, record: logging.LogRecord) -> str:
        if not (isinstance(record.msg, dict) and hasattr(record, "_logger")):
            return super().format(record)
        event: Any = {**record.msg, "_record": record, "_from_structlog": True}
        for processor in self.processors:
            event = processor(None, "", event)
        return str(event)


class Mask:
    """Masks passwords and keys: those that `redactor` knows, and what looks like one."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        self._redactor = redactor or Redactor()

    def text(self, text: str) -> str:
        """Return the text with secrets masked."""
        text = self._redactor.text(text)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\1:{REDACTED}@", text)
        folded = text.casefold()
        if not any(map(folded.__contains__, _WORDS_OF_SECRETS)):
            return text
        return _BEARER.sub(rf"\1 {REDACTED}", _NAMED_SECRET.sub(rf"\1\2{REDACTED}", text))

    def value(self, value: Any, depth: int = DEEPEST) -> Any:
        """Return a value as JSON can hold it, with secrets masked; an object becomes what it calls itself."""
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self.text(value)
            case Mapping() if depth > 0:
                return {self.text(str(key)): self.value(inner, depth - 1) for key, inner in value.items()}
            case list() | tuple() | set() | frozenset() if depth > 0:
                return [self.value(inner, depth - 1) for inner in value]
            case _:
                return self.text(str(value))


def _final(mask: Mask, *, json: bool) -> list[Any]:
    """The processors that make a line of an event."""
    render: Any = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=not os.environ.get("NO_COLOR"))
    )

    def masked(logger: Any, method: str, event: Event) -> Event:
        del logger, method
        return {key: mask.value(value) for key, value in event.items()}

    def harmless(logger: Any, method: str, event: Event) -> Event:
        del logger, method
        # Text logs have tracebacks below the line.
        if "traceback" in event and "exception" not in event:
            event["exception"] = event.pop("traceback")
        return {visible(key): _visible(key, value) for key, value in event.items()}

    def line(logger: Any, method: str, event: Event) -> str:
        return mask.text(render(logger, method, event))

    # A traceback becomes text before anything is masked.
    rendered = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info]
    return [*rendered, masked, *([] if json else [harmless]), line]


def _visible(key: str, value: Any) -> Any:
    """What a terminal may show: a traceback keeps its lines, everything else is one line."""
    if key == "exception":
        return "\n".join(map(visible, str(value).split("\n")))
    return value if value is None or isinstance(value, bool | int | float) else visible(_words(value))


def _words(value: Any) -> str:
    """Format a value without Python's quotes and brackets."""
    match value:
        case Mapping():
            return ", ".join(f"{key}: {_words(inner)}" for key, inner in value.items())
        case list():
            return ", ".join(map(_words, value))
        case _:
            return str(value)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    log.critical("uncaught_exception", exc_info=(kind, error, trace))
