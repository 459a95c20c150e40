"""The log: no password however it got there, no storm of one fault, no control over the operator's terminal."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from pydantic import BaseModel, SecretStr

from vidqueue.ops import log_throttle, logs
from vidqueue.sanitize import Redactor
from vidqueue.settings.secrets import secret_values

PASSWORD = "pa55'w\"ord@x"


class Knows:
    """An object whose repr says too much."""

    def __repr__(self) -> str:
        return f"<connection to postgresql://app:{PASSWORD}@db/vidqueue password={PASSWORD!r}>"


class Secrets(BaseModel):
    """As the configuration keeps them."""

    url: SecretStr = SecretStr(f"postgresql://app:{PASSWORD.replace('@', '%40')}@db/vidqueue")


@pytest.fixture(params=["json", "console"])
def form(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What a daemon writes to stderr; the test's own logging is as before afterwards."""
    root, pool = logging.getLogger(), logging.getLogger("psycopg.pool")
    pool_before = pool.handlers, pool.propagate
    before, level, config = root.handlers, root.level, structlog.get_config()
    hooks = sys.excepthook, threading.excepthook
    yield lambda: capsys.readouterr().err
    root.handlers = before
    pool.handlers, pool.propagate = pool_before
    root.setLevel(level)
    structlog.configure(**config)
    sys.excepthook, threading.excepthook = hooks


def log() -> Any:
    return structlog.get_logger("test")


def test_no_secret_is_logged_however_it_got_there(output: Callable[[], str], form: Any) -> None:
    logs.configure("info", form, Redactor(secret_values(Secrets())))
    for word in (PASSWORD, Knows(), [Knows()], {"a": {"b": Knows()}}, (PASSWORD,), Exception(PASSWORD)):
        log().warning("event", value=word)
    log().warning(f"event {PASSWORD}")
    logging.getLogger("library").warning("connecting with %s and %r", PASSWORD, Knows())
    for raised in (PASSWORD, Knows(), f"before\npassword={PASSWORD}\nafter"):
        try:
            raise ValueError(raised)
        except ValueError as error:
            log().exception("failed")
            log().error("failed", error=error, reason=repr(error))
            logging.getLogger("library").exception("failed")
            error.add_note(PASSWORD)
            sys.excepthook(type(error), error, error.__traceback__)

    def die() -> None:
        raise RuntimeError(PASSWORD)

    dying = threading.Thread(target=die)
    dying.start()
    dying.join()
    text = output()
    assert text.count("failed") >= 9
    assert "uncaught_exception" in text
    assert "Traceback" in text
    escaped = json.dumps(PASSWORD)[1:-1]
    for secret in (PASSWORD, escaped, repr(PASSWORD), PASSWORD.replace("@", "%40"), "pa55"):
        assert secret not in text


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:S3CRET@h/db", "https://u:S3CR@ET@h/x", "host=h password=S3CRET user=u", "password='S3CRET'",
        '{"password": "S3CRET"}', "Authorization: Bearer S3CRET", "authorization=Basic S3CRET", "bearer S3CRETS3CRET",
        "https://h/x?api_key=S3CRET&a=1", "?X-Amz-Signature=S3CRET", "token: S3CRET", "API-KEY=S3CRET",
        r'{\"token\": \"S3CRET\"}', "client_secret=S3CRET",
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    masked = logs.Mask().text(f"before {text} after")
    assert "S3CR" not in masked
    assert masked.startswith("before ")


@pytest.mark.parametrize(
    "text", ["/srv/media/a@b.mp4", "http://127.0.0.1:8420/v1/jobs", "12:30@noon", "the password was wrong", "tokens=7"]
)
def test_other_texts_are_left_alone(text: str) -> None:
    assert logs.Mask().text(text) == text


def test_a_storm_of_one_fault_is_thinned_and_counted(
    output: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    logs.configure("info", "json")

    def fail() -> None:
        try:
            raise ValueError("the reason")
        except ValueError:
            log().exception("request_failed")

    for _ in range(5000):
        fail()
        log().info("progress")
    log().warning("another")
    now = log_throttle.EVERY_S
    fail()
    lines = [json.loads(line) for line in output().splitlines()]
    failed = [line for line in lines if line["event"] == "request_failed"]
    assert len(failed) == log_throttle.MOST_LINES + 1
    assert len([line for line in failed if "exception" in line]) == log_throttle.MOST_TRACEBACKS + 1
    assert failed[50]["error"] == "ValueError: the reason"
    assert failed[-1]["more_since_last_line"] == 5000 - log_throttle.MOST_LINES
    assert len([line for line in lines if line["event"] == "progress"]) == 5000
    assert [line["event"] for line in lines].count("another") == 1


def test_a_terminal_gets_words_and_tracebacks_of_several_lines(output: Callable[[], str]) -> None:
    logs.configure("info", "console")
    log().error("not_loaded", names=["a", "b"], sizes={"c": 1, "d": [2, 3]}, traceback="Traceback:\n  File x\nError: y")
    text = re.sub("\x1b\\[[0-9;]*m", "", output())
    assert "names='a, b'" in text
    assert "sizes='c: 1, d: 2, 3'" in text
    assert "\nTraceback:\n  File x\nError: y" in text


def test_a_terminal_gets_no_control_characters(output: Callable[[], str]) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\nforged line\x9b31m\u202e"
    logs.configure("info", "console")
    log().warning(evil, path=evil, many=[evil], **{"odd\x1b": 1})
    logging.getLogger("library").warning(evil)
    try:
        raise ValueError(evil)
    except ValueError:
        log().exception("failed")
    text = output()
    # The colours are structlog's own.
    for allowed in ("\x1b[0m", *(f"\x1b[{code}m" for code in (*range(1, 9), *range(30, 38), *range(90, 98)))):
        text = text.replace(allowed, "")
    assert not set(text) & {"\x1b", "\x07", "\r", "\x9b", "\u202e"}
    assert text.count("\nforged line") == 1, "only the traceback has lines of its own"


def test_the_pools_of_a_database_that_is_away_log_one_line_a_kind(output: Callable[[], str]) -> None:
    logs.configure("info", "json")
    for number in range(200):
        error = f"connection failed: connection to server at 127.0.0.1 failed\n\tIs the server running? {number}"
        logging.getLogger("psycopg.pool").warning("error connecting in %r: %s", f"pool-{number % 3}", error)
    logging.getLogger("psycopg.pool").warning("discarding closed connection: %s", "<connection [BAD]>")
    lines = [json.loads(line) for line in output().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("database_pool", "warning")] * 2
    assert lines[0]["error"].endswith("failed Is the server running? 0"), lines[0]
