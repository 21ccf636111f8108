"""People with second factors, through the GraphQL door."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
import pyotp

from domain import identity
from domain.core import clock
from domain.core import db as core
from resolvers.context import Context
from schema.root import schema
from server.graphql.door import Door
from server.graphql.request import Asked

EMAIL, PASSWORD, ADDRESS = "owner@shop.test", "correct horse battery", "203.0.113.9"
PROBLEM = "... on Problem { code path }"
SIGN_IN = f"""mutation ($input: SignInInput!) {{ signIn(input: $input) {{ __typename
  ... on Session {{ token viewer {{ email }} }}
  ... on MfaRequired {{ signInToken factors expiresAt message }} {PROBLEM} }} }}"""
ENROL = f"""mutation ($input: EnrolMfaInput!) {{ enrolMfa(input: $input) {{ __typename
  ... on MfaEnrolment {{ secret uri qrSvg }} {PROBLEM} }} }}"""
CONFIRM = f"""mutation ($code: String!) {{ confirmMfa(code: $code) {{ __typename
  ... on RecoveryCodes {{ recoveryCodes }} {PROBLEM} }} }}"""
VERIFY = f"""mutation ($code: String!) {{ verifyMfa(code: $code) {{ __typename
  ... on StepUp {{ acr authAt }} {PROBLEM} }} }}"""
COMPLETE = f"""mutation ($input: CompleteSignInInput!) {{ completeSignIn(input: $input) {{ __typename
  ... on Session {{ token viewer {{ email }} }} {PROBLEM} }} }}"""
DISABLE = f"""mutation {{ disableMfa {{ __typename
  ... on FactorOff {{ factors {{ hasTotp recoveryCodesLeft }} }} {PROBLEM} }} }}"""
FACTORS = "{ mfa { hasTotp recoveryCodesLeft passkeys { id name clonedAt } } }"

_door = Door(schema)


@dataclass
class Person:
    """Somebody at the door, signed in when `token` is set; `app` is their authenticator app."""

    token: str | None = None
    app: pyotp.TOTP | None = None
    codes: list[str] = field(default_factory=list)

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """One operation; the whole answer."""
        context = Context(request_id="req-1", address=ADDRESS, accept_language="en")
        await _door.admit(context, self.token)
        answer = await _door.answer(Asked(document, variables=variables), context)
        body: dict[str, Any] = orjson.loads(answer.body)
        return body

    async def do(self, document: str, **variables: Any) -> dict[str, Any]:
        """The one field of a mutation that must not end in a top-level error."""
        body = await self.ask(document, **variables)
        assert "errors" not in body, body
        (found,) = body["data"].values()
        result: dict[str, Any] = found
        return result

    async def refusal(self, document: str, **variables: Any) -> dict[str, Any]:
        """The `extensions` of a top-level error, without the request id."""
        error = (await self.ask(document, **variables))["errors"][0]["extensions"]
        assert error.pop("requestId") == "req-1"
        found: dict[str, Any] = error
        return found

    def code(self) -> str:
        """A code that was not used yet: the clock goes on for it."""
        assert self.app is not None
        clock.shift(_next())
        return self.app.at(clock.now())


_shifted = timedelta()


def _next() -> timedelta:
    global _shifted
    _shifted += timedelta(seconds=31)
    return _shifted


def restore() -> None:
    """The clock of before."""
    global _shifted
    _shifted = timedelta()
    clock.shift(_shifted)


async def signed_in(email: str = EMAIL) -> Person:
    """A new account and a session of it."""
    await identity.register(email, PASSWORD)
    opened = await Person().do(SIGN_IN, input={"email": email, "password": PASSWORD})
    return Person(opened["token"])


async def protected(person: Person | None = None) -> Person:
    """Somebody with an authenticator app, whose session proved it a while ago."""
    found = person or await signed_in()
    made = await found.do(ENROL, input={"password": PASSWORD})
    found.app = pyotp.TOTP(made["secret"])
    found.codes = (await found.do(CONFIRM, code=found.code()))["recoveryCodes"]
    await stale()
    return found


async def stale() -> None:
    """Every proof is an hour old."""
    await core.execute("UPDATE session SET auth_at = auth_at - interval '1 hour'")
    identity.forget_viewers()
