"""Failed units of systemd, as a server's agent reports them: what is valid, and the verdict on each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from tocsin.domain.incidents import Severity, format_duration
from tocsin.domain.server_alerts import UnitFailed
from tocsin.domain.servers import Track, Verdict, Watch

UNIT_FAILED = "unit_failed"
"""Type of the incidents, each with its unit as key."""
MAX_UNITS = 50
MAX_NAME = 255
"""Characters: systemd.unit(5)."""


def valid(given: object) -> tuple[list[str] | None, list[tuple[str, str]]]:
    """The valid names (None: nothing usable was said), and what is wrong with the others, by field."""
    if given is None:
        return None, []
    if not isinstance(given, list):
        return None, [("failed_units", "must be a list")]
    found, wrong = [], []
    for index, each in enumerate(given[:MAX_UNITS]):
        if isinstance(each, str) and 0 < len(each) <= MAX_NAME and each.isprintable() and not each.isspace():
            found.append(each)
        else:
            wrong.append((f"failed_units[{index}]", f"must be a name of at most {MAX_NAME} characters"))
    if len(given) > MAX_UNITS:
        wrong.append((f"failed_units[{MAX_UNITS}]", f"at most {MAX_UNITS} units are taken"))
    return list(dict.fromkeys(found)), wrong


def judge(
    watch: Mapping[str, Track],
    failed: Sequence[str],
    alert: UnitFailed | None,
    ongoing: Mapping[str, Severity],
    now: datetime,
    name: str,
) -> tuple[Watch, list[Verdict]]:
    """The new state, and the verdict on each unit that has failed or is well again. `ongoing` is by unit."""
    at = now.astimezone(UTC).timestamp()
    followed: Watch = {}
    verdicts = []
    for unit in failed if alert is not None else ():
        assert alert is not None
        since = watch.get(f"unit:{unit}", {}).get("over_since", at)
        followed[f"unit:{unit}"] = {"at": at, "over_since": since}
        if unit not in ongoing and at - since >= alert["for"]:
            stretch = f" for {format_duration(at - since)}" if at > since else ""
            verdicts.append(Verdict(UNIT_FAILED, "over", f"{unit} has failed on {name}{stretch}", key=unit))
    for unit in sorted(ongoing.keys() - set(failed)):
        verdicts.append(Verdict(UNIT_FAILED, "recovered", f"{unit} no longer counts as failed", key=unit))
    return followed, verdicts
