"""Steps of a report about a dead good that the journeys share: the buyer's and the merchant's."""

from __future__ import annotations

import itertools
from typing import Any

from domain.identity import Role, Viewer
from tests import make
from tests.journeys.refunding import merchant
from tests.platform import Platform

REPORT = """
mutation ($input: ReportGoodInput!, $key: String!) {
  reportGood(input: $input) @idempotent(key: $key) {
    __typename
    ... on GoodReport { id orderId lineId goodId reason state decidedAt }
    ... on Problem { code path }
  }
}"""
REPLACE = """
mutation ($input: ReplaceGoodInput!, $key: String!) {
  replaceGood(input: $input) @idempotent(key: $key) {
    __typename
    ... on GoodReport { id state }
    ... on Problem { code path }
    ... on ReportClosed { decided }
    ... on OrderStateConflict { status }
    ... on OutOfStock { available }
  }
}"""
GOODS = """
query ($id: ID!, $key: String) {
  order(id: $id, accessKey: $key) { lines { id } goods { id lineId content revoked } timeline { kind } }
}"""
_keys = itertools.count(1)


class Bought:
    """A delivered order as its buyer holds it."""

    def __init__(self, platform: Platform, of: make.Shop, order_id: str, key: str) -> None:
        self.platform, self.of, self.order_id, self.key = platform, of, order_id, key

    async def seen(self) -> dict[str, Any]:
        """The goods, opened, with lines and timeline."""
        found: dict[str, Any] = (
            await self.platform.data(GOODS, {"id": self.order_id, "key": self.key})
        )["order"]
        return found

    async def report(self, *, key: str | None = None, **asked: Any) -> dict[str, Any]:
        """reportGood; the union member."""
        if "lineId" not in asked:
            asked["lineId"] = (await self.seen())["lines"][0]["id"]
        given = {"orderId": self.order_id, "accessKey": self.key, "reason": "invalid code", **asked}
        found: dict[str, Any] = (
            await self.platform.data(REPORT, {"input": given, "key": key or f"r-{next(_keys)}"})
        )["reportGood"]
        return found

    async def kinds(self) -> list[str]:
        return [event["kind"] for event in (await self.seen())["timeline"]]


async def decide(
    of: Bought,
    report: dict[str, Any],
    verdict: str = "REPLACE",
    *,
    viewer: Viewer | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    given = {"reportId": report["id"], "verdict": verdict, "note": "tried it"}
    found: dict[str, Any] = (
        await of.platform.data(
            REPLACE,
            {"input": given, "key": key or f"d-{next(_keys)}"},
            viewer=viewer or merchant(of.of, Role.SUPPORT),
        )
    )["replaceGood"]
    return found
