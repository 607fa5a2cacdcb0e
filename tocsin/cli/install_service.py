"""`tocsin install-service`: a systemd unit that keeps Tocsin running, and starts it with the machine."""

from __future__ import annotations

import difflib
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import platformdirs

from tocsin.cli import unit

SYSTEM_UNITS = Path("/etc/systemd/system")
HOST = re.compile(r"[A-Za-z0-9_.:%][A-Za-z0-9_.:%-]*")


@click.command("install-service")
@click.option("--user", "of_a_user", is_flag=True, help="For you alone, without root. See also: enable-linger.")
@click.option("--part", type=click.Choice(list(unit.WORDS)), default="up", show_default=True, help="What is to run.")
@click.option("--host", help="The address that up or serve listens on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65_535), help="Its port.  [default: 8000]")
@click.option("--dry-run", is_flag=True, help="Print what would be done, the unit included, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--data-dir", hidden=True, help="Refused: the unit says where its data is.")
def command(
    of_a_user: bool, part: unit.Part, host: str | None, port: int | None, dry_run: bool, yes: bool, data_dir: str | None
) -> None:
    """Install and start a hardened systemd service. Says what it will do, and asks first.

    The system's service runs as the account `tocsin`, which is made if need be; its data is in /var/lib/tocsin, and its
    settings are read from /etc/tocsin.env. Commands such as `tocsin project` then run as that account.
    """
    if data_dir is not None:
        own = f"set TOCSIN_DATA_DIR in ~/.config/{Path(unit.SETTINGS).name}"
        where = own if of_a_user else f"its data is in {unit.STATE}, and it can write nowhere else"
        raise click.UsageError(f"--data-dir is not for a service: {where}")
    if host is not None and not HOST.fullmatch(host):
        raise click.UsageError(f"--host must be an address or a name to listen on, not {host!r}")
    if (host or port) and part not in ("up", "serve"):
        raise click.UsageError(f"{part} listens nowhere: --host and --port are for up and serve")
    words = [sys.executable, "-P", "-m", "tocsin", part]
    words += ["--host", host] if host else []
    words += ["--port", str(port)] if port else []
    try:
        text = unit.text(part, words, of_a_user=of_a_user)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    file = (platformdirs.user_config_path("systemd") / "user" if of_a_user else SYSTEM_UNITS) / unit.name(part)
    steps = _steps(part, of_a_user=of_a_user)
    click.echo(f"{_change(file, text)}\n\n{text}")
    for step in steps:
        click.echo(f"run   {shlex.join(step)}")
    try:
        _require(of_a_user)
    except click.ClickException as error:
        raise click.ClickException(f"{'without --dry-run, this is refused: ' * dry_run}{error.message}") from None
    if dry_run:
        return
    if not yes:
        click.confirm("Do this?", abort=True, err=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    _write(file, text)
    for step in steps:
        if subprocess.run(step, check=False).returncode:  # noqa: S603
            raise click.ClickException(f"{shlex.join(step)} failed; {file} is there, nothing after that was done")
    scope = ["--user"] if of_a_user else []
    click.echo(f"Running. See: {shlex.join(['systemctl', *scope, 'status', unit.name(part)])}")


def _change(file: Path, text: str) -> str:
    """What becomes of the file that is to have that text, and how it differs from what is there."""
    if file.is_symlink():
        raise click.ClickException(
            f"{file} is a link to {file.readlink()}, as of a unit that is masked or kept elsewhere; remove it first"
        )
    try:
        there = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return f"write {file}:"
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read ({error.strerror})") from None
    if there == text:
        return f"keep  {file}, which is there already:"
    changed = [each for each in difflib.ndiff(there.splitlines(), text.splitlines()) if each[0] in "+-"]
    lines = "\n".join(f"      {each}" for each in changed)
    return f"replace {file}, which is there and differs (use systemctl edit for changes of your own):\n{lines}"


def _steps(part: unit.Part, *, of_a_user: bool) -> list[list[str]]:
    systemctl = ["systemctl", "--user"] if of_a_user else ["systemctl"]
    account = ["useradd", "--system", "--user-group", "--home-dir", unit.STATE, "--no-create-home", "--shell",
               "/usr/sbin/nologin", unit.ACCOUNT]  # fmt: skip
    made = [] if of_a_user or _exists(unit.ACCOUNT) else [account]
    return [*made, [*systemctl, "daemon-reload"], [*systemctl, "enable", unit.name(part)],
            [*systemctl, "restart", unit.name(part)]]  # fmt: skip


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def _require(of_a_user: bool) -> None:
    if not of_a_user:
        _require_system()
    if shutil.which("systemctl") is None:
        raise click.ClickException("this system has no systemd (systemctl is missing); start `tocsin up` another way")


def _require_system() -> None:
    if os.geteuid() != 0:
        raise click.ClickException("a service of the system needs root: use sudo, or --user for a service of your own")
    for place in (*_links(Path(sys.executable)), Path(sys.prefix), Path(sys.base_prefix), Path(__file__)):
        if found := _closed(place):
            raise click.ClickException(
                f"Tocsin runs from {place}, which the service's account cannot reach ({found} is closed to it); "
                "install it into a folder such as /opt/tocsin, with the system's Python: /usr/bin/python3 -m venv "
                "/opt/tocsin && /opt/tocsin/bin/pip install tocsin"
            )


def _links(place: Path) -> Iterator[Path]:
    """A path, and where each of its links leads."""
    yield place
    while place.is_symlink():
        place = Path(os.path.abspath(place.parent / place.readlink()))
        yield place
    yield place.resolve()


def _closed(place: Path) -> Path | None:
    """The folder on the way there that is closed to others, or to services."""
    for each in place.parents if place.is_file() else (place, *place.parents):
        if str(each) in ("/home", "/root", "/run/user") or not each.stat().st_mode & stat.S_IXOTH:
            return each
    return None


def _write(file: Path, text: str) -> None:
    new = file.with_name(f".{file.name}.new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o644)
    new.rename(file)
