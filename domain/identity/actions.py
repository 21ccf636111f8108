"""Writes about people: register, sign in and out, grant and revoke."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from domain.core import clock, db, ids
from domain.core.errors import FieldInvalid, NotFound
from domain.identity import queries, rules
from domain.identity.models import AccountKind
from domain.identity.rules import OperatorRole, Role

SESSION_DAYS = 14
_USER_AGENT_MAX = 200

# OWASP's second choice: 19 MiB, two passes, 25 ms. Two at a time bound memory and leave the API its
# processor.
_hasher = PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1)
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")


@cache
def _decoy() -> str:
    """A hash without a known password: an unknown account costs the same work as a known one."""
    return _hasher.hash(secrets.token_urlsafe(32))


def _matches(stored: str | None, password: str) -> bool:
    decoy = _decoy()  # made in any case: its first making must not tell accounts apart
    try:
        return _hasher.verify(stored or decoy, password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


async def _hash(password: str) -> str:
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)


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
        await _hash(password),
        str(kind),
        locale,
    )
    if not made:
        raise rules.EmailTaken(path=("input", "email"))
    return account_id


async def set_password(account_id: UUID, password: str) -> None:
    """Give an account a new password and end all its sessions. Errors: FieldInvalid, NotFound."""
    rules.check_password(password)
    hashed = await _hash(password)
    async with db.transaction():
        if not await db.execute(
            "UPDATE account SET password_hash = $2 WHERE id = $1", account_id, hashed
        ):
            raise NotFound()
        await _end_sessions(account_id)


async def close(account_id: UUID) -> None:
    """Close an account and end all its sessions. Idempotent."""
    async with db.transaction():
        await db.execute("UPDATE account SET state = 'closed' WHERE id = $1", account_id)
        await _end_sessions(account_id)


async def _end_sessions(account_id: UUID) -> None:
    await db.execute("DELETE FROM session WHERE account_id = $1", account_id)
    queries.forget_viewers(account_id)


# Counted before the password is looked at, so parallel tries cannot share one count.
_COUNT_TRY = """
INSERT INTO sign_in_try AS t (key_hash, tries, resets_at)
SELECT key, 1, clock_timestamp() + make_interval(secs => $2) FROM unnest($1::bytea[]) AS k(key)
    ORDER BY key
ON CONFLICT (key_hash) DO UPDATE SET
    tries = CASE WHEN t.resets_at <= clock_timestamp() THEN 1 ELSE t.tries + 1 END,
    resets_at = CASE WHEN t.resets_at <= clock_timestamp() THEN EXCLUDED.resets_at ELSE
        t.resets_at END
RETURNING key_hash, tries, ceil(extract(epoch FROM resets_at - clock_timestamp()))::int AS wait_s
"""

# A success is no failure: it clears the pair and takes its own try off the address.
_OPEN_SESSION = """
WITH cleared AS (
    UPDATE sign_in_try SET tries = CASE WHEN key_hash = $7 THEN 0 ELSE greatest(tries - 1, 0) END
    WHERE key_hash = ANY($8))
INSERT INTO session (id, token_hash, account_id, expires_at, address, user_agent)
VALUES ($1, $2, $3, $4, $5, $6)
"""


async def sign_in(
    email: str, password: str, address: str | None, *, user_agent: str | None = None
) -> rules.SignIn:
    """Open a session for fourteen days.

    Same words, statements and password work whether the account exists or not. Errors:
    CredentialsInvalid, SignInThrottled after ten failures per account and address, or a hundred per
    address, in 15 minutes.
    """
    try:
        known = rules.normalise_email(email)
    except FieldInvalid:
        known = ""  # no account has it; the rest of the way is the same
    keys = rules.try_keys(known or email[: rules.EMAIL_MAX], address)
    await _count_try(keys)

    account = await db.row(
        "SELECT id, password_hash FROM account WHERE email = $1 AND state = 'open'", known
    )
    stored = account["password_hash"] if account else None
    asked = password if len(password) <= rules.PASSWORD_MAX else ""
    matches = await asyncio.get_running_loop().run_in_executor(_threads, _matches, stored, asked)
    if not matches or account is None:
        raise rules.CredentialsInvalid()

    token = rules.TOKEN_PREFIX + secrets.token_urlsafe(32)
    opened = rules.SignIn(
        token, ids.uuid7(), account["id"], clock.now() + timedelta(days=SESSION_DAYS)
    )
    await db.execute(
        _OPEN_SESSION,
        opened.session_id,
        rules.token_hash(token),
        opened.account_id,
        opened.expires_at,
        (address or "")[:45] or None,
        _printable(user_agent),
        next(iter(keys)),
        list(keys),
    )
    return opened


async def _count_try(keys: dict[bytes, int]) -> None:
    counted = await db.fetch(_COUNT_TRY, list(keys), float(rules.TRIES_WINDOW_S))
    waits = [row["wait_s"] for row in counted if row["tries"] > keys[row["key_hash"]]]
    if waits:
        raise rules.SignInThrottled(retry_after=max(1, *waits))


def _printable(user_agent: str | None) -> str | None:
    if not user_agent:
        return None
    return "".join(char for char in user_agent if char.isprintable())[:_USER_AGENT_MAX] or None


async def sign_out(token: str) -> bool:
    """End the session of `token`; false when there was none. Elsewhere it dies within seconds."""
    if not rules.is_token(token):
        return False
    hashed = rules.token_hash(token)
    queries.forget_token(hashed)
    return bool(await db.execute("DELETE FROM session WHERE token_hash = $1", hashed))


async def grant(merchant_id: UUID, account_id: UUID, role: Role) -> None:
    """Make the person a member in `role`, whatever the role was before."""
    await db.execute(
        "INSERT INTO membership (merchant_id, account_id, role) VALUES ($1, $2, $3)"
        " ON CONFLICT (merchant_id, account_id) DO UPDATE SET role = EXCLUDED.role,"
        " granted_at = clock_timestamp() WHERE membership.role <> EXCLUDED.role",
        merchant_id,
        account_id,
        str(role),
    )
    queries.forget_viewers(account_id)


async def revoke(merchant_id: UUID, account_id: UUID) -> bool:
    """End a membership; false when there was none."""
    ended = await db.execute(
        "DELETE FROM membership WHERE merchant_id = $1 AND account_id = $2", merchant_id, account_id
    )
    queries.forget_viewers(account_id)
    return bool(ended)


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
    queries.forget_viewers(account_id)


async def prune() -> int:
    """Forget sessions and counters that are over; how many."""
    over = await db.execute(
        "DELETE FROM session WHERE expires_at < clock_timestamp() - interval '1 day'"
    )
    return over + await db.execute("DELETE FROM sign_in_try WHERE resets_at < clock_timestamp()")
