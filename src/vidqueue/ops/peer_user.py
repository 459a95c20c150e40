"""Peer credentials of a loopback TCP connection: the Unix user at its other end.

TCP has no SO_PEERCRED, but the other end of a loopback connection is a socket of this kernel, so a netlink query for
that socket (sock_diag(7)) returns its user id. `/proc/net/tcp` has it too, but lists all sockets.
"""

from __future__ import annotations

import asyncio
import ipaddress
import pwd
import socket
import struct
from functools import cache

Address = tuple[str, int]

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1
_ANY = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
# inet_diag_req_v2 before its socket id, and the id: ports, addresses, interface, cookie.
_WANTED = struct.Struct("=BBBBI")
_SOCKET = struct.Struct("!HH16s16s")
_NO_COOKIE = struct.pack("=III", 0, _ANY, _ANY)
# Of inet_diag_msg: family and state, the id, then expires, rqueue, wqueue, uid, inode.
_OWNER = struct.Struct("=II")
_OWNER_AT = _HEADER.size + 4 + _SOCKET.size + len(_NO_COOKIE) + 12


def uid_of(client: Address, server: Address) -> int | None:
    """Return the user id of the process at the client's end of an open connection; None if it is unknown.

    It is unknown for connections from other machines or network namespaces, and once the client has closed its end.
    """
    try:
        if not ipaddress.ip_address(client[0]).is_loopback:
            return None
        family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
        ends = (socket.inet_pton(family, one[0]).ljust(16, b"\0") for one in (client, server))
        wanted = _WANTED.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY)
        wanted += _SOCKET.pack(client[1], server[1], *ends) + _NO_COOKIE
        answer = _ask(_HEADER.pack(_HEADER.size + len(wanted), _SOCK_DIAG_BY_FAMILY, _REQUEST, 0, 0) + wanted)
    except (OSError, ValueError, struct.error):
        return None
    if len(answer) < _OWNER_AT + _OWNER.size or _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    uid, inode = _OWNER.unpack_from(answer, _OWNER_AT)
    # A socket that no process holds open has inode 0, and the kernel reports uid 0 for it.
    return int(uid) if inode else None


def _ask(request: bytes) -> bytes:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as asking:
        # The kernel answers before `send` returns.
        asking.setblocking(False)
        asking.sendto(request, (0, 0))
        return asking.recv(4096)


async def name_of(uid: int) -> str:
    """Return the name of a user, or `uid-<number>` for one without a name. It may block on a directory service."""
    return await asyncio.to_thread(_name, uid)


@cache
def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"
