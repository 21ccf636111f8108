"""The cursor of an order's event stream: the sequence number, signed for that order."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from functools import cache
from uuid import UUID

from domain.core.settings import settings
from resolvers.errors import BadUserInput

_MAC_BYTES = 9
_SEQUENCE_BYTES = 6


@cache
def _key() -> bytes:
    return hashlib.blake2b(settings().secret("signing_key"), person=b"kami.stream").digest()[:32]


def _mac(order_id: UUID, body: bytes) -> bytes:
    return hashlib.blake2b(order_id.bytes + body, key=_key(), digest_size=_MAC_BYTES).digest()


class OrderCursor:
    """Write and read cursors; a cursor of another order, or a made-up one, is BAD_USER_INPUT."""

    @staticmethod
    def write(order_id: UUID, sequence: int) -> str:
        """The cursor after event `sequence` of an order: 20 URL-safe characters."""
        body = sequence.to_bytes(_SEQUENCE_BYTES, "big")
        return base64.urlsafe_b64encode(_mac(order_id, body) + body).decode()

    @staticmethod
    def read(text: str, order_id: UUID) -> int:
        """The sequence number a cursor stands for. Errors: BadUserInput."""
        try:
            raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error, ValueError):
            raw = b""
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if len(body) != _SEQUENCE_BYTES or not hmac.compare_digest(mac, _mac(order_id, body)):
            raise BadUserInput(path=("after",), reason="This is not a cursor of this stream.")
        return int.from_bytes(body, "big")
