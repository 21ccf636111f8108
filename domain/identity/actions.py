"""Writes about people: register, sign in and out, grant and revoke."""

from __future__ import annotations

from uuid import UUID

from domain.core import db, ids
from domain.core.errors import FieldInvalid, NotFound
from domain.identity import mfa, passwords, rules, sessions, tries
from domain.identity.models import AccountKind
from domain.identity.queries import HAS_FACTOR
from domain.identity.rules import From, OperatorRole, Role


async def register(
    email: str, password: str, *, kind: AccountKind = AccountKind.PERSON, locale: str | None = None
) -> UUID:
    """Open an account; its id. Errors: FieldInvalid (address, password), EmailTaken."""
    address = rules.normalise_email(email)
    rules.check_password(password)
    account_id = ids.uuid7()
    made = await db.execute(
        "INSERT INTO account (id, email, password_hash, kind, locale) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (email) DO NOTHING",
        account_id,
        address,
        await passwords.digest(password),
        str(kind),
        locale,
    )
    if not made:
        raise rules.EmailTaken(path=("input", "email"))
    return account_id


async def set_password(account_id: UUID, password: str) -> None:
    """Give an account a new password and end all its sessions. Errors: FieldInvalid, NotFound."""
    rules.check_password(password)
    hashed = await passwords.digest(password)
    async with db.transaction():
        if not await db.execute(
            "UPDATE account SET password_hash = $2, credentials_changed_at = clock_timestamp()"
            " WHERE id = $1",
            account_id,
            hashed,
        ):
            raise NotFound()
        await sessions.end_sessions(account_id)


async def close(account_id: UUID) -> None:
    """Close an account and end all its sessions. Idempotent."""
    async with db.transaction():
        await db.execute("UPDATE account SET state = 'closed' WHERE id = $1", account_id)
        await sessions.end_sessions(account_id)


# Whether the device is known is asked together with the account: the same statement for everyone.
_ACCOUNT = f"""
SELECT a.id, a.password_hash, d.account_id IS NOT NULL AS is_known_device, {HAS_FACTOR} AS has_factor FROM account a
LEFT JOIN known_device d ON d.account_id = a.id AND d.token_hash = $2
    AND d.last_used_at > clock_timestamp() - make_interval(days => $3)
WHERE a.email = $1 AND a.state = 'open'
"""


async def sign_in(
    email: str,
    password: str,
    address: str | None,
    *,
    user_agent: str | None = None,
    device: str | None = None,
) -> rules.SignIn:
    """Open a session.

    Same words, statements and password work whether the account exists or not. Tries are counted before the
    password is looked at: per account and address, per account, per address; a device that is known to the
    account (`device`, its token) has its own count. Errors: CredentialsInvalid, SignInThrottled; MfaNeeded with
    the token of the other half; Unavailable when tries cannot be counted.
    """
    try:
        known = rules.normalise_email(email)
    except FieldInvalid:
        known = ""  # no account has it; the rest of the way is the same
    hashed = rules.token_hash(device or "")
    account = await db.row(_ACCOUNT, known, hashed, rules.DEVICE_DAYS)
    is_known = account is not None and account["is_known_device"]
    budgets = rules.sign_in_budgets(
        known or email[: rules.EMAIL_MAX], address, hashed if is_known else None
    )
    await tries.count(budgets)
    if not await passwords.match(account["password_hash"] if account else None, password):
        raise rules.CredentialsInvalid()
    assert account is not None
    if account["has_factor"]:
        raise await mfa.half(account["id"], account["password_hash"])
    return await sessions.open_session(
        account["id"],
        From(address, user_agent),
        budgets=budgets,
        device=device if is_known else None,
        proved=account["password_hash"],
    )


async def grant(merchant_id: UUID, account_id: UUID, role: Role) -> None:
    """Make the person a member in `role`, whatever the role was before; for seeds, people use `invite`."""
    async with db.transaction():
        await db.execute(
            "INSERT INTO membership (merchant_id, account_id, role) VALUES ($1, $2, $3)"
            " ON CONFLICT (merchant_id, account_id) DO UPDATE SET role = EXCLUDED.role,"
            " granted_at = clock_timestamp() WHERE membership.role <> EXCLUDED.role",
            merchant_id,
            account_id,
            str(role),
        )
        sessions.tell(account_id)


async def grant_operator(account_id: UUID, *roles: OperatorRole) -> None:
    """Give an operator these roles on top of those held. Errors: NotFound, no operator."""
    async with db.transaction():
        kind = await db.value(
            "SELECT kind FROM account WHERE id = $1 FOR NO KEY UPDATE", account_id
        )
        if kind != AccountKind.OPERATOR:
            raise NotFound()
        await db.execute(
            "INSERT INTO operator_role (account_id, role) SELECT $1, unnest($2::text[]) ON"
            " CONFLICT DO NOTHING",
            account_id,
            [str(role) for role in roles],
        )
        sessions.tell(account_id)


async def prune() -> int:
    """Forget sessions, counters, links and devices that are over; how many."""
    over = await db.execute(
        "DELETE FROM session WHERE expires_at < clock_timestamp() - interval '1 day'"
        " OR last_seen_at < clock_timestamp() - $1::interval - interval '1 day'",
        sessions.idle(),
    )
    over += await db.execute("DELETE FROM sign_in_try WHERE resets_at < clock_timestamp()")
    over += await db.execute(
        "DELETE FROM account_link WHERE expires_at < clock_timestamp() - interval '7 days'"
    )
    for table in ("half_sign_in", "passkey_challenge"):
        over += await db.execute(f"DELETE FROM {table} WHERE expires_at < clock_timestamp()")
    return over + await db.execute(_OLD_DEVICES, rules.DEVICE_DAYS, rules.DEVICES_MAX)


_OLD_DEVICES = """
DELETE FROM known_device d USING (
    SELECT account_id, token_hash, last_used_at,
        row_number() OVER (PARTITION BY account_id ORDER BY last_used_at DESC) AS place FROM known_device) o
WHERE d.account_id = o.account_id AND d.token_hash = o.token_hash
    AND (o.place > $2 OR o.last_used_at < clock_timestamp() - make_interval(days => $1))
"""
