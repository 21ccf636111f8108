"""The catalogues: a JSON file per language in `messages/`, each message parsed when first used."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from i18n.languages import DEFAULT, TAGS, nearest
from i18n.message import Message, parse

FOLDER = Path(__file__).parent / "messages"

_parsed: dict[tuple[str, str], Message] = {}


def text(key: str, locale: str, /, **facts: Any) -> str:
    """The message of an error code or message id in the language nearest to `locale`.

    Facts fill the placeholders: amounts (anything with `currency` and `decimal()`), numbers and
    dates are written as the language does. Never fails: a missing translation falls back to
    English, an unknown key to the key itself, a missing fact to a dash; tests/architecture keeps
    all three from happening.
    """
    language = nearest(locale)
    message = _parsed.get((key, language)) or _message(key, language)
    return message.write(facts)


def _message(key: str, language: str) -> Message:
    source, spoken = _catalogue(language).get(key), language
    if source is None:
        source, spoken = _catalogue(DEFAULT).get(key), DEFAULT
    if source is None:
        return Message((key,), frozenset())  # not remembered: unknown keys have no bound
    message = _parsed[key, language] = parse(source, spoken)
    return message


@lru_cache(maxsize=len(TAGS))
def _catalogue(language: str) -> dict[str, str]:
    catalogue = orjson.loads((FOLDER / f"{TAGS[language]}.json").read_bytes())
    assert isinstance(catalogue, dict)
    return catalogue


def keys(language: str) -> frozenset[str]:
    """Every key of one offered language."""
    return frozenset(_catalogue(language))


def placeholders(key: str, language: str) -> frozenset[str]:
    """The facts a message speaks of. Errors: KeyError for a key the language does not have."""
    return parse(_catalogue(language)[key], language).placeholders
