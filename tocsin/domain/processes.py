"""The processes that use most, as a server's agent reports them: what is valid. Pure."""

from __future__ import annotations

from typing import Any

MAX_PROCESSES = 10
MAX_NAME = 64
BY = ("cpu", "ram")

Processes = dict[str, list[dict[str, Any]]]
"""By `cpu` and by `ram`: `name`, and `share` in percent of all of it; the highest first."""


def valid(given: object) -> tuple[Processes | None, list[tuple[str, str]]]:
    """The valid ones (None: nothing usable was said), and what is wrong with the others, by field."""
    if given is None:
        return None, []
    if not isinstance(given, dict):
        return None, [("processes", "must be an object with cpu and ram")]
    found: Processes = {}
    wrong = []
    for by in BY:
        listed = given.get(by)
        if listed is None:
            continue
        if not isinstance(listed, list):
            wrong.append((f"processes.{by}", "must be a list"))
            continue
        found[by] = []
        for index, each in enumerate(listed[:MAX_PROCESSES]):
            if _is_process(each):
                found[by].append({"name": each["name"], "share": round(float(each["share"]), 1)})
            else:
                wrong.append((f"processes.{by}[{index}]", "must be an object with a name and a share in percent"))
        found[by].sort(key=lambda each: -each["share"])
    return found or None, wrong


def _is_process(given: object) -> bool:
    if not isinstance(given, dict):
        return False
    name, share = given.get("name"), given.get("share")
    named = isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()
    number = isinstance(share, int | float) and not isinstance(share, bool)
    return named and number and 0 <= share <= 100  # type: ignore[operator]
