"""A contract for import-linter that imports alone cannot tell: who reads may call storage, who changes goes by actions.

A verb of storage changes something when it runs a statement that does, itself or through another verb. The audit log's
`note` is one of them.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from importlinter import Contract, ContractCheck, fields, output

CHANGES = re.compile(r"\b(?:INSERT\s+INTO|DELETE\s+FROM|pg_notify)\b|(?<!FOR )(?<!KEY )\bUPDATE\s+\w", re.IGNORECASE)

STATEMENT = re.compile(r"\s*(?:WITH\b.*\b)?(?:INSERT\s+INTO|DELETE\s+FROM|UPDATE\s+\w+\s+SET)\b", re.DOTALL)

Verb = tuple[str, str]
"""A function by its module and name."""


class ChangesGoByActions(Contract):
    """Modules in `packages` change nothing: they call no function of `storage` that does, hold no such statement of
    their own, and call no group commit (`….batches.<name>`), which actions are given.
    """

    type_name = "changes_go_by_actions"

    storage = fields.StringField()
    packages = fields.ListField(subfield=fields.StringField())
    but = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def check(self, graph: Any, verbose: bool) -> ContractCheck:
        free = {tuple(verb.rsplit(".", 1)) for verb in self.but or ()}  # type: ignore[attr-defined]
        changing = changing_verbs(str(self.storage)) - free
        names = [name for package in self.packages for name in module_names(package)]  # type: ignore[attr-defined]
        found = [
            f"{name}:{line} calls {'.'.join(verb)}"
            for name in names for line, verb in calls(name) if verb in changing
        ]  # fmt: skip
        found += [f"{name}:{line} {what}" for name in names for line, what in changes(name)]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for line in check.metadata["found"]:
            output.print_error(line)


@cache
def changing_verbs(storage: str) -> frozenset[Verb]:
    """All verbs below that package by which something is changed."""
    names = list(module_names(storage))
    runs = {verb: used for name in names for verb, used in functions(name).items()}
    changing = {verb for verb, used in runs.items() if any(_changes(verb[0], each) for each in used)}
    while True:
        more = {verb for verb, used in runs.items() if verb not in changing and used & changing}
        if not more:
            return frozenset(changing)
        changing |= more


def module_names(package: str) -> Iterator[str]:
    """The package and every module below it."""
    yield package
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{package}."):
        yield found.name


def functions(name: str) -> dict[Verb, set[Any]]:
    """What each function of a module uses: verbs, and texts or names that may be statements."""
    tree, imported = _parsed(name), _imported(name)
    found: dict[Verb, set[Any]] = {}
    for node in tree.body:
        for each in [node, *(node.body if isinstance(node, ast.ClassDef) else ())]:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                used: set[Any] = set(_verbs(each, name, imported))
                used |= {inner.id for inner in ast.walk(each) if isinstance(inner, ast.Name)}
                used |= {f"={inner.value}" for inner in ast.walk(each)
                         if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
                         and inner.value != ast.get_docstring(each, clean=False)}
                found[name, each.name] = used
    return found


def calls(name: str) -> Iterator[tuple[int, Verb]]:
    """Every verb of another module that a module names, with the line."""
    imported = _imported(name)
    for node in ast.walk(_parsed(name)):
        for verb in _verb_of(node, name, imported):
            yield getattr(node, "lineno", 0), verb


def changes(name: str) -> Iterator[tuple[int, str]]:
    """What a module changes by itself."""
    for node in ast.walk(_parsed(name)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.match(node.value):
            yield node.lineno, "holds a statement that changes something"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            group = node.func.value
            if isinstance(group, ast.Attribute) and group.attr == "batches":
                yield node.lineno, "calls a group commit itself"


def _verbs(node: ast.AST, name: str, imported: dict[str, str]) -> Iterator[Verb]:
    for inner in ast.walk(node):
        yield from _verb_of(inner, name, imported)


def _verb_of(node: ast.AST, name: str, imported: dict[str, str]) -> Iterator[Verb]:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
        yield imported[node.value.id], node.attr
    elif isinstance(node, ast.Name):
        module, _, verb = imported.get(node.id, f"{name}.{node.id}").rpartition(".")
        yield module, verb


def _imported(name: str) -> dict[str, str]:
    """What each imported name stands for, as a path with dots."""
    nodes = list(ast.walk(_parsed(name)))
    froms = [(node.module, each) for node in nodes if isinstance(node, ast.ImportFrom) for each in node.names]
    whole = [each for node in nodes if isinstance(node, ast.Import) for each in node.names]
    assert not [each.name for each in whole if each.name.startswith("tocsin.")], f"{name}: use from … import …"
    return {each.asname or each.name: f"{module}.{each.name}" for module, each in froms if module}


@cache
def _parsed(name: str) -> ast.Module:
    file = importlib.import_module(name).__file__
    return ast.parse(Path(file).read_text(encoding="utf-8")) if file else ast.Module([], [])


def _changes(module: str, used: object) -> bool:
    """Whether a text, or the value that a name has in the module, is a statement that changes something."""
    if not isinstance(used, str):
        return False
    text = used[1:] if used.startswith("=") else getattr(_module(module), used, None)
    return isinstance(text, str) and CHANGES.search(text) is not None


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)
