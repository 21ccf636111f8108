"""Saved methods inside a sale: what an attempt is charged by, what its capture leaves behind, and forgetting it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from domain import orders, payments
from domain.core import vault
from domain.core.errors import FieldInvalid, NotFound
from domain.orders.models import Order
from domain.payments import SavedMethod
from domain.payments.models import Word
from domain.payments.routing import Offer

LISTED_MAX = 100


@dataclass(frozen=True, slots=True)
class Means:
    """What one attempt has to do with saved methods: it saves what is paid by, or it charges `saved` by its token."""

    saves: bool = False
    saved: SavedMethod | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def saved_id(self) -> UUID | None:
        """The method that is charged."""
        return self.saved.id if self.saved else None


PLAIN = Means()


async def means(order: Order, offer: Offer, *, saves: bool, saved_id: UUID | None) -> Means:
    """What `pay` was asked for, checked against what the provider can and the order's buyer owns.

    Errors: FieldInvalid, payments.UnknownMethod, NotFound for a method that is another buyer's, revoked or nobody's.
    """
    if saved_id is None:
        if saves and not offer.method.can_save:
            raise FieldInvalid(path=("input", "saveMethod"), reason="the provider cannot save it")
        return Means(saves=True) if saves else PLAIN
    if saves:
        raise FieldInvalid(path=("input", "saveMethod"), reason="it is saved already")
    saved = await find(order.id, saved_id)
    if saved.revoked_at is not None:
        raise NotFound()
    if saved.method != offer.method.code:
        raise FieldInvalid(path=("input", "method"), reason="saved with another method")
    if (saved.provider, saved.account) != (offer.provider, offer.account):
        # Its provider was replaced since: nobody else can charge by its token.
        raise payments.UnknownMethod(path=("input", "method"), method=saved.method)
    return Means(saved=saved, token=await payments.token_of(saved))


async def find(order_id: UUID, saved_id: UUID) -> SavedMethod:
    """A method that the buyer of an order may use, revoked ones too. Errors: NotFound."""
    saved = await payments.find_saved(saved_id, await orders.root_of(order_id))
    if saved is None:
        raise NotFound()
    return saved


async def note(opened: Sequence[tuple[UUID, Means]]) -> None:
    """Remember with attempts that are being opened what they do; ordinary ones cost nothing. Errors: NotFound."""
    wishes = [(attempt_id, by.saved_id) for attempt_id, by in opened if by != PLAIN]
    if wishes:
        await payments.note_methods(wishes)


async def is_same(attempt_id: UUID, by: Means) -> bool:
    """Whether a waiting attempt was opened for the same: else its provider would do what was not asked."""
    return await payments.noted_method(attempt_id) == (by.saves, by.saved_id)


async def keep(words: Sequence[Word]) -> None:
    """Store the tokens among the words of a set, after what they say has been written."""
    told = [word for word in words if word.sealed and word.order_id]
    if told:
        owners = await orders.roots(word.order_id for word in told if word.order_id)
        await payments.keep_methods(told, owners)


async def saved_methods(order_ids: Sequence[UUID]) -> list[list[SavedMethod]]:
    """What the buyers of these orders can pay by at once, the newest first, in the order asked."""
    roots = await orders.roots(order_ids)
    found = await payments.saved_of(list(roots.values()))
    return [found[roots[order_id]] for order_id in order_ids]


async def saved_by(spans: Sequence[orders.Span]) -> list[SavedMethod]:
    """What was saved with the orders of these addresses and can be used, the newest first, at most LISTED_MAX."""
    found = await payments.saved_of(await orders.savers(spans, LISTED_MAX)) if spans else {}
    every = [one for methods in found.values() for one in methods]
    return sorted(every, key=lambda one: one.id, reverse=True)[:LISTED_MAX]


async def forget(order_id: UUID, saved_id: UUID, *, access_key: str) -> Order:
    """The buyer of an order wants a method forgotten: here at once, at the provider as soon as it answers.

    Idempotent. Errors: NotFound.
    """
    view = await orders.view(order_id)
    if view is None or not vault.is_access_key(order_id, access_key):
        raise NotFound()
    await payments.revoke_method(saved_id, await orders.root_of(order_id))
    return view.order
