"""A real OpenSSH server on a loopback port, in a mount namespace of its own, where nothing real can be restarted.

Inside it the accounts are our own files, `sudo` and `reboot` are scripts that write down how they were called, and the
machine's boot id is a file. The machine outside sees none of this, and no account of it can be logged in to.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.needed import missing, program
from tests.waiting import poll
from tocsin.cli.sockets import free_port
from tocsin.storage.postgres.children import die_with_parent

USER, PASSWORD = "admin", "hunter2-$'\"-secret"
UID = 10_001

Mode = Literal["password", "free", "denied", "hesitant", "silent", "broken"]
"""What sudo does: wants the password, wants none, forbids reboot, thinks about whether it would until it is told to do
something else, never ends, ends with a strange error."""
Then = Literal["cut", "stay"]
"""What follows a reboot: the session's own server process is killed, or everything stays as it is."""

SUDO = """#!{python} -IS
import json, os, signal, sys, time
def state(name):
    with open("{folder}/" + name) as file:
        return file.read().strip()
words, mode, typed = sys.argv[1:], state("mode"), None
asks = "-S" in words
if asks and mode in ("password", "hesitant", "silent"):
    typed = sys.stdin.readline().rstrip("\\n")
with open("{folder}/calls", "a") as calls:
    calls.write(json.dumps({{"words": words, "typed": typed, "at": time.time()}}) + "\\n")
until = time.time() + 60
while mode == "hesitant" and "-l" in words and state("mode") == "hesitant" and time.time() < until:
    time.sleep(0.02)
if mode == "silent" and "-l" not in words:
    time.sleep(600)
if mode == "broken":
    sys.exit("sudo: unable to open /etc/sudoers: what you typed was " + state("password"))
if mode == "denied":
    sys.exit("Sorry, user admin is not allowed to execute '/usr/sbin/reboot' as root on this-machine.")
if mode == "password" and not asks:
    sys.exit("sudo: a password is required")
if mode == "password" and typed != state("password"):
    sys.exit("Sorry, try again.\\nsudo: no password was provided\\nsudo: 1 incorrect password attempt")
if "-l" in words:
    print("/usr/sbin/reboot")
elif words[-1:] == ["reboot"]:
    with open("{folder}/reboots", "a") as reboots:
        reboots.write("x")
    if state("then") == "cut":
        parent = os.getppid()
        while parent > 1:
            with open("/proc/%d/stat" % parent) as stat:
                name, after = stat.read().split("(", 1)[1].rsplit(")", 1)
            if name.startswith("sshd"):
                os.kill(parent, signal.SIGKILL)
                break
            parent = int(after.split()[1])
"""

SESSION = """#!/bin/sh
. {folder}/bashrc
printf '%s\\n' "$SSH_ORIGINAL_COMMAND" >> {folder}/texts
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""

NAMESPACE = """
set -e
mount -t tmpfs tmpfs /run
mkdir -m 0755 /run/sshd
mount --bind {folder}/passwd /etc/passwd
mount --bind {folder}/group /etc/group
mount --bind {folder}/shadow /etc/shadow
mount --bind {folder}/boot_id /proc/sys/kernel/random/boot_id
for real in /usr/bin/sudo /sbin/reboot /usr/sbin/reboot; do
    if [ -e "$real" ]; then mount --bind {folder}/bin/sudo "$(readlink -f "$real")"; fi
done
exec {sshd} -D -e -f {folder}/sshd_config
"""

CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication yes
KbdInteractiveAuthentication no
AuthorizedKeysFile {folder}/authorized_keys
PermitRootLogin no
AllowUsers {user}
SetEnv PATH={folder}/bin:/usr/bin:/bin
ForceCommand {folder}/bin/session
MaxStartups 100
LogLevel VERBOSE
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the stand-in for sudo: its words, and the line that it read from its standard input, if it did."""

    words: list[str]
    typed: str | None
    at: float


class Machine:
    """A machine to restart. `start`, `stop` and `boot` are its power button; `calls` is what sudo was asked."""

    def __init__(self) -> None:
        self.sshd = program("sshd") if shutil.which("sshd") else _sshd()
        program("unshare")
        self.folder = Path(tempfile.mkdtemp(prefix="tocsin-sshd-"))
        self.folder.chmod(0o777)
        self.port = free_port()
        self._running: subprocess.Popen[bytes] | None = None
        self._boots = 0
        self._write_files()
        self.new_boot()
        self.start()

    # ------------------------------------------------------------------------------------------------ what it is like

    def behave(self, mode: Mode, then: Then = "cut") -> None:
        self._state("mode", mode)
        self._state("then", then)

    @property
    def calls(self) -> list[Call]:
        file = self.folder / "calls"
        return [Call(**json.loads(line)) for line in file.read_text().splitlines()]

    @property
    def commands(self) -> list[str]:
        """How sudo was called, each as one line."""
        return [" ".join(call.words) for call in self.calls]

    @property
    def texts(self) -> list[str]:
        """The commands as they came over the wire."""
        return (self.folder / "texts").read_text().splitlines()

    @property
    def reboots(self) -> int:
        return len((self.folder / "reboots").read_text())

    @property
    def private_key(self) -> str:
        return (self.folder / "user_key").read_text()

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen prints it."""
        said = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(self.folder / "host_key.pub")], capture_output=True, check=True, text=True
        )
        return said.stdout.split()[1]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    # ----------------------------------------------------------------------------------------------- the power button

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._running = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", NAMESPACE.format(folder=self.folder, sshd=self.sshd)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        running = self._running

        def listens() -> bool:
            if running.poll() is not None:
                raise AssertionError(f"sshd ended: {self.log[-1000:]}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        poll(listens, what=lambda: f"sshd to listen: {self.log[-1000:]}")

    def stop(self) -> None:
        """Everything of it is gone at once, its sessions included."""
        if self._running is not None:
            for pid in self._session_pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._running.wait(60)
            self._running = None

    def forget(self) -> None:
        """What it was asked until now."""
        for name in ("calls", "reboots", "texts"):
            self._state(name, "")
            (self.folder / name).chmod(0o666)

    def new_boot(self) -> None:
        """What a start does: another boot id."""
        self._boots += 1
        self._state("boot_id", f"00000000-0000-4000-8000-{self._boots:012}\n")

    def say_at_login(self, script: str) -> None:
        """What the account's `.bashrc` does, which runs before every command."""
        self._state("bashrc", script)

    def new_host_key(self) -> None:
        """What setting it up anew does."""
        self.stop()
        _new_key(self.folder / "host_key")
        self.start()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --------------------------------------------------------------------------------------------------------- inside

    def _session_pids(self) -> list[int]:
        """Our sshd and every process that came of it."""
        import psutil

        assert self._running is not None
        if self._running.poll() is not None:
            return []
        ours = psutil.Process(self._running.pid)
        return [each.pid for each in (*ours.children(recursive=True), ours)]

    def _write_files(self) -> None:
        folder = self.folder
        (folder / "bin").mkdir(mode=0o755)
        script = SUDO.format(folder=folder, python=shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin"))
        for name, text in {"sudo": script, "reboot": script, "session": SESSION.format(folder=folder)}.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        crypted = subprocess.run(
            [program("openssl"), "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, check=True, text=True
        ).stdout.strip()
        self._state("passwd", f"root:x:0:0::/:/bin/false\nsshd:x:101:65534::/run/sshd:/bin/false\n"
                              f"{USER}:x:{UID}:{UID}::{folder}:/bin/sh\n")  # fmt: skip
        self._state("group", f"root:x:0:\n{USER}:x:{UID}:\nnogroup:x:65534:\n")
        self._state("shadow", f"root:!:19000::::::\nsshd:!:19000::::::\n{USER}:{crypted}:19000::::::\n")
        self._state("sshd_config", CONFIG.format(port=self.port, folder=folder, user=USER))
        for name in ("host_key", "user_key"):
            _new_key(folder / name)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        (folder / "authorized_keys").chmod(0o644)
        self.forget()
        self._state("password", PASSWORD)
        self._state("bashrc", "")
        self.behave("password")

    def _state(self, name: str, text: str) -> None:
        """In place: a file that is mounted elsewhere stays that file."""
        with (self.folder / name).open("w") as file:
            file.write(text)
        (self.folder / name).chmod(0o644)


def machine() -> Machine:
    """A machine, or the test ends here where this one cannot make one."""
    if os.geteuid() != 0:
        missing("a namespace for sshd needs root")
    if subprocess.run([program("unshare"), "-m", "true"], capture_output=True, check=False).returncode != 0:
        missing("this machine gives no mount namespaces, which sshd runs in here")
    return Machine()


def _sshd() -> str:
    for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd"):
        if Path(path).exists():
            return path
    missing("OpenSSH's server (sshd) is not installed")
    raise AssertionError


def _new_key(path: Path) -> None:
    path.unlink(missing_ok=True)
    subprocess.run(
        [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", str(path)], check=True
    )


class Relay:
    """A wire to a machine, which listens at the port `to`. While it is held nothing goes on to the machine; what its
    sender dies over never does.
    """

    def __init__(self, port: int) -> None:
        self.to = port
        self._flow = threading.Event()
        self._flow.set()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listening.getsockname()[1])
        self.connected = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        self._flow.clear()

    def let_go(self) -> None:
        self._flow.set()

    def close(self) -> None:
        self._listening.close()
        self._flow.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self.connected += 1
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        self._flow.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self.to), timeout=10)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        back = threading.Thread(target=self._pump, args=(far, near, False), daemon=True)
        back.start()
        self._pump(near, far, True)
        back.join()
        near.close()
        far.close()

    def _pump(self, source: socket.socket, sink: socket.socket, held: bool) -> None:
        with contextlib.suppress(OSError):
            while True:
                part = source.recv(65_536)
                if held and not self._flow.is_set() and not self._kept(source):
                    break
                if not part:
                    break
                sink.sendall(part)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _kept(self, source: socket.socket) -> bool:
        """Waits until let go; False where the sender was gone by then, so that what it said never arrives."""
        while not self._flow.wait(0.02):
            source.setblocking(False)
            try:
                if source.recv(1, socket.MSG_PEEK) == b"":
                    return False
            except BlockingIOError:
                continue
            except OSError:
                return False
            finally:
                source.setblocking(True)
        return True
