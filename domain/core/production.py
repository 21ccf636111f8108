"""What production refuses to start with, each with its remedy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from domain.core import failpoint
from domain.core.spelling import MAKE_ONE

if TYPE_CHECKING:
    from domain.core.settings import Settings


def unsafe(found: Settings) -> list[str]:
    """One sentence per setting that must not be as it is; [] when production may start."""
    problems = []
    if not found.database_url:
        problems.append(
            "KAMI_DATABASE_URL is missing. Name a PostgreSQL 16 or newer: postgresql://user:password@host/kami"
        )
    if not found.redis_url:
        problems.append(
            "KAMI_REDIS_URL is missing. Name a Redis 7 or Valkey 8: rediss://user:password@host:6379/0"
        )
    if os.environ.get(failpoint.ARMED):
        problems.append(f"{failpoint.ARMED} kills processes on purpose: it is for tests only")
    if urlsplit(found.public_url).scheme != "https":
        problems.append("KAMI_PUBLIC_URL must be the https:// address that buyers see")
    if found.sandbox_url and not found.sandbox_secret.get_secret_value():
        problems.append(
            f"KAMI_SANDBOX_SECRET is missing while KAMI_SANDBOX_URL is set. Make one with: {MAKE_ONE}"
        )
    if found.webhooks_to_loopback:
        problems.append("KAMI_WEBHOOKS_TO_LOOPBACK lets merchants call this machine: remove it")
    keys = [found.master_key.get_secret_value(), found.signing_key.get_secret_value()]
    if keys[0] == keys[1]:
        problems.append("KAMI_SIGNING_KEY must differ from KAMI_MASTER_KEY: one key, one purpose")
    return problems
