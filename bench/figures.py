"""What was measured, what was promised, and how both are shown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on the figure itself, or on its ratio to the peer's."""

    bound: float
    side: Literal["at least", "at most"]
    of: Literal["figure", "ratio"] = "figure"

    def __str__(self) -> str:
        sign = "≥" if self.side == "at least" else "≤"
        return f"{sign} {self.bound:g}" + (" of the peer" if self.of == "ratio" else "")


def at_least(bound: float) -> Goal:
    return Goal(bound, "at least")


def at_most(bound: float) -> Goal:
    return Goal(bound, "at most")


def at_most_of_peer(bound: float) -> Goal:
    return Goal(bound, "at most", "ratio")


def at_least_of_peer(bound: float) -> Goal:
    return Goal(bound, "at least", "ratio")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `peer` is None where there is none, or where it is not installed."""

    name: str
    value: float
    unit: str
    peer: float | None = None
    peer_name: str | None = None
    goal: Goal | None = None
    aim: float | None = None
    note: str = ""
    rounds: tuple[float, ...] = ()
    peer_rounds: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        return self.value / self.peer if self.peer else None

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None where there is no goal, or no peer to compare with."""
        if self.goal is None:
            return None
        value = self.value if self.goal.of == "figure" else self.ratio
        if value is None:
            return None
        return value >= self.goal.bound if self.goal.side == "at least" else value <= self.goal.bound

    def row(self) -> tuple[str, ...]:
        """name, ours, peer's, ratio, goal, met"""
        goal = "" if self.goal is None else f"{self.goal}" + (f" (aim {self.aim:g})" if self.aim else "")
        return (
            self.name + (f" ({self.note})" if self.note else ""),
            f"{shown(self.value)} {self.unit}".strip(),
            "" if self.peer_name is None else "not installed" if self.peer is None else f"{shown(self.peer)}",
            "" if self.ratio is None else f"{self.ratio:.2f}",
            goal,
            {None: "", True: "met", False: "missed"}[self.met],
        )


HEADINGS = ("figure", "Tocsin", "peer", "ratio", "goal", "")


def shown(value: float) -> str:
    """Three digits that count: 12,345, 321, 12.3, 0.123."""
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def print_table(parts: Mapping[str, Sequence[Figure]]) -> None:
    table = Table(title="Tocsin and its peers, side by side on this machine")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("figure", "goal", "") else "right")
    for figures in parts.values():
        for figure in figures:
            style = {None: "", True: "green", False: "red"}[figure.met]
            *cells, verdict = figure.row()
            table.add_row(*cells, f"[{style}]{verdict}[/]" if style else verdict)
        table.add_section()
    Console(width=None if Console().is_terminal else 140).print(table)


def markdown(parts: Mapping[str, Sequence[Figure]]) -> str:
    """The same as a table for the README."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|--:|--:|--:|---|---|"]
    lines += ["| " + " | ".join(figure.row()) + " |" for figures in parts.values() for figure in figures]
    return "\n".join(lines)


def encoded(figure: Figure) -> dict[str, Any]:
    """What `bench/results.json` holds of a figure."""
    return {
        "name": figure.name,
        "value": figure.value,
        "unit": figure.unit,
        "peer": figure.peer,
        "peer_name": figure.peer_name,
        "ratio": figure.ratio,
        "goal": str(figure.goal) if figure.goal else None,
        "met": figure.met,
        "note": figure.note,
        "rounds": figure.rounds,
        "peer_rounds": figure.peer_rounds,
    }
