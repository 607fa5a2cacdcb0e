"""Plugins by file: kinds are discovered, not registered. A new file next to the others is a new kind."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import TypeVar

Kind = TypeVar("Kind")


def modules(package: str) -> Iterator[ModuleType]:
    """Every module of a package, by name, subpackages excluded."""
    folder = importlib.import_module(package).__path__
    for found in pkgutil.iter_modules(folder):
        yield importlib.import_module(f"{package}.{found.name}")


def kinds(package: str, base: type[Kind]) -> Iterator[Kind]:
    """One instance of each class that a module of the package defines on top of `base`."""
    for module in modules(package):
        own = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
        yield from (cls() for cls in own if issubclass(cls, base) and cls is not base)
