"""Reads: an order with thirty fields, a product page of twenty; CPU of the API process, its SQL client included.

python -m bench.reads [--requests 4000]
"""

from __future__ import annotations

import argparse
import itertools

import orjson
import uvloop

from bench import floors
from bench.buyers import PAY, START, WATCH, first_variant
from bench.house import House, house, stock
from bench.purchase import crowd
from bench.report import Report, hardware
from domain import catalogue
from domain.catalogue import Delivery, PriceList, Source, Text
from domain.core import db, ids
from domain.core.money import Money
from schema.root import schema
from server.graphql.documents import Documents

ORDER = """
query Order($id: ID!, $key: String) {
  order(id: $id, accessKey: $key) {
    id number status paymentState version createdAt expiresAt
    total { amount currency }
    lines { id variantId title quantity delivered }
    payments { id status method { code } amount { amount currency } }
    timeline { sequence kind occurredAt }
    fundsFlow { leg amount { amount currency } returned { amount } }
  }
}"""
PAGE = """
query Page($handle: String!) {
  shop(handle: $handle) {
    id name
    products(first: 20) {
      nodes { id title description variants { id title available price { amount currency } } }
      pageInfo { hasNextPage endCursor }
    }
  }
}"""


async def fill_page(handle: str, count: int) -> None:
    """Give a shop `count` more products with a variant each."""
    row = await db.row("SELECT id, merchant_id FROM shop WHERE handle = $1", handle)
    assert row is not None
    for number in range(count):
        name = Text(f"Bench card {number}", "What the bench sells.")
        product_id = await catalogue.add_product(row["merchant_id"], row["id"], {"en": name})
        await catalogue.add_variant(
            row["merchant_id"],
            product_id,
            {"en": "One"},
            Source(Delivery.STOCK),
            PriceList([Money(1_000, "USD")], "USD"),
        )


async def measure(at: House, requests: int, report: Report) -> None:
    """All figures of the report."""
    await db.open(at.database_url, minsize=1, maxsize=2)
    try:
        await fill_page("demo", 20)
        async with crowd(at.url, 1) as (buyer,):
            variant_id = await first_variant(buyer)
            await stock(ids.decode(variant_id, "var"), 50)
            trips = [await buyer.buy(variant_id) for _ in range(20)]
    finally:
        await db.close()
    bodies = itertools.cycle(
        orjson.dumps({"query": ORDER, "variables": {"id": trip.order_id, "key": trip.access_key}})
        for trip in trips
    )
    page = orjson.dumps({"query": PAGE, "variables": {"handle": "demo"}})
    api, url = at.pids()["api-1"], at.url + "/graphql"
    order_ms = await floors.cost_ms(url, api, lambda: next(bodies), requests=requests)
    page_ms = await floors.cost_ms(url, api, lambda: page, requests=requests)
    bare, graphql = await floors.measure()
    report.add("order of 30 fields", order_ms, "ms CPU", goal=1.2)
    report.add("product page of 20", page_ms, "ms CPU", goal=3)
    report.add("floor: bare Starlette JSON", bare, "ms CPU")
    report.add("floor: bare strawberry, two fields", graphql, "ms CPU")
    report.add("order / bare strawberry", order_ms / graphql, "×")
    report.add("validation-cache hits", _hit_rate(requests) * 100, "%", goal=99, is_rate=True)


def _hit_rate(requests: int) -> float:
    """The share of requests of this bench whose document was found parsed, validated and priced."""
    documents = Documents(schema._schema, is_open=True)
    for number in range(requests):
        documents.get((ORDER, PAGE, START, PAY, WATCH)[number % 5])
    return documents.hits / (documents.hits + documents.misses)


async def _main(options: argparse.Namespace) -> None:
    with house(KAMI_SANDBOX_AUTOCONFIRM_MS="1", KAMI_API_PROCESSES="1") as at:
        report = Report(
            "reads",
            "Reads over HTTP: CPU of the one API process per request, 16 at a time",
            await hardware(at.database_url),
        )
        await measure(at, options.requests, report)
    report.write()


def main() -> None:
    """Measure and write `bench/results/reads.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000)
    uvloop.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
