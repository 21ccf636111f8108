"""Partner apps as the developers of a merchant run them, and what people let apps do there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, cast
from uuid import UUID

import strawberry
from strawberry.scalars import JSON

from domain import identity, partners
from domain.core import clock
from domain.core.errors import DomainError, FieldInvalid, NotFound
from domain.core.words import refuse
from domain.identity import Role, Viewer
from domain.partners import App, Asked, AuthMethod, Granted, GrantType, Limit, Manifest
from domain.partners import Page as AppPage
from domain.partners.rules import LIMITED
from resolvers import access
from resolvers.context import Asked as Info
from resolvers.inputs import Faults, MoneyInput, decode
from resolvers.page import Listing, Page

DEVELOPERS = (Role.DEVELOPER,)
GRANTS = Listing("app.grants", UUID)


@strawberry.enum(description="How an app proves who it is.")
class AppAuthentication(Enum):
    """Values of `token_endpoint_auth_method`."""

    NONE = "none"
    CLIENT_SECRET_BASIC = "client_secret_basic"
    PRIVATE_KEY_JWT = "private_key_jwt"


@strawberry.enum(description="The ways to a token.")
class AppGrantType(Enum):
    """Values of `grant_type`, in short."""

    AUTHORIZATION_CODE = "authorization_code"
    REFRESH_TOKEN = "refresh_token"
    CLIENT_CREDENTIALS = "client_credentials"
    DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


@strawberry.input(description="Where an app wants to be told of what.")
class AppWebhookInput:
    """Part of a manifest."""

    url: str = strawberry.field(description="An https address.")
    kinds: list[str] = strawberry.field(description="Kinds of events, e.g. order.paid.")


@strawberry.input(description="A page of an app that the console may offer.")
class AppPageInput:
    """Part of a manifest."""

    place: str = strawberry.field(description="Where it is offered, e.g. order or settings.")
    url: str = strawberry.field(description="An https address.")


@strawberry.input(description="What an app says of itself.")
class AppManifestInput:
    """All of it at once: what is left out is empty."""

    name: str = strawberry.field(description="Shown to people who decide; 1 to 80 characters.")
    scopes: list[str] = strawberry.field(description="The most it may ever ask for.")
    redirect_uris: list[str] = strawberry.field(
        default_factory=list,
        description="Where codes go, compared character for character: https, http on 127.0.0.1 or [::1], or a "
        "private scheme with a dot; at most ten.",
    )
    grant_types: list[AppGrantType] = strawberry.field(
        default_factory=lambda: [AppGrantType.AUTHORIZATION_CODE, AppGrantType.REFRESH_TOKEN],
        description="Which ways to a token it uses.",
    )
    authentication: AppAuthentication = strawberry.field(
        default=AppAuthentication.NONE, description="How it proves who it is."
    )
    jwks: JSON | None = strawberry.field(
        default=None,
        description="Its public keys (P-256 or Ed25519, each with a kid) when it proves itself by PRIVATE_KEY_JWT.",
    )
    requires_par: bool = strawberry.field(
        default=False, description="Whether it must push its requests (RFC 9126)."
    )
    dpop_bound: bool = strawberry.field(
        default=False, description="Whether its tokens are always bound to a key (RFC 9449)."
    )
    documents_only: bool = strawberry.field(
        default=False,
        description="Whether its requests run registered documents alone; a free text is then FORBIDDEN.",
    )
    homepage: str | None = strawberry.field(default=None, description="Its https address.")
    webhooks: list[AppWebhookInput] = strawberry.field(
        default_factory=list, description="Where it wants to be told; at most ten."
    )
    pages: list[AppPageInput] = strawberry.field(
        default_factory=list, description="Its pages for the console; at most ten."
    )

    def read(self) -> Manifest:
        """As the domain wants it."""
        return Manifest(
            name=self.name,
            redirect_uris=tuple(self.redirect_uris),
            scopes=tuple(self.scopes),
            grant_types=tuple(one.value for one in self.grant_types),
            auth_method=AuthMethod(self.authentication.value),
            jwks=cast("dict[str, Any] | None", self.jwks) if _is_object(self.jwks) else {},
            requires_par=self.requires_par,
            dpop_bound=self.dpop_bound,
            documents_only=self.documents_only,
            homepage=self.homepage,
            webhooks=tuple(partners.Webhook(one.url, tuple(one.kinds)) for one in self.webhooks),
            pages=tuple(AppPage(one.place, one.url) for one in self.pages),
        )


def _is_object(given: Any) -> bool:
    return given is None or isinstance(given, dict)


@strawberry.input(description="A new app of a merchant.")
class CreateAppInput:
    """By an owner or a developer."""

    merchant_id: strawberry.ID = strawberry.field(description="Whose developers answer for it.")
    manifest: AppManifestInput = strawberry.field(description="What it says of itself.")


@strawberry.input(description="Another manifest for an app.")
class UpdateAppInput:
    """Scopes that go are dead at once, in tokens that are out as well."""

    app_id: strawberry.ID = strawberry.field(description="The app, `app_…`.")
    expected_version: int = strawberry.field(description="The version it had when it was read.")
    manifest: AppManifestInput = strawberry.field(description="All of it; its keys too.")


@strawberry.input(description="An app to do something with.")
class AppInput:
    """One of one's own merchant."""

    app_id: strawberry.ID = strawberry.field(description="The app, `app_…`.")


@strawberry.input(description="The most an app may move within a scope, in all.")
class AppLimitInput:
    """One per scope and currency."""

    scope: str = strawberry.field(description="refunds:write")
    most: MoneyInput = strawberry.field(description="In all, as long as the grant lives.")


@strawberry.input(description="Let an app of one's own act by itself (client credentials).")
class GrantAppInput:
    """Replaces what was granted to it before."""

    app_id: strawberry.ID = strawberry.field(description="The app, `app_…`.")
    scopes: list[str] = strawberry.field(description="What it may do; within its manifest.")
    limits: list[AppLimitInput] = strawberry.field(
        default_factory=list, description="The most it may move."
    )
    expires_at: datetime | None = strawberry.field(
        default=None, description="Until when; null until it is revoked."
    )


@strawberry.input(description="End what an app was allowed.")
class RevokeGrantInput:
    """By an owner or a developer, or by who allowed it."""

    grant_id: strawberry.ID = strawberry.field(description="The grant, `gnt_…`.")


@dataclass(frozen=True, slots=True)
class Credentials:
    """An app with its secret, which is shown this once; None when it has none."""

    app: App
    secret: str | None


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
    app_id, secret = await partners.register(
        owner,
        input.manifest.read(),
        account_id=viewer.account_id,
        actor=access.actor(info.context, viewer),
    )
    return Credentials((await partners.apps([app_id]))[app_id], secret)


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
    await partners.change(
        owner,
        found.id,
        input.manifest.read(),
        expected_version=input.expected_version,
        actor=access.actor(info.context, viewer),
    )
    return (await partners.apps([found.id]))[found.id]


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
    await partners.delete(owner, found.id, actor=access.actor(info.context, viewer))
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
