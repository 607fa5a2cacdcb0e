"""Tells one boot of a machine from the next: by Linux's boot id, or elsewhere by the time of the start. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

COMMAND = (
    "cat /proc/sys/kernel/random/boot_id 2>/dev/null || sysctl -n kern.boottime 2>/dev/null"
    " || uptime -s 2>/dev/null || who -b"
)
"""The command that a machine runs: random(4) on Linux, else sysctl(8) on BSD and macOS, uptime(1), who(1)."""

SAME = 30.0
"""Maximum difference in seconds between two readings of one boot: some systems shift it when they set their clock."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SECONDS = re.compile(r"\{ sec = (\d{1,12}), usec = \d{1,6} \}.*")
_BOOT = re.compile(r"\.?\s*system boot\s+")
_FORMS = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%a %b %d %H:%M:%S %Y",
    "%b %d %H:%M",  # who(1) of some systems, which leaves the year out: told apart all the same
)  # fmt: skip


def question(mark: str) -> str:
    """The command, with a mark before and after its answer, in syntax that every login shell understands."""
    return f"sh -c 'LC_ALL=C; export LC_ALL; echo {mark}; {COMMAND}; echo {mark}'"


def parse_output(output: str, mark: str) -> str | None:
    """The boot that is printed between the marks, on a line of its own; None if there is none."""
    lines = [line.strip() for line in output.splitlines()]
    if lines.count(mark) != 2:
        return None
    begin = lines.index(mark)
    return named(lines[begin + 1]) if lines[begin + 2 : begin + 3] == [mark] else None


def named(text: str) -> str | None:
    """A boot in canonical form: an id, or `at` and seconds; None for what is neither."""
    text = text.strip()
    if _UUID.fullmatch(text.lower()):
        return text.lower()
    if seconds := _SECONDS.fullmatch(text):
        return f"at {seconds[1]}"
    moment = _BOOT.sub("", text)
    for form in _FORMS:
        year, its_form = ("", "") if "%Y" in form else ("2000 ", "%Y ")  # a leap year knows every day
        try:
            at = datetime.strptime(year + moment, its_form + form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return f"at {at.timestamp():.0f}"
    return None


def rebooted(before: str | None, after: str | None) -> bool | None:
    """Whether a machine rebooted between the two; None if that cannot be known."""
    first, then = (named(each) or _kept(each) if each else None for each in (before, after))
    if first is None or then is None or first.startswith("at ") != then.startswith("at "):
        return None
    if first.startswith("at "):
        return abs(float(then[3:]) - float(first[3:])) > SAME
    return first != then


def _kept(text: str) -> str | None:
    """The text itself if it is in canonical form already."""
    return text if re.fullmatch(r"at -?\d{1,12}", text) else None
