"""Network monitors: what is checked, what a check can find, and the resulting verdict. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tocsin.domain.errors import Detail, Refused, invalid_field
from tocsin.domain.incidents import SEVERITIES, Evidence, Severity, at_least
from tocsin.domain.places import HERE

Problem = Literal[
    "timeout", "connection_error", "dns_error", "tls_error", "http_status", "keyword", "content", "slow", "packet_loss"
]
PROBLEMS: frozenset[Problem] = frozenset(get_args(Problem))
"""The types of incidents that checks open. They resolve no other types."""
SEVERITIES_OF: Mapping[str, Severity] = {"packet_loss": "warning"}
"""Of the incidents that checks open; all others are critical."""

FINDINGS: frozenset[str] = frozenset(("tls_expiry",))
"""The types of incidents that checks find beside the verdict: a site may be up, and its certificate end soon."""
DOMAIN_EXPIRY = "domain_expiry"
BESIDE: frozenset[str] = FINDINGS | {DOMAIN_EXPIRY}
"""The types of incidents with which a site is up all the same, whoever finds them."""

Expected = int | str | list[int | str]
"""Statuses that count as success: 204, "2xx", or a list of such."""

DEFAULT_INTERVAL, DEFAULT_TIMEOUT, DEFAULT_CONFIRMATIONS, DEFAULT_RECOVERIES = 60.0, 30.0, 2, 1
DEFAULT_EXPECTED: Expected = "2xx"
MIN_INTERVAL, MIN_INTERVAL_IN_DEVELOPMENT = 5.0, 1.0
MAX_INTERVAL = 86_400.0
MIN_TIMEOUT, MAX_TIMEOUT = 0.1, 120.0
MAX_CONFIRMATIONS = MAX_RECOVERIES = 100
MAX_STATUSES = 50


@dataclass(frozen=True, slots=True)
class Target:
    """What one check requests, and what counts as success. `timeout` is the total in seconds.

    `options` are those of its check type that are set; `unreadable` is why the secret ones of them cannot be read.
    """

    url: str
    check_type: str
    timeout: float
    options: Mapping[str, Any] = field(default_factory=dict)
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """What an owner configured. `interval` is seconds from one check to the next.

    So many failed checks in a row as `confirmations` says open an incident, so many good ones as `recoveries` end it.
    `domain` is the one whose registration is watched for its end, if that is wanted.
    `locations` are the places that it is checked from; None: only here.
    """

    name: str
    target: Target
    interval: float = DEFAULT_INTERVAL
    confirmations: int = DEFAULT_CONFIRMATIONS
    recoveries: int = DEFAULT_RECOVERIES
    paused: bool = False
    domain: str | None = None
    locations: tuple[str, ...] | None = None

    @property
    def checked_here(self) -> bool:
        """Whether the installation's own engines check it."""
        return self.locations is None or HERE in self.locations


@dataclass(frozen=True, slots=True)
class Finding:
    """What is found beside a verdict: a certificate, or a domain's registration, that ends soon.

    `fingerprint` is what it is about.
    """

    type: str
    severity: Severity
    message: str
    fingerprint: str
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found. `problem` and `message` are None exactly on success, `evidence` too unless all is wanted.

    `findings` are what it found besides; None if it could not look. `body` is the start of the answer if all is wanted.
    """

    problem: Problem | None = None
    message: str | None = None
    response_ms: float | None = None
    status_code: int | None = None
    evidence: Evidence | None = None
    findings: Sequence[Finding] | None = None
    body: str | None = None

    @property
    def ok(self) -> bool:
        return self.problem is None


@dataclass(frozen=True, slots=True)
class Open:
    """Open an incident of this type."""

    type: str
    severity: Severity = "critical"


@dataclass(frozen=True, slots=True)
class Resolve:
    """Resolve the incidents of these types."""

    types: tuple[str, ...]


Verdict = Open | Resolve | None


def judge(
    in_a_row: int, problem: Problem | None, confirmations: int, ongoing: Set[str], recoveries: int = DEFAULT_RECOVERIES
) -> Verdict:
    """The verdict that follows from a check.

    `in_a_row` counts the failed checks in a row, or the good ones, this one included; `ongoing` are the types
    of the monitor's incidents that are ongoing. One incident at a time: while one that a check opened is ongoing,
    another failure opens none, unless it is worse: a host that loses packets may be gone later. It ends after so many
    good checks in a row as `recoveries` says. Checks ignore incidents of other types, which were opened through the
    API.
    """
    ours = PROBLEMS & ongoing
    if problem is None:
        return Resolve(tuple(sorted(ours))) if ours and in_a_row >= recoveries else None
    severity = SEVERITIES_OF.get(problem, "critical")
    as_bad = any(at_least(SEVERITIES_OF.get(each, "critical"), severity) for each in ours)
    return Open(problem, severity) if in_a_row >= confirmations and not as_bad else None


Lasting = Mapping[tuple[str, str], Severity]
"""Types and fingerprints of findings whose incidents are ongoing, with their severities."""


def judge_findings(findings: Sequence[Finding], ongoing: Lasting) -> tuple[list[Finding], list[tuple[str, str]]]:
    """Those to open, or to raise because they have become worse; and those ongoing ones that are no longer found."""
    found = {(each.type, each.fingerprint): each for each in findings}
    opened = [
        each for key, each in found.items()
        if key not in ongoing or SEVERITIES.index(each.severity) < SEVERITIES.index(ongoing[key])
    ]  # fmt: skip
    return opened, [key for key in ongoing if key not in found]


def status(*, paused: bool, checked: bool, incidents: bool, explained: bool = False) -> str:
    """A monitor as one status: `paused`, `error` (ongoing incident), `unreachable` (one that a parent explains),
    `pending` (no check succeeded yet) or `success`.
    """
    if paused:
        return "paused"
    if incidents:
        return "unreachable" if explained else "error"
    return "success" if checked else "pending"


def is_expected(code: int, expected: Expected) -> bool:
    """Whether a status is expected. A class (`2xx`) means all hundred of it."""
    for each in expected if isinstance(expected, list) else (expected,):
        if each == code or (isinstance(each, str) and int(each[0]) == code // 100):
            return True
    return False


def worded(expected: Expected) -> str:
    """`2xx`, `204`, `200, 204 or 3xx`."""
    names = [str(each) for each in expected] if isinstance(expected, list) else [str(expected)]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def parse_expected(given: Any) -> Expected:
    """The caller's `expected_status`, in the form in which it was given. Raises `Refused` (422)."""
    if isinstance(given, list):
        if not 1 <= len(given) <= MAX_STATUSES:
            raise _bad_status()
        return [_one_status(each) for each in given]
    return _one_status(given)


def _one_status(given: Any) -> int | str:
    if isinstance(given, str):
        lowered = given.strip().lower()
        if lowered in ("1xx", "2xx", "3xx", "4xx", "5xx"):
            return lowered
        given = int(lowered) if lowered.isascii() and lowered.isdecimal() and len(lowered) == 3 else None
    if isinstance(given, int) and not isinstance(given, bool) and 100 <= given <= 599:
        return given
    raise _bad_status()


def _bad_status() -> Refused:
    wanted = f"must be a status such as 200, a class such as 2xx, or a list of up to {MAX_STATUSES} of these"
    return invalid_field("expected_status", wanted)


def check_numbers(wanted: MonitorConfig, least_interval: float) -> list[Detail]:
    """What is wrong with a monitor's numbers; empty where nothing is."""
    bounds: Sequence[tuple[str, float, float, float, str]] = (
        ("interval", wanted.interval, least_interval, MAX_INTERVAL, " seconds"),
        ("timeout", wanted.target.timeout, MIN_TIMEOUT, MAX_TIMEOUT, " seconds"),
        ("confirmations", wanted.confirmations, 1, MAX_CONFIRMATIONS, ""),
        ("recoveries", wanted.recoveries, 1, MAX_RECOVERIES, ""),
    )
    return [
        Detail(name, f"must be from {least:g} to {most:.0f}{unit}")
        for name, value, least, most, unit in bounds
        if not least <= value <= most
    ]
