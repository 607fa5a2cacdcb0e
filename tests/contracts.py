"""A contract for import-linter that imports alone cannot tell: who reads may call storage, who changes goes by actions.

A function of storage changes something when it runs a statement that does, itself or through another function. The
audit log's `note` is one of them. Names are resolved to what they stand for, however they are imported or kept.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from importlinter import Contract, ContractCheck, fields, output

CHANGES = re.compile(
    r"\b(?:INSERT\s+INTO|DELETE\s+FROM|MERGE\s+INTO|pg_notify|UPDATE\s+\S+(?:\s+(?:AS\s+)?\w+)?\s+SET)\b", re.IGNORECASE
)

GROUP_COMMITS = "batches"
"""The attribute with the group commits. An action is given one of them; nobody else calls one."""

Function = tuple[str, str]
"""A function by its module and qualified name."""


class ChangesGoByActions(Contract):
    """Modules in `packages` change nothing: they name no function or statement of `storage` that does, hold no such
    statement of their own, and call no group commit.
    """

    type_name = "changes_go_by_actions"

    storage = fields.StringField()
    packages = fields.ListField(subfield=fields.StringField())
    but = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def check(self, graph: Any, verbose: bool) -> ContractCheck:
        free = {tuple(each.rsplit(".", 1)) for each in self.but or ()}  # type: ignore[attr-defined]
        changing = changing_functions(str(self.storage)) - free
        found = [
            f"{name}:{line} {what}"
            for package in self.packages  # type: ignore[attr-defined]
            for name in module_names(package)
            for line, what in changes(name, changing)
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for line in check.metadata["found"]:
            output.print_error(line)


@cache
def changing_functions(storage: str) -> frozenset[Function]:
    """All functions and methods below that package by which something is changed."""
    used = {function: values for name in module_names(storage) for function, values in functions(name).items()}
    changing: frozenset[Function] = frozenset()
    while more := {each for each, values in used.items() if each not in changing and _any_changes(values, changing)}:
        changing |= more
    return changing


def module_names(package: str) -> Iterator[str]:
    """The package and every module below it."""
    yield package
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{package}."):
        yield found.name


def functions(name: str) -> dict[Function, list[Any]]:
    """What each function of a module, and each method of its classes, uses."""
    found = {}
    for node in _parsed(name).body:
        owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for each in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                values = [value for inner in ast.walk(each) for value in _value(inner, name)]
                found[name, f"{owner}{each.name}"] = values
    return found


def changes(name: str, changing: frozenset[Function]) -> Iterator[tuple[int, str]]:
    """Where a module changes something, and by what."""
    for node in ast.walk(_parsed(name)):
        line = getattr(node, "lineno", 0)
        if _any_changes(list(_value(node, name)), changing):
            written = isinstance(node, ast.Constant | ast.JoinedStr)
            yield line, "holds a statement that changes something" if written else f"names {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            group = ast.unparse(node.func.value)
            if group.rpartition(".")[2] == GROUP_COMMITS and group not in _imported(name):
                yield line, f"calls {ast.unparse(node.func)} itself"


def _any_changes(values: list[Any], changing: frozenset[Function]) -> bool:
    return any(_is_changing(value, changing) for value in values)


def _is_changing(value: Any, changing: frozenset[Function]) -> bool:
    if isinstance(value, str):
        return CHANGES.search(value) is not None
    if isinstance(value, Mapping):
        return _any_changes(list(value.values()), changing)
    if isinstance(value, list | tuple | set | frozenset):
        return _any_changes(list(value), changing)
    return (getattr(value, "__module__", None), getattr(value, "__qualname__", None)) in changing


def _value(node: ast.AST, name: str) -> Iterator[Any]:
    """What a text or a name in that module stands for; nothing if that is known only at run time."""
    if isinstance(node, ast.Constant):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.Name | ast.Attribute):
        first, *attributes = ast.unparse(node).split(".")
        if all(each.isidentifier() for each in (first, *attributes)):
            yield _resolved(".".join([_imported(name).get(first, f"{name}.{first}"), *attributes]))


@cache
def _resolved(path: str) -> Any:
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError):
        return None


@cache
def _imported(name: str) -> dict[str, str]:
    """What each imported name stands for, as a path with dots."""
    found = {}
    for node in ast.walk(_parsed(name)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            for each in node.names:
                first = each.name.partition(".")[0]
                found[each.asname or first] = each.name if each.asname else first
    return found


@cache
def _parsed(name: str) -> ast.Module:
    file = importlib.import_module(name).__file__
    return ast.parse(Path(file).read_text(encoding="utf-8")) if file else ast.Module([], [])
