"""The demo's machine to restart: a real OpenSSH server on loopback that runs no command it is given.

Every login gets one program of the demo (sshd_config(5), `ForceCommand`), which answers the two commands of a dry run
and refuses everything else. Only the demo's own key can log in; passwords and keys of this machine's accounts cannot.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tocsin.cli.sockets import free_port
from tocsin.storage.postgres.children import die_with_parent

FOLDERS = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"))
"""Where they are; the PATH of ordinary users usually lacks the folders of system programs."""
SEPARATION = Path("/run/sshd")
"""The privilege separation directory of Debian's sshd; its service creates it at start, sshd itself does not."""
PATIENCE = 5.0

SESSION = """#!/bin/sh
case "$SSH_ORIGINAL_COMMAND" in
*boot_id*)
    mark=$(printf '%s' "$SSH_ORIGINAL_COMMAND" | sed -n 's/.*; echo \\([0-9a-f]*\\).$/\\1/p')
    printf '%s\\n' "$mark" 00000000-0000-4000-8000-000000000001 "$mark" ;;
"sudo -n -l reboot") echo /usr/sbin/reboot ;;
*) echo "the demo's machine runs no commands" >&2; exit 126 ;;
esac
"""

CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin forced-commands-only
AllowUsers {user}
AuthorizedKeysFile {folder}/authorized_keys
ForceCommand {folder}/session
"""


class Unavailable(Exception):
    """The machine cannot be provided; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Host:
    """How to log in to it."""

    port: int
    username: str
    private_key: str


@contextmanager
def host(folder: Path) -> Iterator[Host]:
    """The machine, running while the block runs, with its files in `folder`. Raises `Unavailable`."""
    sshd, keygen = (shutil.which(name, path=FOLDERS) for name in ("sshd", "ssh-keygen"))
    if sshd is None or keygen is None:
        raise Unavailable("OpenSSH's server is not installed (on Debian and Ubuntu: apt install openssh-server)")
    folder.mkdir(mode=0o755)
    for name in ("host_key", "user_key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)  # noqa: S603
    (folder / "session").write_text(SESSION)
    (folder / "session").chmod(0o755)
    user, port = getpass.getuser(), free_port()
    key = (folder / "user_key.pub").read_text()
    (folder / "authorized_keys").write_text(f'restrict,command="{folder}/session" {key}')
    (folder / "sshd_config").write_text(CONFIG.format(port=port, folder=folder, user=user))
    made = os.geteuid() == 0 and not SEPARATION.exists()
    if made:
        SEPARATION.mkdir(mode=0o755)
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(  # noqa: S603 - its configuration is above
            [sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=die_with_parent(signal.SIGTERM),
        )  # fmt: skip
    try:
        _wait(running, port, folder / "log")
        yield Host(port, user, (folder / "user_key").read_text())
    finally:
        running.terminate()
        running.wait()
        if made:
            SEPARATION.rmdir()


def _wait(running: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if running.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
    raise Unavailable(f"OpenSSH's server does not start here: {lines[-1]}")
