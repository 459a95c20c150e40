"""The address guard: which URLs are well-formed, and which addresses may be connected to."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from vidqueue.errors import VidqueueError
from vidqueue.ops.addresses import AddressGuard, parse_url

NOBODY: list[str] = []


def guard(*allow: str, answers: list[str] = NOBODY) -> AddressGuard:
    return AddressGuard([ip_network(one) for one in allow], "fetch.allow", lambda host, port: answers)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "192.88.99.1", "224.0.0.1",
        "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::7f00:1",
        "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::", "2001::1",
        "2001:10::1", "2001:db8::1", "3fff::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "100::1",
        "5f00::1", "no address", "", "fe80::1%eth0",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not guard().permits(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::5"])
def test_public_addresses_are_permitted(address: str) -> None:
    assert guard().permits(address)


def test_a_configured_range_permits_its_addresses_and_no_other_form_of_them() -> None:
    allowing = guard("127.0.0.1/32", "10.0.0.0/8")
    assert allowing.permits("127.0.0.1")
    assert allowing.permits("10.200.0.1")
    assert not allowing.permits("127.0.0.2")
    assert not allowing.permits("::ffff:127.0.0.1")
    assert not allowing.permits("::1")


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/", "http://0x7f.1/", "http://0x7f000001/", "http://127.1/", "http://017700000001/",
        "http://0177.0.0.1/", "http://127.0.0.1.5/", "http://1.2.3.256/", "http://user:word@example.com/a",
        "http://user@example.com/", "http://:word@example.com/", "ftp://example.com/a", "http:///a", "http://",
        "http://exa mple.com/", "http://example.com/a b", "http://example.com/\n", "http://example.com\\@127.0.0.1/",
        "http://example.com:0/", "http://example.com:99999/", "http://example.com:x/", "http://[::1", "http://[fe80::1%25lo]/",
        "http://[1.2.3.4]/", "http://exa_mple..com/", "http://-a.com/", "http://" + "a" * 70 + ".com/",
        "http://example.com/" + "a" * 5000, "http://\u2488.example\u3002/\ud800", "http://%31%32%37.0.0.1/",
    ],
)  # fmt: skip
def test_malformed_urls_are_refused(url: str) -> None:
    with pytest.raises(VidqueueError) as caught:
        parse_url(url)
    assert caught.value.code == "invalid_url"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://127.0.0.1./", "http://\u2460\u2461\u2466.0.0.1/", "http://[::1]/", "http://localhost:80/",
        "http://LOCALHOST./", "http://a.localhost/", "http://169.254.169.254/latest/meta-data/", "http://[::ffff:7f00:1]/",
        "http://0.0.0.0/", "https://10.1.1.1/", "http://[64:ff9b::7f00:1]/", "http://[0:0:0:0:0:0:0:1]/", "http://0/",
    ],
)  # fmt: skip
def test_a_literal_address_is_refused_before_anything_is_resolved(url: str) -> None:
    with pytest.raises(VidqueueError) as caught:
        guard().check(parse_url(url))
    assert caught.value.code in {"address_forbidden", "invalid_url"}


def test_a_url_keeps_its_query_and_loses_its_fragment() -> None:
    url = parse_url("HTTPS://Example.COM:443/a%20b/\u00e9.mp4?X-Sig=a/b%2Bc&n=1#part")
    assert str(url) == "https://example.com/a%20b/%C3%A9.mp4?X-Sig=a/b%2Bc&n=1"
    assert url.label == "https://example.com/a%20b/%C3%A9.mp4"
    assert str(url.join("../x.mp4")) == "https://example.com/x.mp4"
    assert parse_url("http://[2606:4700::1111]:8080/a").authority == "[2606:4700::1111]:8080"


def test_names_are_resolved_once_and_only_permitted_addresses_are_tried() -> None:
    mixed = guard(answers=["127.0.0.1", "8.8.8.8", "::ffff:10.0.0.1", "2606:4700::1111"])
    assert mixed.resolve("example.com", 443) == ["8.8.8.8", "2606:4700::1111"]
    for answers in (["10.0.0.1"], ["169.254.169.254", "::1"], []):
        with pytest.raises(VidqueueError) as caught:
            guard(answers=answers).resolve("example.com", 443)
        assert caught.value.code == "address_forbidden"
