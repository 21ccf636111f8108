"""The whole contract as every role, at random: no bug shows, nothing internal is told, no tenant sees another's.

`python -m tests.fuzz --minutes 10` runs longer; a failure names the seed that repeats it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from graphql import parse, validate

from domain.core import db
from domain.core.errors import DomainError
from resolvers.context import Context
from schema.root import schema
from server.graphql.door import Answer
from server.graphql.request import Asked
from server.graphql.watch import watch
from tests.architecture.world import ADDRESS, Caller, World, world
from tests.fuzz.documents import Case, Fuzzer

SEED = int(os.environ.get("FUZZ_SEED", "1"))
MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
ROUNDS = 1  # a round asks every root field once as each caller
FRAME_S = 0.2
FAILURES_MAX = 10

OUTSIDE = ("anonymous", "other_buyer", "other_owner")
# What a server must not tell of itself; nothing that is sent holds any of it.
INTERNAL = re.compile(
    r"Traceback|File \\?\"|\.py\b|site-packages|asyncpg|strawberry|SELECT |INSERT INTO|UPDATE \w+ SET"
    r"|/home/|/root/|/tmp/|NoneType|KeyError|AttributeError|object has no attribute"
)
BUGS = {"INTERNAL_SERVER_ERROR", "UNAVAILABLE"}
# Of the merchant under watch, known to nobody outside and never sent by this test.
SECRETS = ("CARD-1", "CARD-2", "hooks.example.com", "TENTH", "line 7", "finance@example.com")
# Anyone may begin to buy; what that writes belongs to a sale. The rest is the merchant's own.
OF_SALES = re.compile(
    r"order|payment|attempt|reservation|risk|quote|event|promise|outbox|idempotency|card_key"
)


class Finding(Exception):
    """An answer that breaks one of the laws."""


async def test_h42_the_whole_contract_as_every_role(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as found:
        before = await _own_rows(found)
        told = await _run(found, [one for one in found.callers if one.name in OUTSIDE], SEED)
        after = await _own_rows(found)
        assert {name for name, rows in after.items() if rows != before.get(name)} == set()
        told += await _run(found, list(found.callers), SEED + 1)

    total = sum(told.values())
    refused_early = told["GRAPHQL_VALIDATION_FAILED"] + told["GRAPHQL_PARSE_FAILED"]
    # The test is worth something only while most of what it sends runs.
    assert told["MAX_COST_EXCEEDED"] + refused_early < total * 0.1, told
    assert told["answered"] > total * 0.2, told


async def _run(found: World, callers: list[Caller], seed: int) -> Counter[str]:
    """Ask at random; what became of it, counted. Fails with everything that was found."""
    told: Counter[str] = Counter()
    failures: list[str] = []
    for case, caller in _cases(found, callers, seed):
        body = await _ask(found, case, caller)
        codes = {error["extensions"]["code"] for error in body.get("errors", ())}
        told.update(codes or {"answered"})
        reason = _broken(json.dumps(body, ensure_ascii=False), codes, caller)
        if reason:
            failures.append(
                f"{reason} as {caller.name} (seed {seed}): {case.document}\n"
                f"  {json.dumps(case.variables)[:2_000]}\n  {json.dumps(body)[:1_000]}"
            )
            if len(failures) >= FAILURES_MAX:
                break
    assert not failures, "\n\n".join(failures)
    return told


def _cases(found: World, callers: list[Caller], seed: int) -> Iterator[tuple[Case, Caller]]:
    fuzzer = Fuzzer(schema._schema, Random(seed), _known(found))
    until = time.monotonic() + MINUTES * 30
    rounds = 0
    while rounds < ROUNDS or time.monotonic() < until:
        rounds += 1
        for kind, name in fuzzer.roots():
            for caller in callers:
                keys = [caller.access_key] if caller.access_key else []
                yield fuzzer.case(caller.name, kind, name, keys), caller


def _known(found: World) -> list[str]:
    """Everything of the merchant under watch that has an id, and what the other callers have."""
    own = [one.order_id for one in found.callers if one.order_id]
    names = ("order", "unpaid", "line", "card_import", "approval", "coupon", "lot", "report")
    of_world = [str(getattr(found, name)) for name in (*names, "endpoint", "delivery")]
    public = [found.merchant, found.shop_id, found.product, found.variant, found.saved]
    return [*of_world, *public, *own, found.shop.handle]


async def _ask(found: World, case: Case, caller: Caller) -> Any:
    door = found.platform.door
    context = Context(request_id="fuzz", address=ADDRESS, viewer=caller.viewer)
    asked = Asked(case.document, variables=case.variables)
    if not case.root.startswith("subscription"):
        return json.loads((await door.answer(asked, context)).body)
    opened = await watch(door, asked, context)
    if isinstance(opened, Answer):
        return json.loads(opened.body)
    try:
        async with asyncio.timeout(FRAME_S):
            return json.loads((await anext(aiter(opened))).body)
    except (TimeoutError, StopAsyncIteration):
        return {}
    except DomainError as refusal:
        return {"errors": [{"extensions": {"code": refusal.code}}]}
    finally:
        await opened.close()


def _broken(text: str, codes: set[str], caller: Caller) -> str:
    """Which law an answer breaks, "" for none."""
    if codes & BUGS:
        return f"a bug ({', '.join(codes & BUGS)})"
    if (told := INTERNAL.search(text)) is not None:
        return f"something internal ({told[0]!r})"
    if caller.name in OUTSIDE and (seen := [one for one in SECRETS if one in text]):
        return f"another tenant's {seen}"
    return ""


async def _own_rows(found: World) -> dict[str, str]:
    """A digest of every table's rows of the merchant under watch, those of sales left out."""
    tables = await db.fetch(
        "SELECT c.table_name AS name FROM information_schema.columns c JOIN information_schema.tables t"
        " USING (table_schema, table_name) WHERE c.column_name = 'merchant_id'"
        " AND c.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
    )
    made = {}
    for row in tables:
        if not OF_SALES.search(row["name"]):
            made[row["name"]] = await db.value(
                f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {row['name']} t"
                " WHERE merchant_id = $1",
                found.shop.merchant_id,
            )
    assert len(made) > 5
    return made


@pytest.mark.parametrize(
    ("text", "codes", "caller", "what"),
    [
        ("{}", {"INTERNAL_SERVER_ERROR"}, "owner", "a bug"),
        ("{}", {"UNAVAILABLE"}, "owner", "a bug"),
        ('{"message": "File \\"x\\", line 3"}', set(), "owner", "something internal"),
        ('{"message": "relation: SELECT id FROM account"}', set(), "owner", "something internal"),
        ('{"content": "CARD-1"}', set(), "other_owner", "another tenant's"),
        ('{"content": "CARD-1"}', set(), "owner", ""),
        ('{"data": {"shop": null}}', {"NOT_FOUND"}, "anonymous", ""),
    ],
)
def test_each_law_is_looked_at(text: str, codes: set[str], caller: str, what: str) -> None:
    found = _broken(text, codes, Caller(caller))

    assert found.startswith(what) if what else found == ""


def test_a_seed_writes_the_same_operations_again_and_they_are_valid() -> None:
    graph = schema._schema
    written = []
    for _ in range(2):
        fuzzer = Fuzzer(graph, Random(7), ["ord_1", "mer_2", "demo"])
        written.append([fuzzer.case("buyer", *root, ["key"]) for root in fuzzer.roots()])

    assert written[0] == written[1]
    wrong = {
        case.root: [error.message for error in found]
        for case in written[0]
        if (found := validate(graph, parse(case.document)))
    }
    assert wrong == {}
