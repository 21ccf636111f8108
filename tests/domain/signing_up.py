"""An account of its own for tests of people."""

from __future__ import annotations

from domain import identity
from domain.identity import From
from tests.letters import last_token

EMAIL, PASSWORD, ADDRESS = "buyer@shop.test", "correct horse battery", "203.0.113.9"
NEW = "another horse battery"
HERE = From(ADDRESS, "test/1")


async def opened(email: str = EMAIL, password: str = PASSWORD) -> identity.SignIn:
    """An account of its own, with a session."""
    await identity.sign_up(email, password, "en", address=ADDRESS)
    return await identity.verify_email(await last_token(), password, HERE)
