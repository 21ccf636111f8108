"""A merchant's webhooks: endpoints made and changed, tried out, their deliveries read and sent again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import strawberry
from strawberry import Parent

from domain import orders, webhooks
from domain.core import ids
from domain.core.audit import Actor
from domain.core.errors import FieldInvalid, NotFound
from domain.identity import Role
from domain.webhooks import (
    Attempt,
    Delivery,
    DeliveryState,
    Endpoint,
    Terms,
    Wish,
)
from resolvers import access, once
from resolvers.context import Asked
from resolvers.inputs import decode
from resolvers.page import Listing, Page
from resolvers.webhook_inputs import (
    CreateWebhookEndpointInput,
    DeleteWebhookEndpointInput,
    RedeliverWebhookInput,
    RotateWebhookSecretInput,
    UpdateWebhookEndpointInput,
    WebhookDryRunInput,
    WebhookTestInput,
)

DELIVERIES = Listing("webhook.deliveries", UUID)
DEVELOPERS = (Role.DEVELOPER,)


@dataclass(frozen=True, slots=True)
class WithSecret:
    """An endpoint and its secret, in the answer that makes it."""

    endpoint: Endpoint

    @property
    def secret(self) -> str:
        """`whsec_…`."""
        return self.endpoint.keys.shown_secret


@dataclass(frozen=True, slots=True)
class Deleted:
    """An endpoint that is gone."""

    id: UUID


@dataclass(frozen=True, slots=True)
class Tried:
    """What a test sent and what came back."""

    endpoint: Endpoint
    message_id: str
    signature: str
    body: str
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class DryRun:
    """A payload that was not sent."""

    payload: str


@dataclass(frozen=True, slots=True)
class Redelivered:
    """How many are sent again, and where to go on when there are more."""

    count: int
    resume_cursor: str | None


async def _find(info: Asked, text: str) -> tuple[Endpoint, Actor]:
    """An endpoint the viewer runs, and the viewer for the audit log. Errors: NotFound, Forbidden."""
    endpoint_id = decode(text, "whe", "endpointId")
    found = (await webhooks.endpoints([endpoint_id])).get(endpoint_id)
    actor = _actor(info, found)
    assert found is not None
    return found, actor


def _actor(info: Asked, of: access.Owned | UUID | None, name: str = "endpointId") -> Actor:
    access.require_viewer(info.context)
    merchant_id = of if of is None or isinstance(of, UUID) else of.merchant_id
    viewer = info.context.viewer
    assert viewer is not None
    if merchant_id is None or merchant_id not in viewer.roles:
        raise NotFound(path=("input", name))
    access.require_merchant(info.context, merchant_id, *DEVELOPERS)
    return Actor(
        "merchant", ids.encode("acc", viewer.account_id), request_id=info.context.request_id
    )


def _sees(info: Asked, merchant_id: UUID) -> bool:
    """Whether what the viewer sets up may tell the parts of the merchant's money apart: no more than they may."""
    return access.may_see_money(info.context, merchant_id)


async def create(info: Asked, input: CreateWebhookEndpointInput) -> WithSecret:
    """A new endpoint."""
    merchant_id = decode(input.merchant_id, "mer", "merchantId")
    actor = _actor(info, merchant_id, "merchantId")
    terms = webhooks.checked(
        Terms(
            input.url,
            tuple(kind.value for kind in input.kinds or ()),
            input.selection,
            tuple(input.triggers or ()),
            input.note or "",
        )
    )
    made = ids.uuid7()

    async def act() -> None:
        await webhooks.add(
            merchant_id,
            terms,
            endpoint_id=made,
            sees_split=_sees(info, merchant_id),
            actor=actor,
        )

    done = await once.do(info, {"id": str(made)}, act)
    return WithSecret(await _endpoint(UUID(done["id"])))


async def _endpoint(endpoint_id: UUID) -> Endpoint:
    found = (await webhooks.endpoints([endpoint_id])).get(endpoint_id)
    if found is None:
        raise NotFound()
    return found


def _kept(value: Any, before: Any, none: Any) -> Any:
    if value is strawberry.UNSET:
        return before
    return none if value is None else value


async def update(info: Asked, input: UpdateWebhookEndpointInput) -> Endpoint:
    """Change an endpoint, switch it on or off."""
    found, actor = await _find(info, input.endpoint_id)
    if found.app_id is not None:
        _refuse_manifest(input)
    if input.url is None:
        raise FieldInvalid(path=("input", "url"), reason="null")
    before = found.terms
    kinds = _kept(input.kinds, None, ())
    terms = webhooks.checked(
        Terms(
            _kept(input.url, before.url, ""),
            before.kinds if kinds is None else tuple(kind.value for kind in kinds),
            _kept(input.selection, before.selection, None),
            tuple(_kept(input.triggers, before.triggers, ())),
            _kept(input.note, before.note, ""),
        )
    )
    wishes = {None: Wish.KEEP, True: Wish.ACTIVATE, False: Wish.DISABLE}

    async def act() -> None:
        await webhooks.change(
            found.merchant_id,
            found.id,
            terms,
            wish=wishes[input.enabled],
            sees_split=_sees(info, found.merchant_id),
            expected_version=input.expected_version,
            actor=actor,
        )

    await once.do(info, {"id": str(found.id)}, act)
    return await _endpoint(found.id)


def _refuse_manifest(input: UpdateWebhookEndpointInput) -> None:
    """What an app's webhook is told is in the app's manifest. Errors: FieldInvalid."""
    for name in ("url", "kinds", "selection", "triggers", "note"):
        if getattr(input, name) is not strawberry.UNSET:
            raise FieldInvalid(path=("input", name), reason="manifest")


async def rotate(info: Asked, input: RotateWebhookSecretInput) -> WithSecret:
    """A new secret; the old one signs beside it for a day."""
    found, actor = await _find(info, input.endpoint_id)

    async def act() -> None:
        await webhooks.rotate(
            found.merchant_id, found.id, expected_version=input.expected_version, actor=actor
        )

    await once.do(info, {"id": str(found.id)}, act)
    return WithSecret(await _endpoint(found.id))


async def delete(info: Asked, input: DeleteWebhookEndpointInput) -> Deleted:
    """End an endpoint."""
    endpoint_id = decode(input.endpoint_id, "whe", "endpointId")
    earlier = await info.context.once(info).find()
    if earlier is not None:  # it is gone already: by this very call
        return Deleted(UUID(earlier["id"]))
    found, actor = await _find(info, input.endpoint_id)
    if found.app_id is not None:
        raise FieldInvalid(path=("input", "endpointId"), reason="manifest")

    async def act() -> None:
        await webhooks.remove(
            found.merchant_id, found.id, expected_version=input.expected_version, actor=actor
        )

    await once.do(info, {"id": str(endpoint_id)}, act)
    return Deleted(endpoint_id)


async def test(info: Asked, input: WebhookTestInput) -> Tried:
    """Send a signed test message now."""
    found, _ = await _find(info, input.endpoint_id)
    message, attempt = await webhooks.test(found)
    return Tried(
        found,
        message.headers["webhook-id"],
        message.headers["webhook-signature"],
        message.body.decode(),
        attempt,
    )


async def dry_run(info: Asked, input: WebhookDryRunInput) -> DryRun:
    """The payload of an event under a selection."""
    order_id = decode(input.order_id, "ord", "orderId")
    if (input.sequence is None) == (input.cursor is None):
        raise FieldInvalid(path=("input", "sequence"), reason="one of two")
    view = await orders.view(order_id)
    owner = view.order.merchant_id if view else None
    _actor(info, owner, "orderId")
    assert owner is not None
    webhooks.check_selection(input.selection, tuple(input.triggers or ()))
    sequence = input.sequence
    if input.cursor is not None:
        sequence = webhooks.shaper().sequence(input.cursor, order_id)
    assert sequence is not None
    made = await webhooks.dry_run(
        order_id, sequence, input.selection, sees_split=_sees(info, owner)
    )
    if made is None:
        raise NotFound(path=("input", "sequence" if input.cursor is None else "cursor"))
    return DryRun(made.decode())


async def redeliver(info: Asked, input: RedeliverWebhookInput) -> Redelivered:
    """Send deliveries again."""
    found, actor = await _find(info, input.endpoint_id)
    result: dict[str, Any] = {"count": 0, "resume": None}

    async def act() -> dict[str, Any]:
        if input.delivery_id is not None:
            if input.order_id or input.after or input.until:
                raise FieldInvalid(path=("input", "deliveryId"), reason="alone")
            delivery_id = decode(input.delivery_id, "whd", "deliveryId")
            count = await webhooks.again(found, [delivery_id], actor=actor)
            if not count:
                raise NotFound(path=("input", "deliveryId"))
            return {"count": count}
        if input.order_id is not None:
            if found.app_id is not None:  # what was owed under which grant is in the list
                raise FieldInvalid(path=("input", "orderId"), reason="app")
            order_id = decode(input.order_id, "ord", "orderId")
            place = webhooks.shaper().sequence
            after = place(input.after, order_id) if input.after else 0
            until = place(input.until, order_id) if input.until else None
            count = await webhooks.again_of_order(
                found, order_id, after=after, until=until, actor=actor
            )
            return {"count": count}
        count, last = await webhooks.again_between(
            found,
            after=_delivery_id(found, input.after),
            until=_delivery_id(found, input.until),
            actor=actor,
        )
        return {"count": count, "resume": None if last is None else str(last.id)}

    done = await once.do(info, result, act)
    resume = done["resume"]
    return Redelivered(
        done["count"], DELIVERIES.cursor((UUID(resume),), found.id) if resume else None
    )


def _delivery_id(of: Endpoint, cursor: str | None) -> UUID | None:
    return None if cursor is None else cast(UUID, DELIVERIES.key(cursor, of.id)[0])


async def of_merchant(info: Asked, merchant_id: strawberry.ID) -> list[Endpoint]:
    """A merchant's endpoints, oldest first."""
    try:
        owner = ids.decode(merchant_id, "mer")
    except ids.IdInvalid:
        raise NotFound() from None
    access.require_merchant(info.context, owner, *DEVELOPERS)
    return await webhooks.of_merchant(owner)


async def current(info: Asked, endpoint_id: UUID) -> Endpoint | None:
    """An endpoint as it is now."""
    return (await webhooks.endpoints([endpoint_id])).get(endpoint_id)


async def by_id(info: Asked, endpoint_id: UUID) -> Endpoint | None:
    """An endpoint for those who run it; for everybody else there is none."""
    found = await current(info, endpoint_id)
    viewer = info.context.viewer
    if found is None or viewer is None or not viewer.may(found.merchant_id, *DEVELOPERS):
        raise NotFound()
    return found


async def delivery_by_id(info: Asked, delivery_id: UUID) -> Delivery | None:
    """A delivery for those who run its endpoint; of an app's these are the app's developers."""
    found = await webhooks.by_id(delivery_id)
    if found is None:
        raise NotFound()
    await by_id(info, found.endpoint_id)
    return found


async def deliveries(
    of: Parent[Endpoint],
    info: Asked,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
    state: DeliveryState | None = None,
) -> Page[Delivery]:
    """Deliveries to an endpoint, newest first. A cursor is a place in the list, whatever the state asked for."""
    window = DELIVERIES.window(of.id, first=first, last=last, after=after, before=before)
    key = cast("tuple[UUID] | None", window.key)
    rows = await webhooks.deliveries(
        of.id,
        state=state,
        beyond=key[0] if key else None,
        limit=window.limit + 1,
        backward=window.is_backward,
    )
    return window.page(rows, key=lambda one: (one.id,))


async def _attempts(delivery_ids: list[UUID]) -> Sequence[list[Attempt]]:
    found: Mapping[UUID, list[Attempt]] = await webhooks.attempts(delivery_ids)
    return [found[one] for one in delivery_ids]


async def attempts(of: Parent[Delivery], info: Asked) -> list[Attempt]:
    """The tries of a delivery, oldest first."""
    return await info.context.load(_attempts, of.id)


def shown_due(one: Delivery) -> datetime | None:
    """When it is tried next; None once it is over."""
    return one.due_at if one.state in (DeliveryState.READY, DeliveryState.LEASED) else None
