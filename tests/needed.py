"""What some tests need on the machine. In CI it must be there; elsewhere its lack skips them, with a line."""

from __future__ import annotations

import os
import shutil
from glob import glob
from pathlib import Path
from typing import NoReturn

import pytest

IN_CI = os.environ.get("CI") == "true"

PACKAGES = {
    "sshd": "openssh-server", "ssh-keygen": "openssh-client", "ip": "iproute2", "unshare": "util-linux",
    "ping": "iputils-ping", "dig": "bind9-dnsutils", "node": "nodejs", "pgbouncer": "pgbouncer",
    "systemd-analyze": "systemd", "etcd": "etcd-server", "setpriv": "util-linux",
}  # fmt: skip
"""Debian's packages of programs that are called otherwise."""
FOLDERS = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/sbin"))
"""The PATH of people who are not root lacks what only root starts, as a rule."""


def program(name: str) -> str:
    """The path of a program, or the test ends here."""
    found = shutil.which(name, path=FOLDERS)
    return found or missing(f"{name} is not installed; on Debian and Ubuntu: apt install {PACKAGES.get(name, name)}")


def library(name: str) -> str:
    """The path of a shared library somewhere below the system's library folders, or the test ends here."""
    folders = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime")
    found = [str(Path(folder) / name) for pattern in folders for folder in glob(pattern)]
    found = [path for path in found if Path(path).exists()]
    return found[0] if found else missing(f"{name} is not installed; on Debian and Ubuntu: apt install libfaketime")


def missing(reason: str) -> NoReturn:
    """End the test: skipped with the reason, or failed with it in CI."""
    if IN_CI:
        pytest.fail(f"{reason}; in CI nothing may be skipped")
    pytest.skip(reason)
