"""Saved methods: a provider's token for what a buyer paid by, sealed under its merchant's key, charged or forgotten.

A token is never card data. It enters with a capture that its buyer asked to have saved, belongs to an owner (the
order it was saved with, see docs/decisions/0008-saved-methods-belong-to-an-order.md) and leaves for the provider only.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from cryptography.exceptions import InvalidTag

from domain.core import db, ids, promises, vault
from domain.core.errors import NotFound
from domain.payments import accounts, rules
from domain.payments.models import Word
from domain.payments.ports import SavedToken, providers

SAVED_MAX = 20
_TABLE = "saved_method"
_COLUMNS = (
    "id, merchant_id, owner_id, provider, provider_account, method, label, created_at, revoked_at"
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SavedMethod:
    """A method that can be charged again without its buyer, unless it was revoked."""

    id: UUID
    merchant_id: UUID
    owner_id: UUID
    provider: str
    account: str
    method: str
    label: str
    created_at: datetime
    revoked_at: datetime | None


async def saved_of(owner_ids: Sequence[UUID]) -> dict[UUID, list[SavedMethod]]:
    """The methods each owner can use, the newest first, at most SAVED_MAX each; one statement."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM unnest($1::uuid[]) AS o(owner) CROSS JOIN LATERAL (SELECT {_COLUMNS}"
        " FROM saved_method m WHERE m.owner_id = o.owner AND m.revoked_at IS NULL ORDER BY m.id DESC LIMIT $2) AS m",
        list(set(owner_ids)),
        SAVED_MAX,
    )
    found: dict[UUID, list[SavedMethod]] = {owner_id: [] for owner_id in owner_ids}
    for row in rows:
        found[row["owner_id"]].append(SavedMethod(*row))
    return found


async def find_saved(saved_id: UUID, owner_id: UUID) -> SavedMethod | None:
    """One method of an owner, revoked ones too; None when it is somebody else's or nobody's."""
    row = await db.row(
        f"SELECT {_COLUMNS} FROM saved_method WHERE id = $1 AND owner_id = $2", saved_id, owner_id
    )
    return SavedMethod(*row) if row else None


async def token_of(saved: SavedMethod) -> str:
    """What the provider is charged by. Errors: NotFound once it was revoked."""
    row = await db.row(
        "SELECT token_cipher, key_version FROM saved_method WHERE id = $1 AND revoked_at IS NULL",
        saved.id,
    )
    if row is None:
        raise NotFound()
    return await _unseal(saved.id, saved.merchant_id, row["key_version"], row["token_cipher"])


async def _unseal(saved_id: UUID, merchant_id: UUID, version: int, sealed: bytes) -> str:
    keys = await vault.of_merchant(merchant_id, version=version)
    return keys.unseal(_TABLE, saved_id, version, sealed).decode()


async def note_methods(wishes: Sequence[tuple[UUID, UUID | None]]) -> None:
    """Remember with attempts which saved method each is charged by, or that its buyer asked to save (None).

    Inside the transaction that opens them. Errors: NotFound when a method was revoked meanwhile.
    """
    assert db.in_transaction(), "what an attempt is charged by commits with it"
    charged = sorted({saved_id for _, saved_id in wishes if saved_id is not None})
    if charged:
        # Locked in order: two sets that charge the same methods never wait for each other in a circle.
        touched = await db.execute(
            "UPDATE saved_method SET last_used_at = clock_timestamp() WHERE id IN (SELECT id FROM saved_method"
            " WHERE id = ANY($1) AND revoked_at IS NULL ORDER BY id FOR NO KEY UPDATE)",
            charged,
        )
        if touched < len(charged):
            raise NotFound()
    await db.execute(
        "INSERT INTO attempt_method (attempt_id, saved_method_id) SELECT * FROM unnest($1::uuid[], $2::uuid[])",
        [attempt_id for attempt_id, _ in wishes],
        [saved_id for _, saved_id in wishes],
    )


async def noted_method(attempt_id: UUID) -> tuple[bool, UUID | None]:
    """(whether the buyer of an attempt asked to save, the saved method it is charged by)."""
    row = await db.row(
        "SELECT saved_method_id FROM attempt_method WHERE attempt_id = $1", attempt_id
    )
    return (row is not None and row[0] is None, row[0] if row else None)


def seal_word(provider: str, account: str, attempt_id: UUID, saved: SavedToken) -> dict[str, str]:
    """A token as it may stand in the inbox: sealed for this attempt; {} for what could be the number of a card."""
    if rules.is_card_number(saved.token):
        _log.warning("saved_method.card_number_refused", provider=provider, attempt=str(attempt_id))
        return {}
    sealed = vault.seal(_place(provider, account, attempt_id), saved.token.encode())
    return {"token": base64.b64encode(sealed).decode(), "label": rules.label(saved.label)}


def _place(provider: str, account: str, attempt_id: UUID | None) -> str:
    return f"inbox:{provider}:{account}:{attempt_id}"


_ASKED = """
SELECT a.id, a.order_id, a.merchant_id, a.provider, a.provider_account, a.method
FROM attempt_method w JOIN payment_attempt a ON a.id = w.attempt_id
JOIN payment_intent i ON i.order_id = a.order_id
WHERE w.attempt_id = ANY($1) AND w.saved_method_id IS NULL AND a.state = 'captured' AND i.state <> 'conflicted'
    AND NOT EXISTS (SELECT FROM saved_method s WHERE s.attempt_id = a.id) ORDER BY a.id
"""


async def keep_methods(words: Sequence[Word], owners: Mapping[UUID, UUID]) -> int:
    """Store the tokens that came with captures which were asked to be saved, once per attempt; how many.

    `owners` maps orders to who owns what is saved with them. The attempts' orders are locked. A token without a
    wish, of an attempt that is not captured or contradicts its amount, or that does not open is left where it is.
    """
    told = {word.reference_id: word for word in words if word.sealed and word.reference_id}
    kept = 0
    for row in await db.fetch(_ASKED, list(told)) if told else ():
        word = told[row["id"]]
        if (word.provider, word.provider_account) != (row["provider"], row["provider_account"]):
            continue
        token = _open_word(word)
        if token is None:
            continue
        keys = await vault.of_merchant(row["merchant_id"])
        saved_id = ids.uuid7()
        kept += await db.execute(
            "INSERT INTO saved_method (id, merchant_id, owner_id, attempt_id, provider, provider_account, method,"
            " label, token_cipher, key_version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
            " ON CONFLICT (attempt_id) DO NOTHING",
            saved_id,
            row["merchant_id"],
            owners[row["order_id"]],
            row["id"],
            row["provider"],
            row["provider_account"],
            row["method"],
            word.label or row["method"],
            keys.seal(_TABLE, saved_id, token),
            keys.version,
        )
    return kept


def _open_word(word: Word) -> bytes | None:
    assert word.sealed is not None, word.no
    place = _place(word.provider, word.provider_account, word.reference_id)
    try:
        return vault.unseal(place, base64.b64decode(word.sealed))
    except (InvalidTag, vault.KeyMissing):
        # The money goes on without it; the buyer may save the method with the next payment.
        _log.warning("saved_method.token_unreadable", inbox_no=word.no)
        return None


async def revoke_method(saved_id: UUID, owner_id: UUID) -> None:
    """It is charged no more; the provider is told by a promise. Idempotent. Errors: NotFound (not this owner's)."""
    async with db.transaction():
        touched = await db.execute(
            "UPDATE saved_method SET revoked_at = coalesce(revoked_at, clock_timestamp())"
            " WHERE id = $1 AND owner_id = $2",
            saved_id,
            owner_id,
        )
        if not touched:
            raise NotFound()
        await promises.promise(
            "settlement", "method.forget", saved_id, key=f"method.forget:{saved_id}"
        )


async def forget_method(saved_id: UUID) -> bool:
    """Have the provider delete a revoked method's token, then erase ours; false while the provider is unclear.

    Idempotent. Where the provider is no longer installed nobody can charge by the token: it is erased at once.
    """
    row = await db.row(
        "SELECT merchant_id, provider, provider_account, token_cipher, key_version FROM saved_method"
        " WHERE id = $1 AND revoked_at IS NOT NULL AND token_cipher IS NOT NULL",
        saved_id,
    )
    if row is None:
        return True
    if row["provider"] in providers:
        provider = await accounts.reach(row["provider"], row["provider_account"])
        token = await _unseal(saved_id, row["merchant_id"], row["key_version"], row["token_cipher"])
        if not await provider.forget(account=row["provider_account"], token=token):
            return False
    await db.execute(
        "UPDATE saved_method SET token_cipher = NULL WHERE id = $1 AND revoked_at IS NOT NULL",
        saved_id,
    )
    return True
