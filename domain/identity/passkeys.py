"""Passkeys (WebAuthn): registered by somebody signed in, then a second factor, or both factors at once.

A challenge is answered once, right or wrong. The signature is checked before the counter: a counter that went back
under a valid signature means that the key was copied, so the passkey is put out of use and its holder told. Source:
W3C Web Authentication Level 3, sections 7.1 and 7.2.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import webauthn
from webauthn.helpers import base64url_to_bytes, parse_client_data_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from domain.core import clock, db, ids
from domain.core.errors import FieldInvalid, NotFound
from domain.core.settings import settings
from domain.identity import mfa, rules, sessions, tries
from domain.identity.mfa import By, Passkey
from domain.identity.rules import Acr, From, PasskeyInvalid, SignIn, TooManyTries

NAME_MAX = 64
PASSKEYS_MAX = 20
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Added:
    """A new passkey, and recovery codes when it is the first factor of its account."""

    passkey: Passkey
    recovery_codes: list[str]


@dataclass(frozen=True, slots=True)
class _Proven:
    """What an authenticator has proved: whose passkey, and whether it verified its user."""

    account_id: UUID
    acr: Acr


def relying_party() -> str:
    """The name passkeys belong to: the host of KAMI_PUBLIC_URL."""
    return urlsplit(settings().public_url).hostname or ""


def origin() -> str:
    """The only page whose answers count."""
    found = urlsplit(settings().public_url)
    return f"{found.scheme}://{found.netloc}"


async def start_registration(account_id: UUID, password: str, *, address: str | None) -> Json:
    """Options for `navigator.credentials.create`. Errors: CredentialsInvalid, TooManyTries, FieldInvalid (enough)."""
    account = await mfa.check_password(account_id, password)
    known = await _credentials(account_id)
    if len(known) >= PASSKEYS_MAX:
        raise FieldInvalid(path=("input",), reason=f"{PASSKEYS_MAX} passkeys at most")
    challenge = await _ask("register", account_id, address)
    options = webauthn.generate_registration_options(
        rp_id=relying_party(),
        rp_name=mfa.ISSUER,
        user_id=account_id.bytes,
        user_name=account["email"],
        challenge=challenge,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.PREFERRED,
        ),
        exclude_credentials=known,
    )
    return _json(options)


async def finish_registration(by: By, credential: Mapping[str, Any], name: str) -> Added:
    """Keep a new passkey. The session has then proved it. Errors: PasskeyInvalid, FieldInvalid (name)."""
    if not 0 < len(name.strip()) <= NAME_MAX or not name.isprintable():
        raise FieldInvalid(path=("input", "name"), reason=f"1 to {NAME_MAX} characters")
    challenge = await _use(credential, "register", by.account_id)
    try:
        found = webauthn.verify_registration_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=relying_party(),
            expected_origin=origin(),
        )
    except (WebAuthnException, ValueError, TypeError, KeyError) as error:
        raise PasskeyInvalid() from error
    async with db.transaction():
        row = await db.row(
            "INSERT INTO passkey (id, account_id, credential_id, public_key, sign_count, name, is_synced)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (credential_id) DO NOTHING"
            " RETURNING id, name, is_synced, created_at, last_used_at, cloned_at",
            ids.uuid7(),
            by.account_id,
            found.credential_id,
            found.credential_public_key,
            found.sign_count,
            name.strip(),
            found.credential_backed_up,
        )
        if row is None:
            raise PasskeyInvalid()
        codes = await mfa.ensure_codes(by.account_id)
        await sessions.step_up(by.account_id, by.session_id, _acr(found.user_verified))
        await mfa.changed(by, "passkey.added", passkey=str(row["id"]), name=row["name"])
    return Added(Passkey(*row), codes)


async def start_proof(account_id: UUID, *, address: str | None) -> Json:
    """Options for `navigator.credentials.get` with a passkey of this account. Errors: TooManyTries, NotFound (none)."""
    known = await _credentials(account_id)
    if not known:
        raise NotFound()
    return _question(await _ask("prove", account_id, address), known)


async def start_sign_in(*, address: str | None) -> Json:
    """Options for `navigator.credentials.get` by anybody with a passkey on this device. Errors: TooManyTries."""
    return _question(await _ask("sign_in", None, address), None)


async def verify(by: By, credential: Mapping[str, Any]) -> None:
    """Prove a passkey in the running session. Errors: PasskeyInvalid, TooManyTries."""
    proven = await _check(credential, "prove", by.account_id, by.address)
    async with db.transaction():
        await sessions.step_up(by.account_id, by.session_id, proven.acr)


async def complete(token: str, credential: Mapping[str, Any], where: From) -> SignIn:
    """The other half of a sign-in by a passkey. Errors: SignInExpired, PasskeyInvalid, TooManyTries."""
    waiting = await mfa.half_of(token, where)
    proven = await _check(credential, "prove", waiting["account_id"], where.address)
    async with db.transaction():
        return await mfa.finish(token, waiting, where, proven.acr)


async def sign_in(credential: Mapping[str, Any], where: From) -> SignIn:
    """A session by a passkey alone, which has verified its user: two factors in one. Errors: as `verify`."""
    proven = await _check(credential, "sign_in", None, where.address)
    known = await db.value(
        "SELECT 1 FROM known_device WHERE account_id = $1 AND token_hash = $2",
        proven.account_id,
        rules.token_hash(where.device or ""),
    )
    device = where.device if known else None
    return await sessions.open_session(proven.account_id, where, device=device, acr=proven.acr)


async def remove(by: By, passkey_id: UUID) -> None:
    """A passkey that is not to work any more; recovery codes go with the last factor. Errors: NotFound."""
    async with db.transaction():
        name = await db.value(
            "DELETE FROM passkey WHERE id = $1 AND account_id = $2 RETURNING name",
            passkey_id,
            by.account_id,
        )
        if name is None:
            raise NotFound(path=("id",))
        await mfa.drop_codes_of_nothing(by.account_id)
        await mfa.changed(by, "passkey.removed", passkey=str(passkey_id), name=name)


async def _credentials(account_id: UUID) -> list[PublicKeyCredentialDescriptor]:
    rows = await db.fetch(
        "SELECT credential_id FROM passkey WHERE account_id = $1 AND cloned_at IS NULL ORDER BY created_at",
        account_id,
    )
    return [PublicKeyCredentialDescriptor(id=row["credential_id"]) for row in rows]


def _question(challenge: bytes, known: list[PublicKeyCredentialDescriptor] | None) -> Json:
    must_verify = known is None
    options = webauthn.generate_authentication_options(
        rp_id=relying_party(),
        challenge=challenge,
        allow_credentials=known,
        user_verification=UserVerificationRequirement.REQUIRED
        if must_verify
        else UserVerificationRequirement.PREFERRED,
    )
    return _json(options)


def _json(options: Any) -> Json:
    found: Json = json.loads(webauthn.options_to_json(options))
    return found


async def _ask(kind: str, account_id: UUID | None, address: str | None) -> bytes:
    await tries.count(rules.passkey_budgets(address), TooManyTries)
    challenge = secrets.token_bytes(32)
    await db.execute(
        "INSERT INTO passkey_challenge (challenge, kind, account_id, expires_at) VALUES ($1, $2, $3, $4)",
        challenge,
        kind,
        account_id,
        clock.now() + timedelta(seconds=rules.CHALLENGE_S),
    )
    return challenge


async def _use(credential: Mapping[str, Any], kind: str, account_id: UUID | None) -> bytes:
    """The challenge an answer is about, used up whatever the answer is worth. Errors: PasskeyInvalid."""
    try:
        said = parse_client_data_json(base64url_to_bytes(credential["response"]["clientDataJSON"]))
    except (WebAuthnException, ValueError, TypeError, KeyError) as error:
        raise PasskeyInvalid() from error
    used = await db.execute(
        "UPDATE passkey_challenge SET used_at = clock_timestamp() WHERE challenge = $1 AND kind = $2"
        " AND account_id IS NOT DISTINCT FROM $3 AND used_at IS NULL AND expires_at > $4",
        said.challenge,
        kind,
        account_id,
        clock.now(),
    )
    if not used:
        raise PasskeyInvalid()
    return said.challenge


async def _check(
    credential: Mapping[str, Any], kind: str, account_id: UUID | None, address: str | None
) -> _Proven:
    """Whose passkey has signed. Errors: PasskeyInvalid, TooManyTries."""
    await tries.count(rules.passkey_budgets(address), TooManyTries)
    challenge = await _use(credential, kind, account_id)
    try:
        row = await _passkey(base64url_to_bytes(credential["id"]), account_id)
        handle = credential["response"].get("userHandle")
        if row is None or (handle and base64url_to_bytes(handle) != row["account_id"].bytes):
            raise PasskeyInvalid()
        found = webauthn.verify_authentication_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=relying_party(),
            expected_origin=origin(),
            credential_public_key=row["public_key"],
            credential_current_sign_count=0,  # `_move` looks at it, once the signature is known to be good
            require_user_verification=kind == "sign_in",
        )
    except (WebAuthnException, ValueError, TypeError, KeyError, AttributeError) as error:
        raise PasskeyInvalid() from error
    await _move(row, found.new_sign_count)
    return _Proven(row["account_id"], _acr(found.user_verified))


async def _passkey(credential_id: bytes, account_id: UUID | None) -> Any:
    return await db.row(
        "SELECT p.id, p.account_id, p.public_key FROM passkey p JOIN account a ON a.id = p.account_id"
        " WHERE p.credential_id = $1 AND ($2::uuid IS NULL OR p.account_id = $2)"
        " AND p.cloned_at IS NULL AND a.state = 'open'",
        credential_id,
        account_id,
    )


async def _move(row: Any, count: int) -> None:
    """The counter only goes up; one that stays at zero is not kept by its maker."""
    moved = await db.execute(
        "UPDATE passkey SET sign_count = $2, last_used_at = clock_timestamp() WHERE id = $1"
        " AND cloned_at IS NULL AND (sign_count < $2 OR sign_count = 0 AND $2 = 0)",
        row["id"],
        count,
    )
    if moved:
        return
    async with db.transaction():
        copied = await db.execute(
            "UPDATE passkey SET cloned_at = clock_timestamp() WHERE id = $1 AND cloned_at IS NULL",
            row["id"],
        )
        if copied:
            await mfa.tell(row["account_id"], "passkey.cloned", None, passkey=str(row["id"]))
    raise PasskeyInvalid()


def _acr(user_verified: bool) -> Acr:
    return Acr.PHISHING_RESISTANT if user_verified else Acr.MFA
