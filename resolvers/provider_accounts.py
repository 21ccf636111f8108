"""Merchants' own accounts at payment providers: what they consist of, who asks for them, who may read of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from uuid import UUID

import strawberry

from domain import payments
from domain.core import ids
from domain.core.errors import FieldInvalid, NotFound
from domain.core.four_eyes import Approval
from domain.identity import Role
from domain.payments import ProviderAccount
from domain.payments.ports import CredentialField, own_accounts
from resolvers import access
from resolvers.context import Asked
from resolvers.inputs import decode

READERS = (Role.FINANCE, Role.READ_ONLY)
MOVERS = (Role.FINANCE,)
PREFIX = "pac"


@strawberry.enum(name="ProviderAccountState", description="Whether payments go through an account.")
class StateName(Enum):
    """As in the domain."""

    PENDING_APPROVAL = "pending"
    ACTIVE = "active"
    RETIRED = "retired"
    REMOVED = "removed"


@strawberry.input(description="One field of a provider account's credentials.")
class CredentialFieldInput:
    """Which ones there are is said by `providerAccountKinds`."""

    name: str = strawberry.field(description="The field.")
    value: str = strawberry.field(
        description="Its value; a secret one is sealed and never shown again."
    )


@strawberry.input(
    description="A merchant's own account at a payment provider, or new credentials of it."
)
class ProposeProviderAccountInput:
    """Tried at the provider before anybody is asked."""

    merchant_id: strawberry.ID = strawberry.field(description="The merchant, `mer_…`.")
    provider: str = strawberry.field(description="The provider, e.g. sandbox.")
    fields: list[CredentialFieldInput] = strawberry.field(
        description="Every field of its credentials, once each."
    )


@strawberry.input(description="A provider account to be given up.")
class ProposeProviderAccountRemovalInput:
    """It stays active until a second person approves that."""

    provider_account_id: strawberry.ID = strawberry.field(
        description="The active account, `pac_…`."
    )
    expected_version: int = strawberry.field(description="Its version as it was read.")


@dataclass(frozen=True, slots=True)
class Kind:
    """A provider at which merchants may have accounts of their own."""

    provider: str
    fields: tuple[CredentialField, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """A field of an account's credentials; `value` None is a secret that is set."""

    name: str
    value: str | None


async def kinds(info: Asked) -> list[Kind]:
    """The providers at which merchants may have accounts."""
    access.require_viewer(info.context)
    return [Kind(name, one.credentials) for name, one in sorted(own_accounts.items())]


async def accounts(info: Asked, merchant_id: strawberry.ID) -> list[ProviderAccount]:
    """A merchant's accounts, the newest first."""
    access.require_viewer(info.context)
    try:
        merchant = ids.decode(merchant_id, "mer")
    except ids.IdInvalid:
        raise NotFound() from None
    access.require_merchant(info.context, merchant, *READERS)
    return await payments.accounts_of(merchant)


async def propose(info: Asked, input: ProposeProviderAccountInput) -> Approval:
    """Ask for an account or other credentials."""
    merchant_id = decode(input.merchant_id, "mer", "merchantId")
    asked_by = _mover(info, merchant_id, "merchantId")
    given = {one.name: one.value for one in input.fields}
    if len(given) < len(input.fields):
        raise FieldInvalid(path=("input", "fields"), reason="twice")
    return await payments.propose_account(
        merchant_id, input.provider, given, asked_by=asked_by, once=info.context.once(info)
    )


async def propose_removal(info: Asked, input: ProposeProviderAccountRemovalInput) -> Approval:
    """Ask for an account to be given up."""
    account_id = decode(input.provider_account_id, PREFIX, "providerAccountId")
    found = await payments.find_account(account_id)
    asked_by = _mover(info, found.merchant_id if found else None, "providerAccountId")
    assert found is not None
    return await payments.propose_account_removal(
        found.merchant_id,
        account_id,
        input.expected_version,
        asked_by=asked_by,
        once=info.context.once(info),
    )


def _mover(info: Asked, merchant_id: UUID | None, *path: str) -> UUID:
    """Who may ask: a member, never an operator. Errors: Unauthenticated, NotFound at `path`, Forbidden."""
    viewer = access.require_viewer(info.context)
    if merchant_id is None or merchant_id not in viewer.roles:
        raise NotFound(path=("input", *path))
    return access.require_merchant(info.context, merchant_id, *MOVERS).account_id


def values_of(account: ProviderAccount) -> list[Value]:
    """Every field of the credentials: what is not secret, and that the secrets are set."""
    opener = own_accounts.get(account.provider)
    names = [one.name for one in opener.credentials] if opener else list(account.shown)
    return [Value(name, account.shown.get(name)) for name in names]


async def current(info: Asked, account_id: UUID) -> ProviderAccount | None:
    """The subject of a conflict as it is now."""
    return await payments.find_account(account_id)
