"""Sessions: opened by a proof of who somebody is, listed for their holder, ended everywhere at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from domain.core import bell, clock, db, ids
from domain.core.errors import NotFound
from domain.core.settings import settings
from domain.identity import queries, rules
from domain.identity.rules import Acr, Budget, From

LISTED_MAX = 100
_ADDRESS_MAX, _USER_AGENT_MAX = 45, 200

# A success is no failure: it clears the first budget and takes its own try off the others. The account is locked
# and looked at again: a password that was changed while this one was compared opens nothing.
_OPEN = """
WITH them AS MATERIALIZED (
    SELECT id FROM account WHERE id = $3 AND state = 'open' AND ($10::text IS NULL OR password_hash = $10) FOR SHARE),
cleared AS (
    UPDATE sign_in_try SET tries = CASE WHEN key_hash = $7 THEN 0 ELSE greatest(tries - 1, 0) END
    WHERE key_hash = ANY($8) AND EXISTS (SELECT FROM them)),
device AS (
    INSERT INTO known_device (account_id, token_hash) SELECT id, $9 FROM them
    ON CONFLICT (account_id, token_hash) DO UPDATE SET last_used_at = clock_timestamp())
INSERT INTO session (id, token_hash, account_id, expires_at, address, user_agent, acr)
SELECT $1, $2, id, $4, $5, $6, $11 FROM them
"""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """One session as its holder sees it."""

    id: UUID
    user_agent: str | None
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


async def open_session(
    account_id: UUID,
    where: From,
    *,
    budgets: Sequence[Budget] = (),
    device: str | None = None,
    acr: Acr = Acr.PASSWORD,
    proved: str | None = None,
) -> rules.SignIn:
    """A session for `settings().session_days`, under a token that nobody has seen before.

    `device` is the token of a device known to the account; without one this device becomes known. `proved` is the
    hash of the password that was proved before. Errors: CredentialsInvalid when it is not the account's any more, or
    the account was closed.
    """
    token = rules.new_token()
    opened = rules.SignIn(
        token,
        ids.uuid7(),
        account_id,
        clock.now() + timedelta(days=settings().session_days),
        device or rules.new_token(rules.DEVICE_PREFIX),
    )
    made = await db.execute(
        _OPEN,
        opened.session_id,
        rules.token_hash(token),
        account_id,
        opened.expires_at,
        (where.address or "")[:_ADDRESS_MAX] or None,
        _printable(where.user_agent),
        budgets[0].key if budgets else None,
        [one.key for one in budgets],
        rules.token_hash(opened.device),
        proved,
        str(acr),
    )
    if not made:
        raise rules.CredentialsInvalid()
    return opened


async def know_device(account_id: UUID, device: str) -> None:
    """Remember the device that holds this token as one of the account's."""
    await db.execute(
        "INSERT INTO known_device (account_id, token_hash) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        account_id,
        rules.token_hash(device),
    )


async def known_devices(account_id: UUID) -> int:
    """How many devices have signed in to the account lately, and keep a budget of tries of their own."""
    found: int = await db.value(
        "SELECT count(*) FROM known_device WHERE account_id = $1"
        " AND last_used_at > clock_timestamp() - make_interval(days => $2)",
        account_id,
        rules.DEVICE_DAYS,
    )
    return found


async def forget_devices(account_id: UUID) -> int:
    """Every device of the account is a stranger again; how many. Open sessions go on."""
    return await db.execute("DELETE FROM known_device WHERE account_id = $1", account_id)


def _printable(user_agent: str | None) -> str | None:
    if not user_agent:
        return None
    return "".join(char for char in user_agent if char.isprintable())[:_USER_AGENT_MAX] or None


def idle() -> timedelta:
    """How long a session may rest."""
    return timedelta(hours=settings().session_idle_hours)


async def sessions_of(account_id: UUID) -> list[OpenSession]:
    """The open sessions of an account, the newest first, a hundred at most."""
    rows = await db.fetch(
        "SELECT id, user_agent, address, created_at, last_seen_at, expires_at FROM session"
        " WHERE account_id = $1 AND expires_at > clock_timestamp()"
        " AND last_seen_at > clock_timestamp() - $2::interval ORDER BY created_at DESC, id DESC LIMIT $3",
        account_id,
        idle(),
        LISTED_MAX,
    )
    return [OpenSession(*row) for row in rows]


async def alive(session_ids: Iterable[UUID]) -> set[UUID]:
    """Those of these sessions that are not over."""
    rows = await db.fetch(
        "SELECT s.id FROM session s JOIN account a ON a.id = s.account_id WHERE s.id = ANY($1)"
        " AND s.expires_at > clock_timestamp() AND a.state = 'open'"
        " AND s.last_seen_at > clock_timestamp() - $2::interval",
        list(session_ids),
        idle(),
    )
    return {row["id"] for row in rows}


async def revoke_session(account_id: UUID, session_id: UUID) -> int:
    """End one session of an account. Errors: NotFound, also for somebody else's."""
    async with db.transaction():
        ended = await db.execute(
            "DELETE FROM session WHERE id = $1 AND account_id = $2", session_id, account_id
        )
        if not ended:
            raise NotFound(path=("id",))
        tell(account_id)
    return ended


async def revoke_others(account_id: UUID, session_id: UUID) -> int:
    """End every session of an account but one; how many."""
    async with db.transaction():
        ended = await db.execute(
            "DELETE FROM session WHERE account_id = $1 AND id <> $2", account_id, session_id
        )
        tell(account_id)
    return ended


async def sign_out(token: str) -> bool:
    """End the session of `token`; false when there was none. Its sockets close at once, elsewhere too."""
    if not rules.is_token(token):
        return False
    hashed = rules.token_hash(token)
    async with db.transaction():
        # Not by `execute`: whose it was tells whom to forget elsewhere.
        account_id = await db.value(
            "DELETE FROM session WHERE token_hash = $1 RETURNING account_id", hashed
        )
        queries.forget_token(hashed)
        if account_id is not None:
            tell(account_id)
    return account_id is not None


async def end_sessions(account_id: UUID) -> None:
    """End every session of an account, inside the transaction that is the reason."""
    await db.execute("DELETE FROM session WHERE account_id = $1", account_id)
    tell(account_id)


async def step_up(account_id: UUID, session_id: UUID, acr: Acr) -> None:
    """A session has proved `acr` just now, inside the transaction of the proof."""
    await db.execute(
        "UPDATE session SET acr = $3, auth_at = clock_timestamp() WHERE id = $1 AND account_id = $2",
        session_id,
        account_id,
        str(acr),
    )
    tell(account_id)


def tell(account_id: UUID) -> None:
    """After the commit: forget who the account was, here and in every other process, and look at its sockets."""

    async def after() -> None:
        queries.forget_viewers(account_id)
        await bell.ring(bell.PEOPLE, account_id)

    queries.forget_viewers(account_id)
    db.after_commit(after)
