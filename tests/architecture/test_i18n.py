"""Every error code and message id exists in every language, with the same facts, none too many."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import i18n
from i18n.catalogue import FOLDER

ROOT = Path(__file__).parents[2]
# Not `schema`: its problem types bear the names of the errors they show.
TREES = ("domain", "plugins", "resolvers", "server", "workers")
CODE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
MESSAGE_ID = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+")

# Top-level `extensions.code` values of the API contract, rule 1.
TOP_LEVEL = frozenset(
    {
        "UNAUTHENTICATED",
        "FORBIDDEN",
        "INSUFFICIENT_SCOPE",
        "MFA_REQUIRED",
        "THROTTLED",
        "MAX_COST_EXCEEDED",
        "MAX_DEPTH_EXCEEDED",
        "PERSISTED_QUERY_NOT_FOUND",
        "GRAPHQL_PARSE_FAILED",
        "GRAPHQL_VALIDATION_FAILED",
        "BAD_USER_INPUT",
        "IDEMPOTENCY_KEY_REQUIRED",
        "IDEMPOTENCY_KEY_REUSED",
        "IDEMPOTENCY_IN_PROGRESS",
        "INTERNAL_SERVER_ERROR",
    }
)
# Problem types of the API contract that have no class yet. Only shrinks; empty in the end.
PROMISED: frozenset[str] = frozenset()


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Every module that may name an error."""
    for path in sorted(path for tree in TREES for path in (ROOT / tree).rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def code_of(node: ast.ClassDef) -> str | None:
    """The `code = "…"` of a class body."""
    for line in node.body:
        targets = line.targets if isinstance(line, ast.Assign) else []
        if isinstance(line, ast.AnnAssign):
            targets = [line.target]
        value = getattr(line, "value", None)
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if names == ["code"] and isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return None


def errors() -> dict[str, set[str]]:
    """Codes by name of every class that is a DomainError, found by its bases, however deep."""
    classes: dict[str, list[ast.ClassDef]] = {}
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(node)

    def codes(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        found: set[str] = set()
        for node in classes.get(name, []) if name not in seen else []:
            bases = [getattr(base, "attr", getattr(base, "id", "")) for base in node.bases]
            inherited = set().union(*(codes(base, seen | {name}) for base in bases))
            if name == "DomainError" or inherited:
                own = code_of(node)
                found |= {own} if own else inherited
        return found

    return {name: found for name in classes if (found := codes(name))}


def raised() -> Iterator[tuple[str, str, frozenset[str]]]:
    """(where, class, facts given) of every error built with plain keywords."""
    names = errors()
    for path, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            facts = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
            if name in names and len(facts) == len(node.keywords):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", name, facts


def codes_known() -> set[str]:
    """Every code that may reach a reader."""
    return {*set().union(*errors().values()), *TOP_LEVEL, *PROMISED}


def test_the_scan_finds_errors() -> None:
    found = errors()

    assert found["DomainError"] == {"DOMAIN_ERROR"}
    assert found["NotFound"] == {"NOT_FOUND"}
    assert len(found) > 10


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_every_code_exists_in_every_language(language: str) -> None:
    missing = codes_known() - i18n.keys(language)

    assert missing == set(), f"write them in i18n/messages/{i18n.TAGS[language]}.json"


def test_no_code_is_left_over() -> None:
    known = codes_known()
    codes = {key for language in i18n.LANGUAGES for key in i18n.keys(language) if key.isupper()}

    assert codes - known == set()


def test_what_was_promised_is_not_there_yet() -> None:
    assert set().union(*errors().values()) & PROMISED == set()


def test_languages_have_the_same_keys_and_facts() -> None:
    for key in sorted(i18n.keys("en")):
        facts = {language: i18n.placeholders(key, language) for language in i18n.LANGUAGES}
        assert len(set(facts.values())) == 1, (key, facts)
    for language in i18n.LANGUAGES:
        assert i18n.keys(language) == i18n.keys("en"), language


def test_every_message_parses_says_something_and_has_a_proper_key() -> None:
    for language in i18n.LANGUAGES:
        for key in i18n.keys(language):
            i18n.placeholders(key, language)  # parses
            assert i18n.text(key, language).strip(), (language, key)
            assert CODE.fullmatch(key) or MESSAGE_ID.fullmatch(key), key


def test_every_raise_gives_the_facts_its_message_speaks_of() -> None:
    names = errors()
    short = [
        (where, name, sorted(missing))
        for where, name, facts in raised()
        if (missing := min((spoken(code) - facts for code in names[name]), key=len))
    ]

    assert short == []


def test_every_payment_method_has_a_name() -> None:
    methods = {
        str(keyword.value.value)
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Method"
        for keyword in node.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
    }

    assert "sandbox" in methods
    assert {"method." + code for code in methods} <= i18n.keys("en")


def spoken(code: str) -> frozenset[str]:
    """The facts a code's message speaks of."""
    return i18n.placeholders(code, "en") if code in i18n.keys("en") else frozenset()


def test_translations_are_translated() -> None:
    """A message equal to the English one was forgotten, unless it has no words."""
    for language in set(i18n.LANGUAGES) - {"en"}:
        for key in i18n.keys("en"):
            mine, english = (raw(tag)[key] for tag in (i18n.TAGS[language], "en"))
            assert mine != english or not re.search(r"[a-z]{4}", english), (language, key)


def raw(tag: str) -> dict[str, str]:
    """One catalogue file as written."""
    loaded: dict[str, str] = json.loads((FOLDER / f"{tag}.json").read_text("utf-8"))
    return loaded


def test_files_are_sorted_and_have_no_double_keys() -> None:
    for tag in i18n.TAGS.values():
        pairs = json.loads((FOLDER / f"{tag}.json").read_text("utf-8"), object_pairs_hook=list)
        keys = [key for key, _ in pairs]
        assert keys == sorted(set(keys), key=lambda key: (key[0].islower(), key)), tag
    assert {path.stem for path in FOLDER.glob("*.json")} == set(i18n.TAGS.values())
