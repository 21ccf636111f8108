"""Second factors: an authenticator app, recovery codes, passkeys, and signing in with them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import segno
import strawberry
from strawberry.scalars import JSON

from domain import identity
from domain.core import ids
from domain.core.errors import FieldInvalid, NotFound
from domain.identity import Acr, mfa, passkeys
from resolvers import stepup
from resolvers.access import require_viewer
from resolvers.context import Asked, Context
from resolvers.people import SignedIn, came_from, check_cookie, session_for


@strawberry.input(description="Begin with an authenticator app.")
class EnrolMfaInput:
    """Whoever only holds the session cannot put a factor of theirs on the account."""

    password: str = strawberry.field(description="The password of the account.")


@strawberry.input(description="Begin with a passkey.")
class StartPasskeyRegistrationInput:
    """Whoever only holds the session cannot put a passkey of theirs on the account."""

    password: str = strawberry.field(description="The password of the account.")


@strawberry.input(description="A passkey that an authenticator has made.")
class FinishPasskeyRegistrationInput:
    """The answer to the options of `startPasskeyRegistration`."""

    credential: JSON = strawberry.field(
        description="`PublicKeyCredential.toJSON()` of `navigator.credentials.create`."
    )
    name: str = strawberry.field(description="What its holder calls it; 1 to 64 characters.")


@strawberry.input(description="The other half of a sign-in: exactly one of `code` and `passkey`.")
class CompleteSignInInput:
    """The token is good for five minutes and one session."""

    sign_in_token: str = strawberry.field(description="`MfaRequired.signInToken`.")
    code: str | None = strawberry.field(
        default=None,
        description="Six digits of the authenticator app, or a recovery code.",
    )
    passkey: JSON | None = strawberry.field(
        default=None,
        description="`PublicKeyCredential.toJSON()` of `navigator.credentials.get`.",
    )
    device: str | None = strawberry.field(default=None, description="As in `SignInInput`.")
    cookie: bool = strawberry.field(default=False, description="As in `SignInInput`.")


@strawberry.input(description="A passkey as the only thing to sign in with.")
class SignInWithPasskeyInput:
    """Its authenticator must have verified its user: by a finger, a face, a PIN."""

    passkey: JSON = strawberry.field(
        description="`PublicKeyCredential.toJSON()` of `navigator.credentials.get`."
    )
    device: str | None = strawberry.field(default=None, description="As in `SignInInput`.")
    cookie: bool = strawberry.field(default=False, description="As in `SignInInput`.")


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What an authenticator app is told."""

    secret: str
    uri: str

    @property
    def qr_svg(self) -> str:
        """The URI as a QR code."""
        out = io.BytesIO()
        segno.make(self.uri, error="m", micro=False).save(
            out, kind="svg", scale=4, xmldecl=False, light="#fff", nl=False
        )
        return out.getvalue().decode()


@dataclass(frozen=True, slots=True)
class Codes:
    """Recovery codes, shown this once."""

    recovery_codes: list[str]


@dataclass(frozen=True, slots=True)
class Proven:
    """What the session has proved just now."""

    acr: Acr
    auth_at: datetime


@dataclass(frozen=True, slots=True)
class Question:
    """Options for the browser's authenticator."""

    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FactorRemoved:
    """What is left."""

    factors: mfa.Factors


def _by(context: Context) -> mfa.By:
    viewer = require_viewer(context)
    return mfa.By(viewer.account_id, viewer.session_id, context.address, context.request_id)


async def prove_what_is_held(context: Context) -> None:
    """Another factor beside one that is there takes a proof of the old one. Errors: MfaRequired."""
    viewer = require_viewer(context)
    if (await identity.proof(viewer.session_id)).has_factor:
        await stepup.require(context)


def _credential(given: JSON) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise identity.PasskeyInvalid()
    return cast("dict[str, Any]", given)


async def _proven(context: Context) -> Proven:
    proof = await identity.proof(require_viewer(context).session_id)
    assert proof.at is not None, "a session that has just proved something"
    return Proven(proof.acr, proof.at)


async def factors(info: Asked) -> mfa.Factors:
    """The viewer's own second factors."""
    return await mfa.factors(require_viewer(info.context).account_id)


async def enrol(info: Asked, input: EnrolMfaInput) -> Enrolled:
    """A secret for an authenticator app."""
    await prove_what_is_held(info.context)
    made = await mfa.enrol(require_viewer(info.context).account_id, input.password)
    return Enrolled(made.secret, made.uri)


async def confirm(info: Asked, code: str) -> Codes:
    """Switch the app on."""
    return Codes(await mfa.confirm(_by(info.context), code))


async def verify(info: Asked, code: str) -> Proven:
    """Step the session up by a code."""
    await mfa.verify(_by(info.context), code)
    return await _proven(info.context)


async def disable(info: Asked) -> FactorRemoved:
    """Switch the app off."""
    by = _by(info.context)
    await mfa.disable(by)
    return FactorRemoved(await mfa.factors(by.account_id))


async def renew_codes(info: Asked) -> Codes:
    """Recovery codes in the place of those of before."""
    return Codes(await mfa.renew_codes(_by(info.context)))


async def complete_sign_in(info: Asked, input: CompleteSignInInput) -> SignedIn:
    """Open the session of a sign-in that waited for a factor."""
    context = info.context
    check_cookie(context, input.cookie)
    if (input.code is None) == (input.passkey is None):
        raise FieldInvalid(path=("input", "code"), reason="either code or passkey")
    where = came_from(context, input.device)
    if input.code is not None:
        opened = await mfa.complete(
            input.sign_in_token, input.code, where, request_id=context.request_id
        )
    else:
        opened = await passkeys.complete(
            input.sign_in_token, _credential(cast(JSON, input.passkey)), where
        )
    return await session_for(context, opened, as_cookie=input.cookie)


async def sign_in_with_passkey(info: Asked, input: SignInWithPasskeyInput) -> SignedIn:
    """Open a session by a passkey alone."""
    context = info.context
    check_cookie(context, input.cookie)
    opened = await passkeys.sign_in(_credential(input.passkey), came_from(context, input.device))
    return await session_for(context, opened, as_cookie=input.cookie)


async def start_passkey(info: Asked, sign_in_token: str | None = None) -> Question:
    """Ask an authenticator: for the other half of a sign-in, for the running session, or for a sign-in."""
    context = info.context
    if sign_in_token is not None:
        account_id = (await mfa.half_of(sign_in_token))["account_id"]
    elif context.viewer is not None:
        account_id = context.viewer.account_id
    else:
        return Question(await passkeys.start_sign_in(address=context.address))
    return Question(await passkeys.start_proof(account_id, address=context.address))


async def verify_passkey(info: Asked, passkey: JSON) -> Proven:
    """Step the session up by a passkey."""
    await passkeys.verify(_by(info.context), _credential(passkey))
    return await _proven(info.context)


async def start_registration(info: Asked, input: StartPasskeyRegistrationInput) -> Question:
    """Options for a new passkey."""
    context = info.context
    await prove_what_is_held(context)
    account_id = require_viewer(context).account_id
    return Question(
        await passkeys.start_registration(account_id, input.password, address=context.address)
    )


async def finish_registration(info: Asked, input: FinishPasskeyRegistrationInput) -> passkeys.Added:
    """Keep a new passkey."""
    return await passkeys.finish_registration(
        _by(info.context), _credential(input.credential), input.name
    )


async def remove_passkey(info: Asked, id: strawberry.ID) -> FactorRemoved:
    """A passkey that is not to work any more."""
    by = _by(info.context)
    try:
        passkey_id = ids.decode(id, "pky")
    except ids.IdInvalid:
        raise NotFound(path=("id",)) from None
    await passkeys.remove(by, passkey_id)
    return FactorRemoved(await mfa.factors(by.account_id))
