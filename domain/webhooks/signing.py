"""Signatures of webhooks: Standard Webhooks v1 (HMAC-SHA256) and v1a (Ed25519) over `id.timestamp.body`; pure.

Secrets are written `whsec_<base64 of 32 bytes>`, public keys `whpk_<base64 of 32 bytes>`.
Source: the Standard Webhooks specification 1.0; RFC 2104 and RFC 8032.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRET_BYTES = 32  # the specification allows 24 to 64


@dataclass(frozen=True, slots=True)
class Keys:
    """What one endpoint signs with: a shared secret, and the seed of a key pair that receivers know one half of."""

    secret: bytes
    seed: bytes

    def __post_init__(self) -> None:
        # An empty key signs happily.
        assert len(self.secret) == len(self.seed) == SECRET_BYTES

    @classmethod
    def new(cls) -> Keys:
        """Fresh random keys."""
        return cls(os.urandom(SECRET_BYTES), os.urandom(SECRET_BYTES))

    @classmethod
    def of(cls, packed: bytes) -> Keys:
        """Keys from what `packed` gave."""
        return cls(packed[:SECRET_BYTES], packed[SECRET_BYTES:])

    @property
    def packed(self) -> bytes:
        """Both as one value to be sealed."""
        return self.secret + self.seed

    @property
    def shown_secret(self) -> str:
        """The secret as receivers are given it."""
        return "whsec_" + base64.b64encode(self.secret).decode()

    @property
    def public_key(self) -> str:
        """The public key as receivers are given it."""
        raw = _private(self.seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return "whpk_" + base64.b64encode(raw).decode()


def _private(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)


def signatures(keys: Sequence[Keys], message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: two signatures per pair of keys, the newest keys first, blank between them.

    `timestamp` is in Unix seconds, of this very try.
    """
    assert keys and "." not in message_id, message_id
    base = f"{message_id}.{timestamp}.".encode() + body
    found = []
    for one in keys:
        found.append("v1," + base64.b64encode(hmac.digest(one.secret, base, "sha256")).decode())
        found.append("v1a," + base64.b64encode(_private(one.seed).sign(base)).decode())
    return " ".join(found)
