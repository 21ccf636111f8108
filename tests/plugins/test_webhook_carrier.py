"""The carrier on the wire: TLS verified, names resolved once, wishes read, connections used again and bounded (W07)."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from domain.core import clock
from domain.webhooks.ports import Message
from plugins.webhook.http import HttpCarrier, retry_after_s

HEADERS = {"Content-Type": "application/json", "webhook-id": "evt_1"}


def certificate(folder: Path, name: str) -> Path:
    """A certificate of its own authority for `name`, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + made.public_bytes(Encoding.PEM)
    )
    return path


class Served:
    """An HTTPS receiver: requests it got and where."""

    def __init__(self, pem: Path) -> None:
        self.pem = pem
        self.got: list[tuple[str, Any]] = []
        self.peers: set[Any] = set()
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        """Note a request."""
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        self.got.append((request.headers["Host"], await request.read()))
        return web.Response(text="thanks\x00\x1b[31m")

    def trust(self) -> ssl.SSLContext:
        """A context that knows this receiver's authority."""
        return ssl.create_default_context(cafile=str(self.pem))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    found = Served(certificate(tmp_path, "localhost"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(found.pem)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", found.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


def message(url: str) -> Message:
    return Message(url, HEADERS, b'{"type":"webhook.test"}')


async def test_h24_a_certificate_nobody_vouches_for_is_refused_before_anything_is_said(
    served: Served,
) -> None:
    carrier = HttpCarrier(is_open=True)
    reply = await carrier.send(message(f"https://localhost:{served.port}/"))
    await carrier.close()

    assert (reply.code, reply.error) == (None, "tls")
    assert served.got == []


async def test_h24_a_certificate_of_another_name_is_refused(served: Served) -> None:
    """The authority is trusted, the certificate is for `localhost`, the URL says something else."""
    carrier = HttpCarrier(is_open=True, context=served.trust())
    other = await carrier.send(message(f"https://127.0.0.1:{served.port}/"))
    good = await carrier.send(message(f"https://localhost:{served.port}/"))
    await carrier.close()

    assert (other.code, other.error) == (None, "tls")
    assert (good.code, len(served.got)) == (200, 1)


async def test_w07_a_name_is_resolved_once_per_connection_and_the_connection_kept(
    served: Served,
) -> None:
    asked: list[str] = []

    def look_up(host: str, port: int, *_: Any) -> list[Any]:
        asked.append(host)
        # The second answer of a rebinding name server would lead elsewhere: nobody asks for it.
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    carrier = HttpCarrier(is_open=True, look_up=look_up, context=served.trust())
    replies = [await carrier.send(message(f"https://localhost:{served.port}/a")) for _ in range(5)]
    await carrier.close()

    assert [reply.code for reply in replies] == [200] * 5
    assert asked == ["localhost"]
    assert len(served.peers) == 1
    assert served.got[0] == (f"localhost:{served.port}", b'{"type":"webhook.test"}')
    assert replies[0].text == "thanks\ufffd\ufffd[31m"  # can be stored and shown


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("１２", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("9" * 40, 999_999_999.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str | None, wanted: float | None) -> None:
    assert retry_after_s(text) == wanted


def test_retry_after_a_date_to_come() -> None:
    at = clock.now() + datetime.timedelta(minutes=10)

    found = retry_after_s(format_datetime(at.astimezone(datetime.UTC), usegmt=True))

    assert found is not None
    assert 598 <= found <= 600
