"""Calls of the OAuth endpoints, counted per address and shared between processes as query costs are (decision 13).

With Redis away each process counts by itself: an address has at most one bucket per process, and is answered. What a
caller could guess is counted elsewhere, in PostgreSQL, and refused while that is away: codes of devices, passwords.
"""

from __future__ import annotations

from starlette.requests import Request

from domain.core.settings import settings
from domain.identity.rules import address_bucket
from domain.partners import OAuthRefused
from server.graphql.limits import LocalBuckets, Size
from server.graphql.shared import SharedBuckets


class Calls:
    """One kind of calls, so many of an address."""

    def __init__(self, name: str, size: Size, what: str) -> None:
        self._name = name
        self._size = size
        self._what = what
        self._made: LocalBuckets | None = None

    @property
    def buckets(self) -> LocalBuckets:
        """Made with the first call, when it is known whether there is a Redis."""
        if self._made is None:
            is_shared = settings().redis_url is not None
            self._made = SharedBuckets(self._size) if is_shared else LocalBuckets(self._size)
        return self._made

    async def take(self, request: Request) -> None:
        """Count a call of this address. Errors: OAuthRefused (429) when there were too many."""
        address = request.client.host if request.client else None
        level = await self.buckets.take(f"{self._name}:{address_bucket(address)}", 1)
        if level.retry_after_s is not None:
            why = f"too many {self._what} from this address"
            raise OAuthRefused("slow_down", why, status=429)

    async def close(self) -> None:
        """End what tells the other processes."""
        made, self._made = self._made, None
        if isinstance(made, SharedBuckets):
            await made.close()


# A secret cannot be guessed, but each try costs us a signature and a statement.
calls = Calls("oauth", Size(600, 20), "calls")
# A minute and more between registrations of one address, after the first ten.
registrations = Calls("oauth.register", Size(10, 1 / 60), "registrations")


async def close() -> None:
    """At the end of the process."""
    for one in (calls, registrations):
        await one.close()
