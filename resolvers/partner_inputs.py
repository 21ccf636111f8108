"""What developers say about apps: manifests, and which app or grant is meant."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any, cast

import strawberry
from strawberry.scalars import JSON

from domain import partners
from domain.core.errors import DomainError, FieldInvalid
from domain.orders import EventKind
from domain.partners import AuthMethod, Manifest
from domain.partners import Page as AppPage
from resolvers.inputs import MoneyInput


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

    url: str = strawberry.field(
        description="An https address on port 443; each one once. The same one keeps its keys and its log."
    )
    kinds: list[str] = strawberry.field(
        description="Kinds of events, e.g. order.paid; empty is all of them."
    )
    selection: str | None = strawberry.field(
        default=None,
        description="What it is told, a selection on OrderEvent within the manifest's scopes; null is the usual facts.",
    )


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
            webhooks=tuple(
                partners.Webhook(one.url, tuple(one.kinds), one.selection) for one in self.webhooks
            ),
            pages=tuple(AppPage(one.place, one.url) for one in self.pages),
        )

    def faults(self) -> list[DomainError]:
        """What is wrong with it that only the contract knows: kinds of events there are none of."""
        known = {str(kind) for kind in EventKind}
        return [
            FieldInvalid(path=("input", "webhooks", str(place), "kinds", str(at)), reason="kind")
            for place, webhook in enumerate(self.webhooks)
            for at, kind in enumerate(webhook.kinds)
            if kind not in known
        ]


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

    scope: str = strawberry.field(description="refunds:write or checkout:write")
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
