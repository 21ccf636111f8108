"""Webhooks of apps: kept with the app's manifest, one endpoint for each; their keys are the app's own.

What is owed to one is owed under a grant (decision 15): see `granted.py` for what may be told under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from domain import partners
from domain.core import addresses, audit, db, ids, vault
from domain.core.addresses import UrlNotAllowed
from domain.core.audit import Actor
from domain.core.errors import DomainError, FieldInvalid
from domain.core.settings import settings
from domain.partners import Manifest
from domain.webhooks import models, rules
from domain.webhooks.models import ENDPOINT, Endpoint
from domain.webhooks.rules import SelectionInvalid, Terms
from domain.webhooks.sending import shaper
from domain.webhooks.signing import Keys


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook of an app; `new_secret` in the answer that made it, and nowhere else."""

    endpoint: Endpoint
    new_secret: str | None = None


def _checked(manifest: Manifest) -> tuple[list[tuple[Terms, frozenset[str]]], list[DomainError]]:
    """Terms with what their payload takes of a grant, and every fault at its place in the manifest."""
    found: list[tuple[Terms, frozenset[str]]] = []
    faults: list[DomainError] = []
    seen: set[str] = set()
    for place, webhook in enumerate(manifest.webhooks[: partners.WEBHOOKS_MAX]):
        terms = Terms(webhook.url, webhook.kinds, webhook.selection)
        wrong = terms.faults(is_open=settings().webhooks_to_loopback)
        scopes: frozenset[str] = frozenset()
        try:
            scopes = _needed(terms)
        except SelectionInvalid as error:
            error.path = ("input", "selection")
            wrong.append(error)
        if scopes - set(manifest.scopes):
            wrong.append(FieldInvalid(path=("input", "selection"), reason="scope"))
        if not any(isinstance(one, UrlNotAllowed) for one in wrong):
            url = addresses.target(webhook.url, is_open=settings().webhooks_to_loopback).url
            terms = replace(terms, url=url)
            if url in seen:
                wrong.append(FieldInvalid(path=("input", "url"), reason="twice"))
            seen.add(url)
        for one in wrong:
            one.path = ("input", "webhooks", str(place), *one.path[1:])
        faults += wrong
        found.append((terms, scopes))
    return found, faults


def _needed(terms: Terms) -> frozenset[str]:
    """What the payload takes of a grant. Errors: SelectionInvalid, also for a field that no scope opens."""
    scopes = shaper().needed(terms.selection or rules.DEFAULT_SELECTION)
    if scopes is None:
        raise SelectionInvalid(reason="It selects what is open to no app.")
    return scopes


async def register(
    merchant_id: UUID,
    manifest: Manifest,
    *,
    account_id: UUID,
    actor: Actor,
    also: Sequence[DomainError] = (),
) -> tuple[UUID, str | None, list[Hook]]:
    """A new app with its webhooks: its id, its secret and its webhooks with theirs, shown this once.

    `also` are faults that were found before. Errors: InputInvalid with every fault, FieldInvalid as
    `partners.register`, Unavailable without a contract.
    """
    terms, faults = _checked(manifest)
    async with db.transaction():
        app_id, secret = await partners.register(
            merchant_id, manifest, account_id=account_id, actor=actor, also=(*also, *faults)
        )
        return app_id, secret, await _agree(merchant_id, app_id, terms, actor)


async def change(
    merchant_id: UUID,
    app_id: UUID,
    manifest: Manifest,
    *,
    expected_version: int,
    actor: Actor,
    also: Sequence[DomainError] = (),
) -> list[Hook]:
    """Replace an app's manifest; its webhooks by their URL: the same URL keeps its keys and its log.

    Errors: as `partners.change`.
    """
    terms, faults = _checked(manifest)
    async with db.transaction():
        await partners.change(
            merchant_id,
            app_id,
            manifest,
            expected_version=expected_version,
            actor=actor,
            also=(*also, *faults),
        )
        return await _agree(merchant_id, app_id, terms, actor)


async def delete(merchant_id: UUID, app_id: UUID, *, actor: Actor) -> None:
    """End an app and its webhooks. Errors: NotFound."""
    async with db.transaction():
        await partners.delete(merchant_id, app_id, actor=actor)
        await _agree(merchant_id, app_id, [], actor)


_INSERT = """
INSERT INTO webhook_endpoint (id, merchant_id, app_id, url, kinds, selection, scopes, triggers, keys_cipher, sees_split)
VALUES ($1, $2, $3, $4, $5, $6, $7, '{}', $8, false)
"""
_UPDATE = """
UPDATE webhook_endpoint SET kinds = $2, selection = $3, scopes = $4, version = version + 1
WHERE id = $1 AND (kinds, selection, scopes) IS DISTINCT FROM ($2::varchar[], $3::varchar, $4::text[])
"""
_END = """
UPDATE webhook_endpoint SET deleted_at = clock_timestamp(), keys_cipher = '', old_cipher = NULL, old_until = NULL
WHERE id = ANY($1)
"""


async def _agree(
    merchant_id: UUID,
    app_id: UUID,
    wanted: Sequence[tuple[Terms, frozenset[str]]],
    actor: Actor,
) -> list[Hook]:
    """Make an app's endpoints those of its manifest. The app's row is locked by whoever calls."""
    rows = await db.fetch(
        "SELECT id, url FROM webhook_endpoint WHERE app_id = $1 AND deleted_at IS NULL ORDER BY id"
        " FOR NO KEY UPDATE",
        app_id,
    )
    known = {row["url"]: row["id"] for row in rows}
    secrets: dict[UUID, str] = {}
    for terms, scopes in wanted:
        endpoint_id = known.pop(terms.url, None)
        facts: tuple[Any, ...] = (list(terms.kinds), terms.selection, sorted(scopes))
        if endpoint_id is not None:
            await db.execute(_UPDATE, endpoint_id, *facts)
            continue
        endpoint_id, keys = ids.uuid7(), Keys.new()
        sealed = vault.seal(models.place(endpoint_id), keys.packed)
        await db.execute(_INSERT, endpoint_id, merchant_id, app_id, terms.url, *facts, sealed)
        secrets[endpoint_id] = keys.shown_secret
        await audit.record(merchant_id, actor, "app.webhook_created", endpoint_id, url=terms.url)
    if known:
        await db.execute(_END, list(known.values()))
    for url, endpoint_id in sorted(known.items()):
        await audit.record(merchant_id, actor, "app.webhook_deleted", endpoint_id, url=url)
    found = (await of_apps([app_id]))[app_id]
    return [Hook(one, secrets.get(one.id)) for one in found]


async def of_apps(app_ids: Sequence[UUID]) -> dict[UUID, list[Endpoint]]:
    """The endpoints of each app, oldest first, in one statement."""
    found: dict[UUID, list[Endpoint]] = {app_id: [] for app_id in app_ids}
    for row in await db.fetch(
        f"SELECT {ENDPOINT} FROM webhook_endpoint e WHERE e.app_id = ANY($1) AND e.deleted_at IS NULL"
        " ORDER BY e.id",
        list(app_ids),
    ):
        found[row["app_id"]].append(models.endpoint(row))
    return found
