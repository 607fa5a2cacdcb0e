"""What places saw, in words: for the map, a monitor's page, and the pages of probes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from tocsin.domain.places import HERE
from tocsin.storage.monitoring.places import Seen
from tocsin.storage.monitoring.probe_list import ShownProbe
from tocsin.storage.monitoring.probes import SILENT_AFTER

QUIET = timedelta(seconds=SILENT_AFTER)
"""A probe that was not heard of for so long is shown as silent."""

PROBLEMS = {
    "timeout": "timeout", "connection_error": "no connection", "dns_error": "name not found", "tls_error": "TLS error",
    "http_status": "wrong status", "keyword": "keyword", "content": "wrong content", "slow": "slow",
    "packet_loss": "lost packets",
}  # fmt: skip
"""Types of incident, as short as a cell of a table."""


def called(place: str) -> str:
    """A place's name for people."""
    return "Here" if place == HERE else place


def state(seen: Seen, *, paused: bool) -> tuple[str, str]:
    """The badge of what a place saw: its kind (`ok`, `warn`, `bad`) and its text, which says it without the colour."""
    if seen.gone:
        return "warn", "no longer there"
    if paused:
        return "", "paused"
    if seen.heard_at is None:
        return "", "not heard yet"
    if not seen.lives:
        return "warn", "silent"
    if seen.problem is None:
        return "ok", "good"
    return "bad", PROBLEMS.get(seen.problem, seen.problem.replace("_", " "))


def undecided(saw: Sequence[Seen]) -> str:
    """Why no incident begins or ends by what the places of a monitor see; empty where one may."""
    places = [each for each in saw if not each.gone]
    living = [each for each in places if each.lives]
    if saw and not places:
        return "Nobody checks it: its places are no longer there. Choose others in its settings."
    if len(living) >= min(2, len(places)) or not any(each.heard_at and not each.lives for each in places):
        return ""
    alive, more = (f"only {called(living[0].place)} lives", "another") if living else ("none lives", "some")
    return f"Of its places {alive}: no incident begins or ends until {more} can be heard again."


def line(url: str) -> str:
    """What runs a probe at another place. The token is in a file: everybody on a machine can read command lines."""
    return f"tocsin probe --url {url} --token-file /etc/tocsin-probe.token"


def only_here(url: str) -> bool:
    """Whether that address leads only the machine itself here."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def probe_state(probe: ShownProbe, now: datetime) -> tuple[str, str]:
    """The badge of a probe."""
    if probe.revoked_at is not None:
        return "", "revoked"
    if probe.seen_at is None:
        return "warn", "not heard yet"
    if probe.silent or now - probe.seen_at > QUIET:
        return "bad", "silent"
    return "ok", "lives"
