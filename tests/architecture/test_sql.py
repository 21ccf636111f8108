"""H34: no text from outside becomes SQL. What a statement is put together from is looked at, call by call.

A statement is a literal, or literals and constants of modules put together. Whatever else reaches the database is a
line in sql.json: which expression, and why it cannot hold anything that somebody sent. `python -m
tests.architecture.test_sql` prints what there is.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("sql.json")
TREES = ("domain", "resolvers", "schema", "server", "workers", "plugins")
# Methods that take a statement first, and what they are asked of.
TAKES_SQL = {"fetch", "row", "value", "execute", "executemany", "fetchrow", "fetchval", "cursor"}
OWNERS = {"db", "connection", "conn", "pool", "client", "_sql"}
# Methods of texts: what comes out is made of what went in.
OF_TEXT = {"format", "join", "split", "strip", "replace"}


def _is_constant_name(name: str) -> bool:
    return name.lstrip("_").isupper()


@dataclass
class Module:
    """One file: what its constants and functions are."""

    path: str
    tree: ast.Module

    def calls(self) -> Iterator[tuple[str, ast.expr, ast.AST]]:
        """(function, statement, the function's node) of every call that sends one."""
        for function in ast.walk(self.tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and self._sends(call) and call.args:
                    yield function.name, call.args[0], function

    @staticmethod
    def _sends(call: ast.Call) -> bool:
        named = call.func
        if not isinstance(named, ast.Attribute) or named.attr not in TAKES_SQL:
            return False
        owner = named.value
        if isinstance(owner, ast.Call):
            owner = owner.func
        name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
        return name in OWNERS

    def holes(
        self, value: ast.expr, inside: ast.AST, seen: frozenset[str] = frozenset()
    ) -> set[str]:
        """The expressions in a statement that are neither literals nor constants of a module."""
        match value:
            case ast.Constant():
                return set()
            case ast.JoinedStr(values=parts):
                return self._all(parts, inside, seen)
            case ast.FormattedValue(value=inner):
                return self.holes(inner, inside, seen)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._all([left, right], inside, seen)
            case ast.IfExp(body=body, orelse=other):
                return self._all([body, other], inside, seen)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return self._all(parts, inside, seen)
            case ast.GeneratorExp(elt=part) | ast.ListComp(elt=part):
                return self.holes(part, inside, seen)
            case ast.Call(func=ast.Attribute(value=text, attr=method)) if method in OF_TEXT:
                named = [one.value for one in value.keywords]
                return self._all([text, *value.args, *named], inside, seen)
            case ast.Call(func=ast.Attribute(value=table, attr="items" | "values"), args=[]):
                return self.holes(table, inside, seen)
            case ast.Dict(keys=keys, values=values):
                return self._all([*(key for key in keys if key), *values], inside, seen)
            case ast.Attribute(attr=name) if _is_constant_name(name):
                return set()
            case ast.Name(id=name) if name not in seen:
                return self._named(name, value, inside, seen | {name})
        return {ast.unparse(value)}

    def _all(self, parts: list[ast.expr], inside: ast.AST, seen: frozenset[str]) -> set[str]:
        return {hole for part in parts for hole in self.holes(part, inside, seen)}

    def _named(self, name: str, value: ast.expr, inside: ast.AST, seen: frozenset[str]) -> set[str]:
        """A name stands for everything that is assigned to it; one from another module for a constant there."""
        scope: ast.AST = self.tree if _is_constant_name(name) else inside
        given = list(_assigned(name, scope))
        if given:
            return self._all(given, scope, seen)
        return set() if _is_constant_name(name) else {ast.unparse(value)}


def _assigned(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    for node in _inside(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == name:
                    yield node.value
                elif isinstance(target, ast.Tuple) and isinstance(
                    node.value, ast.IfExp | ast.Tuple
                ):
                    yield from _unpacked(name, target, node.value)
        elif isinstance(node, ast.For | ast.comprehension):
            yield from _looped(name, node.target, node.iter)
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
            named = isinstance(node.target, ast.Name) and node.target.id == name
            if named and node.value is not None:
                yield node.value


def _inside(scope: ast.AST) -> Iterator[ast.AST]:
    """Of a function everything, of a module what stands outside of functions and classes."""
    if not isinstance(scope, ast.Module):
        yield from ast.walk(scope)
        return
    for one in scope.body:
        if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from ast.walk(one)


def _looped(name: str, target: ast.expr, over: ast.expr) -> Iterator[ast.expr]:
    """What a name is in a loop: everything that is looped over, or its column of literal rows."""
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    if name not in {one.id for one in names if isinstance(one, ast.Name)}:
        return
    if isinstance(target, ast.Tuple) and isinstance(over, ast.Tuple | ast.List):
        for row in over.elts:
            if isinstance(row, ast.Tuple):
                yield from _unpacked(name, target, row)
    else:
        yield over


def _unpacked(name: str, target: ast.Tuple, value: ast.expr) -> Iterator[ast.expr]:
    sides = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
    for place, one in enumerate(target.elts):
        if isinstance(one, ast.Name) and one.id == name:
            yield from (side.elts[place] for side in sides if isinstance(side, ast.Tuple))


def found() -> dict[str, list[str]]:
    """file:function → the expressions in its statements that need a reason."""
    holes: dict[str, set[str]] = {}
    for path in sorted(path for tree in TREES for path in (ROOT / tree).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        module = Module(name, ast.parse(path.read_text("utf-8")))
        for function, statement, inside in module.calls():
            if some := module.holes(statement, inside):
                holes.setdefault(f"{name}:{function}", set()).update(some)
    return {where: sorted(some) for where, some in sorted(holes.items())}


def test_h34_whatever_is_no_constant_in_a_statement_has_a_reason() -> None:
    listed = json.loads(FILE.read_text("utf-8"))

    assert {where: sorted(reasons) for where, reasons in listed.items()} == found()
    assert [why for reasons in listed.values() for why in reasons.values() if len(why) < 10] == []


@pytest.mark.parametrize(
    ("body", "holes"),
    [
        ("db.fetch('SELECT 1')", []),
        ("db.fetch(_ALL)", []),
        ("db.fetch(f'{_ALL} WHERE a = $1', text)", []),
        ("db.fetch('SELECT ' + _ALL.format(order='ASC' if up else 'DESC'))", []),
        ("sql = _ALL\n    db.fetch(sql)", []),
        ("sign, order = ('>', 'ASC') if up else ('<', 'DESC')\n    db.fetch(f'{sign}{order}')", []),
        ("db.fetch(f'SELECT {text}')", ["text"]),
        ("db.fetch('SELECT ' + text)", ["text"]),
        ("db.fetch(_ALL.format(order=text))", ["text"]),
        ("db.fetch('SELECT %s' % text)", ["'SELECT %s' % text"]),
        ("db.value(text)", ["text"]),
        ("sql = f'{text}'\n    db.row(sql)", ["text"]),
        ("sql = 'a'\n    sql += text\n    db.execute(sql)", ["text"]),
        ("for one in ('a', 'b'):\n        db.execute(f'DELETE FROM {one}')", []),
        ("for one, no in (('a', 1), ('b', 2)):\n        db.execute(f'DELETE FROM {one}')", []),
        ("for one in text:\n        db.execute(f'DELETE FROM {one}')", ["text"]),
        ("pool().fetch(' AND '.join(one.sql for one in text))", ["one.sql"]),
        ("connection.execute(made(text))", ["made(text)"]),
    ],
)
def test_each_way_into_a_statement_is_seen(body: str, holes: list[str]) -> None:
    text = f"_ALL = 'SELECT {{order}}'\ndef ask(text, up):\n    {body}\n"
    module = Module("x.py", ast.parse(text))

    seen = {hole for _, one, inside in module.calls() for hole in module.holes(one, inside)}

    assert sorted(seen) == holes


if __name__ == "__main__":
    json.dump(found(), sys.stdout, indent=1)
