"""Another e-mail address for an account: asked for with the password, done by its new mailbox, undone by the old one.

The new mailbox gets a link, the one of before a notice with a link that takes everything back for three days. Whoever
asks learns nothing about other accounts (H11): an address that has one gets a letter that says so, in its own mail.
What was placed with an address stays with who held it then (E19): see `HeldAddress`.
"""

from __future__ import annotations

from uuid import UUID

import asyncpg

import i18n
from domain.core import audit, db, ids, letters
from domain.core.errors import FieldInvalid
from domain.core.once import Once
from domain.identity import passwords, rules, sessions, tries
from domain.identity.links import change, look, use
from domain.identity.rules import CredentialsInvalid, LinkInvalid, TooManyTries

# Both links are of one moment: what takes back takes back all that came after it. Only the newest wish counts.
_ASK = """
WITH at AS (SELECT clock_timestamp() AS now),
older AS (
    UPDATE account_link SET used_at = clock_timestamp() WHERE account_id = $1 AND kind = 'email' AND used_at IS NULL)
INSERT INTO account_link (id, token_hash, email, kind, account_id, locale, session_id, created_at, expires_at)
SELECT l.id, l.token_hash, l.email, l.kind, $1, $2, $3, at.now, at.now + make_interval(secs => l.lasts_s)
FROM at, unnest($4::uuid[], $5::bytea[], $6::text[], $7::text[], $8::float8[])
    AS l(id, token_hash, email, kind, lasts_s)
"""
_LEAVE = """
INSERT INTO address_left (account_id, email)
SELECT id, email FROM account WHERE id = $1 AND email_verified_at IS NOT NULL
"""


async def change_email(
    account_id: UUID,
    email: str,
    password: str,
    *,
    session_id: UUID,
    locale: str,
    once: Once | None = None,
) -> str:
    """Ask for another address for an account; the normalised one, to which a link goes.

    Nothing changes before that link is used. The session `session_id` will outlive the change. Errors: FieldInvalid
    (address, or the same as now), CredentialsInvalid, TooManyTries.
    """
    wanted = rules.normalise_email(email)
    await tries.count(
        [*rules.password_budgets(account_id), *rules.mail_budgets(wanted, str(account_id))],
        TooManyTries,
    )
    account = await db.row(
        "SELECT email, password_hash, locale FROM account WHERE id = $1 AND state = 'open'",
        account_id,
    )
    if not await passwords.match(account["password_hash"] if account else None, password):
        raise CredentialsInvalid()
    assert account is not None
    if account["email"] == wanted:
        raise FieldInvalid(path=("input", "email"), reason="same")
    language = i18n.nearest(account["locale"] or locale)
    change_token, undo_token = (rules.new_token(rules.LINK_PREFIX) for _ in range(2))
    async with db.transaction():
        if once is not None and await once.claim({"email": wanted}) is not None:
            return wanted
        await db.execute(
            _ASK,
            account_id,
            language,
            session_id,
            [ids.uuid7(), ids.uuid7()],
            [rules.token_hash(change_token), rules.token_hash(undo_token)],
            [wanted, account["email"]],
            ["email", "email_undo"],
            [float(rules.VERIFY_S), float(rules.UNDO_S)],
        )
        is_taken = bool(
            await db.value("SELECT EXISTS (SELECT FROM account WHERE email = $1)", wanted)
        )
        letter = ("email_change", "email_taken")[is_taken]
        await letters.owe(letter, wanted, language, secret=change_token)
        await letters.owe(
            "email_undo", account["email"], language, {"email": wanted}, secret=undo_token
        )
    return wanted


async def confirm_email(token: str, password: str, *, address: str | None) -> str:
    """Move an account to the address of a link; the address. Sessions end but the one that asked.

    The link proves the mailbox, the password that it is read by who asked: otherwise a click on a link that a
    stranger asked for would show the stranger the reader's orders. Links to a new password that went to the address
    of before open nothing any more. Errors: LinkInvalid (also when the address is somebody's by now),
    CredentialsInvalid (the link stays good), TooManyTries.
    """
    link = await look(token, "email", address)
    account_id = link["account_id"]
    stored = await db.value("SELECT password_hash FROM account WHERE id = $1", account_id)
    if not await passwords.match(stored, password):
        raise CredentialsInvalid()
    try:
        async with db.transaction():
            await use(token, "email")
            await _move(account_id, link["email"], stored)
            await db.execute(
                "UPDATE account_link SET used_at = clock_timestamp()"
                " WHERE account_id = $1 AND kind = 'reset' AND used_at IS NULL",
                account_id,
            )
            await db.execute(
                "DELETE FROM session WHERE account_id = $1 AND id IS DISTINCT FROM $2",
                account_id,
                link["session_id"],
            )
            sessions.tell(account_id)
            await _audit("account.email_changed", account_id)
    except asyncpg.UniqueViolationError:
        raise LinkInvalid() from None
    return str(link["email"])


async def _move(account_id: UUID, email: str, stored: str) -> None:
    """Leave one address for another. Errors: LinkInvalid when the password is another one by now."""
    held = await db.value(
        "SELECT id FROM account WHERE id = $1 AND state = 'open' AND password_hash = $2 FOR NO KEY UPDATE",
        account_id,
        stored,
    )
    if held is None:
        raise LinkInvalid()
    await db.execute(_LEAVE, account_id)
    await db.execute(
        "UPDATE account SET email = $2, email_verified_at = clock_timestamp(),"
        " credentials_changed_at = clock_timestamp() WHERE id = $1",
        account_id,
        email,
    )


async def undo_email(token: str, password: str, *, address: str | None) -> tuple[str, str]:
    """Give an account back the address a link went to, and a new password: (address, token of a known device).

    Everything asked for since is void, every session ends; what was placed with an address it had meanwhile is not
    the account's. Works before the change is done too. Errors: FieldInvalid (password), LinkInvalid (also when the
    address has another account by now), TooManyTries.
    """
    rules.check_password(password, path=("input", "newPassword"))
    link = await look(token, "email_undo", address)
    account_id, email = link["account_id"], str(link["email"])
    hashed = await passwords.digest(password)
    try:
        async with db.transaction():
            await use(token, "email_undo")
            # Links before the account, the older first: as `confirm_email` locks them.
            await db.execute(
                "UPDATE account_link SET used_at = clock_timestamp() WHERE account_id = $1"
                " AND kind IN ('email', 'email_undo') AND used_at IS NULL AND created_at >= $2",
                account_id,
                link["created_at"],
            )
            await db.execute(
                "UPDATE account SET email = $2 WHERE id = $1 AND state = 'open'", account_id, email
            )
            await db.execute(
                "UPDATE address_left SET undone_at = clock_timestamp()"
                " WHERE account_id = $1 AND undone_at IS NULL AND left_at >= $2",
                account_id,
                link["created_at"],
            )
            await change(account_id, hashed, is_proof=True)
            await _audit("account.email_restored", account_id)
            device = rules.new_token(rules.DEVICE_PREFIX)
            await sessions.know_device(account_id, device)
    except asyncpg.UniqueViolationError:
        raise LinkInvalid() from None
    return email, device


async def _audit(action: str, account_id: UUID) -> None:
    actor = audit.Actor("link", ids.encode("acc", account_id))
    await audit.record(None, actor, action, account_id)
