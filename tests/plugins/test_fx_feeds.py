"""The rate feeds: the shipped snapshot, the live table against every bad answer, the operator's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from domain.core.money import CURRENCIES
from domain.fx import rules
from domain.fx.ports import FeedFailed, Published
from plugins.fx import ecb
from plugins.fx.ecb import Ecb, read
from plugins.fx.ecb_snapshot import FILE, EcbSnapshot
from plugins.fx.manual import manual

STALE_AFTER = timedelta(days=6)
GOOD = """<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"
    xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
  <gesmes:subject>Reference rates</gesmes:subject>
  <gesmes:Sender><gesmes:name>European Central Bank</gesmes:name></gesmes:Sender>
  <Cube><Cube time='2026-10-30'>
    <Cube currency='USD' rate='1.1172'/>
    <Cube currency='JPY' rate='175.68'/>
    <Cube currency='HKD' rate='8.7652'/>
  </Cube></Cube>
</gesmes:Envelope>"""

Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[Ecb]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(handler)` is a feed that asks a local server."""
    servers: list[TestServer] = []

    async def start(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Ecb:
        app = web.Application()
        app.router.add_get("/daily.xml", handler)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return Ecb(STALE_AFTER, url=str(server.make_url("/daily.xml")), timeout_s=0.5)

    yield start
    for server in servers:
        await server.close()


async def test_the_snapshot_is_dated_and_names_its_source() -> None:
    table = await EcbSnapshot().fetch()
    found = rules.Table(rules.sift(table, {}, {}, 1_000))

    assert (table.provider, table.base, table.stale_at) == ("ecb-snapshot", "EUR", None)
    assert table.taken_at == datetime(2026, 10, 30, 14, tzinfo=UTC)
    assert table.rates["USD"] == Decimal("1.1172")
    assert len(table.rates) == 29
    assert set(table.rates) <= CURRENCIES
    assert {"HKD", "SGD", "CNY", "JPY", "USD", "THB", "GBP"} <= set(table.rates)
    assert found.reference("USD", "CNY", table.taken_at).source == "ecb-snapshot:2026-10-30"


async def test_the_snapshot_ages_where_real_money_moves() -> None:
    table = await EcbSnapshot(STALE_AFTER).fetch()

    assert table.stale_at == datetime(2026, 11, 5, 14, tzinfo=UTC)


def test_the_snapshot_file_holds_text_and_no_floats() -> None:
    table = json.loads(FILE.read_text("utf-8"))

    assert FILE.stem == f"ecb-{table['date']}"
    assert all(isinstance(rate, str) for rate in table["rates"].values())
    assert table["date"] in (FILE.parent / "SOURCE.md").read_text("utf-8")


async def test_a_good_answer_is_read(serve: Serve) -> None:
    async def good(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(text=GOOD, content_type="text/xml")

    table = await (await serve(good)).fetch()

    assert table == Published(
        "ecb",
        "EUR",
        datetime(2026, 10, 30, 14, tzinfo=UTC),
        datetime(2026, 11, 5, 14, tzinfo=UTC),
        {"USD": Decimal("1.1172"), "JPY": Decimal("175.68"), "HKD": Decimal("8.7652")},
    )


async def test_b08_statuses_and_redirects_are_refused(serve: Serve) -> None:
    async def moved(request: web.Request) -> web.Response:
        raise web.HTTPFound("/daily.xml")

    async def broken(request: web.Request) -> web.Response:
        return web.Response(status=503, text=GOOD)

    for handler in (moved, broken):
        feed = await serve(handler)
        with pytest.raises(FeedFailed) as refused:
            await feed.fetch()
        assert refused.value.retryable
        assert str(refused.value.facts["reason"]).startswith("status ")


async def test_b08_a_body_without_end_is_cut(serve: Serve) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            for _ in range(10_000):
                await answer.write(b"<!-- more -->" * 1_000)
                sent += 13_000
        except (ConnectionError, asyncio.CancelledError):
            pass
        return answer

    feed = await serve(endless)
    with pytest.raises(FeedFailed) as refused:
        await feed.fetch()
    assert refused.value.facts["reason"] == "body too long"
    assert sent < 10_000 * 13_000


async def test_b08_a_dead_or_slow_feed_is_refused_in_time(serve: Serve) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response(text=GOOD)

    async with asyncio.timeout(3):
        with pytest.raises(FeedFailed):
            await (await serve(slow)).fetch()
        with pytest.raises(FeedFailed):
            await Ecb(STALE_AFTER, url="http://127.0.0.1:9/", timeout_s=0.5).fetch()


async def test_a_packed_answer_is_not_unpacked(serve: Serve) -> None:
    async def packed(request: web.Request) -> web.Response:
        answer = web.Response(text=GOOD)
        answer.enable_compression(web.ContentCoding.gzip)
        return answer

    with pytest.raises(FeedFailed):
        await (await serve(packed)).fetch()


BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]>
<Cube><Cube time='2026-10-30'><Cube currency='USD' rate='1'/>&lol2;</Cube></Cube>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/passwd"><Cube/>"""


@pytest.mark.parametrize(
    "body",
    [
        "",
        "garbage",
        "<html><body>Maintenance</body></html>",
        GOOD[:400],
        GOOD.replace("1.1172", "1,1172"),
        GOOD.replace("1.1172", "NaN"),
        GOOD.replace("1.1172", "1e9"),
        GOOD.replace("1.1172", "-1.1"),
        GOOD.replace("1.1172", "١.٢"),
        GOOD.replace("1.1172", ""),
        GOOD.replace("1.1172", "1.1.1"),
        GOOD.replace("'JPY'", "'USD'"),
        GOOD.replace("2026-10-30", "30.10.2026"),
        GOOD.replace("2026-10-30", "2099-10-30"),
        GOOD.replace("</Cube></Cube>", "</Cube><Cube time='2026-10-29'/></Cube>"),
        BOMB,
        OUTSIDE,
    ],
)
def test_b08_garbage_is_refused(body: str) -> None:
    with pytest.raises(FeedFailed):
        read(body.encode())


def test_a_table_of_too_many_currencies_is_refused() -> None:
    many = "".join(f"<Cube currency='C{n}' rate='1'/>" for n in range(ecb.CURRENCIES_MAX + 1))

    with pytest.raises(FeedFailed):
        read(f"<Cube><Cube time='2026-10-30'>{many}</Cube></Cube>".encode())


async def test_manual_rates_are_the_settings(tmp_path: Path) -> None:
    table = await manual({"USD": Decimal("1.08")}).fetch()

    assert (table.provider, table.base, table.stale_at) == ("manual", "EUR", None)
    assert dict(table.rates) == {"USD": Decimal("1.08")}
    with pytest.raises(FeedFailed):
        await manual({}).fetch()
