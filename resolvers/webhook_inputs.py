"""What callers say about webhooks."""

import strawberry

from domain.orders import EventKind


@strawberry.input(description="A new webhook endpoint.")
class CreateWebhookEndpointInput:
    """See domain.webhooks.Terms."""

    merchant_id: strawberry.ID = strawberry.field(description="The merchant, `mer_…`.")
    url: str = strawberry.field(
        description="Where to: https on port 443, a name or address of the public internet; up to 2,048 characters."
    )
    kinds: list[EventKind] | None = strawberry.field(
        default=None, description="Of which events it is told; all when omitted or empty."
    )
    selection: str | None = strawberry.field(
        default=None,
        description="What it is told: a GraphQL selection on OrderEvent, `{ kind order { number } }`; up to 4,000 "
        "characters. The usual facts when omitted.",
    )
    triggers: list[str] | None = strawberry.field(
        default=None,
        description="Fields of the selection by response name, `order.status`: told only when one of their values "
        "differs from what was told last of that order. At most 16; always when omitted or empty.",
    )
    note: str | None = strawberry.field(
        default=None, description="What it is for, up to 200 characters."
    )


@strawberry.input(description="A change of an endpoint; what is left out stays, null takes away.")
class UpdateWebhookEndpointInput:
    """Read, change, send with the version read."""

    endpoint_id: strawberry.ID = strawberry.field(description="The endpoint, `whe_…`.")
    expected_version: int = strawberry.field(description="The version it had when it was read.")
    url: str | None = strawberry.field(default=strawberry.UNSET, description="Where to.")
    kinds: list[EventKind] | None = strawberry.field(
        default=strawberry.UNSET, description="Of which events; null is all."
    )
    selection: str | None = strawberry.field(
        default=strawberry.UNSET, description="What it is told; null is the usual facts."
    )
    triggers: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="What has to change; null is nothing in particular."
    )
    note: str | None = strawberry.field(
        default=strawberry.UNSET, description="What it is for; null is nothing."
    )
    enabled: bool | None = strawberry.field(
        default=None,
        description="True activates it and sends at once what still waits, false switches it off.",
    )


@strawberry.input(description="An endpoint and the version it was read in.")
class RotateWebhookSecretInput:
    """The old secret signs for another 24 hours beside the new one."""

    endpoint_id: strawberry.ID = strawberry.field(description="The endpoint, `whe_…`.")
    expected_version: int = strawberry.field(description="The version it had when it was read.")


@strawberry.input(description="An endpoint to end for good.")
class DeleteWebhookEndpointInput:
    """Nothing more is sent to it."""

    endpoint_id: strawberry.ID = strawberry.field(description="The endpoint, `whe_…`.")
    expected_version: int = strawberry.field(description="The version it had when it was read.")


@strawberry.input(description="An endpoint to be sent a test.")
class WebhookTestInput:
    """A message of the type `webhook.test`."""

    endpoint_id: strawberry.ID = strawberry.field(description="The endpoint, `whe_…`.")


@strawberry.input(description="An event and how to shape it.")
class WebhookDryRunInput:
    """Nothing is sent or stored."""

    order_id: strawberry.ID = strawberry.field(description="The order, `ord_…`.")
    sequence: int | None = strawberry.field(
        default=None,
        description="The event's number in its order, from 1. Give this or `cursor`.",
    )
    cursor: str | None = strawberry.field(
        default=None,
        description="The event's cursor in `orderEvents`, a timeline or a webhook.",
    )
    selection: str | None = strawberry.field(
        default=None, description="A selection on OrderEvent; the usual facts when omitted."
    )
    triggers: list[str] | None = strawberry.field(
        default=None, description="Fields to be watched, to see whether the selection has them."
    )


@strawberry.input(
    description="Which deliveries to send again: one, those of an order, or a stretch of the endpoint's list."
)
class RedeliverWebhookInput:
    """Give `deliveryId`, or `orderId` with cursors of its events, or cursors of the endpoint's deliveries."""

    endpoint_id: strawberry.ID = strawberry.field(description="The endpoint, `whe_…`.")
    delivery_id: strawberry.ID | None = strawberry.field(
        default=None, description="One delivery, `whd_…`."
    )
    order_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="An order, `ord_…`: its events between the cursors, also those never owed to the endpoint.",
    )
    after: str | None = strawberry.field(
        default=None, description="Cursor to begin behind; from the oldest on when omitted."
    )
    until: str | None = strawberry.field(
        default=None, description="Cursor of the last one to send; to the newest when omitted."
    )
