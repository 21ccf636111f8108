"""Webhooks in the contract: endpoints with their deliveries, tried out, rotated, sent again."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain import webhooks
from domain.core import clock, ids
from domain.orders import EventKind
from domain.webhooks import (
    Attempt,
    Delivery,
    DeliveryState,
    DisabledReason,
    Endpoint,
    EndpointState,
)
from resolvers import webhooks as resolve
from resolvers.orders import cursor_of
from resolvers.stepup import FRESH
from resolvers.webhooks import Deleted, DryRun, Redelivered, Tried, WithSecret
from schema.field import NEWEST_FIRST, Who, derived, field, mutation_field, object_type, query_field
from schema.node import Node, register
from schema.page import Connection
from schema.problems import Conflict, InvalidInput, NotFound, Problem, Unavailable, problem
from schema.versions import Versioned, aggregate

strawberry.enum(
    EndpointState,
    name="WebhookEndpointState",
    description="ACTIVE takes what it is sent, FAILING refused the last one and is tried again, DISABLED is told "
    "nothing until it is activated.",
)
strawberry.enum(
    DisabledReason,
    name="WebhookDisabledReason",
    description="GONE answered 410; FAILURES used up a delivery's tries or had ten given up in a row; OWNER was "
    "switched off.",
)
strawberry.enum(
    DeliveryState,
    name="WebhookDeliveryState",
    description="READY waits for its time, LEASED is with a worker, DELIVERED was answered 2xx, SKIPPED had nothing "
    "watched that changed or is told to an app no more, DEAD is given up.",
)


@object_type(description="One try to deliver.", rows=(Attempt,))
class WebhookAttempt:
    """Kept for 30 days."""

    round: int = field(description="Counts how often it was asked for, from 1.")
    number: int = field(description="Which try of the round.")
    code: int | None = field(description="The HTTP status; null when no answer came.")
    error: str | None = derived(
        lambda one: one.error or None,
        description="Why no answer came: timeout, dns, refused_address, connection, tls, broken, url; or why nothing "
        "was sent: selection, unshaped, too_large.",
    )
    answer: str = field(description="The beginning of the answer, at most 2,000 characters.")
    took_ms: int = field(description="Milliseconds it took.")
    at: datetime = field(description="When it ended.")


@object_type(description="One event owed to one endpoint.", rows=(Delivery,))
class WebhookDelivery(Node):
    """Kept for 30 days."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("whd", one.id), description="Opaque id, `whd_…`."
    )
    message_id: str = field(
        description="The `webhook-id` it is sent under: the same for every try and redelivery."
    )
    endpoint_id: strawberry.ID = derived(
        lambda one: ids.encode("whe", one.endpoint_id), description="The endpoint, `whe_…`."
    )
    order_id: strawberry.ID = derived(
        lambda one: ids.encode("ord", one.order_id), description="The order, `ord_…`."
    )
    merchant_id: strawberry.ID = derived(
        lambda one: ids.encode("mer", one.merchant_id),
        description="Whose order it is, `mer_…`: the endpoint's merchant, or that of an app's grant.",
    )
    grant_id: strawberry.ID | None = derived(
        lambda one: None if one.grant_id is None else ids.encode("gnt", one.grant_id),
        description="The grant under which an app is told, `gnt_…`; null for a merchant's own endpoint.",
    )
    sequence: int = field(description="The event's number in its order.")
    kind: EventKind = derived(lambda one: EventKind(one.kind), description="What happened.")
    cursor: str = derived(
        lambda one: cursor_of(one.order_id, one.sequence),
        description="The event's cursor in `orderEvents`.",
    )
    occurred_at: datetime = field(description="When it happened.")
    state: DeliveryState = field(description="Where the delivery stands.")
    round: int = field(description="Counts how often it was asked for, from 1.")
    tries: int = field(description="Tries of this round.")
    due_at: datetime | None = derived(
        resolve.shown_due, description="When it is tried next; null once it is over."
    )
    code: int | None = field(description="The last HTTP status; null when none came.")
    error: str | None = field(
        description="Why there was no status; null when there was. SKIPPED for grant_over or scope_gone: the grant "
        "of an app ended, or opens less than its webhook tells."
    )
    body: str | None = derived(
        lambda one: one.body if one.grant_id is None else None,
        description="The body as it is signed; null before it was written, and always for an app: what it was told "
        "belongs to the merchant.",
    )
    created_at: datetime = field(description="When it was owed.")
    done_at: datetime | None = field(description="When it was over; null while it is not.")
    attempts: list[WebhookAttempt] = field(
        resolver=resolve.attempts,
        description="Its tries, oldest first, at most the last 50.",
        cost=1,
    )


@object_type(description="A URL of a merchant that is told of events.", rows=(Endpoint,))
class WebhookEndpoint(Node, Versioned):
    """Owners and developers of its merchant see it."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("whe", one.id), description="Opaque id, `whe_…`."
    )
    version: int = field(description="Send it as `expectedVersion` with a change.")
    app_id: strawberry.ID | None = derived(
        lambda one: None if one.app_id is None else ids.encode("app", one.app_id),
        description="The app whose webhook it is, `app_…`; null for a merchant's own endpoint.",
    )
    url: str = derived(lambda one: one.terms.url, description="Where to.")
    kinds: list[EventKind] = derived(
        lambda one: [EventKind(kind) for kind in one.terms.kinds],
        description="Of which events it is told; empty is all.",
    )
    selection: str | None = derived(
        lambda one: one.terms.selection,
        description="What it is told, a selection on OrderEvent; null is the usual facts.",
    )
    triggers: list[str] = derived(
        lambda one: list(one.terms.triggers),
        description="Fields of which one has to have changed; empty is always.",
    )
    note: str = derived(lambda one: one.terms.note, description="What it is for.")
    state: EndpointState = field(description="Whether it is told.")
    reason: DisabledReason | None = field(description="Why it is disabled; null when it is not.")
    public_key: str = derived(
        lambda one: one.keys.public_key,
        description="`whpk_…`: verifies the `v1a` (Ed25519) signatures; no secret.",
    )
    previous_secret_until: datetime | None = derived(
        lambda one: one.old_until if one.old_until and clock.now() < one.old_until else None,
        description="Until when the secret before the last rotation signs too; null when it does not.",
    )
    created_at: datetime = field(description="When it was made.")
    state_since: datetime = derived(
        lambda one: one.changed_at, description="Since when `state` is so."
    )
    deliveries: Connection[WebhookDelivery] = field(
        resolver=resolve.deliveries,
        description="What it was told and is to be told, newest first.",
        args={
            **NEWEST_FIRST,
            "state": "Only those in this state; READY counts LEASED too.",
        },
    )


@object_type(description="An endpoint and its secret.", rows=(WithSecret,))
class WebhookEndpointSecret:
    """The one answer that shows it."""

    endpoint: WebhookEndpoint = field(description="The endpoint.")
    secret: str = field(
        description="`whsec_…`, shown here and nowhere else: verifies the `v1` (HMAC) signatures."
    )


@object_type(description="An endpoint that is gone.", rows=(Deleted,))
class WebhookEndpointDeleted:
    """Nothing more is sent to it."""

    id: strawberry.ID = derived(lambda one: ids.encode("whe", one.id), description="The id it had.")


@object_type(description="What a test sent and what came back.", rows=(Tried,))
class WebhookTried:
    """An answer of 2xx is a success."""

    endpoint: WebhookEndpoint = field(description="The endpoint; a test changes nothing of it.")
    message_id: str = field(description="The `webhook-id` header.")
    signature: str = field(description="The `webhook-signature` header.")
    body: str = field(description="The body.")
    attempt: WebhookAttempt = field(description="What came back.")


@object_type(description="A payload that was not sent.", rows=(DryRun,))
class WebhookPayload:
    """What a webhook of the event would carry now."""

    payload: str = field(description="The body, JSON.")


@object_type(description="Deliveries that are sent again.", rows=(Redelivered,))
class WebhooksRedelivered:
    """At most 1,000 at a time."""

    count: int = field(description="How many.")
    resume_cursor: str | None = field(
        description="Send it as `after` to go on; null when that was all."
    )


@problem(
    webhooks.UrlNotAllowed,
    description="The URL is not https on port 443 or does not lead to the public internet.",
)
class UrlNotAllowed(Problem):
    """Code URL_NOT_ALLOWED."""


@problem(
    webhooks.SelectionInvalid,
    description="The selection is not one on OrderEvent, or breaks a limit of the front door.",
)
class SelectionInvalid(Problem):
    """Code SELECTION_INVALID."""

    reason: str = field(description="What is wrong with it, for developers, in English.")


@problem(webhooks.EndpointLimit, description="The merchant has as many endpoints as there may be.")
class EndpointLimit(Problem):
    """Code ENDPOINT_LIMIT."""

    max: int = field(description="How many there may be.")


CreateWebhookEndpointResult = Annotated[
    WebhookEndpointSecret
    | UrlNotAllowed
    | SelectionInvalid
    | EndpointLimit
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union("CreateWebhookEndpointResult", description="The endpoint, or why not."),
]
UpdateWebhookEndpointResult = Annotated[
    WebhookEndpoint
    | UrlNotAllowed
    | SelectionInvalid
    | Conflict
    | NotFound
    | InvalidInput
    | Unavailable,
    strawberry.union("UpdateWebhookEndpointResult", description="The endpoint, or why not."),
]
RotateWebhookSecretResult = Annotated[
    WebhookEndpointSecret | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union("RotateWebhookSecretResult", description="The new secret, or why not."),
]
DeleteWebhookEndpointResult = Annotated[
    WebhookEndpointDeleted | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union("DeleteWebhookEndpointResult", description="What was deleted, or why not."),
]
WebhookTestResult = Annotated[
    WebhookTried | NotFound | InvalidInput | Unavailable,
    strawberry.union("WebhookTestResult", description="What came back, or why nothing was sent."),
]
WebhookDryRunResult = Annotated[
    WebhookPayload | SelectionInvalid | NotFound | InvalidInput | Unavailable,
    strawberry.union("WebhookDryRunResult", description="The payload, or why there is none."),
]
RedeliverWebhookResult = Annotated[
    WebhooksRedelivered | NotFound | InvalidInput | Unavailable,
    strawberry.union("RedeliverWebhookResult", description="What is sent again, or why not."),
]


@strawberry.type
class WebhookQuery:
    """Reads."""

    merchant_webhook_endpoints: list[WebhookEndpoint] = query_field(
        resolve.of_merchant,
        who=Who.MERCHANT,
        description="A merchant's endpoints, oldest first, at most 16; for its owner and developers.",
        args={"merchantId": "The merchant, `mer_…`."},
        cost=16,
    )


@strawberry.type
class WebhookMutation:
    """Writes; each is a row of the audit log."""

    create_webhook_endpoint: CreateWebhookEndpointResult = mutation_field(
        resolve.create,
        who=Who.MERCHANT,
        step_up=FRESH,
        idempotent=True,
        description="Have a URL told of events; its secret is shown in this answer alone. Problems: URL_NOT_ALLOWED, "
        "SELECTION_INVALID, ENDPOINT_LIMIT, NOT_FOUND, INVALID_INPUT.",
        args={"input": "Where to, of what, and in which shape."},
        cost=5,
    )
    update_webhook_endpoint: UpdateWebhookEndpointResult = mutation_field(
        resolve.update,
        who=Who.MERCHANT,
        step_up=FRESH,
        idempotent=True,
        description="Change an endpoint, switch it off or activate it. Problems: CONFLICT, URL_NOT_ALLOWED, "
        "SELECTION_INVALID, NOT_FOUND, INVALID_INPUT.",
        args={"input": "What changes, and the version it is based on."},
        cost=5,
    )
    rotate_webhook_secret: RotateWebhookSecretResult = mutation_field(
        resolve.rotate,
        who=Who.MERCHANT,
        step_up=FRESH,
        idempotent=True,
        description="Make new keys; those before sign beside them for 24 hours. Problems: CONFLICT, NOT_FOUND.",
        args={"input": "The endpoint, and the version it is based on."},
        cost=5,
    )
    delete_webhook_endpoint: DeleteWebhookEndpointResult = mutation_field(
        resolve.delete,
        who=Who.MERCHANT,
        idempotent=True,
        description="End an endpoint for good. Problems: CONFLICT, NOT_FOUND.",
        args={"input": "The endpoint, and the version it is based on."},
        cost=5,
    )
    webhook_test: WebhookTestResult = mutation_field(
        resolve.test,
        who=Who.MERCHANT,
        description="Send a signed message of the type `webhook.test` now, once, whatever the endpoint's state. "
        "Problems: NOT_FOUND.",
        args={"input": "The endpoint."},
        cost=50,
    )
    webhook_dry_run: WebhookDryRunResult = mutation_field(
        resolve.dry_run,
        who=Who.MERCHANT,
        description="The payload of an event under a selection; nothing is sent or stored. Problems: "
        "SELECTION_INVALID, NOT_FOUND, INVALID_INPUT.",
        args={"input": "The event and the selection."},
        cost=20,
    )
    redeliver_webhook: RedeliverWebhookResult = mutation_field(
        resolve.redeliver,
        who=Who.MERCHANT,
        idempotent=True,
        description="Send deliveries again under their old ids, shaped as the endpoint is set up now: one, those of "
        "an order, or a stretch of the endpoint's list. Problems: NOT_FOUND, INVALID_INPUT.",
        args={"input": "Which ones."},
        cost=20,
    )


register("whe", WebhookEndpoint, load=resolve.by_id)
register("whd", WebhookDelivery, load=resolve.delivery_by_id)
aggregate("whe", load=resolve.current)
