"""Another e-mail address for an account, in the contract."""

from typing import Annotated

import strawberry

from resolvers import emails as resolve
from resolvers.emails import Moved, Restored
from schema.field import Who, field, mutation_field, object_type
from schema.people import CredentialsInvalid, LinkInvalid, MailSent, TooManyTries
from schema.problems import InvalidInput, Unavailable


@object_type(
    description="The account has another address. Its orders until now stay with it.", rows=(Moved,)
)
class EmailChanged:
    """The session that asked goes on; every other one has ended."""

    email: str = field(description="The address from now on, proved.")


@object_type(
    description="The account has the address of before, and a new password.", rows=(Restored,)
)
class EmailRestored:
    """Sign in with the new password."""

    email: str = field(description="The address from now on, proved.")
    device: str = field(
        description="Give it as `SignInInput.device`: who was locked out by others' tries gets in."
    )


ChangeEmailResult = Annotated[
    MailSent | CredentialsInvalid | TooManyTries | InvalidInput | Unavailable,
    strawberry.union("ChangeEmailResult", description="Mails on their way, or why not."),
]
ConfirmEmailResult = Annotated[
    EmailChanged | LinkInvalid | CredentialsInvalid | TooManyTries | Unavailable,
    strawberry.union("ConfirmEmailResult", description="Another address, or why not."),
]
UndoEmailChangeResult = Annotated[
    EmailRestored | LinkInvalid | TooManyTries | InvalidInput | Unavailable,
    strawberry.union("UndoEmailChangeResult", description="The address of before, or why not."),
]


@strawberry.type
class EmailMutation:
    """Writes. Each change is on the audit log."""

    change_email: ChangeEmailResult = mutation_field(
        resolve.change,
        who=Who.SIGNED_IN,
        idempotent=True,
        description="Ask for another address: a link goes there, and a notice with a link that takes it back to the "
        "address of now. Nothing changes before `confirmEmail`. The answer is the same whether the address has an "
        "account. With a factor on the account it takes a proof of that (MFA_REQUIRED). "
        "Problems: CREDENTIALS_INVALID, THROTTLED, INVALID_INPUT.",
        args={"input": "The address, and the password again."},
    )
    confirm_email: ConfirmEmailResult = mutation_field(
        resolve.confirm,
        who=Who.ANYONE,
        description="Move the account to the address of a link, once; every session ends but the one that asked. "
        "Problems: LINK_INVALID, CREDENTIALS_INVALID, THROTTLED.",
        args={"input": "The link's token and the password."},
    )
    undo_email_change: UndoEmailChangeResult = mutation_field(
        resolve.undo,
        who=Who.ANYONE,
        description="Take a change of the address back, within 72 hours, once, done or not: by the link that went to "
        "the address of before. Every session ends, and every later change with it. "
        "Problems: LINK_INVALID, THROTTLED, INVALID_INPUT.",
        args={"input": "The link's token and a new password."},
    )
