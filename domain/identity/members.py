"""Staff of a merchant: invited by an owner, in one role each, changed and removed at once everywhere.

Every change is a row of the audit log with what was before and what is after. A merchant keeps an owner: its
owners are locked in order before one of them goes, so that two who remove each other cannot both win.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import i18n
from domain.core import audit, db, ids, letters
from domain.core.errors import NotFound
from domain.core.once import Once
from domain.identity import links, passwords, rules, sessions, tries
from domain.identity.rules import AlreadyMember, LastOwner, LinkInvalid, Role, TooManyTries

MEMBERS_MAX = 500


@dataclass(frozen=True, slots=True)
class Colleague:
    """A member of a merchant as the other members see them."""

    account_id: UUID
    merchant_id: UUID
    email: str
    role: Role
    granted_at: datetime


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation that waits to be accepted."""

    id: UUID
    merchant_id: UUID
    email: str
    role: Role
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes staff, for the records."""

    account_id: UUID
    request_id: str | None = None


_MEMBERS = """
SELECT a.id, m.merchant_id, a.email, m.role, m.granted_at FROM membership m JOIN account a ON a.id = m.account_id
WHERE m.merchant_id = ANY($1) ORDER BY m.no LIMIT $2
"""
_INVITATIONS = """
SELECT id, merchant_id, email, role, created_at, expires_at FROM account_link
WHERE kind = 'invitation' AND merchant_id = ANY($1) AND used_at IS NULL AND expires_at > clock_timestamp()
ORDER BY created_at, id LIMIT $2
"""


async def members_of(merchant_ids: Sequence[UUID]) -> list[list[Colleague]]:
    """The members of each merchant, oldest first, in one statement."""
    found: dict[UUID, list[Colleague]] = {merchant_id: [] for merchant_id in merchant_ids}
    for row in await db.fetch(_MEMBERS, list(found), MEMBERS_MAX * len(found)):
        found[row["merchant_id"]].append(_colleague(row))
    return [found[merchant_id] for merchant_id in merchant_ids]


async def invitations_of(merchant_ids: Sequence[UUID]) -> list[list[Invitation]]:
    """The open invitations of each merchant, oldest first, in one statement."""
    found: dict[UUID, list[Invitation]] = {merchant_id: [] for merchant_id in merchant_ids}
    for row in await db.fetch(_INVITATIONS, list(found), MEMBERS_MAX * len(found)):
        found[row["merchant_id"]].append(_invitation(row))
    return [found[merchant_id] for merchant_id in merchant_ids]


async def member(merchant_id: UUID, account_id: UUID) -> Colleague | None:
    """One member."""
    row = await db.row(_ONE, merchant_id, account_id)
    return _colleague(row) if row else None


_ONE = """
SELECT a.id, m.merchant_id, a.email, m.role, m.granted_at FROM membership m JOIN account a ON a.id = m.account_id
WHERE m.merchant_id = $1 AND m.account_id = $2
"""


def _colleague(row: Any) -> Colleague:
    return Colleague(
        row["id"], row["merchant_id"], row["email"], Role(row["role"]), row["granted_at"]
    )


def _invitation(row: Any) -> Invitation:
    return Invitation(
        row["id"],
        row["merchant_id"],
        row["email"],
        Role(row["role"]),
        row["created_at"],
        row["expires_at"],
    )


_INVITE = """
INSERT INTO account_link (id, token_hash, kind, email, merchant_id, role, made_by, expires_at)
SELECT $1, $2, 'invitation', $3, m.id, $5, $6, clock_timestamp() + make_interval(secs => $7)
FROM merchant m WHERE m.id = $4 AND m.state = 'open'
RETURNING id, merchant_id, email, role, created_at, expires_at,
    (SELECT name FROM merchant WHERE id = $4) AS merchant, (SELECT email FROM account WHERE id = $6) AS inviter,
    (SELECT locale FROM account WHERE email = $3) AS their_locale
"""
_INVITED = """
SELECT id, merchant_id, email, role, created_at, expires_at FROM account_link WHERE id = $1
"""


async def invite(
    merchant_id: UUID, email: str, role: Role, *, locale: str, by: Actor, once: Once | None = None
) -> Invitation:
    """Send `email` a link that makes its reader a member for a week. The caller has checked the right.

    Errors: FieldInvalid (address), AlreadyMember, TooManyTries, NotFound (no open merchant).
    """
    known = rules.normalise_email(email)
    await tries.count(rules.mail_budgets(known, str(by.account_id)), TooManyTries)
    token, link_id = rules.new_token(rules.LINK_PREFIX), ids.uuid7()
    async with db.transaction():
        if once is not None and (earlier := await once.claim({"link_id": str(link_id)})):
            row = await db.row(_INVITED, UUID(earlier["link_id"]))
            if row is None:
                raise NotFound()
            return _invitation(row)
        if await db.value(
            "SELECT 1 FROM membership m JOIN account a ON a.id = m.account_id"
            " WHERE m.merchant_id = $1 AND a.email = $2",
            merchant_id,
            known,
        ):
            raise AlreadyMember(path=("input", "email"))
        hashed, lasts_s = rules.token_hash(token), float(rules.INVITATION_S)
        row = await db.row(
            _INVITE, link_id, hashed, known, merchant_id, str(role), by.account_id, lasts_s
        )
        if row is None:
            raise NotFound(path=("input", "merchantId"))
        facts = {"merchant": row["merchant"], "inviter": row["inviter"], "role": str(role)}
        language = i18n.nearest(row["their_locale"] or locale)
        await letters.owe("invitation", known, language, facts, secret=token)
        await _audit(
            merchant_id, by, "member.invite", link_id, {"email": known, "after": str(role)}
        )
    return _invitation(row)


async def withdraw_invitation(merchant_id: UUID, link_id: UUID, *, by: Actor) -> None:
    """End an invitation before it is accepted. Errors: NotFound."""
    async with db.transaction():
        role = await db.value(
            "UPDATE account_link SET used_at = clock_timestamp() WHERE id = $1 AND merchant_id = $2"
            " AND kind = 'invitation' AND used_at IS NULL RETURNING role",
            link_id,
            merchant_id,
        )
        if role is None:
            raise NotFound(path=("input", "invitationId"))
        await _audit(merchant_id, by, "member.withdraw", link_id, {"before": role, "after": None})


async def needs_password(token: str) -> bool | None:
    """Whether accepting opens an account, so that a password has to be chosen; None when the link is over."""
    email = await links.look_at(token, "invitation")
    if email is None:
        return None
    return not await db.value("SELECT 1 FROM account WHERE email = $1", email)


async def accept_invitation(
    token: str, password: str | None, *, locale: str, address: str | None, request_id: str | None
) -> Colleague:
    """Make the reader of an invitation a member; an address without an account gets one with `password`.

    The link proves the mailbox. Who is a member already keeps the role they have. Errors: LinkInvalid, FieldInvalid
    (a password is needed), TooManyTries.
    """
    link = await links.look(token, "invitation", address)
    has_account = await db.value("SELECT 1 FROM account WHERE email = $1", link["email"])
    hashed = None
    if not has_account:
        rules.check_password(password or "")
        hashed = await passwords.digest(password or "")
    async with db.transaction():
        await links.use(token, "invitation")
        account_id = await _account(link["email"], hashed, i18n.nearest(locale))
        made = await db.execute(
            "INSERT INTO membership (merchant_id, account_id, role) VALUES ($1, $2, $3)"
            " ON CONFLICT (merchant_id, account_id) DO NOTHING",
            link["merchant_id"],
            account_id,
            link["role"],
        )
        found = await member(link["merchant_id"], account_id)
        assert found is not None
        if made:
            facts = {"before": None, "after": link["role"], "invited_by": str(link["made_by"])}
            by = Actor(account_id, request_id)
            await _audit(link["merchant_id"], by, "member.accept", account_id, facts)
        sessions.tell(account_id)
    return found


async def _account(email: str, hashed: str | None, locale: str) -> UUID:
    """The account of an address that was just proved, made when it is new."""
    if hashed is not None:
        made = await db.value(
            "INSERT INTO account (id, email, password_hash, locale, email_verified_at)"
            " VALUES ($1, $2, $3, $4, clock_timestamp()) ON CONFLICT (email) DO NOTHING RETURNING id",
            ids.uuid7(),
            email,
            hashed,
            locale,
        )
        if made is not None:
            return UUID(str(made))
    known = await db.value(
        "UPDATE account SET email_verified_at = coalesce(email_verified_at, clock_timestamp())"
        " WHERE email = $1 AND state = 'open' RETURNING id",
        email,
    )
    if known is None:
        raise LinkInvalid()
    return UUID(str(known))


async def change_role(merchant_id: UUID, account_id: UUID, role: Role, *, by: Actor) -> Colleague:
    """Give a member another role; their sessions end, so that nothing open keeps the rights of before.

    The role they have already changes nothing. Errors: NotFound, LastOwner.
    """
    async with db.transaction():
        before = await _lock(merchant_id, account_id, stays_owner=role is Role.OWNER)
        if before is not role:
            await db.execute(
                "UPDATE membership SET role = $3, granted_at = clock_timestamp()"
                " WHERE merchant_id = $1 AND account_id = $2",
                merchant_id,
                account_id,
                str(role),
            )
            await _lost(merchant_id, account_id)
            facts = {"before": str(before), "after": str(role)}
            await _audit(merchant_id, by, "member.role", account_id, facts)
        found = await member(merchant_id, account_id)
    assert found is not None
    return found


async def remove_member(merchant_id: UUID, account_id: UUID, *, by: Actor) -> Colleague:
    """End a membership and every session of the member; as they were. Errors: NotFound, LastOwner."""
    async with db.transaction():
        before = await _lock(merchant_id, account_id, stays_owner=False)
        found = await member(merchant_id, account_id)
        await db.execute(
            "DELETE FROM membership WHERE merchant_id = $1 AND account_id = $2",
            merchant_id,
            account_id,
        )
        await _lost(merchant_id, account_id)
        facts = {"before": str(before), "after": None}
        await _audit(merchant_id, by, "member.remove", account_id, facts)
    assert found is not None
    return found


async def _lock(merchant_id: UUID, account_id: UUID, *, stays_owner: bool) -> Role:
    """The member's role, with the row and every owner's row locked. Errors: NotFound, LastOwner."""
    rows = await db.fetch(
        "SELECT account_id, role FROM membership"
        " WHERE merchant_id = $1 AND (role = 'owner' OR account_id = $2) ORDER BY no FOR UPDATE",
        merchant_id,
        account_id,
    )
    roles = {row["account_id"]: Role(row["role"]) for row in rows}
    if account_id not in roles:
        raise NotFound(path=("input", "accountId"))
    owners = [one for one, role in roles.items() if role is Role.OWNER]
    if owners == [account_id] and not stays_owner:
        raise LastOwner(path=("input", "accountId"))
    return roles[account_id]


async def _lost(merchant_id: UUID, account_id: UUID) -> None:
    """What goes with a role: open sessions, and invitations that only its holder's word stood behind."""
    await db.execute(
        "UPDATE account_link SET used_at = clock_timestamp()"
        " WHERE merchant_id = $1 AND made_by = $2 AND kind = 'invitation' AND used_at IS NULL",
        merchant_id,
        account_id,
    )
    await sessions.end_sessions(account_id)


async def _audit(
    merchant_id: UUID, by: Actor, action: str, subject_id: UUID, facts: Mapping[str, Any]
) -> None:
    actor = audit.Actor("account", ids.encode("acc", by.account_id), request_id=by.request_id)
    await audit.record(merchant_id, actor, action, subject_id, **facts)
