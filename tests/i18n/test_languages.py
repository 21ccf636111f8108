"""Language negotiation: what a browser asks for meets what we offer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import i18n


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("ja", "ja"),
        ("zh-TW,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-Hans-CN", "zh"),
        ("fr-CH, fr;q=0.9, es-419;q=0.7, *;q=0.5", "es"),
        ("en;q=0.5, ja;q=0.9", "ja"),
        ("en , ja", "en"),
        ("fr, *;q=0.1", "en"),
        ("*, en;q=0", "zh"),
        ("en;q=0", None),
        ("fr", None),
        ("", None),
        (None, None),
        ("en;q=2, ja;q=abc, es", "es"),
        ("；, ;;, -, en-", None),
        ("EN-us", "en"),
    ],
)
def test_j29_negotiation(header: str | None, expected: str | None) -> None:
    assert i18n.negotiate(header) == expected


def test_offer_may_be_narrower() -> None:
    assert i18n.negotiate("ja, es;q=0.5", ("en", "es")) == "es"


@given(st.text(max_size=200))
def test_no_header_breaks_the_negotiation(header: str) -> None:
    assert i18n.negotiate(header) in {None, *i18n.LANGUAGES}


def test_a_huge_header_is_read_in_part() -> None:
    assert i18n.negotiate("fr," * 1_000_000 + "ja") is None


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("zh_CN", "zh"),
        ("zh-Hant-HK", "zh"),
        ("ja-JP", "ja"),
        ("es_419", "es"),
        ("xx", "en"),
        ("", "en"),
    ],
)
def test_nearest(tag: str, expected: str) -> None:
    assert i18n.nearest(tag) == expected
