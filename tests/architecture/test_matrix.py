"""The role × field matrix (API rule 10): what every kind of caller is shown, as committed; and laws about it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import GraphQLObjectType

from tests.architecture import matrix
from tests.architecture.world import world

OUTSIDE = {"anonymous", "other_buyer", "other_owner"}
OPEN = {
    "Query.providerAccountKinds",
    "Query.market",
    "Query.shop",
    "Query.node shp",
    "Query.node prd",
    "Query.node var",
}

# Members of unions that the sandbox provider and a healthy stream never give.
MAY_BE_MISSING = {
    *("QrCodeAction", "WalletAction", "TransferAction", "ChallengeAction"),
    *("StreamGap", "StreamHeartbeat"),
}


def committed() -> matrix.Matrix:
    found: matrix.Matrix = json.loads(matrix.FILE.read_text("utf-8"))
    return found


def shown(field: str) -> Iterator[tuple[str, str, set[str]]]:
    """(entry, verdict, callers) of one nested field, wherever it was reached."""
    for entry, fields in committed().items():
        reached = set(fields[""].get("value", ()))
        for verdict, callers in fields.get(field, {}).items():
            yield entry, verdict, reached if callers == ["everyone"] else set(callers)


def test_every_root_field_is_asked_by_everybody() -> None:
    """A new root field fails here: say in tests/architecture/matrix.py how it is asked."""
    assert matrix.covered() == matrix.root_fields()


def test_every_field_of_what_can_be_read_has_a_verdict() -> None:
    """Problems and what only mutations answer are for who may call; of a union not every member comes up."""
    fields = {
        f"{one.name}.{name}"
        for one in matrix.readable()
        if isinstance(one, GraphQLObjectType) and one.name not in MAY_BE_MISSING
        for name in one.fields
    }
    decided = {name for entry in committed().values() for name in entry}

    # The order a payment belongs to is where one has come from.
    assert fields - decided == {"Payment.order"}


async def test_h03_what_everybody_sees_is_what_was_decided(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new or changed verdict fails here: `python -m tests.architecture.matrix`, then review the diff."""
    async with world(tmp_path, monkeypatch) as found:
        built = await matrix.build(found)

    if os.environ.get(matrix.REGENERATE):
        matrix.FILE.write_text(matrix.dump(built), "utf-8")
    assert committed() == built


@pytest.mark.parametrize("field", ["DeliveredGood.content", "RedirectAction.url"])
def test_h39_goods_and_the_way_to_pay_are_the_buyers_alone(field: str) -> None:
    seen = [callers for _, verdict, callers in shown(field) if verdict == "value"]

    assert seen
    assert set().union(*seen) == {"buyer", "buyer_account"}


def test_how_the_sellers_part_is_divided_is_told_to_who_reads_the_sellers_money() -> None:
    told: dict[str, set[str]] = {}
    for _, verdict, callers in shown("FundsFlowLeg.leg"):
        told.setdefault(verdict, set()).update(callers)

    assert told == {
        "commission, merchant, reserve": {
            *("owner", "finance", "support", "read_only"),
            *("operator_finance", "operator_support", "operator_admin"),
        },
        "merchant": {"buyer", "buyer_account", "catalogue", "developer", "operator_risk"},
    }


def test_h01_i27_strangers_are_shown_nothing_of_a_merchant() -> None:
    leaks = {
        (entry, name, caller)
        for entry, fields in committed().items()
        if entry.startswith(("Query", "Subscription")) and entry not in {*OPEN, "Query.viewer"}
        for name, verdicts in fields.items()
        for verdict, callers in verdicts.items()
        for caller in OUTSIDE & set(callers)
        if name and verdict not in ("empty",)
    }

    # The list of exceptions answers other merchants too, with their own.
    assert {leak for leak in leaks if leak[1].partition(".")[0] != "PageInfo"} == set()
