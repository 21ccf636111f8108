"""What Kami needs to know where a caller is: a country for an address, quickly and without fail."""

from __future__ import annotations

from typing import Protocol


class Locator(Protocol):
    """Finds the country of an address: a hint that orders and preselects, never an authority."""

    name: str

    def country(self, address: str) -> str | None:
        """ISO 3166-1 alpha-2 code, None for private, new or malformed addresses; never raises."""
        ...


locators: dict[str, Locator] = {}
