"""Price lists as they are written: the whole list of one variant, or of hundreds in one set (case E22)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.catalogue.terms import INPUT, PriceList
from domain.core import db, versions, words
from domain.core.audit import Actor
from domain.core.errors import (
    Conflict,
    DomainError,
    FieldInvalid,
    InputInvalid,
    NotFound,
)

ROWS_MAX = 500


class PricesRefused(DomainError):
    """At least one row is bad and all or nothing was asked for; `rows` has the verdict on each."""

    code = "PRICES_REFUSED"


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A new price list for one variant. `faults` are those its client was told to mend already;
    `variant_id` is None when it is no id at all."""

    variant_id: UUID | None
    prices: PriceList
    expected_version: int
    faults: tuple[DomainError, ...] = ()


@dataclass(frozen=True, slots=True)
class RowProblem:
    """One thing wrong with a row, as plain values: `facts` fill the message of `code`."""

    code: str
    path: tuple[str, ...]
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """What became of one row: changed, or its `problems`; neither when others held it back."""

    place: int
    merchant_id: UUID
    variant_id: UUID | None
    is_changed: bool = False
    problems: tuple[RowProblem, ...] = ()

    def plain(self) -> list[Any]:
        """The verdict as JSON takes it; `RowVerdict.read` makes it whole again."""
        problems = [[one.code, one.path, one.facts] for one in self.problems]
        return [
            self.place,
            str(self.merchant_id),
            self.variant_id and str(self.variant_id),
            self.is_changed,
            problems,
        ]

    @classmethod
    def read(cls, plain: Sequence[Any]) -> RowVerdict:
        """What `plain` wrote."""
        place, merchant_id, variant_id, is_changed, problems = plain
        return cls(
            place,
            UUID(merchant_id),
            UUID(variant_id) if variant_id else None,
            is_changed,
            tuple(RowProblem(code, tuple(path), facts) for code, path, facts in problems),
        )


async def set_prices(
    merchant_id: UUID,
    variant_id: UUID,
    prices: PriceList,
    *,
    expected_version: int,
    actor: Actor | None = None,
) -> int:
    """Replace the whole price list; the variant's new version. Errors: InputInvalid, NotFound,
    Conflict."""
    words.refuse(prices.faults())
    async with db.transaction():
        version = await versions.bump("var", merchant_id, variant_id, expected_version)
        await _replace(merchant_id, {variant_id: prices}, actor)
    return version


async def change_prices(
    merchant_id: UUID, rows: Sequence[PriceRow], *, skip_bad: bool, actor: Actor | None = None
) -> list[RowVerdict]:
    """Replace the price lists of up to 500 variants, all or nothing or the good ones (E22).

    Variants are locked in the order of their ids; the number of statements does not grow with the rows. The
    verdicts are in the order of the rows. Errors: InputInvalid (no rows, too many), PricesRefused.
    """
    if not 1 <= len(rows) <= ROWS_MAX:
        raise InputInvalid(FieldInvalid(path=(*INPUT, "rows"), reason="count", max=ROWS_MAX))
    found = [_row_faults(rows, place) for place in range(len(rows))]
    async with db.transaction():
        await _judge_versions(merchant_id, rows, found)
        good = {
            row.variant_id: row.prices
            for row, faults in zip(rows, found, strict=True)
            if not faults and row.variant_id is not None
        }
        is_written = skip_bad or len(good) == len(rows)
        verdicts = [
            RowVerdict(
                place,
                merchant_id,
                row.variant_id,
                is_written and not bad,
                tuple(RowProblem(one.code, one.path, one.facts) for one in bad),
            )
            for place, (row, bad) in enumerate(zip(rows, found, strict=True))
        ]
        if not is_written:
            raise PricesRefused(path=(*INPUT, "rows"), rows=verdicts)
        if good:
            await db.execute(
                "UPDATE variant SET version = version + 1 WHERE merchant_id = $1 AND id = ANY($2)",
                merchant_id,
                list(good),
            )
            await _replace(merchant_id, good, actor)
    return verdicts


def _row_faults(rows: Sequence[PriceRow], place: int) -> list[DomainError]:
    row, path = rows[place], (*INPUT, "rows", str(place))
    faults = [*row.faults, *row.prices.faults(path)]
    if row.variant_id is None:
        faults.append(NotFound(path=(*path, "variantId")))
    elif any(row.variant_id == one.variant_id for one in rows[:place]):
        faults.append(FieldInvalid(path=(*path, "variantId"), reason="twice"))
    return faults


async def _judge_versions(
    merchant_id: UUID, rows: Sequence[PriceRow], found: Sequence[list[DomainError]]
) -> None:
    """Lock the variants and add what is wrong with the row of one that is not there or has moved on."""
    locked: list[Any] = await db.fetch(
        "SELECT id, version FROM variant WHERE merchant_id = $1 AND id = ANY($2)"
        " ORDER BY id FOR NO KEY UPDATE",
        merchant_id,
        [row.variant_id for row in rows if row.variant_id is not None],
    )
    current = {row["id"]: row["version"] for row in locked}
    for place, (row, faults) in enumerate(zip(rows, found, strict=True)):
        path = (*INPUT, "rows", str(place))
        if row.variant_id is None:
            continue
        if row.variant_id not in current:
            faults.append(NotFound(path=(*path, "variantId")))
        elif current[row.variant_id] != row.expected_version:
            version = current[row.variant_id]
            faults.append(Conflict(path=(*path, "expectedVersion"), current=version))


_BEFORE = """
SELECT v.id,
    (SELECT json_agg(json_build_array(p.currency, p.minor, p.is_base) ORDER BY p.currency)
     FROM price p WHERE p.merchant_id = $1 AND p.variant_id = v.id) AS prices,
    (SELECT json_agg(json_build_array(t.currency, t.from_quantity, t.minor)
        ORDER BY t.currency, t.from_quantity)
     FROM price_tier t WHERE t.merchant_id = $1 AND t.variant_id = v.id) AS tiers
FROM unnest($2::uuid[]) AS v(id)
"""


async def _replace(merchant_id: UUID, lists: Mapping[UUID, PriceList], actor: Actor | None) -> None:
    """Write whole price lists over the old ones of variants whose locks are held."""
    rows: list[Any] = await db.fetch(_BEFORE, merchant_id, list(lists)) if actor else []
    for table in ("price", "price_tier"):
        await db.execute(
            f"DELETE FROM {table} WHERE merchant_id = $1 AND variant_id = ANY($2)",
            merchant_id,
            list(lists),
        )
    await write(merchant_id, lists)
    if actor is not None:
        entries = [
            (row["id"], {"prices": row["prices"], "tiers": row["tiers"] or []}) for row in rows
        ]
        await _audit(merchant_id, actor, entries, lists)


async def _audit(
    merchant_id: UUID,
    actor: Actor,
    before: Iterable[tuple[UUID, dict[str, Any]]],
    lists: Mapping[UUID, PriceList],
) -> None:
    await db.insert(
        "audit_log",
        (
            "merchant_id",
            "actor_kind",
            "actor_id",
            "action",
            "subject_id",
            "facts_json",
            "request_id",
            "address",
        ),
        [
            (
                merchant_id,
                actor.kind,
                actor.id,
                "variant.prices",
                variant_id,
                {"before": old, "after": spoken(lists[variant_id])},
                actor.request_id,
                actor.address,
            )
            for variant_id, old in before
        ],
    )


def spoken(prices: PriceList) -> dict[str, Any]:
    """A price list as the audit log keeps it: [currency, minor, is base] and [currency, from, minor]."""
    listed = [[one.currency, one.minor, one.currency == prices.base] for one in prices.prices]
    tiers = [[one.unit.currency, one.from_quantity, one.unit.minor] for one in prices.tiers]
    return {"prices": sorted(listed), "tiers": sorted(tiers)}


async def write(merchant_id: UUID, lists: Mapping[UUID, PriceList]) -> None:
    """Add the price lists of variants that have none."""
    await db.insert(
        "price",
        ("merchant_id", "variant_id", "currency", "minor", "is_base"),
        [
            (merchant_id, variant_id, price.currency, price.minor, price.currency == prices.base)
            for variant_id, prices in lists.items()
            for price in prices.prices
        ],
    )
    await db.insert(
        "price_tier",
        ("merchant_id", "variant_id", "currency", "from_quantity", "minor"),
        [
            (merchant_id, variant_id, tier.unit.currency, tier.from_quantity, tier.unit.minor)
            for variant_id, prices in lists.items()
            for tier in prices.tiers
        ],
    )
