"""Tocsin's agent for Linux, in one file: sends this machine's CPU, memory, swap, load, disk and network figures.

It also sends how full each mounted file system is, which systemd units have failed, and the names of the processes that
use most, with their share: no command lines.

It needs Python 3.8 or newer, /proc, and nothing else. The project's token is read from a file (--token-file; - is
standard input) or the environment (TOCSIN_TOKEN), never from the command line, which everybody on the machine can read.

    curl -fsS https://tocsin.example.com/agent | sudo python3 - --install --token-file /etc/tocsin-agent.token

With --install, which needs root, it is installed as a system service; otherwise it runs until it is stopped. It
replaces itself only when told to: --update takes the service's version, and keeps the old one beside it as ….old.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import hmac
import http.client
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SERVICE = ""  # the address of the service that this file was downloaded from
VERSION = ""  # and its version

KEPT = 360  # samples kept while the service cannot be reached: six hours at one a minute
AT_ONCE = 6  # samples per request after a 413
TIMEOUT, MAX_TOKEN_LENGTH = 20, 1000  # seconds, characters
MAX_PROGRAM = 1_000_000  # bytes of this file
FIRST_MEASURE = 1.0  # seconds over which the first CPU figure is taken; later ones span the interval

MAX_DISKS, MAX_MOUNT, MAX_UNITS, MAX_PROCESSES = 64, 255, 50, 5
READ_ONLY_TYPES = {"squashfs", "iso9660", "erofs", "cramfs", "udf"}  # always full
UNITS_EVERY = 30.0  # seconds for which an answer of systemd is used again

IDENTITIES = ("/sys/class/dmi/id/board_serial", "/sys/class/dmi/id/product_uuid", "/etc/machine-id")
NOT_AN_IDENTITY = {"", "unknown", "none", "default string", "not specified", "to be filled by o.e.m.", "uninitialized"}

PROGRAM, TOKEN_FILE = "/usr/local/lib/tocsin-agent.py", "/etc/tocsin-agent.token"
UNIT = "/etc/systemd/system/tocsin-agent.service"
SERVICE_UNIT = """[Unit]
Description=Tocsin's agent
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={python} -I {program} --url {url} --interval {interval:g} --machine {machine} \\
    --token-file ${{CREDENTIALS_DIRECTORY}}/token
LoadCredential=token:{token_file}
DynamicUser=yes
ProtectSystem=strict
ProtectHome=read-only
Restart=on-failure
RestartSec=60

[Install]
WantedBy=multi-user.target
"""


class Unusable(Exception):
    """The request cannot be carried out: one line for people."""


class Rejected(Exception):
    """The service answered, but not with 201. The text is one line for people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Reader:
    """Reads the machine. Between two samples it keeps the time counters of the CPU and of each process."""

    def __init__(self) -> None:
        self.clocks = cpu_clocks()
        self.times = {each: ticks for each, _, ticks, _ in processes()}
        self.highest: dict[str, list[dict[str, Any]]] = {}

    def sample(self) -> list[dict[str, Any]]:
        """A sample of the machine: one value for each metric that can be read here."""
        before, self.clocks = self.clocks, cpu_clocks()
        busy, total = self.clocks[0] - before[0], self.clocks[1] - before[1]
        memory, disk, swap = memory_figures(), os.statvfs("/"), swap_figures()
        self.highest = self.measure(total, memory[0])
        values = {
            "cpu_used": round(min(max(100.0 * busy / total, 0.0), 100.0), 1) if total > 0 else 0.0,
            "mem_used_b": float(memory[0] - memory[1]),
            "disk_used_b": float((disk.f_blocks - disk.f_bfree) * disk.f_frsize),
        }
        if swap[0]:
            values["swap_used_b"] = float(swap[0] - swap[1])
        load, disks = text_of("/proc/loadavg").split(), file_systems()
        if load:
            values["load_1m"] = float(load[0])
        if disks:
            values["disk"] = round(max(map(fullness, disks)), 1)
        values.update(network_figures())
        timestamp = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")  # noqa: UP017
        return [{"metric": metric, "value": value, "timestamp": timestamp} for metric, value in values.items()]


    def measure(self, total: float, memory: int) -> dict[str, list[dict[str, Any]]]:
        """The processes that use most since the last time: shares of the whole machine, summed by name."""
        used: dict[str, dict[str, float]] = {"cpu": {}, "ram": {}}
        times = {}
        for identity, name, ticks, resident in processes():
            times[identity] = ticks
            for what, amount in (("cpu", ticks - self.times.get(identity, ticks)), ("ram", resident)):
                used[what][name] = used[what].get(name, 0.0) + amount
        self.times = times
        return {what: highest(used[what], whole) for what, whole in (("cpu", total), ("ram", float(memory)))}


def highest(amounts: dict[str, float], whole: float) -> list[dict[str, Any]]:
    shares = ((name, round(min(100.0 * amount / whole, 100.0), 1)) for name, amount in amounts.items() if whole > 0)
    most = sorted(((name, share) for name, share in shares if share > 0), key=lambda each: -each[1])
    return [{"name": name, "share": share} for name, share in most[:MAX_PROCESSES]]


def processes() -> list[tuple[str, str, float, float]]:
    """Each process: what identifies it, its name, its CPU time in ticks, its resident bytes.

    Source: https://www.kernel.org/doc/html/latest/filesystems/proc.html (1.1, table 1-4)
    """
    found, page = [], os.sysconf("SC_PAGE_SIZE")
    for process in filter(str.isdigit, os.listdir("/proc")):
        start, _, rest = text_of(f"/proc/{process}/stat").rpartition(")")
        name = "".join(filter(str.isprintable, start.partition("(")[2])).strip()[:64]
        fields = rest.split()
        if name and len(fields) > 21:
            identity = f"{process} {fields[19]}"  # a number is used again; not with the same start
            found.append((identity, name, float(fields[11]) + float(fields[12]), float(fields[21]) * page))
    return found


def file_systems(mounted: str = "/proc/self/mountinfo", kinds: str = "/proc/filesystems") -> list[dict[str, Any]]:
    """Those mounted that something can be written to, the fullest first: on disks of this machine, and the root.

    Space that only root may use counts neither as free nor in all, so that shares are those of df(1). One that is
    mounted several times is there once. Sources: proc_pid_mountinfo(5), proc_filesystems(5).
    """
    lines = (line.split() for line in text_of(kinds).splitlines())
    on_disks = {line[0] for line in lines if len(line) == 1} | {"zfs", "bcachefs"}
    found, seen = [], set()
    for line in sorted((line.split() for line in text_of(mounted).splitlines()), key=mount_length):
        if len(line) < 10 or "-" not in line:
            continue
        device, mount, after = line[2], unescaped(line[4]), line[line.index("-") + 1 :]
        kind, options = after[0], after[-1].split(",")
        if device in seen or "ro" in options or kind in READ_ONLY_TYPES or not (kind in on_disks or mount == "/"):
            continue
        with contextlib.suppress(OSError):
            if not os.path.isdir(mount) or len(mount) > MAX_MOUNT or not mount.isprintable():
                continue
            figures = os.statvfs(mount)
            used = figures.f_blocks - figures.f_bfree
            if used + figures.f_bavail > 0:
                seen.add(device)
                size = figures.f_frsize
                total = (used + figures.f_bavail) * size
                found.append({"mount": mount, "used": used * size, "total": total, "inodes": inodes(figures)})
    return sorted(found, key=fullness, reverse=True)[:MAX_DISKS]


def mount_length(line: list[str]) -> int:
    return len(line[4]) if len(line) > 4 else 0


def unescaped(path: str) -> str:
    """A mount point as it is: the kernel writes space, tab, newline and backslash in octal."""
    for code in ("040", "011", "012", "134"):
        path = path.replace("\\" + code, chr(int(code, 8)))
    return path


def inodes(figures: os.statvfs_result) -> float | None:
    """Percent of the inodes in use; None where there is no limit."""
    used = figures.f_files - figures.f_ffree
    usable = used + figures.f_favail
    return round(100.0 * used / usable, 1) if figures.f_files and usable > 0 else None


def fullness(disk: dict[str, Any]) -> float:
    return float(max(100.0 * disk["used"] / disk["total"], disk["inodes"] or 0.0))


def failed_units() -> list[str] | None:
    """The units that systemd says have failed; None where there is no systemd, or no answer."""
    if not os.path.isdir("/run/systemd/system"):
        return None
    command = ["systemctl", "list-units", "--failed", "--plain", "--full", "--no-legend", "--no-pager"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=5, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (line.split() for line in done.stdout.decode("utf-8", "replace").splitlines())
    return [line[0] for line in lines if line and len(line[0]) <= 255][:MAX_UNITS]


def cpu_clocks() -> tuple[float, float]:
    """Busy and total time of all processors so far. Guest time is included in user and nice.

    Source: https://www.kernel.org/doc/html/latest/filesystems/proc.html (1.8)
    """
    fields = [float(each) for each in text_of("/proc/stat").split("\n", 1)[0].split()[1:9]]
    total = sum(fields)
    return total - fields[3] - (fields[4] if len(fields) > 4 else 0.0), total


def memory_figures() -> tuple[int, int]:
    """Total and available bytes of memory."""
    kilobytes = memory_lines()
    return kilobytes["MemTotal"] * 1024, kilobytes["MemAvailable"] * 1024


def swap_figures() -> tuple[int, int]:
    """Total and free bytes of swap; 0 where there is none."""
    kilobytes = memory_lines()
    return kilobytes.get("SwapTotal", 0) * 1024, kilobytes.get("SwapFree", 0) * 1024


def memory_lines() -> dict[str, int]:
    lines = [line.partition(":") for line in text_of("/proc/meminfo").splitlines()]
    return {name: int(value.split()[0]) for name, _, value in lines}


def network_figures() -> dict[str, float]:
    """Bytes and packets since boot, over all network cards."""
    lines = text_of("/proc/net/dev").splitlines()[2:]
    cards = [[float(each) for each in line.rpartition(":")[2].split()] for line in lines]
    sums = [sum(column) for column in zip(*cards)]  # noqa: B905  (Python 3.8)
    names = {"net_sent_b": 8, "net_recv_b": 0, "pkt_sent": 9, "pkt_recv": 1}
    return {name: sums[column] for name, column in names.items()} if sums else {}


def attributes(url: str, machine: str | None) -> dict[str, Any]:
    """What the machine is; `machine` is its identity if known. No other service is asked for its public address."""
    private_ip = own_address(url)
    mac_address = card_address(private_ip)
    disk = os.statvfs("/")
    return {
        "motherboard_id": machine or motherboard_id(mac_address),
        "mac_address": mac_address,
        "cpu_cores": os.cpu_count() or 1,
        "cpu_unit": "percent",
        "cpu_model": cpu_model(),
        "hostname": socket.gethostname(),
        "private_ip": private_ip,
        "operating_system": platform.system().lower(),
        "uptime": int(float(text_of("/proc/uptime").split()[0])),
        "kernel_version": platform.release(),
        "disk_total_bytes": disk.f_blocks * disk.f_frsize,
        "memory_total_bytes": memory_figures()[0],
        "swap_total_bytes": swap_figures()[0],
    }


def motherboard_id(mac_address: str | None, identities: tuple[str, ...] = IDENTITIES) -> str:
    """Identifies this machine: a hash, so that no serial number is sent.

    A container sees the board of its host; if nothing can be read, host name and network card are used.
    """
    known = f"{socket.gethostname()} {mac_address}"
    for path in identities:
        text = text_of(path).strip()
        if text.lower() not in NOT_AN_IDENTITY:
            contained = any(os.path.exists(mark) for mark in ("/.dockerenv", "/run/.containerenv"))
            known = f"{path} {text} {socket.gethostname() if contained else ''}"
            break
    return hashlib.sha256(("tocsin agent " + known).encode()).hexdigest()[:32]


def cpu_model() -> str:
    lines = (line.partition(":") for line in text_of("/proc/cpuinfo").splitlines())
    models = (value.strip() for name, _, value in lines if name.strip() in ("model name", "Model"))
    return next(filter(None, models), platform.processor() or platform.machine())


def own_address(url: str) -> str | None:
    """The local address of connections to the service. Nothing is sent to find it."""
    with contextlib.suppress(OSError):
        target = urlsplit(url)
        found = socket.getaddrinfo(target.hostname, target.port or 80, type=socket.SOCK_DGRAM)[0]
        with socket.socket(*found[:3]) as probe:
            probe.connect(found[4])
            return str(probe.getsockname()[0])
    return None


def card_address(private_ip: str | None) -> str | None:
    """The MAC address of the card with this IP address, else of the first card; as `00-0a-95-9d-67-16`."""
    try:
        cards = sorted(os.listdir("/sys/class/net"))
    except OSError:
        return None
    for card in sorted(cards, key=lambda each: ipv4_of(each) != private_ip):
        address = text_of(f"/sys/class/net/{card}/address").strip()
        if address.strip("0:-"):
            return address.lower().replace(":", "-")
    return None


def ipv4_of(card: str) -> str | None:
    """The card's address, asked of the kernel (SIOCGIFADDR, netdevice(7))."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe.fileno(), 0x8915, struct.pack("256s", card.encode()[:15]))
        return socket.inet_ntoa(answer[20:24])
    return None


def text_of(path: str) -> str:
    """The content of a file; empty if it cannot be read."""
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


class Sender:
    """Sends samples to one service, and keeps those that were not accepted."""

    def __init__(self, endpoint: str, token: str, machine: str | None, version: str) -> None:
        self.version = version
        self.endpoint = endpoint
        self.token = token
        self.machine = machine
        self.kept: deque[list[dict[str, Any]]] = deque(maxlen=KEPT)
        self.highest: dict[str, list[dict[str, Any]]] = {}
        self.units: tuple[float, list[str] | None] = (-UNITS_EVERY, None)

    def send(self) -> None:
        """Send all that is kept and forget it. Raises `Rejected` or `OSError`; what was not accepted stays.

        If the service answers 413, the newest are sent first, a few at a time.
        """
        try:
            self.post(list(self.kept))
            self.kept.clear()
        except Rejected as rejected:
            if rejected.status != 413:
                raise
            while newest := list(self.kept)[-AT_ONCE:]:
                self.post(newest)
                for _ in newest:
                    self.kept.pop()

    def post(self, samples: list[list[dict[str, Any]]]) -> None:
        body = {
            "attributes": attributes(self.endpoint, self.machine),
            "metrics": [metric for sample in samples for metric in sample],
            "agent_version": self.version or "0",
            "disks": file_systems(),
            "processes": self.highest,
        }
        if time.monotonic() - self.units[0] >= UNITS_EVERY:
            self.units = time.monotonic(), failed_units()
        if self.units[1] is not None:
            body["failed_units"] = self.units[1]
        name = "tocsin-agent/" + self.version
        headers = {"Authorization": self.token, "Content-Type": "application/json", "User-Agent": name}
        request = urllib.request.Request(self.endpoint, json.dumps(body).encode(), headers)  # noqa: S310  (checked)
        try:
            with opener(self.endpoint).open(request, timeout=TIMEOUT) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            with error:
                raise Rejected(error.code, refusal(self.endpoint, error)) from None
        except urllib.error.URLError as error:
            raise OSError(f"{self.endpoint} cannot be reached ({error.reason})") from None
        except (OSError, http.client.HTTPException) as error:
            raise OSError(f"{self.endpoint} cannot be reached ({str(error) or type(error).__name__})") from None
        if status != 201:
            raise Rejected(status, f"{self.endpoint} answered {status}, not 201: is it Tocsin's address?")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are not followed: the token is sent to the given address, and nowhere else."""

    def redirect_request(self, *given: Any) -> None:
        return None


def opener(address: str) -> urllib.request.OpenerDirector:
    """Uses the environment's proxy, except to this machine."""
    local = urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")
    return urllib.request.build_opener(NoRedirect, *([urllib.request.ProxyHandler({})] if local else []))


def refusal(endpoint: str, error: urllib.error.HTTPError) -> str:
    if error.code == 401:
        return f"{endpoint} does not accept the token: use the project's API token"
    text = str(error.reason)
    with contextlib.suppress(ValueError, AttributeError, OSError):
        text = str(json.loads(error.read(10_000)).get("message") or text)
    return f"{endpoint} answered {error.code}: {' '.join(text.split())[:300]}"


def run(sender: Sender, interval: float, once: bool, stop: threading.Event) -> None:
    """Sample and send until `stop`, or once. Raises `Unusable` if it makes no sense to continue."""
    reader, failing = Reader(), ""
    if stop.wait(min(FIRST_MEASURE, interval)):
        return
    while not stop.is_set():
        due = time.monotonic() + interval
        sender.kept.append(reader.sample())
        sender.highest = reader.highest
        try:
            sender.send()
            problem = ""
            if once or failing:
                print("sent to " + sender.endpoint, flush=True)  # noqa: T201
        except (Rejected, OSError) as error:
            problem = str(error)
            if once or getattr(error, "status", None) == 401:
                raise Unusable(problem) from None
            if problem != failing:
                say(f"{problem}; keeping up to {KEPT} samples and retrying")
        failing = problem
        if once or stop.wait(max(0.0, due - time.monotonic())):
            return


def install(url: str, token: str, interval: float) -> None:
    """Install as a systemd service that starts at boot. Needs root."""
    try:
        with opener(url).open(url + "/agent", timeout=TIMEOUT) as answer:
            program = answer.read()
        write(PROGRAM, program, 0o755)
        write(TOKEN_FILE, token.encode() + b"\n", 0o600)
        machine = motherboard_id(card_address(own_address(url)))
        paths = {"python": sys.executable, "program": PROGRAM, "token_file": TOKEN_FILE}
        unit = SERVICE_UNIT.format(url=url, interval=interval, machine=machine, **paths)
        write(UNIT, unit.encode(), 0o644)
        for command in (["daemon-reload"], ["enable", "tocsin-agent"], ["restart", "tocsin-agent"]):
            subprocess.run(["systemctl", *command], check=True)  # noqa: S603, S607
    except PermissionError as error:
        raise Unusable(f"{error.filename} cannot be written: run this as root") from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unusable(f"installation failed: {error}") from None
    say("installed and started; systemctl status tocsin-agent shows its status")


def update(url: str, version: str) -> None:
    """Replace this file by the service's version, checked; the old one is kept. Needs who may write it.

    Only over TLS, or from this machine: nobody else can have changed it on the way. The service says separately what
    the whole file's hash is.
    """
    if urlsplit(url).scheme != "https" and urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"):
        raise Unusable("--update needs an https address: over http, anybody on the way could change the program")
    path = os.path.abspath(__file__) if os.path.isfile(globals().get("__file__", "")) else PROGRAM
    try:
        with opener(url).open(url + "/agent", timeout=TIMEOUT) as answer:
            program = answer.read(MAX_PROGRAM + 1)
        with opener(url).open(url + "/agent.sha256", timeout=TIMEOUT) as answer:
            said = answer.read(200).decode("ascii", "replace").split()
        found = hashlib.sha256(program).hexdigest()
        if len(program) > MAX_PROGRAM or not said or not hmac.compare_digest(said[0].lower(), found):
            raise Unusable(f"not updated: what {url}/agent answered is not what it says the program is")
        compile(program, path, "exec", dont_inherit=True)
        current = Path(path).read_bytes()
        if current == program:
            say(f"{path} is up to date ({version or 'unknown version'})")
            return
        mode = os.stat(path).st_mode & 0o777
        write(path + ".old", current, mode)
        write(path, program, mode)
    except (SyntaxError, ValueError) as error:
        raise Unusable(f"not updated: what {url}/agent answered is no program ({error})") from None
    except PermissionError as error:
        raise Unusable(f"{error.filename} cannot be written: run this as its owner, or as root") from None
    except (OSError, http.client.HTTPException) as error:
        raise Unusable(f"not updated: {url}/agent cannot be had ({error})") from None
    say(f"{path} was replaced; the old one is {path}.old. systemctl restart tocsin-agent starts the new one")


def write(path: str, content: bytes, mode: int) -> None:
    """Write a file atomically; nobody else can read it before its mode is set."""
    fresh = path + ".new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    os.chmod(fresh, mode)
    os.replace(fresh, path)


def usable_url(url: str) -> str:
    good = False
    with contextlib.suppress(ValueError):
        address = urlsplit(url)
        good = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    if not good or any(character.isspace() or character in "%\"'\\" for character in url):
        raise Unusable("--url must be an address such as https://tocsin.example.com")
    return url.rstrip("/")


def usable_token(environ: dict[str, str], file: str | None) -> str:
    token = environ.get("TOCSIN_TOKEN", "")
    if file is not None:
        try:
            token = sys.stdin.read(MAX_TOKEN_LENGTH) if file == "-" else Path(file).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise Unusable(f"--token-file cannot be read ({error})") from None
    token = token.strip()
    if not token:
        raise Unusable("no token: set TOCSIN_TOKEN to the project's API token, or use --token-file")
    if not token.isascii() or not token.isprintable():
        raise Unusable("the token contains invalid characters")
    return token


def main(arguments: list[str], environ: dict[str, str], version: str = VERSION, warning: str = "") -> int:
    """Exit status: 0 at the end, 1 if it cannot continue, 2 for bad usage; errors are one line on standard error."""
    parser = argparse.ArgumentParser("tocsin-agent", description="Reports this machine to Tocsin.", allow_abbrev=False)
    parser.add_argument("--url", default=SERVICE, help=f"address of the service {SERVICE}".rstrip())
    parser.add_argument("--token-file", help="file with the API token (- is standard input), instead of TOCSIN_TOKEN")
    parser.add_argument("--interval", type=float, default=60.0, help="seconds between two samples (60)")
    parser.add_argument("--once", action="store_true", help="send one report and exit; status 1 if it was not accepted")
    parser.add_argument("--install", action="store_true", help="install as a systemd service; needs root")
    parser.add_argument("--update", action="store_true", help="replace this file by the service's version, checked")
    parser.add_argument("--machine", help="the identity of this machine, if it cannot be detected")
    parser.add_argument("--version", action="version", version=version or "unknown")
    given = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    status = 2
    try:
        if not os.path.exists("/proc/stat"):
            raise Unusable("this agent is for Linux: there is no /proc here")
        if not 0.2 <= given.interval <= 3600:
            raise Unusable("--interval must be seconds from 0.2 to 3600")
        url = usable_url(given.url)
        if given.update:
            status = 1
            update(url, version)
            return 0
        token = usable_token(environ, given.token_file)
        status = 1
        if warning:
            say(warning)
        if given.install:
            install(url, token, given.interval)
        else:
            sender = Sender(url + "/api/v1/server_metrics", token, given.machine, version)
            run(sender, given.interval, given.once, stop)
    except Unusable as error:
        say(str(error))
        return status
    return 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
