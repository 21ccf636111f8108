"""Passwords: Argon2id in threads of their own, the same work whether there is a password to compare or not."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from domain.identity import rules

# OWASP's second choice: 19 MiB, two passes, 25 ms. Two at a time bound memory and leave the API its
# processor.
_hasher = PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1)
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")


@cache
def _decoy() -> str:
    """A hash without a known password: an unknown account costs the same work as a known one."""
    return _hasher.hash(secrets.token_urlsafe(32))


def _matches(stored: str | None, password: str) -> bool:
    decoy = _decoy()  # made in any case: its first making must not tell accounts apart
    try:
        return _hasher.verify(stored or decoy, password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


async def match(stored: str | None, password: str) -> bool:
    """Whether `password` is the one behind `stored` (PHC string); one Argon2 in any case."""
    asked = password if len(password) <= rules.PASSWORD_MAX else ""
    return await asyncio.get_running_loop().run_in_executor(_threads, _matches, stored, asked)


async def digest(password: str) -> str:
    """The PHC string to store; one Argon2."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)
