"""The address guard: hostile URLs connect nowhere, whatever form, name or redirect they come in (W07, H23, J16)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.core import addresses
from domain.core.addresses import UrlNotAllowed
from domain.webhooks.ports import Message
from plugins import outgoing
from plugins.webhook.http import HttpCarrier

MESSAGE_HEADERS = {"content-type": "application/json"}

# `{port}` is a listener on every local address of this machine.
HOSTILE = [
    "https://127.0.0.1:{port}/",
    "https://127.0.0.1/",
    "http://127.0.0.1:{port}/",
    "https://127.1:{port}/",
    "https://127.0.1:{port}/",
    "https://2130706433:{port}/",
    "https://0x7f000001:{port}/",
    "https://0x7f.0.0.1:{port}/",
    "https://0177.0.0.1:{port}/",
    "https://017700000001:{port}/",
    "https://127.0.0.01:{port}/",
    "https://127.0.0.1.:{port}/",
    "https://0:{port}/",
    "https://0.0.0.0:{port}/",
    "https://[::1]:{port}/",
    "https://[::]:{port}/",
    "https://[0:0:0:0:0:0:0:1]:{port}/",
    "https://[::ffff:127.0.0.1]:{port}/",
    "https://[::ffff:7f00:1]:{port}/",
    "https://[::127.0.0.1]:{port}/",
    "https://[64:ff9b::7f00:1]:{port}/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]:{port}/",
    "https://[2001:0:7f00:1::]/",
    "https://[fd00::1]:{port}/",
    "https://[fe80::1]:{port}/",
    "https://[fe80::1%25lo]:{port}/",
    "https://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.0.1/",
    "https://100.64.0.1/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://localhost:{port}/",
    "https://LOCALHOST/",
    "https://app.localhost/",
    "https://router.local/",
    "https://metadata.google.internal/",
    "https://user@127.0.0.1:{port}/",
    "https://example.com@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}#@example.com/",
    "https://example.com\\@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}\\.example.com/",
    "https://example.com:22/",
    "https://example.com:6379/",
    "https://example.com:{port}/",
    "http://example.com/",
    "ftp://example.com/",
    "gopher://127.0.0.1:{port}/_SET",
    "file:///etc/passwd",
    "//127.0.0.1:{port}/",
    "https:127.0.0.1:{port}/",
    "https://１２７.0.0.1:{port}/",
    "https://①②⑦.⓪.⓪.①:{port}/",
    "https://127。0。0。1:{port}/",
    "https://%31%32%37.0.0.1:{port}/",
    "https://127.0.0.1%00.example.com:{port}/",
    "https://127.0.0.1:{port}/\r\nHost: example.com",
    " https://127.0.0.1:{port}/",
    "https://rebinding.example/",  # resolves to loopback, see below
    "https://mixed.example/",  # one good address and a bad one
    "https://mapped.example/",  # ::ffff:127.0.0.1
    "https://nat64.example/",
    "https://metadata.example/",
    "https://nowhere.example/",
]
ANSWERS = {
    "rebinding.example": ["127.0.0.1"],
    "mixed.example": ["93.184.215.14", "127.0.0.1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "metadata.example": ["169.254.169.254"],
}


def look_up(host: str, port: int, *_: Any) -> list[Any]:
    """A name server of an attacker."""
    return [
        (
            socket.AF_INET6 if ":" in address else socket.AF_INET,
            socket.SOCK_STREAM,
            6,
            "",
            (address, port),
        )
        for address in ANSWERS.get(host, [])
    ]


class Counting:
    """A listener that counts who comes, on IPv4 and IPv6."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0
        self._servers: list[asyncio.Server] = []

    async def _count(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()

    async def open(self) -> None:
        """Listen on all addresses of this machine."""
        with contextlib.closing(socket.create_server(("", 0))) as free:
            self.port = free.getsockname()[1]
        for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            with contextlib.suppress(OSError):
                self._servers.append(
                    await asyncio.start_server(
                        self._count, host, self.port, family=family, reuse_address=True
                    )
                )

    async def close(self) -> None:
        """Stop listening."""
        for server in self._servers:
            server.close()
            await server.wait_closed()


@pytest.fixture
async def listener() -> AsyncIterator[Counting]:
    made = Counting()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that a socket was made for, whoever listens there."""
    seen: list[str] = []
    real = socket.socket.connect

    def connect(self: socket.socket, place: Any) -> None:
        seen.append(place[0])
        real(self, place)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return seen


async def test_h23_hostile_urls_connect_nowhere(listener: Counting, sockets: list[str]) -> None:
    carrier = HttpCarrier(look_up=look_up, timeout_s=2)
    assert len(HOSTILE) >= 30

    try:
        for text in HOSTILE:
            url = text.replace("{port}", str(listener.port))
            reply = await carrier.send(Message(url, MESSAGE_HEADERS, b"{}"))
            assert reply.code is None, url
            assert reply.error in ("url", "refused_address", "dns"), (url, reply)
    finally:
        await carrier.close()

    assert listener.connections == 0
    assert sockets == []


async def test_h23_the_switch_opens_loopback_and_nothing_else(
    listener: Counting, sockets: list[str]
) -> None:
    """With `KAMI_WEBHOOKS_TO_LOOPBACK` the odd spellings, other private networks and names stay shut."""
    carrier = HttpCarrier(is_open=True, look_up=look_up, timeout_s=2)
    proper = (
        "http://127.0.0.1:{port}/",
        "https://127.0.0.1:{port}/",
        "https://127.0.0.1/",
        "https://[::1]:{port}/",
        "https://[0:0:0:0:0:0:0:1]:{port}/",
        "https://localhost:{port}/",
        "https://LOCALHOST/",
        "https://rebinding.example/",
        "https://mixed.example/",
    )

    try:
        for text in HOSTILE:
            if text not in proper:
                url = text.replace("{port}", str(listener.port))
                reply = await carrier.send(Message(url, MESSAGE_HEADERS, b"{}"))
                assert reply.error in ("url", "refused_address", "dns"), (url, reply)
        assert listener.connections == 0
        assert sockets == []
        await carrier.send(Message(f"http://127.0.0.1:{listener.port}/", MESSAGE_HEADERS, b"{}"))
    finally:
        await carrier.close()

    assert listener.connections == 1
    assert sockets == ["127.0.0.1"]


async def test_the_socket_is_the_last_gate(listener: Counting) -> None:
    """A resolver that says one thing to the check and another to the connect gets no socket."""
    resolver = outgoing.Resolver(is_open=False)
    guarded = outgoing.connector(resolver, is_open=False)
    make = guarded._socket_factory
    assert make is not None

    with pytest.raises(outgoing.AddressRefused):
        make((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", listener.port)))
    await guarded.close()
    await resolver.close()

    assert listener.connections == 0


@pytest.mark.parametrize(
    ("text", "is_public"),
    [
        ("8.8.8.8", True),
        ("1.1.1.1", True),
        ("93.184.215.14", True),
        ("172.15.255.255", True),
        ("172.16.0.0", False),
        ("172.31.255.255", False),
        ("172.32.0.0", True),
        ("100.63.255.255", True),
        ("100.64.0.0", False),
        ("198.17.255.255", True),
        ("198.18.0.0", False),
        ("198.20.0.0", True),
        ("223.255.255.255", True),
        ("224.0.0.0", False),
        ("2606:4700::1111", True),
        ("2001:4860:4860::8888", True),
        ("2001:1::1", False),
        ("2002:808:808::1", False),
        ("64:ff9b::808:808", False),
        ("::ffff:8.8.8.8", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("3fff::1", False),
    ],
)
def test_the_public_internet_ends_at_the_registries_borders(text: str, is_public: bool) -> None:
    assert addresses.is_public(ipaddress.ip_address(text)) is is_public


def test_j16_what_is_allowed_has_one_spelling() -> None:
    seen = {
        text: addresses.target(text).url
        for text in (
            "https://Example.COM",
            "https://example.com:443/hooks?a=b%20c",
            "https://bücher.example/ü".replace("/ü", "/%C3%BC"),
            "https://8.8.8.8/x",
            "https://[2606:4700::1111]/",
        )
    }

    assert list(seen.values()) == [
        "https://example.com/",
        "https://example.com:443/hooks?a=b%20c",
        "https://xn--bcher-kva.example/%C3%BC",
        "https://8.8.8.8/x",
        "https://[2606:4700::1111]/",
    ]


def test_j16_a_refusal_names_its_place_and_changes_nothing() -> None:
    for text in (
        "",
        "x",
        "https://example.com/" + "a" * 3_000,
        "https://a.b/%zz",
        "https://ex ample.com/",
    ):
        with pytest.raises(UrlNotAllowed) as refused:
            addresses.target(text)
        assert refused.value.code == "URL_NOT_ALLOWED"
        assert refused.value.path == ("input", "url")
