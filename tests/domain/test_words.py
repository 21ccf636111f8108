"""Words as laws: what is stored can be seen, is bounded, and a language has one spelling."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.core import words
from domain.core.errors import InputInvalid

UNSEEN = ["\0", "\u0007", "\u200b", "\u200e", "\u202e", "\u2066", "\u2028", "\u2029", "\ufeff"]


@given(text=st.text(max_size=60))
def test_j14_a_line_that_is_taken_has_nothing_unseen_in_it(text: str) -> None:
    unseen = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    if words.is_line(text, 60):
        assert unseen <= {"\u200d"}
        assert text.strip()
    elif text.strip():
        assert unseen or any(unicodedata.category(char) == "Co" for char in text)


@pytest.mark.parametrize("char", [*UNSEEN, "\ud800", "\ue000"])
def test_j14_what_hides_or_reorders_is_no_line_and_no_text(char: str) -> None:
    assert not words.is_line(f"a{char}b", 10)
    assert not words.is_text(f"a{char}b", 10)


def test_j14_a_joiner_joins_pictures_and_nothing_else() -> None:
    assert words.is_line("👨‍👩‍👧", 10)
    assert words.is_line("❤️‍🔥", 10)
    assert not words.is_line("pay\u200dpal", 10)
    assert not words.is_line("👨\u200d", 10)
    assert not words.is_line("👨\u200dx", 10)


def test_a_text_has_lines_and_tabs_and_may_be_empty_and_a_line_has_and_may_not() -> None:
    assert words.is_text("one\n\ttwo", 10)
    assert words.is_text("", 10)
    assert not words.is_text("x" * 11, 10)
    assert not words.is_text("one\rtwo", 10)
    for line in ("one\ntwo", "one\ttwo", "", "  ", "x" * 11):
        assert not words.is_line(line, 10), line


@pytest.mark.parametrize(
    ("given_tag", "spelled"),
    [("EN", "en"), ("zh-cn", "zh-CN"), ("ZH-hant-tw", "zh-Hant-TW"), ("es-419", "es-419")],
)
def test_a_language_has_one_spelling(given_tag: str, spelled: str) -> None:
    assert words.tag(given_tag) == spelled
    assert words.tag(spelled) == spelled


def test_every_fault_has_its_path_and_no_fault_refuses_nothing() -> None:
    lines = [("en", "good"), ("EN", "twice"), ("x" * 17, ""), ("zh", "a\u202e")]

    faults = words.line_faults(lines, ("input", "names"), "text", 20)

    assert [fault.path[2:] for fault in faults] == [
        ("1", "language"),
        ("2", "language"),
        ("2", "text"),
        ("3", "text"),
    ]
    with pytest.raises(InputInvalid):
        words.refuse(faults)
    words.refuse([])
