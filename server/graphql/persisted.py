"""Documents known by a name: automatic persisted queries (a hash, for everyone) and registered documents (an id).

A hash is a cache, not a protection; the list of registered documents is (PITFALLS G05).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from resolvers.context import Context

TEXTS_MAX = 2_000
TEXTS_BYTES_MAX = 8_000_000
ID_MAX = 200


class Registered(Protocol):
    """Where registered documents are kept."""

    async def text(self, document_id: str, context: Context) -> str | None:
        """The text registered under this id for whoever asks, None when there is none."""


class Shelf:
    """Registered documents of our own pages: read-only, known when the process starts."""

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        self._texts = dict(texts or {})

    async def text(self, document_id: str, context: Context) -> str | None:
        """See Registered. They are everybody's."""
        return self._texts.get(document_id)


class Hashes:
    """Texts by their SHA-256, the least recently used out first. A lost one costs the client one more request."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._bytes = 0

    def text(self, sha256: str) -> str | None:
        """The text of a hash seen before."""
        found = self._kept.get(sha256)
        if found is not None:
            self._kept.move_to_end(sha256)
        return found

    def keep(self, sha256: str, text: str) -> None:
        """Remember a text that has been validated; the caller has compared the hash."""
        if sha256 in self._kept:
            return
        self._kept[sha256] = text
        self._bytes += len(text)
        while len(self._kept) > TEXTS_MAX or self._bytes > TEXTS_BYTES_MAX:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest)


def digest(text: str) -> str:
    """The hash clients send: SHA-256 of the UTF-8 text in lower-case hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
