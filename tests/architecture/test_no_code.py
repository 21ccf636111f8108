"""H35: nothing that somebody sent or set becomes code: no way from a text to running it is in the product at all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = ("domain", "resolvers", "schema", "server", "workers", "plugins", "i18n")
CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
# Packages that turn bytes or texts into objects or code of the sender's choice.
MODULES = {
    *("pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml", "jinja2", "mako"),
    *("code", "codeop", "runpy", "ctypes", "dbm", "xmlrpc"),
}
METHODS = {"system", "popen", "import_module", "from_string", "literal_eval", "format_map"}
# Why each of these is none.
KNOWN = {
    "server/processes.py: import ctypes": "one call of prctl with constants: a child ends with its parent",
    "server/nursery.py: import_module(name)": "the modules of a tuple in that file, loaded before it forks",
}


def found(tree: ast.Module) -> Iterator[str]:
    """Every way from a text to code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            named = [*module, *(one.name for one in node.names if isinstance(node, ast.Import))]
            yield from (f"import {name}" for name in named if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            yield from _called(node)


def _called(node: ast.Call) -> Iterator[str]:
    first = ast.unparse(node.args[0]) if node.args else ""
    if isinstance(node.func, ast.Name) and node.func.id in CALLS:
        yield f"{node.func.id}({first})"
    elif isinstance(node.func, ast.Attribute):
        if node.func.attr in METHODS:
            yield f"{node.func.attr}({first})"
        elif node.func.attr == "compile" and ast.unparse(node.func.value) != "re":
            yield f"compile({first})"
        elif node.func.attr == "format" and not _is_constant(node.func.value):
            yield f"{ast.unparse(node.func.value)}.format()"  # "{0.__class__}" reads what it likes
    for option in node.keywords:
        if option.arg == "shell" and not _is_false(option.value):
            yield f"shell={ast.unparse(option.value)}"


def _is_constant(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) or (
        isinstance(value, ast.Name) and value.id.lstrip("_").isupper()
    )


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and not value.value


def test_h35_no_text_becomes_code() -> None:
    seen = {
        f"{path.relative_to(ROOT).as_posix()}: {one}"
        for tree in TREES
        for path in sorted((ROOT / tree).rglob("*.py"))
        for one in found(ast.parse(path.read_text("utf-8")))
    }

    assert seen == set(KNOWN)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("eval(x)", "eval(x)"),
        ("exec(x)", "exec(x)"),
        ("compile(x, '', 'exec')", "compile(x)"),
        ("__import__(x)", "__import__(x)"),
        ("import pickle", "import pickle"),
        ("from yaml import load", "import yaml"),
        ("importlib.import_module(x)", "import_module(x)"),
        ("subprocess.run(x, shell=True)", "shell=True"),
        ("subprocess.run(x, shell=how)", "shell=how"),
        ("os.system(x)", "system(x)"),
        ("jinja2.Environment().from_string(x)", "from_string(x)"),
        ("builtins.compile(x)", "compile(x)"),
        ("x.format(account)", "x.format()"),
        ("'{a}'.format(a=x)", ""),
        ("_SQL.format(a='b')", ""),
        ("re.compile(x)", ""),
        ("subprocess.run([x], shell=False)", ""),
    ],
)
def test_each_way_is_seen(text: str, what: str) -> None:
    assert list(found(ast.parse(text))) == ([what] if what else [])
