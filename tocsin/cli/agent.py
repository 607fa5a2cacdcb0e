"""`tocsin agent`: sends this machine's real metrics, as the public agent does.

The standard library and psutil are all that it needs, so that it stays small on the machines that it watches.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import platform
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import click
import psutil
from click.core import ParameterSource

from tocsin import __version__

LONGEST_BUFFER = 360
"""Samples that are kept while the service cannot be reached: six hours of one a minute."""
AFTER_TOO_LARGE = 6
"""Samples that are sent after an answer of 413."""
TIMEOUT = 20
LONGEST_TOKEN = 1_000
FIRST_MEASURE = 1.0
"""Seconds over which the first CPU figure is taken; later ones span the interval."""

IDENTITIES = ("/sys/class/dmi/id/board_serial", "/sys/class/dmi/id/product_uuid", "/etc/machine-id")
NOT_AN_IDENTITY = {"", "unknown", "none", "default string", "not specified", "to be filled by o.e.m.", "uninitialized"}

Sample = list[dict[str, Any]]


class Rejected(Exception):
    """The service answered, but not with 201. The text is one line for people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@click.command()
@click.option("--url", required=True, help="Address of the service, such as https://tocsin.example.com.")
@click.option("--token-file", metavar="FILE", help="A file with the project's API token in it; - is standard input.")
@click.option("--token", envvar="TOCSIN_TOKEN", help="The token itself, for everybody here to read.")
@click.option("--interval", type=click.FloatRange(0.2, 3600), default=60, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Send one report and end; exit 1 if it was not accepted.")
@click.option("--data-dir", hidden=True, help="Taken by every command; the agent keeps no data.")
@click.pass_context
def agent(
    context: click.Context, url: str, token: str | None, token_file: str | None, interval: float, once: bool,
    data_dir: str | None,
) -> None:
    """Send this machine's CPU, memory, disk and network figures to Tocsin.

    The project's API token is taken from --token-file, or else from the environment: TOCSIN_TOKEN.
    """
    endpoint = _endpoint(url)
    secret = _token(token, token_file)
    if context.get_parameter_source("token") is ParameterSource.COMMANDLINE:
        click.echo("everybody on this machine can read a --token: put it into TOCSIN_TOKEN or a --token-file", err=True)
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    psutil.cpu_percent()
    if stop.wait(min(FIRST_MEASURE, interval)):
        return
    buffer: deque[Sample] = deque(maxlen=LONGEST_BUFFER)
    failing = ""
    while not stop.is_set():
        due = time.monotonic() + interval
        buffer.append(sample())
        problem = _send(endpoint, secret, buffer)
        if problem is None:
            if once or failing:
                click.echo(f"sent to {endpoint}")
        elif once or (isinstance(problem, Rejected) and problem.status == 401):
            raise click.ClickException(str(problem))
        elif str(problem) != failing:
            click.echo(f"{problem}; keeping up to {LONGEST_BUFFER} samples and trying again", err=True)
        failing = str(problem or "")
        if once or stop.wait(max(0.0, due - time.monotonic())):
            return


def sample() -> Sample:
    """What the machine does at this moment: one value for each metric that can be read here."""
    values: dict[str, float] = {
        "cpu_used": min(100.0, psutil.cpu_percent()),
        "mem_used_b": float((memory := psutil.virtual_memory()).total - memory.available),
        "disk_used_b": float(_disk().used),
    }
    with contextlib.suppress(OSError, RuntimeError):
        if counters := psutil.net_io_counters():
            values |= {
                "net_sent_b": float(counters.bytes_sent),
                "net_recv_b": float(counters.bytes_recv),
                "pkt_sent": float(counters.packets_sent),
                "pkt_recv": float(counters.packets_recv),
            }
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [{"metric": metric, "value": value, "timestamp": timestamp} for metric, value in values.items()]


def attributes(url: str) -> dict[str, Any]:
    """What the machine is. The address by which others see it is not asked of anybody, and left out if not its own."""
    private_ip = _address(url)
    mac_address = _mac_address(private_ip)
    return {
        "motherboard_id": motherboard_id(mac_address),
        "mac_address": mac_address,
        "cpu_cores": psutil.cpu_count() or 1,
        "cpu_unit": "percent",
        "cpu_model": _cpu_model(),
        "hostname": socket.gethostname(),
        "private_ip": private_ip,
        "operating_system": platform.system().lower(),
        "uptime": int(time.time() - psutil.boot_time()),
        "kernel_version": platform.release(),
        "disk_total_bytes": _disk().total,
        "memory_total_bytes": psutil.virtual_memory().total,
    }


def motherboard_id(mac_address: str | None, identities: Sequence[str] = IDENTITIES) -> str:
    """What tells this machine from others: a hash, so that no serial number leaves it.

    A container sees the board of its host; where nothing can be read, name and network card must do.
    """
    for path in identities:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = Path(path).read_text(encoding="utf-8").strip()
            if text.lower() not in NOT_AN_IDENTITY:
                return _hashed(f"{path} {text} {socket.gethostname() if _in_container() else ''}")
    return _hashed(f"{socket.gethostname()} {mac_address}")


def _hashed(text: str) -> str:
    return hashlib.sha256(f"tocsin agent {text}".encode()).hexdigest()[:32]


def _in_container() -> bool:
    return any(Path(path).exists() for path in ("/.dockerenv", "/run/.containerenv"))


def _disk() -> Any:
    return psutil.disk_usage(str(Path(sys.executable).anchor or "/"))


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def _address(url: str) -> str | None:
    """The address that this machine would speak to the service from. Nothing is sent to find out."""
    target = urlsplit(url)
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(target.hostname, target.port or 80, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    return None


def _mac_address(private_ip: str | None) -> str | None:
    """That of the network card with this address, else the first there is; as `00-0a-95-9d-67-16`."""
    with contextlib.suppress(OSError):
        cards = psutil.net_if_addrs().values()
        ordered = sorted(cards, key=lambda card: all(each.address != private_ip for each in card))
        for each in (each for card in ordered for each in card):
            if each.family == psutil.AF_LINK and each.address.strip("0:-"):
                return str(each.address).lower().replace(":", "-")
    return None


def _send(endpoint: str, token: str, buffer: deque[Sample]) -> Rejected | OSError | None:
    """Send all samples, oldest first, and forget them; or what came in between, and they are kept."""
    try:
        try:
            _post(endpoint, token, list(buffer))
        except Rejected as rejected:
            if rejected.status != 413:
                raise
            _post(endpoint, token, list(buffer)[-AFTER_TOO_LARGE:])
    except (Rejected, OSError) as problem:
        return problem
    buffer.clear()
    return None


def _post(endpoint: str, token: str, samples: Sequence[Sample]) -> None:
    body = {
        "attributes": attributes(endpoint),
        "metrics": [metric for sample in samples for metric in sample],
        "agent_version": __version__,
    }
    request = urllib.request.Request(  # noqa: S310  (the scheme was checked)
        endpoint,
        json.dumps(body).encode(),
        {"Authorization": token, "Content-Type": "application/json", "User-Agent": f"tocsin-agent/{__version__}"},
    )
    try:
        with _opener(endpoint).open(request, timeout=TIMEOUT) as answer:
            if answer.status != 201:
                raise Rejected(answer.status, f"{endpoint} answered {answer.status}, not 201: is it Tocsin's address?")
    except urllib.error.HTTPError as error:
        with error:
            raise Rejected(error.code, _refusal(endpoint, error)) from None
    except urllib.error.URLError as error:
        raise OSError(f"{endpoint} cannot be reached ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{endpoint} cannot be reached ({error or type(error).__name__})") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like another: the token goes to the address that was given, and nowhere else."""

    def redirect_request(self, *given: Any) -> None:
        return None


def _opener(endpoint: str) -> urllib.request.OpenerDirector:
    """By the environment's proxy, except to this very machine."""
    local = urlsplit(endpoint).hostname in ("localhost", "127.0.0.1", "::1")
    return urllib.request.build_opener(_NoRedirect, *([urllib.request.ProxyHandler({})] if local else []))


def _refusal(endpoint: str, error: urllib.error.HTTPError) -> str:
    if error.code == 401:
        return f"{endpoint} does not accept the token: use the project's API token (`tocsin project create` prints it)"
    text = error.reason
    with contextlib.suppress(ValueError, AttributeError, OSError):
        text = str(json.loads(error.read(10_000)).get("message") or text)
    return f"{endpoint} answered {error.code}: {' '.join(str(text).split())[:300]}"


def _endpoint(url: str) -> str:
    try:
        address = urlsplit(url)
        good = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        good = False
    if not good or any(character.isspace() for character in url):
        raise click.BadParameter("must be an address such as https://tocsin.example.com", param_hint="--url")
    return f"{url.rstrip('/')}/api/v1/server_metrics"


def _token(given: str | None, file: str | None) -> str:
    if file is not None:
        try:
            given = sys.stdin.read(LONGEST_TOKEN) if file == "-" else Path(file).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"cannot be read ({error})", param_hint="--token-file") from None
    token = (given or "").strip()
    if not token:
        raise click.UsageError("no token: give --token-file, or put it into TOCSIN_TOKEN")
    if not token.isascii() or not token.isprintable():
        raise click.UsageError("the token has characters that no token has")
    return token
