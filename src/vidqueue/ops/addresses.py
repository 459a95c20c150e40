"""Address guard against SSRF: parses URLs strictly, and decides which addresses the daemon may connect to.

The tables are explicit, because `ipaddress.is_global` differs between versions of Python and calls multicast, NAT64
and 6to4 addresses global.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import quote, urljoin, urlsplit

from vidqueue.errors import VidqueueError

Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], list[str]]

LONGEST_URL = 4096
PORTS = {"http": 80, "https": 443}
# How many addresses of one name are tried.
ADDRESSES_TRIED = 4

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL}){{0,126}}")
# A host whose last label is a number is an address to the C library (2130706433, 0x7f.1, 127.1, 0177.0.0.1).
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f\\]")

# IANA's special-purpose registries: what is not a public unicast address.
_NOT_PUBLIC_4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
_PUBLIC_6 = IPv6Network("2000::/3")
# Teredo, ORCHID, benchmarks and documentation; 6to4, which carries an IPv4 address. IPv4-mapped, NAT64, unique local,
# link-local and multicast addresses are outside 2000::/3.
_NOT_PUBLIC_6 = [IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https URL in its parts. `target` is the path with the query, `host` is lower case and in ASCII."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Return host and port as the `Host` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def label(self) -> str:
        """Return the URL without its query, which may have a signature in it."""
        return f"{self.scheme}://{self.authority}{self.target.partition('?')[0]}"[:200]

    def join(self, location: str) -> Url:
        """Return the URL that a redirect leads to.

        Raises:
            VidqueueError: `invalid_url`.
        """
        try:
            return parse_url(urljoin(str(self), location))
        except ValueError as error:
            raise _invalid(f"the redirect cannot be followed: {error}") from None


def is_url(reference: str) -> bool:
    """True if a reference is an http or https URL, well-formed or not."""
    return reference[:8].lower().startswith(("http://", "https://"))


def parse_url(text: str) -> Url:
    """Parse an http or https URL.

    Raises:
        VidqueueError: `invalid_url`.
    """
    if len(text) > LONGEST_URL:
        raise _invalid(f"it is longer than {LONGEST_URL} characters")
    if _NOT_IN_A_URL.search(text):
        raise _invalid("it contains a space, a backslash or a control character")
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise _invalid(str(error)) from None
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise _invalid("it does not begin with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise _invalid("it contains a user name or a password")
    if not host or port == 0:
        raise _invalid("it has no host" if not host else "0 is not a port")
    bracketed = "[" in parts.netloc
    query = f"?{parts.query}" if parts.query else ""
    try:
        target = quote((parts.path or "/") + query, safe="%/:=&?~+!$,;'@()*[]")
    except UnicodeError:
        raise _invalid("it is not Unicode text") from None
    return Url(scheme, _address_6(host) if bracketed else _host(host), port or PORTS[scheme], target)


def _invalid(reason: str) -> VidqueueError:
    return VidqueueError("invalid_url", f"The URL cannot be used: {reason}.")


def _address_6(host: str) -> str:
    try:
        address = IPv6Address(host)
    except ValueError:
        raise _invalid(f"[{host[:50]}] is not an IPv6 address") from None
    if address.scope_id:
        raise _invalid("an address with a zone belongs to this machine alone")
    return str(address)


def _host(given: str) -> str:
    try:
        host = given if given.isascii() else given[:253].encode("idna").decode("ascii")
    except UnicodeError:
        raise _invalid("its host name is not valid") from None
    host = host.lower().removesuffix(".")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise _invalid(f"{host[:50]} is not an IPv4 address of four decimal numbers") from None
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise _invalid("its host name is not valid")
    return host


def system_resolver(host: str, port: int) -> list[str]:
    """Return the addresses of a host name. It may block for as long as the system's resolver waits.

    Raises:
        OSError: it cannot be resolved.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class AddressGuard:
    """Decides which addresses may be connected to: public ones, and the ranges in `allow`. `key` is their setting."""

    def __init__(self, allow: Iterable[Network], key: str, resolve: Resolver = system_resolver) -> None:
        self._allow = list(allow)
        self._key = key
        self._resolve = resolve

    def permits(self, address: str) -> bool:
        """True if this address (in text, without a zone) may be connected to."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if any(found.version == network.version and found in network for network in self._allow):
            return True
        if isinstance(found, IPv4Address):
            return not any(found in network for network in _NOT_PUBLIC_4)
        return found in _PUBLIC_6 and not any(found in network for network in _NOT_PUBLIC_6)

    def check(self, url: Url) -> None:
        """Refuse a URL whose host is an address, or a name of this machine, that may not be connected to.

        Other names are checked when they are resolved, for each connection.

        Raises:
            VidqueueError: `address_forbidden`.
        """
        addresses = [url.host]
        if url.host == "localhost" or url.host.endswith(".localhost"):
            addresses = ["127.0.0.1", "::1"]
        elif _NAME.fullmatch(url.host) and not _NUMBER.fullmatch(url.host.rpartition(".")[2]):
            return
        if not any(self.permits(address) for address in addresses):
            raise self._forbidden(url.host, addresses)

    def resolve(self, host: str, port: int) -> list[str]:
        """Return the permitted addresses of a host; connecting to them, not to the name, defeats DNS rebinding.

        Raises:
            VidqueueError: `address_forbidden`.
            OSError: the name cannot be resolved.
        """
        try:
            addresses = [str(ipaddress.ip_address(host))]
        except ValueError:
            addresses = self._resolve(host, port)
        permitted = [address for address in addresses if self.permits(address)]
        if not permitted:
            raise self._forbidden(host, addresses)
        return permitted[:ADDRESSES_TRIED]

    def _forbidden(self, host: str, addresses: list[str]) -> VidqueueError:
        named = ", ".join(addresses[:3])
        what = f"{host} is" if named == host else f"{host[:100]} has the address {named}, which is"
        hint = f"Give a public address; an operator may add ranges to {self._key}."
        return VidqueueError("address_forbidden", f"{what} not a public address.", hint=hint)
