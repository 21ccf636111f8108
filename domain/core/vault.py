"""The vault: secrets at rest under AES-256-GCM, under data keys that a master key elsewhere wraps.

Every sealed value is bound to where it belongs: two ciphertexts put in each other's place do not
open (H26). Each merchant has data keys of its own (table `merchant_data_key`); everything else is
sealed under a system key derived from the master key.
Source: NIST SP 800-38D (GCM), RFC 5869 (HKDF).
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from domain.core import clock, db, ids
from domain.core.settings import settings

KEY_BYTES, NONCE_BYTES, HASH_BYTES = 32, 12, 16
ACCESS_KEY_CHARS = 26
CACHE_S = 60.0
CACHE_MAX = 10_000
REWRAP_MAX = 500
# This "version" is no data key but the key of the uniqueness hash: never rotated, only rewrapped.
_HASH_KEY = 0


class KeyMissing(Exception):
    """Sealed under a key that is not here: only the retired master key opens it, restore that."""


@dataclass(frozen=True, slots=True)
class _Master:
    """What is derived from one version of the master key, which itself is used for nothing else."""

    wrap: AESGCM
    system: AESGCM
    access: bytes
    fingerprint: bytes

    @classmethod
    def of(cls, secret: bytes) -> _Master:
        def derive(purpose: bytes) -> bytes:
            return HKDF(hashes.SHA256(), KEY_BYTES, None, b"kami/" + purpose).derive(secret)

        return cls(
            AESGCM(derive(b"wrap")),
            AESGCM(derive(b"system")),
            derive(b"access-key"),
            derive(b"fingerprint"),
        )


@cache
def _ring() -> dict[int, _Master]:
    """Master keys by version, the newest last."""
    return {
        version: _Master.of(secret) for version, secret in sorted(settings().master_keys().items())
    }


def _newest() -> tuple[int, _Master]:
    ring = _ring()
    version = max(ring)
    return version, ring[version]


def _first() -> _Master:
    """The oldest master key known: what is derived from it stays while a newer one takes over."""
    ring = _ring()
    return ring[min(ring)]


def forget() -> None:
    """Drop every key this process holds; for tests, and after the settings changed."""
    _ring.cache_clear()
    _kept.clear()


def seal(context: str, plaintext: bytes) -> bytes:
    """`plaintext` sealed under the system key; opens only with the same `context`."""
    version, master = _newest()
    nonce = os.urandom(NONCE_BYTES)
    return bytes((version,)) + nonce + master.system.encrypt(nonce, plaintext, context.encode())


def unseal(context: str, sealed: bytes) -> bytes:
    """What `seal` was given.

    Errors: cryptography's InvalidTag for another context or a changed byte, KeyMissing.
    """
    master = _ring().get(sealed[0]) if sealed else None
    if master is None:
        raise KeyMissing(f"master key version {sealed[:1].hex() or 'none'}")
    nonce, body = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    return master.system.decrypt(nonce, body, context.encode())


def fingerprint(context: str, text: str) -> bytes:
    """A keyed hash of 16 bytes: tells whether two values are equal, and whoever has only the
    database nothing at all."""
    value = f"{context}\0{text}".encode("utf-8", "surrogatepass")
    return hmac.digest(_first().fingerprint, value, "sha256")[:HASH_BYTES]


def access_key(order_id: UUID) -> str:
    """The key of an order's page, 26 base32 characters (130 bits); derived, so stored nowhere."""
    return _access_key(_first(), order_id)


def is_access_key(order_id: UUID, given: str | None) -> bool:
    """Whether `given` opens the order's page; takes the same time for every wrong key."""
    text = (given or "").lower().encode("utf-8", "surrogatepass")
    keys = [_access_key(master, order_id).encode() for master in _ring().values()]
    return True in [hmac.compare_digest(key, text) for key in keys]


def _access_key(master: _Master, order_id: UUID) -> str:
    mac = int.from_bytes(hmac.digest(master.access, order_id.bytes, "sha256"), "big")
    return ids.base32(mac >> (256 - 5 * ACCESS_KEY_CHARS), ACCESS_KEY_CHARS)


@dataclass(frozen=True, slots=True)
class MerchantVault:
    """The keys of one merchant: `version` seals, any of `aeads` opens."""

    merchant_id: UUID
    version: int
    aeads: dict[int, AESGCM]
    hash_key: bytes

    def seal(self, table: str, row_id: UUID, plaintext: bytes) -> bytes:
        """`plaintext` for one row of `table`, stored beside `version`; the id exists first."""
        nonce = os.urandom(NONCE_BYTES)
        place = _place(table, row_id, self.version)
        return nonce + self.aeads[self.version].encrypt(nonce, plaintext, place)

    def unseal(self, table: str, row_id: UUID, version: int, sealed: bytes) -> bytes:
        """What was sealed for this row. Errors: InvalidTag when it is another's, KeyMissing."""
        aead = self.aeads.get(version)
        if aead is None:
            raise KeyMissing(f"data key {version} of merchant {self.merchant_id}")
        return aead.decrypt(
            sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _place(table, row_id, version)
        )

    def fingerprint(self, plaintext: bytes) -> bytes:
        """The hash that makes a card key unique for ever within its merchant; 16 bytes, keyed."""
        return hmac.digest(self.hash_key, plaintext, "sha256")[:HASH_BYTES]


def _place(table: str, row_id: UUID, version: int) -> bytes:
    return f"{table}:{row_id}:{version}".encode()


_kept: dict[UUID, tuple[float, MerchantVault]] = {}


async def of_merchant(merchant_id: UUID, *, version: int = 0) -> MerchantVault:
    """The keys of a merchant, made at first use; kept in this process for a minute.

    `version` is one that must be among them: a newer one than was kept is read again.
    """
    kept = _kept.get(merchant_id)
    is_fresh = kept is not None and kept[0] > clock.monotonic()
    if kept is not None and is_fresh and (not version or version in kept[1].aeads):
        return kept[1]
    rows = await _read(merchant_id)
    if not rows:
        await _make(merchant_id, (_HASH_KEY, _HASH_KEY + 1))
        rows = await _read(merchant_id)
    keys = {row["version"]: _unwrap(merchant_id, row) for row in rows}
    hash_key = keys.pop(_HASH_KEY)
    found = MerchantVault(
        merchant_id, max(keys), {number: AESGCM(key) for number, key in keys.items()}, hash_key
    )
    if db.in_transaction():
        # The row may be our own and be rolled back yet: a key that was never stored must not seal.
        async def keep() -> None:
            _keep(found)

        db.after_commit(keep)
    else:
        _keep(found)
    return found


def _keep(found: MerchantVault) -> None:
    _kept.pop(found.merchant_id, None)
    while len(_kept) >= CACHE_MAX:
        del _kept[next(iter(_kept))]
    _kept[found.merchant_id] = (clock.monotonic() + CACHE_S, found)


async def _read(merchant_id: UUID) -> list[Any]:
    return await db.fetch(
        "SELECT version, wrapped, kek_version FROM merchant_data_key WHERE merchant_id = $1",
        merchant_id,
    )


async def _make(merchant_id: UUID, versions: Sequence[int]) -> None:
    await db.execute(
        "INSERT INTO merchant_data_key (merchant_id, version, wrapped, kek_version)"
        " SELECT $1, v, w, $4 FROM unnest($2::smallint[], $3::bytea[]) AS t(v, w)"
        " ON CONFLICT DO NOTHING",
        merchant_id,
        list(versions),
        [_wrap(merchant_id, version, os.urandom(KEY_BYTES)) for version in versions],
        _newest()[0],
    )


def _wrap(merchant_id: UUID, version: int, key: bytes) -> bytes:
    kek_version, master = _newest()
    nonce = os.urandom(NONCE_BYTES)
    return nonce + master.wrap.encrypt(nonce, key, _wrapping(merchant_id, version, kek_version))


def _unwrap(merchant_id: UUID, row: Any) -> bytes:
    master = _ring().get(row["kek_version"])
    if master is None:
        raise KeyMissing(f"master key version {row['kek_version']}")
    wrapped = row["wrapped"]
    place = _wrapping(merchant_id, row["version"], row["kek_version"])
    return master.wrap.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], place)


def _wrapping(merchant_id: UUID, version: int, kek_version: int) -> bytes:
    return f"merchant_data_key:{merchant_id}:{version}:{kek_version}".encode()


async def new_data_key(merchant_id: UUID) -> int:
    """A next data key for a merchant; its version. Old ones still open until rows are resealed."""
    newest = max((await of_merchant(merchant_id)).aeads)
    await _make(merchant_id, (newest + 1,))
    _kept.pop(merchant_id, None)
    return newest + 1


async def rewrap(*, limit: int = REWRAP_MAX) -> int:
    """Wrap up to `limit` data keys under the newest master key; the number done, 0 when all are.

    After it gives 0 the retired master key may go. Idempotent, safe beside readers (H27).
    """
    kek_version, _ = _newest()
    async with db.transaction():
        rows: list[Any] = await db.fetch(
            "SELECT merchant_id, version, wrapped, kek_version FROM merchant_data_key"
            " WHERE kek_version < $1 ORDER BY merchant_id, version LIMIT $2"
            " FOR NO KEY UPDATE SKIP LOCKED",
            kek_version,
            limit,
        )
        await db.execute(
            "UPDATE merchant_data_key k SET wrapped = t.wrapped, kek_version = $4"
            " FROM unnest($1::uuid[], $2::smallint[], $3::bytea[])"
            " AS t(merchant_id, version, wrapped)"
            " WHERE k.merchant_id = t.merchant_id AND k.version = t.version",
            [row["merchant_id"] for row in rows],
            [row["version"] for row in rows],
            [
                _wrap(row["merchant_id"], row["version"], _unwrap(row["merchant_id"], row))
                for row in rows
            ],
            kek_version,
        )
    return len(rows)
