"""Partner apps in the contract: registered by developers of a merchant, allowed by people, ended by either."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain.core import ids
from domain.partners import App, Granted, Limit
from domain.partners import Page as PageRow
from domain.webhooks import Hook
from resolvers import app_documents as documents
from resolvers import partners as resolve
from resolvers.partner_inputs import AppAuthentication, AppGrantType
from resolvers.partners import AppGone, Credentials, GrantEnded
from resolvers.stepup import FRESH
from schema.app_documents import AppDocument
from schema.field import NEWEST_FIRST, Who, derived, field, mutation_field, object_type, query_field
from schema.money import Money
from schema.node import Node, register
from schema.page import Connection
from schema.problems import Conflict, InvalidInput, NotFound, Unavailable
from schema.versions import Versioned, aggregate
from schema.webhooks import WebhookEndpoint


@object_type(description="Where an app is told of what, under each of its grants.", rows=(Hook,))
class AppWebhook:
    """Part of a manifest: changed with `updateApp`, and run like a merchant's endpoint."""

    url: str = derived(lambda row: row.endpoint.terms.url, description="Where to.")
    kinds: list[str] = derived(
        lambda row: list(row.endpoint.terms.kinds),
        description="Kinds of events, e.g. order.paid; empty is all of them.",
    )
    selection: str | None = derived(
        lambda row: row.endpoint.terms.selection,
        description="What it is told, a selection on OrderEvent; null is the usual facts.",
    )
    new_secret: str | None = field(
        description="`whsec_…` in the answer that made it; null in every other. Verifies the `v1` signatures.",
    )
    endpoint: WebhookEndpoint = field(
        description="Its state, its public key and its deliveries; `rotateWebhookSecret`, `webhookTest`, "
        "`redeliverWebhook` and `updateWebhookEndpoint(enabled)` take its id."
    )


@object_type(description="A page of an app that the console may offer.", rows=(PageRow,))
class AppPage:
    """Part of a manifest."""

    place: str = field(description="Where it is offered.")
    url: str = field(description="An https address.")


BY_ID = {
    "first": "How many, 1 to 100.",
    "last": "How many from the end, 1 to 100.",
    "after": "Cursor to continue behind.",
    "before": "Cursor to continue before.",
}


@object_type(description="An app made by a merchant's developers.", rows=(App,))
class PartnerApp(Node, Versioned):
    """Its `id` is its OAuth client_id."""

    id: strawberry.ID = derived(lambda row: row.client_id, description="The client_id, `app_…`.")
    version: int = field(description="Counts from 1; send it as `expectedVersion`.")
    name: str = derived(lambda row: row.manifest.name, description="Shown to who decides.")
    scopes: list[str] = derived(
        lambda row: list(row.manifest.scopes), description="The most it may ask for."
    )
    redirect_uris: list[str] = derived(
        lambda row: list(row.manifest.redirect_uris), description="Where its codes go."
    )
    grant_types: list[AppGrantType] = derived(
        lambda row: [AppGrantType(one) for one in row.manifest.grant_types],
        description="Its ways to a token.",
    )
    authentication: AppAuthentication = derived(
        lambda row: AppAuthentication(row.manifest.auth_method.value),
        description="How it proves who it is.",
    )
    jwks: str | None = derived(
        resolve.keys_of, description="Its public keys as JSON text; null without PRIVATE_KEY_JWT."
    )
    requires_par: bool = derived(
        lambda row: row.manifest.requires_par, description="Whether it must push its requests."
    )
    dpop_bound: bool = derived(
        lambda row: row.manifest.dpop_bound, description="Whether its tokens are bound to a key."
    )
    documents_only: bool = derived(
        lambda row: row.manifest.documents_only,
        description="Whether it runs registered documents alone.",
    )
    documents: Connection[AppDocument] = field(
        resolver=documents.of_app, description="What it has registered, by id.", args=BY_ID
    )
    homepage: str | None = derived(
        lambda row: row.manifest.homepage, description="Its address; null without one."
    )
    webhooks: list[AppWebhook] = field(
        resolver=resolve.hooks, description="Where it is told, at most ten.", cost=1
    )
    pages: list[AppPage] = derived(
        lambda row: list(row.manifest.pages), description="Its pages for the console."
    )
    created_at: datetime = field(description="When it was registered.")


@object_type(description="The most an app may move within a scope, in all.", rows=(Limit,))
class AppLimit:
    """Counted as long as the grant lives."""

    scope: str = field(description="Which scope.")
    most: Money = field(description="In all.")


@object_type(description="What a person let an app do in a merchant.", rows=(Granted,))
class AppGrant:
    """Never more than the person may do: it ends with their place in the merchant."""

    id: strawberry.ID = derived(
        lambda row: ids.encode("gnt", row.id), description="Opaque id, `gnt_…`."
    )
    app_id: strawberry.ID = derived(
        lambda row: ids.encode("app", row.app_id), description="The app, `app_…`."
    )
    app_name: str | None = field(
        resolver=resolve.app_name, description="Its name; null when it is deleted."
    )
    account_id: strawberry.ID = derived(
        lambda row: ids.encode("acc", row.account_id), description="Who allowed it, `acc_…`."
    )
    kind: str = field(description="code (consent), device, or client (acts by itself).")
    scopes: list[str] = derived(lambda row: list(row.scopes), description="What it may do.")
    limits: list[AppLimit] = derived(
        lambda row: list(row.limits), description="The most it may move; empty without limits."
    )
    created_at: datetime = field(description="When it was allowed.")
    expires_at: datetime | None = field(description="Until when; null until it is revoked.")


@object_type(description="An app with its secret.", rows=(Credentials,))
class AppCredentials:
    """Keep the secret: it is shown this once and stored as a hash."""

    app: PartnerApp = field(description="The app.")
    secret: str | None = field(description="Its client_secret; null when it has none.")


@object_type(description="An app that is no more.", rows=(AppGone,))
class AppDeleted:
    """Its grants and tokens are dead with it."""

    app_id: strawberry.ID = derived(
        lambda row: ids.encode("app", row.app_id), description="What its id was."
    )


@object_type(description="A grant that is over.", rows=(GrantEnded,))
class GrantRevoked:
    """Its tokens are dead everywhere within five seconds."""

    ended: bool = field(description="False when it was over already.")


CreateAppResult = Annotated[
    AppCredentials | NotFound | InvalidInput | Unavailable,
    strawberry.union("CreateAppResult", description="The new app, or why there is none."),
]
UpdateAppResult = Annotated[
    PartnerApp | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union("UpdateAppResult", description="The changed app, or why not."),
]
RotateAppSecretResult = Annotated[
    AppCredentials | NotFound | InvalidInput | Unavailable,
    strawberry.union("RotateAppSecretResult", description="The app with a new secret, or why not."),
]
DeleteAppResult = Annotated[
    AppDeleted | NotFound | Unavailable,
    strawberry.union("DeleteAppResult", description="That it is gone, or why not."),
]
GrantAppResult = Annotated[
    AppGrant | NotFound | InvalidInput | Unavailable,
    strawberry.union("GrantAppResult", description="What was granted, or why not."),
]
RevokeAppGrantResult = Annotated[
    GrantRevoked | NotFound | Unavailable,
    strawberry.union("RevokeAppGrantResult", description="That it is over, or why not."),
]

_WHOSE = {"merchantId": "The merchant, one the caller develops for."}


@strawberry.type
class PartnerQuery:
    """For owners and developers."""

    apps: list[PartnerApp] = query_field(
        resolve.apps,
        who=Who.MERCHANT,
        description="The apps of a merchant's developers, oldest first; at most 50.",
        args=_WHOSE,
        cost=10,
    )
    app_grants: Connection[AppGrant] = query_field(
        resolve.grants,
        who=Who.MERCHANT,
        description="What apps may do in a merchant now, newest first.",
        args={
            **_WHOSE,
            **NEWEST_FIRST,
        },
    )


@strawberry.type
class PartnerMutation:
    """Writes; each is a row of the audit log. Never open to apps themselves."""

    create_app: CreateAppResult = mutation_field(
        resolve.create,
        who=Who.MERCHANT,
        step_up=FRESH,
        description="Register an app. Scopes that concern money take PRIVATE_KEY_JWT, requiresPar and dpopBound. "
        "Problems: NOT_FOUND, INVALID_INPUT.",
        args={"input": "The merchant and the manifest."},
        cost=5,
    )
    update_app: UpdateAppResult = mutation_field(
        resolve.update,
        who=Who.MERCHANT,
        step_up=FRESH,
        description="Replace an app's manifest, its keys too. Problems: CONFLICT, NOT_FOUND, INVALID_INPUT.",
        args={"input": "The manifest, and the version it is based on."},
        cost=5,
    )
    rotate_app_secret: RotateAppSecretResult = mutation_field(
        resolve.rotate_secret,
        who=Who.MERCHANT,
        step_up=FRESH,
        description="A new client_secret; the one before is good for another day. Problems: NOT_FOUND, INVALID_INPUT.",
        args={"input": "The app."},
        cost=5,
    )
    delete_app: DeleteAppResult = mutation_field(
        resolve.delete,
        who=Who.MERCHANT,
        description="End an app, its grants and tokens. Problems: NOT_FOUND.",
        args={"input": "The app."},
        cost=5,
    )
    grant_app: GrantAppResult = mutation_field(
        resolve.grant,
        who=Who.MERCHANT,
        step_up=FRESH,
        description="Let an app of one's own act by itself (client credentials), never beyond oneself. "
        "Problems: NOT_FOUND, INVALID_INPUT.",
        args={"input": "The app, its scopes and limits."},
        cost=5,
    )
    revoke_app_grant: RevokeAppGrantResult = mutation_field(
        resolve.revoke,
        who=Who.MERCHANT,
        description="End what an app was allowed; by owners, developers and who allowed it. Problems: NOT_FOUND.",
        args={"input": "The grant."},
        cost=5,
    )


register("app", PartnerApp, load=resolve.by_id)
aggregate("app", load=resolve.by_id)
