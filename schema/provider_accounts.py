"""Merchants' own accounts at payment providers in the contract: write-only credentials, changed by two people."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain import payments
from domain.core import ids
from domain.payments import ProviderAccount
from domain.payments.ports import CredentialField
from resolvers import provider_accounts as resolve
from resolvers.provider_accounts import PREFIX, Kind, StateName, Value
from resolvers.stepup import FRESH
from schema.approvals import Approval
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.problems import Conflict, InvalidInput, NotFound, Problem, Unavailable, problem
from schema.versions import Versioned, aggregate


@object_type(name="CredentialField", description="A field of credentials.", rows=(CredentialField,))
class FieldKind:
    """What a provider wants to know of a merchant's account."""

    name: str = field(description="The field.")
    description: str = field(description="What it is, in English, as the provider calls it.")
    pattern: str = derived(
        lambda one: one.pattern.pattern,
        description="The regular expression its value matches whole.",
    )
    is_secret: bool = field(description="Whether it is sealed and never shown again.")
    is_identity: bool = field(
        description="Whether it tells the account from others: another value is another account."
    )


@object_type(
    name="ProviderAccountKind",
    description="A payment provider at which merchants may have accounts of their own.",
    rows=(Kind,),
)
class AccountKind:
    """What to ask of a person who sets one up."""

    provider: str = field(description="The provider, e.g. sandbox.")
    fields: list[FieldKind] = field(description="What its credentials consist of.")


@object_type(name="CredentialValue", description="A field that is set.", rows=(Value,))
class SetField:
    """Secrets are said to be set, no more."""

    name: str = field(description="The field.")
    value: str | None = field(description="Its value; null when it is secret.")


@object_type(
    name="ProviderAccount",
    description="One version of a merchant's own account at a payment provider.",
    rows=(ProviderAccount,),
)
class OwnAccount(Versioned):
    """While one is ACTIVE payments of the merchant's shops by that provider go through it."""

    id: strawberry.ID = derived(
        lambda one: ids.encode(PREFIX, one.id), description="Opaque id, `pac_…`."
    )
    version: int = field(description="Counts from 1; send it as `expectedVersion` with a change.")
    provider: str = field(description="The provider.")
    account: str = field(
        description="What it is called here: callbacks come to `/hooks/<provider>/<account>`. The same for every "
        "version of one account."
    )
    state: StateName = derived(
        lambda one: StateName(one.state),
        description="PENDING_APPROVAL waits for a second person, ACTIVE takes payments, RETIRED was rotated or given "
        "up "
        "(the newest version of an account still refunds and hears callbacks, older ones hear them for 24 hours), "
        "REMOVED never was active.",
    )
    fields: list[SetField] = derived(resolve.values_of, description="Which fields are set.")
    secret_fingerprint: str = derived(
        lambda one: one.fingerprint.hex(),
        description="A keyed fingerprint of the credentials: equal for equal ones of this merchant, and good for "
        "nothing "
        "else.",
    )
    asked_by: strawberry.ID = derived(
        lambda one: ids.encode("acc", one.changed_by), description="Who asked for it, `acc_…`."
    )
    approved_by: strawberry.ID | None = derived(
        lambda one: ids.encode("acc", one.approved_by) if one.approved_by else None,
        description="Who approved it, `acc_…`; null when nobody did.",
    )
    asked_at: datetime = derived(lambda one: one.created_at, description="When it was asked for.")
    active_at: datetime | None = field(description="Since when; null when it never was.")
    ended_at: datetime | None = field(description="Until when; null while it has not ended.")


@problem(
    payments.ProviderAccountAsked,
    description="Somebody has asked for a change of this account: approve or decline that first.",
)
class ProviderAccountAsked(Problem):
    """Code PROVIDER_ACCOUNT_ASKED."""


@problem(payments.ProviderAccountNotActive, description="Only an active account can be given up.")
class ProviderAccountNotActive(Problem):
    """Code PROVIDER_ACCOUNT_NOT_ACTIVE."""


ProposeProviderAccountResult = Annotated[
    Approval | ProviderAccountAsked | NotFound | InvalidInput | Unavailable,
    strawberry.union(
        "ProposeProviderAccountResult",
        description="What a second person has to approve, or why not.",
    ),
]
ProposeProviderAccountRemovalResult = Annotated[
    Approval | ProviderAccountNotActive | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union(
        "ProposeProviderAccountRemovalResult",
        description="What a second person has to approve, or why not.",
    ),
]

aggregate(PREFIX, load=resolve.current)


@strawberry.type
class ProviderAccountQuery:
    """Reads."""

    provider_account_kinds: list[AccountKind] = query_field(
        resolve.kinds,
        who=Who.MERCHANT,
        description="The payment providers at which merchants may have accounts of their own, and what those consist "
        "of.",
    )
    provider_accounts: list[OwnAccount] = query_field(
        resolve.accounts,
        who=Who.MERCHANT,
        cost=5,
        description="A merchant's own accounts, every version, the newest first, at most 100; for owners, finance "
        "and who "
        "may read. Somebody else's: NOT_FOUND; another role: FORBIDDEN.",
        args={"merchantId": "The merchant, `mer_…`."},
    )


@strawberry.type
class ProviderAccountMutation:
    """Writes; each is a row of the audit log."""

    propose_provider_account: ProposeProviderAccountResult = mutation_field(
        resolve.propose,
        who=Who.MERCHANT,
        idempotent=True,
        step_up=FRESH,
        description="Try credentials at a payment provider and ask a second person in finance or an owner to approve "
        "them (`approveChange`): a new account, or new credentials of the one there is. Problems: "
        "PROVIDER_ACCOUNT_ASKED, NOT_FOUND, INVALID_INPUT, UNAVAILABLE.",
        args={"input": "The provider and every field of the credentials."},
    )
    propose_provider_account_removal: ProposeProviderAccountRemovalResult = mutation_field(
        resolve.propose_removal,
        who=Who.MERCHANT,
        idempotent=True,
        step_up=FRESH,
        description="Ask for an account to be given up: payments go through the platform's again once a second person "
        "has approved it; refunds of earlier ones still go through it. Problems: PROVIDER_ACCOUNT_NOT_ACTIVE, "
        "CONFLICT, "
        "NOT_FOUND.",
        args={"input": "The account and its version."},
    )
