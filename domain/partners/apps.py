"""Writes about apps themselves: registered by developers or by themselves, changed, given a new secret, deleted."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from domain.core import audit, db, ids, versions, words
from domain.core.audit import Actor
from domain.core.errors import DomainError, FieldInvalid, NotFound
from domain.partners import presence, proofs, queries, rules
from domain.partners.rules import App, AuthMethod, Manifest, OAuthRefused

SELF_REGISTERED_MAX = 10_000


def faults(manifest: Manifest, *, at: str = "input") -> list[Any]:
    """Everything that is wrong with a manifest, its keys too."""
    found = list(rules.faults(manifest, at=at))
    if manifest.jwks is not None and not proofs.are_keys(manifest.jwks):
        found.append(FieldInvalid(path=(at, "jwks"), reason="jwks"))
    return found


def _columns(manifest: Manifest) -> list[Any]:
    more = {
        "homepage": manifest.homepage,
        "webhooks": [[one.url, list(one.kinds), one.selection] for one in manifest.webhooks],
        "pages": [[one.place, one.url] for one in manifest.pages],
    }
    return [
        manifest.name.strip(),
        list(manifest.redirect_uris),
        sorted(set(manifest.scopes)),
        sorted(set(manifest.grant_types)),
        str(manifest.auth_method),
        None if manifest.jwks is None else proofs.public_only(manifest.jwks),
        manifest.requires_par,
        manifest.dpop_bound,
        more,
        manifest.documents_only,
    ]


_INSERT = """
INSERT INTO partner_app (name, redirect_uris, scopes, grant_types, auth_method, jwks_json, requires_par, dpop_bound,
    manifest_json, documents_only, id, merchant_id, secret_hash, registration_hash, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""


async def register(
    merchant_id: UUID,
    manifest: Manifest,
    *,
    account_id: UUID,
    actor: Actor,
    also: Sequence[DomainError] = (),
) -> tuple[UUID, str | None]:
    """A new app of a merchant: its id, and its secret when it has one, shown this once.

    `also` are faults that were found elsewhere; its webhooks are `webhooks.register_app`'s.
    Errors: InputInvalid with every fault; FieldInvalid when the merchant has `APPS_MAX` of them.
    """
    words.refuse([*faults(manifest), *also])
    app_id, secret = ids.uuid7(), _secret(manifest)
    async with db.transaction():
        await db.row("SELECT id FROM merchant WHERE id = $1 FOR NO KEY UPDATE", merchant_id)
        count = "SELECT count(*) FROM partner_app WHERE merchant_id = $1 AND state = 'active'"
        if await db.value(count, merchant_id) >= rules.APPS_MAX:
            raise FieldInvalid(path=("input", "merchantId"), reason="count", max=rules.APPS_MAX)
        await db.execute(
            _INSERT,
            *_columns(manifest),
            app_id,
            merchant_id,
            rules.hashed(secret) if secret else None,
            None,
            account_id,
        )
        await audit.record(merchant_id, actor, "app.created", app_id, name=manifest.name)
    return app_id, secret


def _secret(manifest: Manifest) -> str | None:
    return rules.make("k") if manifest.auth_method is AuthMethod.SECRET else None


_UPDATE = """
UPDATE partner_app SET name = $1, redirect_uris = $2, scopes = $3, grant_types = $4, auth_method = $5::text,
    jwks_json = $6, requires_par = $7, dpop_bound = $8, manifest_json = $9, documents_only = $10,
    secret_hash = CASE WHEN $5::text = 'client_secret_basic' THEN secret_hash END,
    old_secret_hash = CASE WHEN $5::text = 'client_secret_basic' THEN old_secret_hash END
WHERE id = $11 AND state = 'active'
"""


async def change(
    merchant_id: UUID,
    app_id: UUID,
    manifest: Manifest,
    *,
    expected_version: int,
    actor: Actor,
    also: Sequence[DomainError] = (),
) -> None:
    """Replace an app's manifest. Scopes that go are dead at once, for tokens that are out as well.

    Errors: InputInvalid, NotFound, Conflict.
    """
    words.refuse([*faults(manifest), *also])
    async with db.transaction():
        await versions.bump("app", merchant_id, app_id, expected_version)
        if not await db.execute(_UPDATE, *_columns(manifest), app_id):
            raise NotFound()
        await audit.record(
            merchant_id,
            actor,
            "app.changed",
            app_id,
            scopes=sorted(manifest.scopes),
            redirect_uris=list(manifest.redirect_uris),
        )
    await presence.tell(app_id)


async def rotate_secret(merchant_id: UUID, app_id: UUID, *, actor: Actor) -> str:
    """A new secret; the one before is good for another day. Errors: NotFound, also for an app that has none."""
    secret = rules.make("k")
    async with db.transaction():
        if not await db.execute(
            "UPDATE partner_app SET old_secret_hash = secret_hash, secret_hash = $3,"
            " old_secret_until = clock_timestamp() + make_interval(hours => $4), version = version + 1"
            " WHERE merchant_id = $1 AND id = $2 AND state = 'active' AND auth_method = 'client_secret_basic'",
            merchant_id,
            app_id,
            rules.hashed(secret),
            rules.SECRET_GRACE_H,
        ):
            raise NotFound()
        await audit.record(merchant_id, actor, "app.secret_rotated", app_id)
    return secret


async def delete(merchant_id: UUID, app_id: UUID, *, actor: Actor) -> None:
    """End an app, its grants and everything it holds. Errors: NotFound."""
    async with db.transaction():
        if not await db.execute(
            "UPDATE partner_app SET state = 'deleted', version = version + 1"
            " WHERE merchant_id = $1 AND id = $2 AND state = 'active'",
            merchant_id,
            app_id,
        ):
            raise NotFound()
        await _end_grants(app_id)
        await audit.record(merchant_id, actor, "app.deleted", app_id)
    await presence.tell(app_id)


async def _end_grants(app_id: UUID) -> None:
    await db.execute(
        "UPDATE app_grant SET revoked_at = clock_timestamp(), revoked_for = 'app_deleted'"
        " WHERE app_id = $1 AND revoked_at IS NULL",
        app_id,
    )


async def register_self(manifest: Manifest) -> tuple[App, str | None, str]:
    """An app that registers itself (RFC 7591): the app, its secret, and the token it is managed with (RFC 7592).

    Errors: InputInvalid; OAuthRefused when there are too many.
    """
    words.refuse(faults(manifest))
    app_id, secret, key = ids.uuid7(), _secret(manifest), rules.make("m")
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock(hashtextextended('partner_app', 0))")
        count = "SELECT count(*) FROM partner_app WHERE merchant_id IS NULL AND state = 'active'"
        if await db.value(count) >= SELF_REGISTERED_MAX:
            raise OAuthRefused("temporarily_unavailable", "too many apps", status=503)
        await db.execute(
            _INSERT,
            *_columns(manifest),
            app_id,
            None,
            rules.hashed(secret) if secret else None,
            rules.hashed(key),
            None,
        )
    found = (await queries.apps([app_id]))[app_id]
    return found, secret, key


async def change_self(app: App, manifest: Manifest) -> App:
    """Replace the manifest of a self-registered app (RFC 7592, 2.2). Errors: InputInvalid."""
    words.refuse(faults(manifest))
    await db.execute(_UPDATE, *_columns(manifest), app.id)
    await presence.tell(app.id)
    return (await queries.apps([app.id]))[app.id]


async def delete_self(app: App) -> None:
    """End a self-registered app (RFC 7592, 2.3)."""
    async with db.transaction():
        await db.execute("UPDATE partner_app SET state = 'deleted' WHERE id = $1", app.id)
        await _end_grants(app.id)
    await presence.tell(app.id)


def is_secret(app: App, given: str) -> bool:
    """Whether `given` is the app's secret, or the one before within its last day."""
    found = rules.hashed(given)
    return True in [hmac.compare_digest(one, found) for one in app.secret_hashes]


def is_registration(app: App, given: str) -> bool:
    """Whether `given` manages this self-registered app."""
    return app.registration_hash is not None and hmac.compare_digest(
        app.registration_hash, rules.hashed(given)
    )
