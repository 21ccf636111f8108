"""Where a caller is, asked of whichever locator is installed."""

from __future__ import annotations

from domain.core.settings import settings
from domain.geo import rules
from domain.geo.ports import locators


def locate(address: str | None, simulated: str | None = None) -> str | None:
    """The country of a client address, None when nobody knows it.

    `address` is the peer's or, behind listed proxies, the one they vouch for; never a header a
    client wrote. `simulated` (`?from=HK`, `X-Kami-From: HK`) replaces it in development and tests
    only.
    """
    if simulated and settings().in_development:
        wished = simulated.strip().upper()
        if rules.is_country(wished):
            return wished
    if not address:
        return None
    for locator in locators.values():
        found = locator.country(address)
        if found is not None and rules.is_country(found):
            return found
    return None
