"""Partner apps as the developers of a merchant run them, and what people let apps do there."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import cast
from uuid import UUID

import strawberry

from domain import identity, partners, webhooks
from domain.core import clock
from domain.core.errors import DomainError, FieldInvalid, NotFound
from domain.core.words import refuse
from domain.identity import Role, Viewer
from domain.partners import App, Asked, AuthMethod, Granted, GrantType, Limit
from domain.partners.rules import LIMITED
from domain.webhooks import Endpoint, Hook
from resolvers import access
from resolvers.context import Asked as Info
from resolvers.inputs import Faults, decode
from resolvers.page import Listing, Page
from resolvers.partner_inputs import (
    AppInput,
    CreateAppInput,
    GrantAppInput,
    RevokeGrantInput,
    UpdateAppInput,
)

DEVELOPERS = (Role.DEVELOPER,)
GRANTS = Listing("app.grants", UUID)


@dataclass(frozen=True, slots=True)
class Credentials:
    """An app with its secret, which is shown this once; None when it has none."""

    app: App
    secret: str | None


@dataclass(frozen=True, slots=True)
class Made(App):
    """An app with its webhooks in the answer that made some of them: those bring their secret."""

    hooks: tuple[Hook, ...] = ()


async def _made(app_id: UUID, hooks: list[Hook]) -> Made:
    found = (await partners.apps([app_id]))[app_id]
    values = {one.name: getattr(found, one.name) for one in fields(App)}
    return Made(**values, hooks=tuple(hooks))


@dataclass(frozen=True, slots=True)
class AppGone:
    """An app that is no more."""

    app_id: UUID


@dataclass(frozen=True, slots=True)
class GrantEnded:
    """Whether a grant ended; False when it was over already."""

    ended: bool


async def apps(info: Info, merchant_id: strawberry.ID) -> list[App]:
    """The apps of a merchant's developers."""
    owner = _merchant(merchant_id)
    access.require_merchant(info.context, owner, *DEVELOPERS)
    return await partners.apps_of(owner)


def _merchant(text: str) -> UUID:
    return decode(text, "mer", "merchantId")


async def by_id(info: Info, app_id: UUID) -> App | None:
    """An app of one's own merchant, for `node` and conflicts."""
    found = (await partners.apps([app_id])).get(app_id)
    if found is None or found.merchant_id is None:
        return None
    if not access.may_see(info.context, found.merchant_id):
        return None
    access.require_merchant(info.context, found.merchant_id, *DEVELOPERS)
    return found


async def create(info: Info, input: CreateAppInput) -> Credentials:
    """Register an app."""
    owner = _merchant(input.merchant_id)
    viewer = access.require_merchant(info.context, owner, *DEVELOPERS)
    app_id, secret, hooks = await webhooks.register_app(
        owner,
        input.manifest.read(),
        account_id=viewer.account_id,
        actor=access.actor(info.context, viewer),
        also=input.manifest.faults(),
    )
    return Credentials(await _made(app_id, hooks), secret)


async def own(info: Info, text: str) -> tuple[App, UUID, Viewer]:
    """(app, merchant, viewer) of an app that the viewer may change. Errors: NotFound, Forbidden."""
    app_id = decode(text, "app", "appId")
    found = (await partners.apps([app_id])).get(app_id)
    if found is None or found.merchant_id is None:
        raise NotFound(path=("input", "appId"))
    if not access.may_see(info.context, found.merchant_id):
        raise NotFound(path=("input", "appId"))
    viewer = access.require_merchant(info.context, found.merchant_id, *DEVELOPERS)
    return found, found.merchant_id, viewer


async def update(info: Info, input: UpdateAppInput) -> App:
    """Change an app."""
    found, owner, viewer = await own(info, input.app_id)
    hooks = await webhooks.change_app(
        owner,
        found.id,
        input.manifest.read(),
        expected_version=input.expected_version,
        actor=access.actor(info.context, viewer),
        also=input.manifest.faults(),
    )
    return await _made(found.id, hooks)


async def rotate_secret(info: Info, input: AppInput) -> Credentials:
    """Give an app a new secret."""
    found, owner, viewer = await own(info, input.app_id)
    if found.manifest.auth_method is not AuthMethod.SECRET:
        raise FieldInvalid(path=("input", "appId"), reason="has_no_secret")
    actor = access.actor(info.context, viewer)
    secret = await partners.rotate_secret(owner, found.id, actor=actor)
    return Credentials((await partners.apps([found.id]))[found.id], secret)


async def delete(info: Info, input: AppInput) -> AppGone:
    """End an app."""
    found, owner, viewer = await own(info, input.app_id)
    await webhooks.delete_app(owner, found.id, actor=access.actor(info.context, viewer))
    return AppGone(found.id)


async def grant(info: Info, input: GrantAppInput) -> Granted:
    """Let an app act by itself, with one's own rights at most."""
    found, owner, viewer = await own(info, input.app_id)
    limits = _limits(found, input)
    proof = await identity.proof(viewer.session_id)
    grant_id = await partners.allow_client(
        found,
        Asked(
            tuple(sorted(set(input.scopes))),
            limits=limits,
            expires_at=input.expires_at,
        ),
        merchant_id=owner,
        account_id=viewer.account_id,
        auth_at=proof.at or clock.now(),
        acr=proof.acr,
    )
    made = await partners.grant(grant_id)
    assert made is not None
    return made


def _limits(app: App, input: GrantAppInput) -> tuple[Limit, ...]:
    faults = Faults()
    if GrantType.CLIENT not in app.manifest.grant_types:
        faults.append(_wrong("appId", reason="grant_type"))
    if not input.scopes or set(input.scopes) - set(app.manifest.scopes):
        faults.append(_wrong("scopes", reason="scope"))
    if input.expires_at is not None and input.expires_at <= clock.now():
        faults.append(_wrong("expiresAt", reason="past"))
    limits: dict[tuple[str, str], Limit] = {}
    for place, one in enumerate(input.limits):
        most = faults.money(one.most, "input", "limits", str(place), "most")
        if one.scope not in LIMITED or (one.scope, most.currency) in limits or most.minor < 0:
            faults.append(_wrong("limits", str(place), "scope", reason="limit"))
        limits[one.scope, most.currency] = Limit(one.scope, most)
    refuse(faults)
    return tuple(limits.values())


def _wrong(*path: str, reason: str) -> DomainError:
    return FieldInvalid(path=("input", *path), reason=reason)


async def grants(
    info: Info,
    merchant_id: strawberry.ID,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Page[Granted]:
    """What apps may do in a merchant now, newest first."""
    owner = _merchant(merchant_id)
    access.require_merchant(info.context, owner, *DEVELOPERS)
    window = GRANTS.window(owner, first=first, last=last, after=after, before=before)
    key = cast("tuple[UUID] | None", window.key)
    rows = await partners.grants_of(
        owner, key[0] if key else None, window.limit + 1, backward=window.is_backward
    )
    return window.page(rows, key=lambda one: (one.id,))


async def _endpoints(app_ids: list[UUID]) -> list[list[Endpoint]]:
    found = await webhooks.of_apps(app_ids)
    return [found[one] for one in app_ids]


async def hooks(row: strawberry.Parent[App], info: Info) -> list[Hook]:
    """The webhooks of an app."""
    if isinstance(row, Made):
        return list(row.hooks)
    return [Hook(one) for one in await info.context.load(_endpoints, row.id)]


async def _apps(app_ids: list[UUID]) -> list[App | None]:
    found = await partners.apps(app_ids)
    return [found.get(one) for one in app_ids]


async def app_name(row: strawberry.Parent[Granted], info: Info) -> str | None:
    """The name of the app that was let in."""
    found = await info.context.load(_apps, row.app_id)
    return None if found is None else found.manifest.name


async def revoke(info: Info, input: RevokeGrantInput) -> GrantEnded:
    """End a grant."""
    grant_id = decode(input.grant_id, "gnt", "grantId")
    viewer = access.require_viewer(info.context)
    found = await partners.grant(grant_id)
    if found is None or not access.may_see(info.context, found.merchant_id):
        raise NotFound(path=("input", "grantId"))
    if found.account_id != viewer.account_id:
        access.require_merchant(info.context, found.merchant_id, *DEVELOPERS)
    actor = access.actor(info.context, viewer)
    return GrantEnded(await partners.revoke(found.merchant_id, grant_id, actor=actor))


def keys_of(app: App) -> str | None:
    """The public keys of an app as JSON text."""
    jwks = app.manifest.jwks
    return None if jwks is None else json.dumps(jwks, sort_keys=True)
