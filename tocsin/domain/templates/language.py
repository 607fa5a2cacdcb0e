"""The language of templates: Jinja2's syntax, cut to what cannot hurt (https://jinja.palletsprojects.com/templates/).

There are names, attributes of names, constants, `if`, comparisons, `and`, `or`, `not`, and the filters of `filters.py`;
no calls, loops, arithmetic or concatenation. Jinja2 parses; the tree is checked and becomes functions here, and none
of Jinja2's own code for it is ever made or run. Rendering cannot fail, whatever the values: what does not fit together
is false, or empty. How long the text can become is known from the tree, so that it is refused when it is saved
rather than when something has happened.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from tocsin.domain.templates import filters
from tocsin.domain.templates.parts import (
    OMIT,
    TEXT_OF_NUMBER,
    Budget,
    Faulty,
    Part,
    Run,
    Value,
    Values,
    checked,
    constant,
    text,
)

if TYPE_CHECKING:
    import jinja2
    from jinja2 import nodes

MAX_DEPTH = 20
"""How deep brackets, conditions and filters may be nested."""
GROUPS = ("resource", "incident", "delivery")
"""Names with these beginnings may be written with a dot: `incident.url` is `incident_url`."""
SECRETS = "secrets"
"""The name whose attributes are an integration's own secrets."""

DETAILS, MAX_DETAIL = "details", 1_024
"""The name whose attributes are what an incident's reporter says, to whatever depth, and how long one of them is."""

TOO_DEEP = f"is nested too deeply: at most {MAX_DEPTH} levels are allowed"

Escape = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a template. `is_value` says that it is a `{{ … }}`, and not what somebody wrote around it."""

    part: Part
    is_value: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """An `{% if … %}` with its two ways on."""

    test: Part
    yes: Sequence[Piece | Choice]
    no: Sequence[Piece | Choice]


def compiled(source: str, budget: Budget, *, escape: Escape | None = None, growth: int = 1) -> Part:
    """The template of that source: its `run` gives text. Raises `Faulty`.

    `escape` is applied to the text of every `{{ … }}`, and makes it `growth` times as long at most.
    """
    part = _joined(_pieces(source, budget), escape, growth)
    budget.work(part.longest)
    budget.write(part.longest)
    return part


def typed(source: str, budget: Budget) -> Part:
    """As `compiled`, but a source that is one `{{ … }}` and nothing else has a value of its own type: a number stays
    a number. Times are text.
    """
    pieces = _pieces(source, budget)
    match pieces:
        case [Piece(part, is_value=True)]:
            run = part.run
            part = Part(lambda values: _plain(run(values)), part.longest)
        case _:
            part = _joined(pieces, None, 1)
    budget.work(part.longest)
    budget.write(part.longest)
    return part


def _plain(value: Value) -> Value:
    return text(value) if isinstance(value, datetime) else value


# -------------------------------------------------------------------------------------------------------------- parsing


@cache
def _environment() -> jinja2.Environment:
    import jinja2  # heavy, and not needed until somebody uses a template

    return jinja2.Environment(keep_trailing_newline=True, cache_size=0)  # noqa: S701  (it parses and nothing else)


def _pieces(source: str, budget: Budget) -> list[Piece | Choice]:
    budget.read(len(checked(source).encode()))
    if "{" not in source:
        return [Piece(constant(source), False)]
    return _statements(_tree(source, budget).body, budget, 0)


def _tree(source: str, budget: Budget) -> nodes.Template:
    from jinja2 import TemplateSyntaxError

    environment = _environment()
    open_brackets = 0
    try:
        for _, kind, found in environment.lexer.tokeniter(source, None):
            budget.token()
            if kind == "operator":
                open_brackets += (found in "([{") - (found in ")]}")
                if open_brackets > MAX_DEPTH:
                    raise Faulty(TOO_DEEP)
        return environment.parse(source)
    except TemplateSyntaxError as error:
        raise Faulty(f"is no template: {(error.message or 'it cannot be read')[:200]}") from None
    except RecursionError:
        raise Faulty(TOO_DEEP) from None
    except Faulty:
        raise
    except (ValueError, OverflowError):
        raise Faulty("has a number that is too long") from None


# ----------------------------------------------------------------------------------------------------------- statements


def _statements(body: Sequence[nodes.Node], budget: Budget, depth: int) -> list[Piece | Choice]:
    from jinja2 import nodes

    if depth > MAX_DEPTH:
        raise Faulty(TOO_DEEP)
    found: list[Piece | Choice] = []
    for node in body:
        if isinstance(node, nodes.Output):
            for each in node.nodes:
                if isinstance(each, nodes.TemplateData):
                    found.append(Piece(constant(each.data), False))
                else:
                    found.append(Piece(_expression(each, budget, depth), True))
        elif isinstance(node, nodes.If):
            no = _statements(node.else_, budget, depth + 1)
            for case in [*reversed(node.elif_), node]:
                no = [Choice(_expression(case.test, budget, depth), _statements(case.body, budget, depth + 1), no)]
            found += no
        else:
            raise Faulty(_refusal(node))
    return found


def _joined(pieces: Sequence[Piece | Choice], escape: Escape | None, growth: int) -> Part:
    """Pieces as one part, whose value is text."""
    runs: list[Run] = []
    longest = 0
    for each in pieces:
        match each:
            case Choice():
                yes, no = _joined(each.yes, escape, growth), _joined(each.no, escape, growth)
                runs.append(_choice(each.test.run, yes.run, no.run))
                longest += max(yes.longest, no.longest)
            case Piece(part, is_value):
                runs.append(_text_of(part.run, escape if is_value else None))
                longest += part.longest * (growth if is_value else 1)
    if len(runs) == 1:
        return Part(runs[0], longest)
    return Part(lambda values: "".join([run(values) for run in runs]), longest)


def _text_of(run: Run, escape: Escape | None) -> Run:
    if escape is None:
        return lambda values: text(run(values))
    return lambda values: escape(text(run(values)))


def _choice(test: Run, yes: Run, no: Run) -> Run:
    return lambda values: yes(values) if _truth(test(values)) else no(values)


def _truth(value: Value) -> bool:
    return bool(value) and value is not OMIT


# ---------------------------------------------------------------------------------------------------------- expressions


def _expression(node: nodes.Node, budget: Budget, depth: int) -> Part:
    part = _part(node, budget, depth + 1)
    budget.work(part.longest)
    return part


def _part(node: nodes.Node, budget: Budget, depth: int) -> Part:
    from jinja2 import nodes

    if depth > MAX_DEPTH:
        raise Faulty(TOO_DEEP)
    match node:
        case nodes.Const(value=value):
            return constant(checked(value) if isinstance(value, str) else _number(value))
        case nodes.Name(name=name):
            return _name(name, name, budget)
        case nodes.Getattr() | nodes.Getitem() if (path := _detail(node)) is not None:
            return Part(lambda values: _found(values[DETAILS], path), MAX_DETAIL)
        case nodes.Getattr(node=nodes.Name(name=group), attr=attribute):
            return _attribute(group, attribute, budget)
        case nodes.Filter() if node.node is not None:
            return filters.applied(node, lambda inner: _expression(inner, budget, depth))
        case nodes.CondExpr(test=test, expr1=yes, expr2=no):
            ways = [_expression(each, budget, depth) if each else constant(None) for each in (yes, no)]
            run = _choice(_expression(test, budget, depth).run, ways[0].run, ways[1].run)
            return Part(run, max(each.longest for each in ways))
        case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
            both = [_expression(each, budget, depth) for each in (left, right)]
            is_and, first, second = isinstance(node, nodes.And), both[0].run, both[1].run
            return Part(
                lambda values: second(values) if _truth(known := first(values)) == is_and else known,
                max(each.longest for each in both),
            )
        case nodes.Not(node=inner):
            negated = _expression(inner, budget, depth).run
            return Part(lambda values: not _truth(negated(values)), TEXT_OF_NUMBER)
        case nodes.Compare(expr=expr, ops=ops):
            return _comparison(expr, ops, budget, depth)
    raise Faulty(_refusal(node))


def _number(value: Value) -> Value:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Faulty("has a number beyond 64 bits")
    if isinstance(value, float) and not abs(value) < 1e300:
        raise Faulty("has a number that is too large")
    return value


def _name(name: str, shown: str, budget: Budget) -> Part:
    if name == "omit":
        return Part(lambda values: OMIT, 0)
    longest = budget.names.get(name)
    if longest is None:
        known = ", ".join(sorted([*budget.names, "omit"]))
        raise Faulty(f"has a name that is not known, {shown[:50]!r}. These are: {known}")
    return Part(operator.itemgetter(name), longest)


def _attribute(group: str, attribute: str, budget: Budget) -> Part:
    if group == SECRETS:
        return _name(f"{SECRETS}.{attribute}", f"{group}.{attribute}", budget)
    if group not in GROUPS:
        _name(group, group, budget)
        raise Faulty(f"has an attribute of {group!r}, which has none")
    return _name(f"{group}_{attribute}", f"{group}.{attribute}", budget)


def _detail(node: nodes.Node) -> list[str] | None:
    """The names in `details.labels.job` or `details["labels"]["job"]`, but for the first; None for another name."""
    from jinja2 import nodes

    path: list[str] = []
    while True:
        match node:
            case nodes.Getattr(node=inner, attr=attribute):
                path.append(attribute)
            case nodes.Getitem(node=inner, arg=nodes.Const(value=str(attribute))):
                path.append(attribute)
            case nodes.Name(name=name):
                return path[::-1] if name == DETAILS else None
            case _:
                return None
        node = inner


def _found(details: Value, path: Sequence[str]) -> Value:
    for name in path:
        details = details.get(name) if isinstance(details, Mapping) else None
    if isinstance(details, Mapping | list):
        return msgspec.json.encode(details).decode()[:MAX_DETAIL]
    return details[:MAX_DETAIL] if isinstance(details, str) else details


def _comparison(expr: nodes.Node, ops: Sequence[nodes.Operand], budget: Budget, depth: int) -> Part:
    from jinja2 import nodes

    first = _expression(expr, budget, depth).run
    steps: list[tuple[Callable[[Value, Value], bool], Run]] = []
    for each in ops:
        if each.op in ("in", "notin") and isinstance(each.expr, nodes.List | nodes.Tuple):
            runs = [_expression(item, budget, depth).run for item in each.expr.items]
            steps.append((_OPERATORS[each.op], _list_of(runs)))
        else:
            steps.append((_OPERATORS[each.op], _expression(each.expr, budget, depth).run))

    def run(values: Values) -> bool:
        left = first(values)
        for compare, other in steps:
            right = other(values)
            if not compare(left, right):
                return False
            left = right
        return True

    return Part(run, TEXT_OF_NUMBER)


def _list_of(runs: Sequence[Run]) -> Run:
    return lambda values: [run(values) for run in runs]


def _in_order(compare: Callable[[Value, Value], bool]) -> Callable[[Value, Value], bool]:
    """Text and text, number and number, time and time have an order; anything else is neither less nor more."""

    def compared(left: Value, right: Value) -> bool:
        kinds = (str, int | float, datetime)
        return any(isinstance(left, kind) and isinstance(right, kind) for kind in kinds) and compare(left, right)

    return compared


def _within(left: Value, right: Value) -> bool:
    if isinstance(right, str):
        return isinstance(left, str) and left in right
    return isinstance(right, list) and left in right


_OPERATORS: Mapping[str, Callable[[Value, Value], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": _in_order(operator.lt),
    "lteq": _in_order(operator.le),
    "gt": _in_order(operator.gt),
    "gteq": _in_order(operator.ge),
    "in": _within,
    "notin": lambda left, right: not _within(left, right),
}

_REFUSALS = {
    "Call": "a call", "For": "a loop", "Concat": "a concatenation; write one {{ … }} after the other",
    "Getattr": "an attribute of an attribute", "Getitem": "a subscript; names are written as incident.url",
    "Test": "a test with is; compare with == none instead", "Slice": "a slice", "List": "a list that is not after in",
    "Tuple": "a list that is not after in", "Dict": "an object", "Assign": "an assignment", "Filter": "a filter block",
    "FilterBlock": "a filter block", "Macro": "a macro", "Include": "an include", "Import": "an import",
    "FromImport": "an import", "Extends": "a parent", "Block": "a block",
}  # fmt: skip


def _refusal(node: nodes.Node) -> str:
    from jinja2 import nodes

    arithmetic = isinstance(node, nodes.BinExpr | nodes.UnaryExpr)
    what = _REFUSALS.get(type(node).__name__) or ("arithmetic" if arithmetic else "a statement of another kind")
    return f"has {what}, and templates have only names, if, comparisons and filters"
