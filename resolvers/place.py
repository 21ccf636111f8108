"""Where a caller is taken to be: country, currency and language, and which source said so.

Precedence (API.md rule 7): `@inContext`, the viewer's own setting, `Accept-Language`, the address. What an
address says comes from an atlas; `use()` puts the platform's market rules in place of the plain CLDR defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from babel import UnknownLocaleError
from babel.languages import get_official_languages
from babel.numbers import get_territory_currencies

import i18n

EXPLICIT, GEOIP, DEFAULT = "EXPLICIT", "GEOIP", "DEFAULT"
DEFAULT_COUNTRY = "US"


@dataclass(frozen=True, slots=True)
class Place:
    """What was used for one operation: ISO 3166 country, ISO 4217 currency, offered language, and its source."""

    country: str
    currency: str
    language: str
    source: str


class Atlas(Protocol):
    """What is known of addresses and countries; every answer is a hint, never authority."""

    def country(self, address: str | None) -> str | None:
        """The country of a client address, None when it is private, new or unknown."""

    def currency(self, country: str) -> str:
        """The currency buyers in `country` pay in."""

    def language(self, country: str) -> str | None:
        """The offered language most read in `country`, None when we offer none of its languages."""


class CldrAtlas:
    """Currency and language of a country by CLDR; knows no addresses."""

    def country(self, address: str | None) -> str | None:
        return None

    def currency(self, country: str) -> str:
        return _currency(country)

    def language(self, country: str) -> str | None:
        return _language(country)


@lru_cache(maxsize=512)
def _currency(country: str) -> str:
    try:
        found = get_territory_currencies(country)
    except (KeyError, UnknownLocaleError):
        found = []
    return str(found[0]) if found else "USD"


@lru_cache(maxsize=512)
def _language(country: str) -> str | None:
    return i18n.negotiate(",".join(get_official_languages(country, de_facto=True)) or None)


_atlas: Atlas = CldrAtlas()


def use(atlas: Atlas) -> None:
    """Resolve places with `atlas` from now on; called once when the process starts."""
    global _atlas
    _atlas = atlas


def resolve(
    *,
    address: str | None,
    seems_from: str | None = None,
    asked_country: str | None = None,
    asked_language: str | None = None,
    viewer_language: str | None = None,
    accept_language: str | None = None,
) -> Place:
    """The place of one operation; never fails.

    `seems_from` is the country a developer pretends to come from and replaces the address. A language that is
    not offered falls through to the next source; what was used is named in the answer.
    """
    atlas = _atlas
    if asked_country is not None:
        country, source = asked_country, EXPLICIT
    elif (seen := seems_from or atlas.country(address)) is not None:
        country, source = seen, GEOIP
    else:
        country, source = DEFAULT_COUNTRY, DEFAULT
    language = (
        i18n.negotiate(asked_language)
        or i18n.negotiate(viewer_language)
        or i18n.negotiate(accept_language)
        or (atlas.language(country) if source is not DEFAULT else None)
        or i18n.DEFAULT
    )
    return Place(country, atlas.currency(country), language, source)
