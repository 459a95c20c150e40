"""Websocket of a ComfyUI server, heard in a thread: progress, outputs and preview pictures of one prompt.

Messages get lost, and a connection breaks. Whoever uses this asks the server's queue and history for the truth.
"""

from __future__ import annotations

import contextlib
import json
import struct
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

LONGEST_MESSAGE = 16 << 20
OPEN_S = 5.0
RETRY_S = 2.0
TICK_S = 1.0

_PLAIN: dict[str, Any] = {"max_size": LONGEST_MESSAGE, "compression": None, "proxy": None}
_PREVIEW, _PREVIEW_WITH_METADATA = 1, 4

Message = tuple[str, Any]


class Listener:
    """Hears one client's messages; use it as a context manager. `("preview", bytes)` is a picture."""

    def __init__(self, url: str, client_id: str) -> None:
        scheme = "wss" if url.startswith("https:") else "ws"
        self._url = f"{scheme}:{url.partition(':')[2]}/ws?clientId={client_id}"
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._stopped = threading.Event()
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="comfyui-websocket", daemon=True)

    def __enter__(self) -> Listener:
        """Connect; whether that succeeds or not, the work goes on."""
        self._thread.start()
        self._connected.wait(OPEN_S)
        return self

    def __exit__(self, *raised: object) -> None:
        """Disconnect."""
        self._stopped.set()

    def next(self, timeout_s: float) -> Message | None:
        """Return the next message; None if none comes in time."""
        try:
            return self._messages.get(timeout=timeout_s)
        except Empty:
            return None

    def _listen(self) -> None:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        while not self._stopped.is_set():
            with contextlib.suppress(OSError, TimeoutError, WebSocketException):
                self._hear_all(connect(self._url, open_timeout=OPEN_S, close_timeout=1, **_PLAIN))
            # The server may not have noticed yet that the old connection is gone, and would close the new one with it.
            self._stopped.wait(RETRY_S)

    def _hear_all(self, opened: ClientConnection) -> None:
        with opened as connection:
            self._connected.set()
            while not self._stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    self._hear(connection.recv(timeout=TICK_S))

    def _hear(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            if picture := _picture(message):
                self._messages.put(("preview", picture))
            return
        with contextlib.suppress(ValueError, RecursionError):
            told = json.loads(message)
            if isinstance(told, dict) and isinstance(told.get("data"), dict):
                self._messages.put((str(told.get("type")), told["data"]))


def _picture(frame: bytes) -> bytes | None:
    """The picture in a binary frame; None if there is none."""
    if len(frame) < 8:
        return None
    kind, second = struct.unpack_from(">II", frame)
    if kind == _PREVIEW:
        return frame[8:]
    if kind == _PREVIEW_WITH_METADATA:
        return frame[8 + second :] or None
    return None
