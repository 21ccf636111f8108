"""Second factors in the contract: an authenticator app, recovery codes, passkeys, and stepping a session up."""

from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry

from domain import identity
from domain.core import ids
from domain.identity import mfa, passkeys
from resolvers import mfa as resolve
from resolvers.mfa import Codes, Enrolled, FactorRemoved, Proven, Question
from resolvers.stepup import FRESH
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.people import CredentialsInvalid, Session, TooManyTries
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem
from schema.scalars import JSON


@strawberry.enum(description="What a session has proved, the weakest first.")
class Acr(Enum):
    """Authentication context class; `extensions.acrValues` of MFA_REQUIRED lists the lower-case values."""

    PWD = strawberry.enum_value("pwd", description="A password.")
    MFA = strawberry.enum_value("mfa", description="Two factors.")
    PHR = strawberry.enum_value(
        "phr", description="A passkey that has verified its user: phishing-resistant."
    )


@object_type(description="A passkey of the viewer.", rows=(mfa.Passkey,))
class Passkey:
    """A second factor, and with user verification both at once."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("pky", one.id), description="Opaque id, `pky_…`."
    )
    name: str = field(description="What its holder calls it.")
    is_synced: bool = field(description="Whether its maker keeps it on several devices.")
    created_at: datetime = field(description="When it was added.")
    last_used_at: datetime | None = field(description="When it last proved itself; null for never.")
    cloned_at: datetime | None = field(
        description="When its counter went back: it was copied and works no more; null while it is good."
    )


@object_type(description="The second factors of the viewer.", rows=(mfa.Factors,))
class MfaFactors:
    """Nobody else's can be read."""

    has_totp: bool = field(description="Whether an authenticator app is switched on.")
    recovery_codes_left: int = field(description="Recovery codes that were not used yet.")
    passkeys: list[Passkey] = field(description="The passkeys, oldest first.")


@object_type(
    name="MfaEnrolment", description="What to tell an authenticator app.", rows=(Enrolled,)
)
class Enrolment:
    """Nothing holds before `confirmMfa`."""

    secret: str = field(description="The secret in base32; shown this once.")
    uri: str = field(description="The same as an `otpauth://` URI.")
    qr_svg: str = field(description="The URI as a QR code, an `<svg>` element.")


@object_type(name="RecoveryCodes", description="Recovery codes, each good once.", rows=(Codes,))
class FreshCodes:
    """Those of before work no more."""

    recovery_codes: list[str] = field(description="Ten codes; shown this once.")


@object_type(name="StepUp", description="What the session has proved just now.", rows=(Proven,))
class SteppedUp:
    """Fields with `@requiresAcr` accept it for their `maxAge`."""

    acr: Acr = derived(lambda one: Acr(one.acr.value), description="How well.")
    auth_at: datetime = field(description="When.")


@object_type(description="A question to the browser's authenticator.", rows=(Question,))
class PasskeyOptions:
    """Answered once, within five minutes."""

    options: JSON = field(
        description="For `PublicKeyCredential.parseCreationOptionsFromJSON` or `parseRequestOptionsFromJSON`."
    )


@object_type(name="PasskeyAdded", description="A new passkey.", rows=(passkeys.Added,))
class NewPasskey:
    """The session has proved it."""

    passkey: Passkey = field(description="The passkey.")
    recovery_codes: list[str] = field(
        description="Ten codes when it is the account's first factor, shown this once; else empty."
    )


@object_type(description="A factor that works no more.", rows=(FactorRemoved,))
class FactorOff:
    """Recovery codes go with the last factor."""

    factors: MfaFactors = field(description="What is left.")


@problem(
    identity.TotpInvalid,
    description="Not the code of now, used before, not six digits, no such recovery code: all in the same words.",
)
class TotpInvalid(Problem):
    """Code TOTP_INVALID."""


@problem(
    identity.FactorExists, description="An authenticator app is on; switch it off before another."
)
class FactorExists(Problem):
    """Code FACTOR_EXISTS."""


@problem(
    identity.PasskeyInvalid,
    description="The authenticator's answer does not fit: another page, an old question, a wrong or copied key.",
)
class PasskeyInvalid(Problem):
    """Code PASSKEY_INVALID."""


@problem(
    identity.SignInExpired,
    description="The sign-in was finished, has expired or never was one: all in the same words.",
)
class SignInExpired(Problem):
    """Code SIGN_IN_EXPIRED."""


EnrolMfaResult = Annotated[
    Enrolment | FactorExists | CredentialsInvalid | TooManyTries | InvalidInput | Unavailable,
    strawberry.union("EnrolMfaResult", description="A secret, or why not."),
]
ConfirmMfaResult = Annotated[
    FreshCodes | TotpInvalid | FactorExists | TooManyTries | Unavailable,
    strawberry.union("ConfirmMfaResult", description="Recovery codes, or why not."),
]
VerifyMfaResult = Annotated[
    SteppedUp | TotpInvalid | TooManyTries | Unavailable,
    strawberry.union("VerifyMfaResult", description="What was proved, or why not."),
]
DisableMfaResult = Annotated[
    FactorOff | NotFound | Unavailable,
    strawberry.union("DisableMfaResult", description="What is left, or why not."),
]
RenewRecoveryCodesResult = Annotated[
    FreshCodes | NotFound | Unavailable,
    strawberry.union("RenewRecoveryCodesResult", description="Recovery codes, or why not."),
]
CompleteSignInResult = Annotated[
    Session
    | SignInExpired
    | TotpInvalid
    | PasskeyInvalid
    | TooManyTries
    | InvalidInput
    | Unavailable,
    strawberry.union("CompleteSignInResult", description="A session, or why not."),
]
SignInWithPasskeyResult = Annotated[
    Session | PasskeyInvalid | TooManyTries | Unavailable,
    strawberry.union("SignInWithPasskeyResult", description="A session, or why not."),
]
StartPasskeyResult = Annotated[
    PasskeyOptions | SignInExpired | NotFound | TooManyTries | Unavailable,
    strawberry.union("StartPasskeyResult", description="A question, or why not."),
]
VerifyPasskeyResult = Annotated[
    SteppedUp | PasskeyInvalid | TooManyTries | Unavailable,
    strawberry.union("VerifyPasskeyResult", description="What was proved, or why not."),
]
StartPasskeyRegistrationResult = Annotated[
    PasskeyOptions | CredentialsInvalid | TooManyTries | InvalidInput | Unavailable,
    strawberry.union("StartPasskeyRegistrationResult", description="A question, or why not."),
]
FinishPasskeyRegistrationResult = Annotated[
    NewPasskey | PasskeyInvalid | InvalidInput | Unavailable,
    strawberry.union("FinishPasskeyRegistrationResult", description="A passkey, or why not."),
]
RemovePasskeyResult = Annotated[
    FactorOff | NotFound | Unavailable,
    strawberry.union("RemovePasskeyResult", description="What is left, or why not."),
]


@strawberry.type
class MfaQuery:
    """Reads."""

    mfa: MfaFactors = query_field(
        resolve.factors, who=Who.SIGNED_IN, description="The viewer's own second factors."
    )


@strawberry.type
class MfaMutation:
    """Writes. Each change is on the audit log, and its holder gets a mail."""

    enrol_mfa: EnrolMfaResult = mutation_field(
        resolve.enrol,
        who=Who.SIGNED_IN,
        description="A secret for an authenticator app; one that was not confirmed is replaced. With a passkey on the "
        "account it takes a proof of that (MFA_REQUIRED). Problems: CREDENTIALS_INVALID, FACTOR_EXISTS, THROTTLED.",
        args={"input": "The password again."},
    )
    confirm_mfa: ConfirmMfaResult = mutation_field(
        resolve.confirm,
        who=Who.SIGNED_IN,
        description="Switch the app on with its first code, which counts as used; the session has then proved two "
        "factors. Problems: TOTP_INVALID, FACTOR_EXISTS, THROTTLED.",
        args={"code": "Six digits of the app."},
    )
    verify_mfa: VerifyMfaResult = mutation_field(
        resolve.verify,
        who=Who.SIGNED_IN,
        description="Prove the second factor in the running session. Five tries in 15 minutes per account and per "
        "address, counted before the code is looked at. Problems: TOTP_INVALID, THROTTLED.",
        args={"code": "Six digits of the app, or a recovery code."},
    )
    disable_mfa: DisableMfaResult = mutation_field(
        resolve.disable,
        who=Who.SIGNED_IN,
        step_up=FRESH,
        description="Switch the authenticator app off. Problems: NOT_FOUND.",
    )
    renew_recovery_codes: RenewRecoveryCodesResult = mutation_field(
        resolve.renew_codes,
        who=Who.SIGNED_IN,
        step_up=FRESH,
        description="Ten fresh recovery codes; those of before work no more. Problems: NOT_FOUND.",
    )
    complete_sign_in: CompleteSignInResult = mutation_field(
        resolve.complete_sign_in,
        who=Who.ANYONE,
        description="Finish a sign-in that answered `MfaRequired`. A wrong code leaves the token good. "
        "Problems: SIGN_IN_EXPIRED, TOTP_INVALID, PASSKEY_INVALID, THROTTLED.",
        args={"input": "The token, and a code or a passkey."},
    )
    sign_in_with_passkey: SignInWithPasskeyResult = mutation_field(
        resolve.sign_in_with_passkey,
        who=Who.ANYONE,
        description="Open a session by a passkey alone. Problems: PASSKEY_INVALID, THROTTLED.",
        args={"input": "The authenticator's answer."},
    )
    start_passkey: StartPasskeyResult = mutation_field(
        resolve.start_passkey,
        who=Who.ANYONE,
        description="A question to an authenticator: with a token for `completeSignIn`, signed in for `verifyPasskey`, "
        "else for `signInWithPasskey`. Problems: SIGN_IN_EXPIRED, NOT_FOUND (no passkey), THROTTLED.",
        args={"signInToken": "`MfaRequired.signInToken`, to finish that sign-in."},
    )
    verify_passkey: VerifyPasskeyResult = mutation_field(
        resolve.verify_passkey,
        who=Who.SIGNED_IN,
        description="Prove a passkey in the running session. Problems: PASSKEY_INVALID, THROTTLED.",
        args={"passkey": "`PublicKeyCredential.toJSON()` of `navigator.credentials.get`."},
    )
    start_passkey_registration: StartPasskeyRegistrationResult = mutation_field(
        resolve.start_registration,
        who=Who.SIGNED_IN,
        description="A question for a new passkey, 20 at most. With a factor on the account it takes a proof of that "
        "(MFA_REQUIRED). Problems: CREDENTIALS_INVALID, THROTTLED, INVALID_INPUT.",
        args={"input": "The password again."},
    )
    finish_passkey_registration: FinishPasskeyRegistrationResult = mutation_field(
        resolve.finish_registration,
        who=Who.SIGNED_IN,
        description="Keep the passkey that was made. Problems: PASSKEY_INVALID, INVALID_INPUT.",
        args={"input": "The authenticator's answer and a name."},
    )
    remove_passkey: RemovePasskeyResult = mutation_field(
        resolve.remove_passkey,
        who=Who.SIGNED_IN,
        step_up=FRESH,
        description="A passkey that is not to work any more. Problems: NOT_FOUND.",
        args={"id": "The passkey, `pky_…` of `mfa.passkeys`."},
    )
