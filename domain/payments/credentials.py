"""A merchant's own provider account changes by two people: opened, its credentials rotated, given up.

Credentials are tried at the provider before anybody is asked, sealed, and never shown again. What is given up or
rotated away takes no new payments, but refunds and late words of it still work. Source: CASES H29.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from domain.core import db, four_eyes, ids, vault, versions
from domain.core.errors import Conflict, DomainError, FieldInvalid, InputInvalid, Unavailable
from domain.core.four_eyes import Approval, ApprovalClosed, ApprovalDiffers, Approver
from domain.core.once import Once
from domain.payments import accounts
from domain.payments.accounts import TABLE
from domain.payments.ports import CredentialField, own_accounts

KIND = "provider.account"
PREFIX = "pac"
VALUE_MAX = 4_000
LISTED_MAX = 100


class ProviderAccountAsked(DomainError):
    """Somebody has asked for a change of this account already; approve or decline that first."""

    code = "PROVIDER_ACCOUNT_ASKED"


class ProviderAccountNotActive(DomainError):
    """Only an active account can be given up."""

    code = "PROVIDER_ACCOUNT_NOT_ACTIVE"


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """One version of a merchant's own account as people see it: never its secrets."""

    merchant_id: UUID
    id: UUID
    provider: str
    account: str
    state: str
    shown: dict[str, str]
    fingerprint: bytes
    changed_by: UUID
    approved_by: UUID | None
    version: int
    created_at: datetime
    active_at: datetime | None
    ended_at: datetime | None


_COLUMNS = (
    "merchant_id, id, provider, account, state, shown_json, fingerprint, changed_by, approved_by, version,"
    " created_at, active_at, ended_at"
)


async def accounts_of(merchant_id: UUID) -> list[ProviderAccount]:
    """A merchant's accounts, every version, the newest first; at most `LISTED_MAX`."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM provider_credential WHERE merchant_id = $1 ORDER BY id DESC LIMIT $2",
        merchant_id,
        LISTED_MAX,
    )
    return [ProviderAccount(*row) for row in rows]


async def find_account(credential_id: UUID) -> ProviderAccount | None:
    """One version, whoever's; the caller looks at the right."""
    row = await db.row(f"SELECT {_COLUMNS} FROM provider_credential WHERE id = $1", credential_id)
    return ProviderAccount(*row) if row else None


def fields_of(provider: str) -> tuple[CredentialField, ...]:
    """What credentials of a provider consist of. Errors: FieldInvalid for one that merchants have no accounts at."""
    if provider not in own_accounts:
        raise FieldInvalid(path=("input", "provider"), reason="no accounts of merchants")
    return own_accounts[provider].credentials


async def propose_account(
    merchant_id: UUID, provider: str, given: Mapping[str, str], *, asked_by: UUID, once: Once
) -> Approval:
    """Try credentials at the provider, then ask for them. Nothing goes through the account yet. Idempotent by `once`.

    The caller has checked the right. Errors: InputInvalid with a path per faulty field (`fields.<name>`), also when the
    provider refuses them; Unavailable when it does not answer; ProviderAccountAsked.
    """
    fields = fields_of(provider)
    values = _checked(fields, given)
    credential_id, approval_id = ids.uuid7(), ids.uuid7()
    name = ids.base32(credential_id.int, 26)
    is_good = await own_accounts[provider].bound(name, values).prove()
    if is_good is None:
        raise Unavailable()
    if not is_good:
        secret = next(one.name for one in fields if one.is_secret)
        raise InputInvalid(FieldInvalid(path=("input", "fields", secret), reason="refused"))
    keys = await vault.of_merchant(merchant_id)

    async def act() -> Approval:
        identity = "|".join(values[one.name] for one in fields if one.is_identity)
        active = await _active(merchant_id, provider)
        account = await _account(merchant_id, provider, identity) or name
        asked = {
            "action": "add" if active is None else "replace",
            "provider": provider,
            "providerAccountId": ids.encode(PREFIX, credential_id),
            "fields": _shown(fields, values),
            "secretFingerprint": _mark(keys, fields, values).hex(),
            "isRotation": active is not None and active["account"] == account,
            "replaces": None if active is None else ids.encode(PREFIX, active["id"]),
        }
        await db.execute(
            "INSERT INTO provider_credential (merchant_id, id, provider, account, identity, shown_json, cipher,"
            " key_version, fingerprint, changed_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            merchant_id,
            credential_id,
            provider,
            account,
            identity,
            _shown(fields, values),
            keys.seal(TABLE, credential_id, orjson.dumps(values)),
            keys.version,
            _mark(keys, fields, values),
            asked_by,
        )
        return await four_eyes.propose(
            approval_id, KIND, credential_id, asked, asked_by=asked_by, merchant_id=merchant_id
        )

    try:
        return await _once(once, approval_id, act)
    except asyncpg.UniqueViolationError:
        raise ProviderAccountAsked() from None


async def propose_account_removal(
    merchant_id: UUID, credential_id: UUID, version: int, *, asked_by: UUID, once: Once
) -> Approval:
    """Ask for an account to be given up: payments go through the platform's again. Idempotent by `once`.

    Errors: NotFound, Conflict, ProviderAccountNotActive.
    """
    approval_id = ids.uuid7()

    async def act() -> Approval:
        held = await versions.bump(PREFIX, merchant_id, credential_id, version)
        row = await db.row(
            "SELECT state, provider, shown_json FROM provider_credential WHERE merchant_id = $1 AND id = $2",
            merchant_id,
            credential_id,
        )
        assert row is not None
        if row["state"] != "active":
            raise ProviderAccountNotActive()
        asked = {"provider": row["provider"], "fields": row["shown_json"], "version": held}
        asked |= {"action": "remove", "providerAccountId": ids.encode(PREFIX, credential_id)}
        return await four_eyes.propose(
            approval_id, KIND, credential_id, asked, asked_by=asked_by, merchant_id=merchant_id
        )

    return await _once(once, approval_id, act)


async def approve_account(
    approval_id: UUID, request_hash: bytes, *, approved_by: Approver
) -> Approval:
    """Be the second person: payments go through the account from now on, or no more.

    Errors: NotFound, four_eyes.SamePerson, ApproverTooNew, ApprovalDiffers, ApprovalClosed; Conflict when another
    account is active now than when it was asked.
    """
    async with db.transaction():
        approved = await four_eyes.approve(approval_id, KIND, request_hash, approved_by=approved_by)
        assert approved.merchant_id is not None
        asked = approved.request
        active = await _active(approved.merchant_id, asked["provider"])
        if asked["action"] == "remove":
            if active is None or (active["id"], active["version"]) != (
                approved.subject_id,
                asked["version"],
            ):
                raise Conflict(
                    current=active and active["version"], subject=(PREFIX, approved.subject_id)
                )
            await _retire(approved.merchant_id, active["id"])
        else:
            now = None if active is None else ids.encode(PREFIX, active["id"])
            if now != asked["replaces"]:
                raise Conflict(
                    current=active and active["version"], subject=(PREFIX, approved.subject_id)
                )
            if active is not None:
                await _retire(approved.merchant_id, active["id"])
            await _activate(approved)
        db.after_commit(_forget)
        return approved


async def _forget() -> None:
    accounts.forget()


async def _activate(approved: Approval) -> None:
    """pending → active, for exactly what was sealed when it was asked for."""
    assert approved.merchant_id is not None
    row = await db.row(
        "UPDATE provider_credential SET state = 'active', approved_by = $3, version = version + 1,"
        " active_at = clock_timestamp() WHERE merchant_id = $1 AND id = $2 AND state = 'pending'"
        " RETURNING merchant_id, id, provider, key_version, cipher",
        approved.merchant_id,
        approved.subject_id,
        approved.approved_by,
    )
    if row is None:
        raise ApprovalClosed()
    fields = own_accounts[row["provider"]].credentials
    values = await accounts.unsealed(row)
    keys = await vault.of_merchant(approved.merchant_id)
    asked = approved.request
    shown = (_shown(fields, values), _mark(keys, fields, values).hex())
    if shown != (asked["fields"], asked["secretFingerprint"]):
        raise ApprovalDiffers()


async def _retire(merchant_id: UUID, credential_id: UUID) -> None:
    gone = await db.execute(
        "UPDATE provider_credential SET state = 'retired', version = version + 1, ended_at = clock_timestamp()"
        " WHERE merchant_id = $1 AND id = $2 AND state = 'active'",
        merchant_id,
        credential_id,
    )
    assert gone == 1, credential_id


async def _undo(ended: Approval) -> None:
    """Credentials that were declined or not approved in time are never used."""
    if ended.request["action"] == "remove":
        return
    await db.execute(
        "UPDATE provider_credential SET state = 'removed', version = version + 1, ended_at = clock_timestamp()"
        " WHERE merchant_id = $1 AND id = $2 AND state = 'pending'",
        ended.merchant_id,
        ended.subject_id,
    )


four_eyes.undo[KIND] = _undo


async def _active(merchant_id: UUID, provider: str) -> Any:
    """The active version at a provider, locked."""
    return await db.row(
        "SELECT id, account, version FROM provider_credential"
        " WHERE merchant_id = $1 AND provider = $2 AND state = 'active' FOR UPDATE",
        merchant_id,
        provider,
    )


async def _account(merchant_id: UUID, provider: str, identity: str) -> str | None:
    """Our name of the account, when the merchant has had it before."""
    found: str | None = await db.value(
        "SELECT account FROM provider_credential WHERE merchant_id = $1 AND provider = $2 AND identity = $3"
        " ORDER BY id LIMIT 1",
        merchant_id,
        provider,
        identity,
    )
    return found


async def _once(once: Once, approval_id: UUID, act: Callable[[], Awaitable[Approval]]) -> Approval:
    async with db.transaction():
        earlier = await once.claim({"approval_id": str(approval_id)})
        if earlier is None:
            return await act()
        found = await four_eyes.find(UUID(earlier["approval_id"]))
        assert found is not None, earlier
        return found


def _checked(fields: tuple[CredentialField, ...], given: Mapping[str, str]) -> dict[str, str]:
    problems: list[DomainError] = []
    known = {one.name: one for one in fields}
    for name in given:
        if name not in known:
            problems.append(FieldInvalid(path=("input", "fields", name[:64]), reason="unknown"))
    for one in fields:
        value = given.get(one.name, "").strip()
        if len(value) > VALUE_MAX or not one.pattern.fullmatch(value):
            problems.append(FieldInvalid(path=("input", "fields", one.name), reason="pattern"))
    if problems:
        raise InputInvalid(*problems)
    return {one.name: given[one.name].strip() for one in fields}


def _shown(fields: tuple[CredentialField, ...], values: Mapping[str, str]) -> dict[str, str]:
    return {one.name: values[one.name] for one in fields if not one.is_secret}


def _mark(
    keys: vault.MerchantVault, fields: tuple[CredentialField, ...], values: Mapping[str, str]
) -> bytes:
    """A keyed fingerprint of all fields."""
    text = orjson.dumps([values[one.name] for one in fields]).decode()
    return keys.fingerprint(f"{TABLE}:{text}".encode())
