"""ICU messages: plurals and selects follow CLDR, facts are written in the reader's language."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import pytest

import i18n
from i18n.message import parse


@dataclass(frozen=True)
class Price:
    """Anything with a currency and exact text is an amount."""

    text: str
    currency: str

    def decimal(self) -> str:
        return self.text


KEYS = "{n, plural, =0 {no keys} one {# key} other {# keys}}"


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "no keys"), (1, "1 key"), (2, "2 keys"), (12345, "12,345 keys")]
)
def test_plural_follows_cldr(count: int, expected: str) -> None:
    assert parse(KEYS, "en").write({"n": count}) == expected


def test_japanese_and_chinese_know_one_plural_form() -> None:
    for language in ("ja", "zh"):
        assert parse("{n, plural, one {wrong} other {#}}", language).write({"n": 1}) == "1"


def test_spanish_million_is_many() -> None:
    message = parse("{n, plural, one {# clave} many {# de claves} other {# claves}}", "es")

    assert message.write({"n": 1_000_000}) == "1.000.000 de claves"
    assert message.write({"n": 1_000_001}) == "1.000.001 claves"


def test_plural_offset_counts_the_rest() -> None:
    message = parse(
        "{n, plural, offset:1 =1 {you} one {you and # other} other {you and # others}}", "en"
    )

    assert [message.write({"n": n}) for n in (1, 2, 3)] == [
        "you",
        "you and 1 other",
        "you and 2 others",
    ]


def test_ordinals_and_selects() -> None:
    ordinal = parse("{n, selectordinal, one {#st} two {#nd} few {#rd} other {#th}}", "en")
    select = parse("{how, select, card {by card} other {somehow}}", "en")

    assert [ordinal.write({"n": n}) for n in (1, 2, 3, 4, 22)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "22nd",
    ]
    assert [select.write({"how": how}) for how in ("card", "stone")] == ["by card", "somehow"]
    assert select.write({}) == "somehow"


def test_quotes_keep_braces_and_apostrophes() -> None:
    assert parse("it's '{'{x}'}' '' {x}", "en").write({"x": 1}) == "it's {1} ' 1"


def test_facts_are_written_in_the_readers_language() -> None:
    message = "{total} {at, date, long} {on} {n}"
    facts = {
        "total": Price("1234.50", "EUR"),
        "at": datetime(2026, 11, 22, 15, 4, tzinfo=UTC),
        "on": date(2026, 1, 2),
        "n": 1234567,
    }

    assert parse(message, "en").write(facts) == (
        "€1,234.50 November 22, 2026, 3:04\N{NARROW NO-BREAK SPACE}PM UTC Jan 2, 2026 1,234,567"
    )
    assert parse(message, "es").write(facts) == (
        "1.234,50\N{NO-BREAK SPACE}€ 22 de noviembre de 2026, 15:04 UTC 2 ene 2026 1.234.567"
    )


def test_a_missing_fact_is_a_dash_and_never_an_error() -> None:
    for source in ("a {x} b", "a {x, number} b", "a {x, date} b", "a {x, plural, other {#}} b"):
        assert parse(source, "en").write({}) == "a — b"


def test_a_fact_is_text_and_never_a_pattern() -> None:
    assert parse("{x}", "en").write({"x": "{n, plural, other {#}}"}) == "{n, plural, other {#}}"


@pytest.mark.parametrize(
    "source", ["{", "{x", "{x, plural, one {a}}", "{x, spell}", "{x, date, odd}"]
)
def test_a_broken_message_is_refused_when_read(source: str) -> None:
    with pytest.raises(SyntaxError):
        parse(source, "en")


def test_placeholders_are_found_at_every_depth() -> None:
    assert parse(
        "{a} {n, plural, one {{b}} other {{c, select, x {{d}} other {}}}}", "en"
    ).placeholders == {*"abcdn"}


def test_an_unknown_key_is_its_own_text() -> None:
    assert i18n.text("NO_SUCH_KEY", "ja", n=1) == "NO_SUCH_KEY"


def test_text_takes_any_tag() -> None:
    assert (
        i18n.text("NOT_FOUND", "zh-Hant-TW")
        == i18n.text("NOT_FOUND", "zh")
        != i18n.text("NOT_FOUND", "en")
    )
    assert i18n.text("NOT_FOUND", "xx") == i18n.text("NOT_FOUND", "en")
