"""The file systems of a server, as its agent reports them: what is valid, and the verdict on each. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from tocsin.domain import server_alerts
from tocsin.domain.incidents import Severity
from tocsin.domain.server_alerts import MAX_DISKS, MAX_MOUNT, Alerts
from tocsin.domain.servers import Track, Verdict, Watch, judge_series

DISK = "disk"
"""Type of the incidents, each with its mount point as key."""
LARGEST = 2**63 - 1


class FileSystem(TypedDict):
    """Bytes in use and in all, and percent of the inodes in use (None where there is no limit)."""

    mount: str
    used: int
    total: int
    inodes: float | None


def validate(given: object) -> FileSystem | str:
    """The file system, or what is wrong with it."""
    if not isinstance(given, dict):
        return "must be an object with mount, used and total"
    mount, inodes = given.get("mount"), given.get("inodes")
    if not isinstance(mount, str) or not mount.startswith("/"):
        return "mount must be an absolute path"
    if len(mount) > MAX_MOUNT or not mount.isprintable():
        return f"mount must have at most {MAX_MOUNT} characters, all printable"
    used, total = _bytes(given.get("used")), _bytes(given.get("total"))
    if used is None or total is None:
        return "used and total must be bytes"
    if not total > 0 or used > total:
        return "used must not be over total, nor total 0"
    if inodes is not None:
        number = isinstance(inodes, int | float) and not isinstance(inodes, bool)
        if not number or not 0 <= inodes <= 100:
            return "inodes must be a percentage, or null"
        inodes = float(inodes)
    return {"mount": mount, "used": used, "total": total, "inodes": inodes}


def valid(given: object) -> tuple[list[FileSystem] | None, list[tuple[str, str]]]:
    """The valid ones (None: nothing usable was said), and what is wrong with the others, by field."""
    if given is None:
        return None, []
    if not isinstance(given, list):
        return None, [("disks", "must be a list")]
    found: dict[str, FileSystem] = {}
    wrong = []
    for index, each in enumerate(given[:MAX_DISKS]):
        one = validate(each)
        if isinstance(one, str):
            wrong.append((f"disks[{index}]", one))
        elif one["mount"] in found:
            wrong.append((f"disks[{index}]", "mount is there twice"))
        else:
            found[one["mount"]] = one
    if len(given) > MAX_DISKS:
        wrong.append((f"disks[{MAX_DISKS}]", f"at most {MAX_DISKS} file systems are taken"))
    return list(found.values()), wrong


def percent(each: FileSystem) -> float:
    """How full it is: by bytes, or by inodes where fewer of those are left."""
    return max(100.0 * each["used"] / each["total"], each["inodes"] or 0.0)


def judge(
    watch: Mapping[str, Track],
    now_there: Sequence[FileSystem],
    alerts: Alerts,
    ongoing: Mapping[str, Severity],
    complete: bool,
    now: datetime,
    name: str,
) -> tuple[Watch, list[Verdict]]:
    """The new state, and the verdict on each file system, by its mount point; `ongoing` is by mount point too.

    What is not mounted any more has no incident either, if `now_there` is `complete`.
    """
    followed: Watch = {}
    verdicts = []
    for each in now_there:
        mount = each["mount"]
        alert = server_alerts.for_disk(alerts, mount)
        if alert is None:
            continue
        by_bytes = 100.0 * each["used"] / each["total"]
        label = f"Disk {mount}" if percent(each) == by_bytes else f"Inodes of {mount}"
        states, verdict = judge_series(
            watch, [(now, percent(each))], alert, DISK, label, ongoing.get(mount), now, name, mount
        )
        followed |= states
        if verdict:
            verdicts.append(verdict)
    there = {each["mount"] for each in now_there}
    for mount in sorted(ongoing.keys() - there) if complete else ():
        verdicts.append(Verdict(DISK, "recovered", f"{mount} is no longer mounted on {name}", key=mount))
    return followed, verdicts


def _bytes(given: Any) -> int | None:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        return None
    return int(given) if 0 <= given <= LARGEST else None
