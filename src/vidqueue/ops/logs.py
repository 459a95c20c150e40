"""Configure the daemon's log: JSON lines for machines, colours on a terminal. Passwords in URLs are masked."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Literal

import structlog

from vidqueue.sanitize import Redactor

_URL_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@/\s]*@")


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
        _mask,
        *([_redacting(redactor)] if redactor else []),
    ]
    renderer: Any = structlog.processors.JSONRenderer(default=str) if json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    final = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _exceptions(json), renderer]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=final, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("procrastinate", "uvicorn.access", "uvicorn.error", "psycopg.pool", "httpx2", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _exceptions(json: bool) -> Any:
    return structlog.processors.format_exc_info if json else lambda logger, method, event: event


def _redacting(redactor: Redactor) -> Any:
    return lambda logger, method, event: {key: redactor.value(value) for key, value in event.items()}


def _mask(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Mask passwords in URLs, in every value of the event."""
    del logger, method
    return {
        key: _URL_PASSWORD.sub(r"\1:***@", value) if isinstance(value, str) else value for key, value in event.items()
    }
