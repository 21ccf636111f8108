"""Which languages we offer and how a reader's wishes meet them (RFC 9110 12.5.4, RFC 4647)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

# The LanguageCode values of the API, and the tag whose catalogue and CLDR data serve each. Chinese
# is written in simplified characters for every `zh-…` reader: Hong Kong and Taipei read them with
# less effort than English, and a traditional catalogue is one more file here.
TAGS = {"en": "en", "zh": "zh-Hans", "ja": "ja", "es": "es"}
LANGUAGES = tuple(TAGS)
DEFAULT = "en"

HEADER_MAX = 1_000
RANGES_MAX = 20

_RANGE = re.compile(
    r"\s*(\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*"
    r"(?:;\s*[qQ]\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?\s*",
    re.ASCII,
)


@lru_cache(maxsize=1024)
def nearest(tag: str, offered: Sequence[str] = LANGUAGES, default: str = DEFAULT) -> str:
    """The offered language closest to a BCP 47 or POSIX `tag`, else `default`: "zh_CN" is "zh"."""
    return _lookup(tag.replace("_", "-"), offered) or default


@lru_cache(maxsize=1024)
def negotiate(accept_language: str | None, offered: Sequence[str] = LANGUAGES) -> str | None:
    """The offered language that `Accept-Language` asks for most, None when it asks for none.

    `offered` is a tuple in our order of preference, which also breaks ties of `*`. A range with
    `q=0` rules its language out. Never fails: what cannot be read is skipped, at most 20 ranges and
    1,000 characters are read.
    """
    wishes: list[tuple[float, str]] = []
    refused: set[str] = set()
    for part in (accept_language or "")[:HEADER_MAX].split(",")[:RANGES_MAX]:
        found = _RANGE.fullmatch(part)
        if found is None:
            continue
        weight = float(found.group(2) or 1)
        if weight == 0:
            refused.add(found.group(1).lower())
        else:
            wishes.append((weight, found.group(1)))
    left = tuple(language for language in offered if language.lower() not in refused)
    wishes.sort(key=lambda pair: -pair[0])  # stable: equal weights keep their order
    for _, wish in wishes:
        chosen = left[0] if wish == "*" and left else _lookup(wish, left)
        if chosen is not None:
            return chosen
    return None


def _lookup(tag: str, offered: Sequence[str]) -> str | None:
    """RFC 4647 lookup: drop subtags from the end until an offered language is left."""
    names = {language.lower(): language for language in offered}
    parts = tag.lower().split("-")
    for length in range(len(parts), 0, -1):
        found = names.get("-".join(parts[:length]))
        if found is not None:
            return found
    return None
