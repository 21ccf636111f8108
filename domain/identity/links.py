"""Links in mails: opening an account, proving an address, a new password.

Whoever asks learns nothing about other people's accounts: one code path, the same statements and the same Argon2
work answer for an address with an account and for one without; only the mail differs, and its owner reads that
(CASES H11).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import i18n
from domain.core import audit, db, ids, letters
from domain.core.once import Once
from domain.identity import passwords, rules, sessions, tries
from domain.identity.rules import CredentialsInvalid, From, LinkInvalid, SignIn, TooManyTries

# Somebody who has an account gets a link to a new password, whatever was asked for.
_LINK = """
WITH known AS MATERIALIZED (SELECT id, locale FROM account WHERE email = $3 AND state = 'open')
INSERT INTO account_link (id, token_hash, email, kind, account_id, password_hash, locale, expires_at)
SELECT $1, $2, $3, CASE WHEN is_new THEN 'verify' ELSE 'reset' END, (SELECT id FROM known),
    CASE WHEN is_new THEN $4 END, $5,
    clock_timestamp() + make_interval(secs => CASE WHEN is_new THEN $6::float8 ELSE $7::float8 END)
FROM (SELECT $4::text IS NOT NULL AND NOT EXISTS (SELECT FROM known)) AS t(is_new)
RETURNING account_id, (SELECT locale FROM known) AS account_locale
"""
# The WHERE is the check: once, in time, of this kind.
_USE = """
UPDATE account_link SET used_at = clock_timestamp()
WHERE token_hash = $1 AND kind = $2 AND used_at IS NULL AND expires_at > clock_timestamp()
RETURNING *
"""
_LOOK = """
SELECT * FROM account_link
WHERE token_hash = $1 AND kind = $2 AND used_at IS NULL AND expires_at > clock_timestamp()
"""


async def sign_up(
    email: str, password: str, locale: str, *, address: str | None, once: Once | None = None
) -> str:
    """Ask for an account; the normalised address to which a link goes.

    An address without an account gets a link that opens one, with this password; an address with one is told so,
    with a link to a new password. Errors: FieldInvalid (address, password), TooManyTries.
    """
    known = rules.normalise_email(email)
    rules.check_password(password)
    await tries.count(rules.mail_budgets(known, rules.address_bucket(address)), TooManyTries)
    hashed = await passwords.digest(password)
    await _send(known, locale, hashed, once, letters_of=("verify", "account_exists"))
    return known


async def request_reset(
    email: str, locale: str, *, address: str | None, once: Once | None = None
) -> str:
    """Ask for a new password; the normalised address to which a mail goes, with a link if it has an account.

    Errors: FieldInvalid (address), TooManyTries.
    """
    known = rules.normalise_email(email)
    await tries.count(rules.mail_budgets(known, rules.address_bucket(address)), TooManyTries)
    await _send(known, locale, None, once, letters_of=("no_account", "reset"))
    return known


async def _send(
    email: str, locale: str, hashed: str | None, once: Once | None, *, letters_of: tuple[str, str]
) -> None:
    """Make a link and owe its mail. `letters_of`: what is written to an address without and with an account."""
    token = rules.new_token(rules.LINK_PREFIX)
    async with db.transaction():
        if once is not None and await once.claim({"email": email}) is not None:
            return
        made = await db.row(
            _LINK,
            ids.uuid7(),
            rules.token_hash(token),
            email,
            hashed,
            i18n.nearest(locale),
            float(rules.VERIFY_S),
            float(rules.RESET_S),
        )
        assert made is not None
        has_account = made["account_id"] is not None
        await letters.owe(
            letters_of[has_account],
            email,
            i18n.nearest(made["account_locale"] or locale),
            secret=token,
        )


async def verify_email(token: str, password: str, where: From) -> SignIn:
    """Open the account that was asked for, and a session of it.

    The link proves the mailbox, the password that it is read by whoever chose it: a link sent because a stranger
    typed the address opens nothing for the stranger. Errors: LinkInvalid, CredentialsInvalid (the link stays good),
    TooManyTries.
    """
    link = await look(token, "verify", where.address)
    if not await passwords.match(link["password_hash"], password):
        raise CredentialsInvalid()
    async with db.transaction():
        await use(token, "verify")
        account_id = await db.value(
            "INSERT INTO account (id, email, password_hash, locale, email_verified_at)"
            " VALUES ($1, $2, $3, $4, clock_timestamp()) ON CONFLICT (email) DO NOTHING RETURNING id",
            ids.uuid7(),
            link["email"],
            link["password_hash"],
            link["locale"],
        )
        if account_id is None:  # another link for the same address was faster
            raise LinkInvalid()
        await _audit("account.opened", account_id, {"email_verified": True})
        return await sessions.open_session(account_id, where)


async def reset_password(token: str, password: str, *, address: str | None) -> str:
    """Give the account of a link a new password: every session ends, known devices are strangers again.

    The link proves the mailbox too, and makes the device it is used on a known one: the token of that, so that
    who was locked out by strangers' tries gets in. Errors: FieldInvalid (password), LinkInvalid, TooManyTries.
    """
    rules.check_password(password, path=("input", "newPassword"))
    link = await look(token, "reset", address)
    if link["account_id"] is None:
        raise LinkInvalid()
    hashed = await passwords.digest(password)
    async with db.transaction():
        await use(token, "reset")
        await change(link["account_id"], hashed, is_proof=True)
        await _audit("account.password_reset", link["account_id"], {})
        device = rules.new_token(rules.DEVICE_PREFIX)
        await sessions.know_device(link["account_id"], device)
        return device


async def change_password(
    account_id: UUID, current: str, new: str, where: From, *, request_id: str | None = None
) -> SignIn:
    """A new password for who knows the old one; every session ends, and one begins under a new token.

    Errors: FieldInvalid (new password), CredentialsInvalid, TooManyTries.
    """
    rules.check_password(new, path=("input", "newPassword"))
    budgets = rules.password_budgets(account_id)
    await tries.count(budgets, TooManyTries)
    stored = await db.value("SELECT password_hash FROM account WHERE id = $1", account_id)
    if not await passwords.match(stored, current):
        raise CredentialsInvalid()
    hashed = await passwords.digest(new)
    async with db.transaction():
        # Somebody who changed it meanwhile wins: what was compared is what is replaced.
        await change(account_id, hashed, before=stored)
        await _audit("account.password_changed", account_id, {}, account_id, request_id)
        return await sessions.open_session(account_id, where, budgets=budgets)


async def change(
    account_id: UUID, hashed: str, *, is_proof: bool = False, before: str | None = None
) -> None:
    changed = await db.row(
        "UPDATE account SET password_hash = $2, credentials_changed_at = clock_timestamp(), email_verified_at ="
        " CASE WHEN $3 THEN coalesce(email_verified_at, clock_timestamp()) ELSE email_verified_at END"
        " WHERE id = $1 AND state = 'open' AND ($4::text IS NULL OR password_hash = $4)"
        " RETURNING email, locale",
        account_id,
        hashed,
        is_proof,
        before,
    )
    if changed is None:
        raise LinkInvalid() if is_proof else CredentialsInvalid()
    await db.execute(
        "WITH strangers AS (DELETE FROM known_device WHERE account_id = $1)"
        " UPDATE account_link SET used_at = clock_timestamp()"
        " WHERE account_id = $1 AND kind = 'reset' AND used_at IS NULL",
        account_id,
    )
    await sessions.end_sessions(account_id)
    await letters.owe("password_changed", changed["email"], i18n.nearest(changed["locale"] or "en"))


async def look(token: str, kind: str, address: str | None) -> Any:
    """The row of a link that may still be used, counted as a try. Errors: TooManyTries, LinkInvalid."""
    if not rules.is_token(token, rules.LINK_PREFIX):
        raise LinkInvalid()
    found = await db.row(_LOOK, rules.token_hash(token), kind)
    if found is None:
        raise LinkInvalid()  # nobody guesses one: what is counted is tries of the password that goes with it
    await tries.count(rules.link_budgets(token, address), TooManyTries)
    return found


async def look_at(token: str, kind: str) -> str | None:
    """The address a link was sent to; None when it cannot be used any more. For a page that shows a form."""
    if not rules.is_token(token, rules.LINK_PREFIX):
        return None
    found = await db.row(_LOOK, rules.token_hash(token), kind)
    return None if found is None else str(found["email"])


async def use(token: str, kind: str) -> Any:
    """Use a link up, inside the transaction of what it does; its row. Errors: LinkInvalid."""
    used = await db.row(_USE, rules.token_hash(token), kind)
    if used is None:
        raise LinkInvalid()
    return used


async def _audit(
    action: str,
    subject_id: UUID,
    facts: dict[str, Any],
    actor_id: UUID | None = None,
    request_id: str | None = None,
) -> None:
    actor = audit.Actor(
        "account" if actor_id else "link",
        ids.encode("acc", actor_id or subject_id),
        request_id=request_id,
    )
    await audit.record(None, actor, action, subject_id, **facts)
