"""Whose socket the other end of a loopback connection is: real sockets, real users."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from vidqueue.ops import peer_user

NOBODY = 65_534


@contextmanager
def connected(host: str, uid: int | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection: the accepted one, and the client's, which `uid` has made."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        try:
            if uid is not None:
                os.seteuid(uid)
            client = socket.socket(family)
        finally:
            if uid is not None:
                os.seteuid(0)
        with closing(client):
            client.connect(listener.getsockname()[:2])
            with closing(listener.accept()[0]) as accepted:
                yield accepted, client


def told(accepted: socket.socket) -> int | None:
    return peer_user.uid_of(accepted.getpeername()[:2], accepted.getsockname()[:2])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.7", "::1"])
def test_the_user_at_the_other_end_is_told_until_the_end_is_closed(host: str) -> None:
    with connected(host) as (accepted, client):
        assert told(accepted) == os.geteuid()
        client.shutdown(socket.SHUT_WR)
        assert told(accepted) == os.geteuid()
        client.close()
        # The kernel would say root here: it no longer knows.
        assert told(accepted) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_another_one() -> None:
    with connected("127.0.0.1", NOBODY) as (accepted, _):
        assert told(accepted) == NOBODY


@pytest.mark.parametrize("client", [("127.0.0.1", 1), ("192.0.2.1", 80), ("testclient", 50_000), ("", 0), ("::1", -1)])
def test_nobody_is_told_where_there_is_no_such_connection(client: tuple[str, int]) -> None:
    assert peer_user.uid_of(client, ("127.0.0.1", 9)) is None
    assert peer_user.uid_of(client, ("testserver", 0)) is None


def test_a_user_without_a_name_is_told_by_number() -> None:
    assert asyncio.run(peer_user.name_of(os.geteuid())) == pwd.getpwuid(os.geteuid()).pw_name
    assert asyncio.run(peer_user.name_of(3_999_999_999)) == "uid-3999999999"
