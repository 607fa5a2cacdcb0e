"""The filters that templates have: named as Jinja2's, with the same arguments, and bounded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from tocsin.domain import names
from tocsin.domain.incidents import format_duration
from tocsin.domain.templates.parts import TEXT_OF_TIME, Faulty, Part, Value, constant, text

if TYPE_CHECKING:
    from jinja2 import nodes

MAX_FORMAT_LENGTH, MAX_ZONE_LENGTH = 100, 64
LONGEST_DIRECTIVE = 24
"""Characters of the longest thing that a directive of a time becomes."""
CASE_GROWTH = 3
"""Characters that one becomes at most in the other case (Unicode, SpecialCasing.txt)."""
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_DIRECTIVES = frozenset("aAbBdHIjmMpSUwWyYzZGVu%")

Build = Callable[[Part, Sequence[Part]], Part]


@dataclass(frozen=True, slots=True)
class Filter:
    """`parameters` are names with their defaults; without one (`...`) an argument is needed. All but those of `default`
    must be constants.
    """

    build: Build
    parameters: Mapping[str, Value]
    about: str


def applied(node: nodes.Filter, expression: Callable[[nodes.Node], Part]) -> Part:
    """The part that a filter in a tree is. Raises `Faulty`."""
    known = FILTERS.get(node.name)
    if known is None:
        raise Faulty(f"has a filter that is not known, {node.name[:50]!r}. These are: {', '.join(FILTERS)}")
    if node.dyn_args is not None or node.dyn_kwargs is not None or len(node.args) > len(known.parameters):
        raise Faulty(f"gives {node.name} arguments that it does not take: {_usage(node.name)}")
    assert node.node is not None
    given: dict[str, nodes.Node] = dict(zip(known.parameters, node.args, strict=False))
    for each in node.kwargs:
        name = str(each.key)
        if name not in known.parameters or name in given:
            raise Faulty(f"gives {node.name} arguments that it does not take: {_usage(node.name)}")
        given[name] = each.value
    inner = expression(node.node)
    arguments = []
    for name, default in known.parameters.items():
        part = expression(given[name]) if name in given else constant(default)
        if part.constant is ...:
            raise Faulty(f"gives {node.name} too few arguments: {_usage(node.name)}")
        if not part.is_constant and node.name != "default":
            raise Faulty(f"gives {node.name} an argument that is not a constant")
        arguments.append(part)
    return known.build(inner, arguments)


def _usage(name: str) -> str:
    shown = [key if value is ... else f"{key}={value!r}" for key, value in FILTERS[name].parameters.items()]
    return f"{name}({', '.join(shown)})"


def _on_text(inner: Part, change: Callable[[str], str], longest: int) -> Part:
    run = inner.run
    return Part(lambda values: change(text(run(values))), longest)


def _default(inner: Part, arguments: Sequence[Part]) -> Part:
    run, other, also_empty = inner.run, arguments[0].run, bool(arguments[1].constant)

    def chosen(values: Mapping[str, Value]) -> Value:
        value = run(values)
        return other(values) if value is None or (also_empty and not value) else value

    return Part(chosen, max(inner.longest, arguments[0].longest))


def _truncate(inner: Part, arguments: Sequence[Part]) -> Part:
    length, kills_words, end = (each.constant for each in arguments)
    if not isinstance(length, int) or isinstance(length, bool) or not isinstance(end, str) or length <= len(end):
        raise Faulty("gives truncate a length that is no whole number, or has no room for the end of a cut text")

    def cut(value: str) -> str:
        short = names.cut(value, length, end)
        if kills_words or len(value) <= length:
            return short
        words, space, _ = short.removesuffix(end).rpartition(" ")
        return f"{words.rstrip()}{end}" if space and words.strip() else short

    return _on_text(inner, cut, min(length, inner.longest))


def _replace(inner: Part, arguments: Sequence[Part]) -> Part:
    old, new, count = (each.constant for each in arguments)
    if not isinstance(old, str) or not isinstance(new, str) or not old:
        raise Faulty("gives replace something else than two texts, the first of them not empty")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise Faulty("gives replace a count that is no whole number from 1")
    most = inner.longest // len(old)
    times = most if count is None else min(most, count)
    longest = inner.longest + times * max(0, len(new) - len(old))
    return _on_text(inner, lambda value: value.replace(old, new, -1 if count is None else count), longest)


def _duration(inner: Part, arguments: Sequence[Part]) -> Part:
    run = inner.run

    def words(values: Mapping[str, Value]) -> str:
        value = run(values)
        return format_duration(value) if isinstance(value, int | float) else ""

    return Part(words, 40)


def _datetime(inner: Part, arguments: Sequence[Part]) -> Part:
    layout, zone_name = arguments[0].constant, arguments[1].constant
    if not isinstance(layout, str) or len(layout) > MAX_FORMAT_LENGTH:
        raise Faulty(f"gives datetime a format that is no text of up to {MAX_FORMAT_LENGTH} characters")
    directives = _DIRECTIVE.findall(layout)
    if not _DIRECTIVES.issuperset(directives):
        raise Faulty(f"gives datetime a format with something else than %{', %'.join(sorted(_DIRECTIVES))}")
    zone = _zone(zone_name)
    run = inner.run

    def shown(values: Mapping[str, Value]) -> str:
        value = run(values)
        if not isinstance(value, datetime):
            return ""
        at = value.astimezone(zone)
        return _DIRECTIVE.sub(lambda found: at.strftime(found[0]), layout)

    return Part(shown, max(TEXT_OF_TIME, len(layout) + LONGEST_DIRECTIVE * len(directives)))


def _zone(name: Value) -> ZoneInfo:
    try:
        if isinstance(name, str) and len(name) <= MAX_ZONE_LENGTH:
            return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # no such zone, a folder of zones, or another kind of file
        pass
    raise Faulty("gives datetime a time zone that is not known; one is 'Europe/Vienna'")


def _case(change: Callable[[str], str]) -> Build:
    return lambda inner, arguments: _on_text(inner, change, inner.longest * CASE_GROWTH)


FILTERS: Mapping[str, Filter] = {
    "default": Filter(
        _default, {"default_value": "", "boolean": False}, "another value for none; with true also for what is empty"
    ),
    "lower": Filter(_case(str.lower), {}, "in small letters"),
    "upper": Filter(_case(str.upper), {}, "in capital letters"),
    "truncate": Filter(
        _truncate, {"length": 255, "killwords": False, "end": "…"}, "at most that many characters, the end included"
    ),
    "replace": Filter(_replace, {"old": ..., "new": ..., "count": None}, "one text for another"),
    "duration": Filter(_duration, {}, "seconds in words: 2 h 5 min"),
    "datetime": Filter(
        _datetime, {"format": "%Y-%m-%d %H:%M:%S", "timezone": "UTC"}, "a time in a format and a time zone"
    ),
}
