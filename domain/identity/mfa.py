"""A second factor: codes of an authenticator app (TOTP), recovery codes, and what a session proves with them.

A code works once: the step it belongs to is stored by one conditional UPDATE, so of twenty who send it together one
gets in (CASES H12). Tries are counted before a code is looked at, per account and per address. Every refused code
has the same words. Source: RFC 6238, RFC 4226 section 7.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pyotp
from pyotp.exceptions import OTPVerificationError

import i18n
from domain.core import audit, clock, db, ids, letters, vault
from domain.core.errors import NotFound
from domain.identity import passwords, queries, rules, sessions, tries
from domain.identity.rules import (
    Acr,
    Budget,
    CredentialsInvalid,
    Factor,
    FactorExists,
    From,
    MfaNeeded,
    SignIn,
    SignInExpired,
    TooManyTries,
    TotpInvalid,
)

ISSUER = "Kami"
SECRET_CHARS = 32  # 160 bits, as RFC 4226 recommends
# The step before and the one after: a code read at its last second is still good when it arrives.
WINDOW = 1
RECOVERY_CODES = 10
RECOVERY_CHARS = 16  # 80 bits: too many to try, so a fast keyed hash is enough
_CODE = re.compile(r"[0-9]{6}")
_RECOVERY = re.compile(r"[0-9a-z]{4}(-?[0-9a-z]{4}){3}")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator app is told, this once: the secret in base32 and the same as an otpauth URI."""

    secret: str
    uri: str


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey as its holder sees it; `cloned_at` is set when its counter went back and it works no more."""

    id: UUID
    name: str
    is_synced: bool
    created_at: datetime
    last_used_at: datetime | None
    cloned_at: datetime | None


@dataclass(frozen=True, slots=True)
class Factors:
    """The second factors of an account."""

    has_totp: bool
    recovery_codes_left: int
    passkeys: list[Passkey]


@dataclass(frozen=True, slots=True)
class By:
    """The signed-in person who changes their own factors."""

    account_id: UUID
    session_id: UUID
    address: str | None = None
    request_id: str | None = None


async def factors(account_id: UUID) -> Factors:
    """What an account may prove itself with, passkeys oldest first."""
    row = await db.row(
        "SELECT EXISTS (SELECT FROM mfa WHERE account_id = $1 AND confirmed_at IS NOT NULL) AS has_totp,"
        " (SELECT count(*) FROM recovery_code WHERE account_id = $1 AND used_at IS NULL) AS codes",
        account_id,
    )
    assert row is not None
    keys = await db.fetch(
        "SELECT id, name, is_synced, created_at, last_used_at, cloned_at FROM passkey"
        " WHERE account_id = $1 ORDER BY created_at, id",
        account_id,
    )
    return Factors(row["has_totp"], row["codes"], [Passkey(*key) for key in keys])


async def check_password(account_id: UUID, password: str) -> Any:
    """The account's row, when `password` is its own; counted. Errors: CredentialsInvalid, TooManyTries."""
    budgets = rules.password_budgets(account_id)
    await tries.count(budgets, TooManyTries)
    row = await db.row("SELECT email, locale, password_hash FROM account WHERE id = $1", account_id)
    if not await passwords.match(row["password_hash"] if row else None, password):
        raise CredentialsInvalid()
    await tries.clear(budgets)
    return row


async def enrol(account_id: UUID, password: str) -> Enrolment:
    """Begin with an authenticator app; nothing holds before `confirm`. An enrolment that was begun is replaced.

    Errors: CredentialsInvalid, TooManyTries, FactorExists.
    """
    account = await check_password(account_id, password)
    row_id, secret = ids.uuid7(), pyotp.random_base32(SECRET_CHARS)
    made = await db.execute(
        "INSERT INTO mfa (id, account_id, secret) VALUES ($1, $2, $3) ON CONFLICT (account_id) DO UPDATE"
        " SET id = excluded.id, secret = excluded.secret, last_timecode = NULL,"
        " created_at = clock_timestamp() WHERE mfa.confirmed_at IS NULL",
        row_id,
        account_id,
        vault.seal(_place(row_id), secret.encode()),
    )
    if not made:
        raise FactorExists()
    return Enrolment(
        secret, pyotp.TOTP(secret).provisioning_uri(name=account["email"], issuer_name=ISSUER)
    )


async def confirm(by: By, code: str) -> list[str]:
    """Switch the enrolled app on by its first code, which counts as used; fresh recovery codes, shown this once.

    The session has then proved two factors. Errors: TotpInvalid, TooManyTries, FactorExists.
    """
    budgets = await _count(by.account_id, by.address)
    async with db.transaction():
        await _lock(by.account_id)
        row = await _app(by.account_id)
        if row is not None and row["confirmed_at"] is not None:
            raise FactorExists()
        if not await _spend(row, code, "confirmed_at = clock_timestamp()"):
            raise TotpInvalid(path=("code",))
        codes = await _write_codes(by.account_id)
        await tries.clear(budgets)
        await sessions.step_up(by.account_id, by.session_id, Acr.MFA)
        await changed(by, "mfa.enrolled")
    return codes


async def verify(by: By, code: str) -> None:
    """Prove the second factor of the running session: a code of the app, or a recovery code. Audited for the latter.

    Errors: TotpInvalid, TooManyTries.
    """
    budgets = await _count(by.account_id, by.address)
    async with db.transaction():
        await _redeem(by.account_id, code, by.request_id)
        await tries.clear(budgets)
        await sessions.step_up(by.account_id, by.session_id, Acr.MFA)


async def disable(by: By) -> None:
    """Switch the authenticator app off; recovery codes go with the last factor. Errors: NotFound."""
    async with db.transaction():
        await _lock(by.account_id)
        gone = await db.execute(
            "DELETE FROM mfa WHERE account_id = $1 AND confirmed_at IS NOT NULL", by.account_id
        )
        if not gone:
            raise NotFound()
        await drop_codes_of_nothing(by.account_id)
        await changed(by, "mfa.disabled")


async def renew_codes(by: By) -> list[str]:
    """Ten fresh recovery codes; those of before work no more. Errors: NotFound for an account without a factor."""
    async with db.transaction():
        await _lock(by.account_id)
        if not await db.value(
            f"SELECT {queries.HAS_FACTOR} FROM account a WHERE a.id = $1", by.account_id
        ):
            raise NotFound()
        codes = await _write_codes(by.account_id)
        await changed(by, "mfa.recovery_renewed")
    return codes


async def half(account_id: UUID, stored_password: str) -> MfaNeeded:
    """The refusal of a sign-in whose password was right: with its token one of the factors opens the session."""
    token = rules.new_token(rules.HALF_PREFIX)
    expires_at = clock.now() + timedelta(seconds=rules.HALF_SIGN_IN_S)
    await db.execute(
        "INSERT INTO half_sign_in (token_hash, account_id, password_hash, expires_at)"
        " VALUES ($1, $2, sha256(convert_to($3, 'UTF8')), $4)",
        rules.token_hash(token),
        account_id,
        stored_password,
        expires_at,
    )
    held = await factors(account_id)
    kinds = [Factor.TOTP] if held.has_totp else []
    if any(key.cloned_at is None for key in held.passkeys):
        kinds.append(Factor.PASSKEY)
    if held.recovery_codes_left:
        kinds.append(Factor.RECOVERY_CODE)
    return MfaNeeded(sign_in_token=token, factors=kinds, expires_at=expires_at)


_HALF = """
SELECT h.account_id, a.email, a.password_hash, d.account_id IS NOT NULL AS is_known_device
FROM half_sign_in h JOIN account a ON a.id = h.account_id
LEFT JOIN known_device d ON d.account_id = a.id AND d.token_hash = $2
    AND d.last_used_at > clock_timestamp() - make_interval(days => $3)
WHERE h.token_hash = $1 AND h.used_at IS NULL AND h.expires_at > $4 AND a.state = 'open'
    AND h.password_hash = sha256(convert_to(a.password_hash, 'UTF8'))
"""


async def half_of(token: str, where: From = From()) -> Any:  # noqa: B008 - frozen
    """The account whose sign-in waits for a factor. Errors: SignInExpired."""
    found = None
    if rules.is_token(token, rules.HALF_PREFIX):
        device = rules.token_hash(where.device or "")
        found = await db.row(_HALF, rules.token_hash(token), device, rules.DEVICE_DAYS, clock.now())
    if found is None:
        raise SignInExpired()
    return found


async def complete(token: str, code: str, where: From, *, request_id: str | None = None) -> SignIn:
    """The other half of a sign-in, by a code of the app or a recovery code.

    A wrong code leaves the token good. Errors: SignInExpired, TotpInvalid, TooManyTries.
    """
    waiting = await half_of(token, where)
    budgets = await _count(waiting["account_id"], where.address)
    async with db.transaction():
        await _redeem(waiting["account_id"], code, request_id)
        await tries.clear(budgets)
        return await finish(token, waiting, where, Acr.MFA)


async def finish(token: str, waiting: Any, where: From, acr: Acr) -> SignIn:
    """Use a half up and open its session, in the transaction of the proof. Errors: SignInExpired."""
    used = await db.execute(
        "UPDATE half_sign_in SET used_at = clock_timestamp() WHERE token_hash = $1 AND used_at IS NULL",
        rules.token_hash(token),
    )
    if not used:
        raise SignInExpired()
    is_known = waiting["is_known_device"]
    hashed = rules.token_hash(where.device or "") if is_known else None
    budgets = rules.sign_in_budgets(waiting["email"], where.address, hashed)
    device = where.device if is_known else None
    try:
        return await sessions.open_session(
            waiting["account_id"],
            where,
            budgets=budgets,
            device=device,
            acr=acr,
            proved=waiting["password_hash"],
        )
    except rules.CredentialsInvalid:  # changed since the first half
        raise SignInExpired() from None


async def _count(account_id: UUID, address: str | None) -> Sequence[Budget]:
    budgets = rules.code_budgets(account_id, address)
    await tries.count(budgets, TooManyTries)
    return budgets


async def _lock(account_id: UUID) -> None:
    """One change of factors at a time."""
    await db.execute("SELECT 1 FROM account WHERE id = $1 FOR NO KEY UPDATE", account_id)


async def _app(account_id: UUID) -> Any:
    return await db.row(
        "SELECT id, secret, confirmed_at FROM mfa WHERE account_id = $1", account_id
    )


async def _redeem(account_id: UUID, code: str, request_id: str | None) -> None:
    """Use a code of the app or a recovery code up. Errors: TotpInvalid."""
    if _CODE.fullmatch(code):
        row = await _app(account_id)
        if row is not None and row["confirmed_at"] is not None and await _spend(row, code):
            return
        raise TotpInvalid(path=("code",))
    plain = code.lower()
    if not (plain.isascii() and _RECOVERY.fullmatch(plain)):
        raise TotpInvalid(path=("code",))
    await _lock(account_id)  # before its codes, as everybody who changes them
    used = await db.execute(
        "UPDATE recovery_code SET used_at = clock_timestamp()"
        " WHERE account_id = $1 AND code_hash = $2 AND used_at IS NULL",
        account_id,
        _code_hash(account_id, plain.replace("-", "")),
    )
    if not used:
        raise TotpInvalid(path=("code",))
    await tell(account_id, "mfa.recovery_used", request_id)


async def _spend(row: Any, code: str, also: str = "") -> bool:
    """Whether the code is one of now and was not used: one UPDATE whose WHERE is the check."""
    # Before pyotp sees it: it would take full-width digits for digits.
    if row is None or not _CODE.fullmatch(code):
        return False
    totp = pyotp.TOTP(vault.unseal(_place(row["id"]), row["secret"]).decode())
    try:
        step = totp.verify_and_get_timecode(code, for_time=clock.now(), valid_window=WINDOW)
    except OTPVerificationError:
        return False
    spent = await db.execute(
        f"UPDATE mfa SET last_timecode = $2{', ' if also else ''}{also}"
        " WHERE id = $1 AND (last_timecode IS NULL OR last_timecode < $2)",
        row["id"],
        step,
    )
    return bool(spent)


async def _write_codes(account_id: UUID) -> list[str]:
    """Fresh recovery codes in the place of all there were."""
    plain = [ids.base32(secrets.randbits(80), RECOVERY_CHARS) for _ in range(RECOVERY_CODES)]
    await db.execute("DELETE FROM recovery_code WHERE account_id = $1", account_id)
    await db.execute(
        "INSERT INTO recovery_code (account_id, code_hash) SELECT $1, unnest($2::bytea[])",
        account_id,
        [_code_hash(account_id, one) for one in plain],
    )
    return ["-".join(re.findall("....", one)) for one in plain]


async def ensure_codes(account_id: UUID) -> list[str]:
    """Recovery codes for the first factor of an account; none when it has some."""
    if await db.value("SELECT 1 FROM recovery_code WHERE account_id = $1", account_id):
        return []
    return await _write_codes(account_id)


async def drop_codes_of_nothing(account_id: UUID) -> None:
    """Recovery codes of an account without a factor go."""
    await db.execute(
        f"DELETE FROM recovery_code r USING account a WHERE r.account_id = $1 AND a.id = $1"
        f" AND NOT {queries.HAS_FACTOR}",
        account_id,
    )


async def changed(by: By, action: str, **facts: Any) -> None:
    """An audit row and a letter to the holder; every process looks at the account again."""
    await tell(by.account_id, action, by.request_id, **facts)


async def tell(account_id: UUID, action: str, request_id: str | None, **facts: Any) -> None:
    """The same for a change that nobody signed in makes."""
    actor = audit.Actor("account", ids.encode("acc", account_id), request_id=request_id)
    await audit.record(None, actor, action, account_id, **facts)
    row = await db.row(
        "UPDATE account SET credentials_changed_at = clock_timestamp() WHERE id = $1"
        " RETURNING email, locale",
        account_id,
    )
    assert row is not None
    await letters.owe("factors_changed", row["email"], i18n.nearest(row["locale"] or "en"))
    sessions.tell(account_id)


def _place(row_id: UUID) -> str:
    return f"mfa:{row_id}:secret"


def _code_hash(account_id: UUID, code: str) -> bytes:
    return vault.fingerprint("recovery_code", f"{account_id}:{code}")
