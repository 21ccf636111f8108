"""Reads for mails: the orders that events are about, in one statement for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import i18n
from domain.core import db
from domain.core.money import Money
from domain.notifications.rules import ITEMS_MAX, Subject

# Rows of `orders` and `merchants` are read as they are; nothing is decided about them here.
_SUBJECTS = """
SELECT o.id, o.merchant_id, o.number, o.email, o.locale, o.status, o.total_minor, o.ccy,
    s.name_json,
    m.name AS merchant, m.locale AS merchant_locale, m.contact_email,
    ARRAY(SELECT l.title FROM order_line l WHERE l.order_id = o.id ORDER BY l.position LIMIT $2)
        AS titles,
    ARRAY(SELECT l.quantity FROM order_line l WHERE l.order_id = o.id ORDER BY l.position LIMIT
        $2) AS quantities
FROM orders o JOIN merchant m ON m.id = o.merchant_id LEFT JOIN shop s ON s.id = o.shop_id
WHERE o.id = ANY($1)
"""


_TITLES = """
SELECT v.id, t.language, coalesce(p.title || ': ', '') || t.title AS title
FROM variant v JOIN variant_text t ON t.merchant_id = v.merchant_id AND t.variant_id = v.id
LEFT JOIN product_text p ON p.merchant_id = v.merchant_id AND p.product_id = v.product_id
    AND p.language = t.language
WHERE v.id = ANY($1)
"""


async def subjects(order_ids: Iterable[UUID]) -> dict[UUID, Subject]:
    """What mails need of these orders; an unknown id is left out."""
    found = {}
    for row in await db.fetch(_SUBJECTS, list(order_ids), ITEMS_MAX):
        names = row["name_json"] or {}
        shop = names.get(i18n.nearest(row["locale"])) or names.get(i18n.DEFAULT)
        found[row["id"]] = Subject(
            order_id=row["id"],
            merchant_id=row["merchant_id"],
            number=row["number"],
            email=row["email"],
            locale=row["locale"],
            status=row["status"],
            total=Money(row["total_minor"], row["ccy"]),
            shop=shop or next(iter(names.values()), row["merchant"]),
            shop_locale=row["merchant_locale"],
            shop_email=row["contact_email"],
            items=tuple(zip(row["titles"], row["quantities"], strict=True)),
        )
    return found


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom a merchant's mails go to, and in which language."""

    name: str
    email: str
    locale: str


async def contact(merchant_id: UUID) -> Contact | None:
    """The contact of a merchant, or None."""
    row = await db.row(
        "SELECT name, contact_email, locale FROM merchant WHERE id = $1", merchant_id
    )
    return Contact(*row) if row else None


async def titles(variant_ids: Iterable[UUID]) -> dict[UUID, dict[str, str]]:
    """What variants are called, by language: "product: variant"."""
    found: dict[UUID, dict[str, str]] = {}
    for row in await db.fetch(_TITLES, list(variant_ids)):
        found.setdefault(row["id"], {})[row["language"]] = row["title"]
    return found


async def waiting() -> int:
    """How many mails are due and not sent yet; a gauge."""
    return int(
        await db.value(
            "SELECT count(*) FROM notification WHERE state = 'ready' AND due_at <="
            " clock_timestamp()"
        )
    )


async def orders_by_variant(order_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """One of these orders for each variant that was bought in them."""
    rows = await db.fetch(
        "SELECT DISTINCT ON (variant_id) variant_id, order_id FROM order_line"
        " WHERE order_id = ANY($1) ORDER BY variant_id, order_id",
        list(order_ids),
    )
    return {row["variant_id"]: row["order_id"] for row in rows}
