"""H38: clients that send or read slowly, or too much, through the real server: each is bounded, others go on."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import closing

import pytest

from tests.server.conftest import Toy, is_reset, resident_bytes
from tests.server.graphql_live import BODY_S, HEAD_S, SLOW_S

HOST = b"Host: 127.0.0.1\r\n"
POST = b"POST /graphql HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
ASKS = b'{"query":"{ __typename }"}'
LATE_S = 10.0  # how long these tests wait for the server's patience to end
BIG = b'{"query":"{ echo(json: \\"' + b"x" * 200_000 + b'\\") }"}'


def connect(toy: Toy, *, receive_bytes: int | None = None) -> socket.socket:
    line = socket.socket()
    if receive_bytes is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    line.settimeout(LATE_S)
    line.connect(("127.0.0.1", toy.port))
    return line


def rest(line: socket.socket) -> bytes:
    """Everything until the server ends the connection."""
    found = b""
    while more := line.recv(65_536):
        found += more
    return found


def answered(toy: Toy) -> bool:
    """Whether somebody else is served meanwhile."""
    with closing(connect(toy)) as line:
        line.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(ASKS) + ASKS)
        return rest(line).startswith(b"HTTP/1.1 200 ")


def trickle(line: socket.socket) -> None:
    """Ten bytes a second for as long as they are taken."""
    for _ in range(int(LATE_S / 0.1)):
        line.sendall(b"1\r\n \r\n")
        time.sleep(0.1)


def test_h38_a_client_that_says_nothing_is_dropped(toy: Toy) -> None:
    with closing(connect(toy)) as line:
        assert rest(line) == b""


def test_h38_a_head_that_trickles_is_408(toy: Toy) -> None:
    with closing(connect(toy)) as line:
        line.sendall(b"POST /graphql HTTP/1.1\r\n" + HOST)
        for number in range(int(HEAD_S / 0.1) - 3):  # each line in time, all of them together not
            line.sendall(b"X-%d: a\r\n" % number)
            time.sleep(0.1)
        assert answered(toy)

        answer = rest(line)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer
    assert b"x-request-id: " in answer
    assert b"x-content-type-options: nosniff" in answer


@pytest.mark.parametrize("sent", [b"", ASKS[:5]])
def test_h38_a_body_that_does_not_come_is_408(toy: Toy, sent: bytes) -> None:
    with closing(connect(toy)) as line:
        line.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(ASKS) + sent)

        assert rest(line).startswith(b"HTTP/1.1 408 ")


def test_h38_a_body_that_trickles_below_the_pace_is_408(toy: Toy) -> None:
    with closing(connect(toy)) as line:
        line.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        # The connection is gone while this side still sends.
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            trickle(line)


def test_h38_a_body_that_keeps_the_pace_still_has_an_end(toy: Toy) -> None:
    with closing(connect(toy)) as line:
        line.sendall(POST + b"Content-Length: 262144\r\n\r\n")
        sent, answer = 0, b""
        line.setblocking(False)
        for _ in range(int(BODY_S / 0.05) * 2):
            try:
                answer += line.recv(4_096)
            except BlockingIOError:
                pass
            if answer:
                break
            sent += line.send(b" " * 1_500)
            time.sleep(0.05)

    assert answer.startswith(b"HTTP/1.1 408 "), (sent, answer)


def test_h38_a_slow_but_steady_body_is_read(toy: Toy) -> None:
    body = ASKS[:-1] + b" " * 30_000 + b"}"
    with closing(connect(toy)) as line:
        line.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        for first in range(0, len(body), 2_000):
            line.sendall(body[first : first + 2_000])
            time.sleep(SLOW_S / 12)

        assert rest(line).startswith(b"HTTP/1.1 200 ")


def test_h38_a_head_without_an_end_is_431(toy: Toy) -> None:
    before = resident_bytes(toy)
    with closing(connect(toy)) as line:
        line.sendall(b"GET /graphql HTTP/1.1\r\n" + HOST + b"X-A: ")
        answer = b""
        try:
            for _ in range(2_000):
                line.sendall(b"a" * 8_192)
        except OSError:
            pass
        try:
            answer = rest(line)
        except ConnectionResetError:
            pass

    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
    assert resident_bytes(toy) - before < 8_000_000
    assert answered(toy)


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"X-%d: a\r\n" % number for number in range(101)),
        b"X-A: " + b"a" * 40_000 + b"\r\n",
        b"Range: bytes=" + b",".join(b"%d-" % number for number in range(10_000)) + b"\r\n",
    ],
    ids=["101 headers", "40 KB in one", "10,000 ranges"],
)
def test_h38_a_head_beyond_its_bounds_is_refused(toy: Toy, head: bytes) -> None:
    with closing(connect(toy)) as line:
        line.sendall(b"GET /graphql HTTP/1.1\r\n" + HOST + head + b"\r\n")
        answer = rest(line)

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))


@pytest.mark.parametrize(
    "kind",
    [b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded"],
)
def test_h38_a_million_form_fields_are_never_parsed(toy: Toy, kind: bytes) -> None:
    body = b"a=1&" * 1_000_000
    with closing(connect(toy)) as line:
        line.sendall(
            b"POST /graphql HTTP/1.1\r\n"
            + HOST
            + b"Content-Type: "
            + kind
            + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        try:
            line.sendall(body)
        except OSError:
            pass
        answer = line.recv(4_096)

    assert answer.startswith(b"HTTP/1.1 415 ")


async def test_h38_an_answer_that_is_not_read_is_dropped(toy: Toy) -> None:
    line = connect(toy, receive_bytes=4_096)
    with closing(line):
        # Answers pile up behind one another until the buffers of both sides are full.
        line.settimeout(0.5)
        asked = POST + b"Content-Length: %d\r\n\r\n" % len(BIG) + BIG
        try:
            for _ in range(60):
                line.sendall(asked)
        except (OSError, TimeoutError):
            pass
        until = time.monotonic() + LATE_S
        while not is_reset(line) and time.monotonic() < until:
            await asyncio.sleep(0.05)

        assert is_reset(line)
    assert answered(toy)
