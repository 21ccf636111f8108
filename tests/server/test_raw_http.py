"""J36: requests that two servers could read in two ways are refused by ours before any of our code sees them."""

from __future__ import annotations

import asyncio

import pytest

from tests.live import LiveServer

BODY = b'{"query":"{ __typename }"}'
POST = b"POST /graphql HTTP/1.1\r\n"
HOST = b"Host: 127.0.0.1\r\n"
JSON = b"Content-Type: application/json\r\n"


def length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


async def said(live: LiveServer, sent: bytes) -> bytes:
    """Everything the server answers on one connection until it closes it, or falls silent."""
    host, port = live.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        answer = b""
        while True:
            try:
                async with asyncio.timeout(1):
                    part = await reader.read(65_536)
            except TimeoutError:
                return answer
            if not part:
                return answer
            answer += part
    finally:
        writer.close()


TWO_READINGS = {
    "both lengths": POST
    + HOST
    + JSON
    + length(BODY)
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + chunked(BODY),
    "two lengths": POST + HOST + JSON + length(BODY) + b"Content-Length: 3\r\n\r\n" + BODY,
    "a length that is none": POST + HOST + JSON + b"Content-Length: +26\r\n\r\n" + BODY,
    "an encoding twice": POST
    + HOST
    + JSON
    + b"Transfer-Encoding: chunked, identity\r\n\r\n"
    + chunked(BODY),
    "an obscured encoding": POST
    + HOST
    + JSON
    + length(BODY)
    + b"Transfer-Encoding : chunked\r\n\r\n"
    + BODY,
    "two hosts": POST + HOST + b"Host: evil.example\r\n" + JSON + length(BODY) + b"\r\n" + BODY,
    "a list of hosts": POST
    + b"Host: 127.0.0.1, evil.example\r\n"
    + JSON
    + length(BODY)
    + b"\r\n"
    + BODY,
    "no host": POST + JSON + length(BODY) + b"\r\n" + BODY,
    "a host with a path": POST
    + b"Host: 127.0.0.1/admin?\r\n"
    + JSON
    + length(BODY)
    + b"\r\n"
    + BODY,
    "HTTP/0.9": b"GET /graphql\r\n\r\n",
    "HTTP/0.9 by name": b"GET /healthz HTTP/0.9\r\n" + HOST + b"\r\n",
    "HTTP/3.7": b"GET /healthz HTTP/3.7\r\n" + HOST + b"\r\n",
    "a header in two lines": POST
    + HOST
    + JSON
    + b"X-A: 1\r\n folded: 2\r\n"
    + length(BODY)
    + b"\r\n"
    + BODY,
    "a bare line feed in a header": POST
    + HOST
    + JSON
    + b"X-A: 1\nX-B: 2\r\n"
    + length(BODY)
    + b"\r\n"
    + BODY,
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
}


@pytest.mark.parametrize("name", list(TWO_READINGS))
async def test_j36_a_request_with_two_readings_is_400_and_the_connection_ends(
    live_server: LiveServer, name: str
) -> None:
    # A second request hides behind the first one, as in request smuggling.
    hidden = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"

    answer = await said(live_server, TWO_READINGS[name] + hidden)

    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1  # what hid behind it was never read
    assert b"__typename" not in answer


async def test_j36_a_plain_request_is_answered(live_server: LiveServer) -> None:
    sent = POST + HOST + JSON + length(BODY) + b"Connection: close\r\n\r\n" + BODY

    assert (await said(live_server, sent)).startswith(b"HTTP/1.1 200 ")
