"""The guide to three machines, followed step by step: its files, as they stand in it, on three network namespaces."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.cluster.keeper import Keeper
from tests.cluster.patroni import STARTING, reaching
from tests.namespaces import Namespace, namespace
from tests.needed import missing, program
from tests.processes import NO_AUTHORITIES, clean_environ
from tests.service import KEY
from tests.waiting import poll
from tocsin.storage.postgres import binaries

GUIDE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
MACHINE = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/postgresql /var/lib/etcd
mkdir -m 0700 /var/lib/postgresql
chown {owner} /run/postgresql /var/lib/postgresql
exec "$@"
"""
"""What a machine of its own has, and this one is not to see."""


def file_of(path: str) -> str:
    """A file that the guide shows: indented, after a line that begins with its name."""
    shown = re.search(rf"`{re.escape(path)}`[^\n]*:\n\n((?:    [^\n]*\n|\n)+)", GUIDE)
    assert shown, f"the guide shows no {path}"
    return re.sub("^    ", "", shown[1], flags=re.MULTILINE)


def on_machine(number: int, text: str, same: str) -> str:
    """The first machine's file with another one's name and address, but for the line that is the same on all."""
    lines = [
        line if line.strip().startswith(same)
        else line.replace("pg-1", f"pg-{number}").replace("192.0.2.11", f"192.0.2.1{number}")
        for line in text.splitlines()
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


@dataclass
class Guided:
    """What the guide led to. `outside`: the network's namespace, where everybody else is."""

    outside: Namespace
    folder: Path
    keeper: Keeper

    def members(self) -> list[dict[str, Any]]:
        def ask() -> list[dict[str, Any]]:
            for number in (1, 2, 3):
                with suppress(httpx.HTTPError):
                    answer = httpx.get(f"http://192.0.2.1{number}:8008/cluster", timeout=2, verify=NO_AUTHORITIES)
                    return list(answer.json()["members"])
            return []

        return self.outside.call(ask)

    def whole(self) -> bool:
        return sorted((each["role"], each["state"]) for each in self.members()) == [
            ("leader", "running"), ("replica", "streaming"), ("sync_standby", "streaming"),
        ]  # fmt: skip

    def primary(self) -> str:
        return next(str(each["host"]) for each in self.members() if each["role"] == "leader")

    def run(self, url: str, *statements: str) -> list[Any]:
        """What each of them finds."""

        async def work() -> list[Any]:
            connection = await asyncpg.connect(url, timeout=10)
            try:
                return [await connection.fetchval(statement) for statement in statements]
            finally:
                await connection.close()

        return self.outside.run(work())

    def tocsin(self, *words: str) -> subprocess.CompletedProcess[str]:
        inside = [program("ip"), "netns", "exec", self.outside.name]
        return subprocess.run(
            [*inside, sys.executable, "-m", "tocsin", *words, "--data-dir", self.folder / "tocsin"],
            env=clean_environ(), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def tail(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-800:]}" for log in logs)


@contextmanager
def guided() -> Iterator[Guided]:
    if os.geteuid() != 0:
        missing("network namespaces need root")
    ip, etcd, unshare = program("ip"), program("etcd"), program("unshare")
    folder = Path(tempfile.mkdtemp(prefix="tocsin-guide"))
    folder.chmod(0o755)
    runner = binaries.account(folder / "none")
    keeper = Keeper(folder)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        outside = stack.enter_context(namespace())
        inside = [stack.enter_context(namespace()) for _ in range(3)]
        stack.callback(keeper.end)
        outside.command(ip, "link", "add", "network", "type", "bridge", check=True)
        for address in ("192.0.2.1/24", "192.0.2.20/24"):
            outside.command(ip, "address", "add", address, "dev", "network", check=True)
        outside.command(ip, "link", "set", "network", "up", check=True)
        machine = ["sh", "-c", MACHINE.format(owner=runner.name), "machine"]
        for number, each in enumerate(inside, 1):
            wire = ["type", "veth", "peer", "name", "wire", "netns", each.name]
            outside.command(ip, "link", "add", f"to-{number}", *wire, check=True)
            outside.command(ip, "link", "set", f"to-{number}", "master", "network", "up", check=True)
            each.command(ip, "address", "add", f"192.0.2.1{number}/24", "dev", "wire", check=True)
            each.command(ip, "link", "set", "wire", "up", check=True)
            named = on_machine(number, file_of("/etc/default/etcd"), "ETCD_INITIAL_CLUSTER=")
            environ = dict(line.split("=", 1) for line in named.split()) | {"ETCD_DATA_DIR": "/var/lib/etcd/default"}
            on = [ip, "netns", "exec", each.name, unshare, "-m", *machine]
            keeper.run([*on, etcd], folder / f"etcd-{number}.log", {**environ, **PATHS})
            config = folder / f"pg-{number}.yml"
            text = on_machine(number, file_of("/etc/patroni.yml"), "hosts:")
            config.write_text(re.sub("bin_dir: .*", f"bin_dir: {binaries.programs(runner)}", text))
            os.chown(config, runner.uid, runner.gid)
            config.chmod(0o600)
            keeper.run(
                [*on, *as_owner(runner), sys.executable, "-m", "patroni", config], folder / f"pg-{number}.log",
                {**PATHS, "HOME": "/var/lib/postgresql"},
            )
        yield Guided(outside, folder, keeper)


PATHS = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def as_owner(runner: binaries.Account) -> list[str]:
    plainly = [program("setpriv"), "--reuid", str(runner.uid), "--regid", str(runner.gid), "--clear-groups"]
    return reaching(runner) or plainly


def test_whoever_follows_the_guide_has_a_cluster_that_doctor_is_content_with(tmp_path: Path) -> None:
    haproxy = program("haproxy")
    with guided() as cluster:
        poll(cluster.whole, timeout=STARTING, what=lambda: f"a whole cluster; {cluster.members()}\n{cluster.tail()}")
        first = cluster.primary()
        superuser = f"postgresql://postgres:CHANGE-ME-2@{first}/postgres"
        cluster.run(superuser, "CREATE ROLE tocsin LOGIN PASSWORD 'PASSWORD'", "CREATE DATABASE tocsin OWNER tocsin")
        cluster.run(superuser, "GRANT pg_monitor TO tocsin")

        (cluster.folder / "tocsin").mkdir()
        ours = file_of("/var/lib/tocsin/.env").replace("THE-SAME-KEY-ON-BOTH", KEY)
        (cluster.folder / "tocsin" / ".env").write_text(ours)
        made = cluster.tocsin("migrate", "--first-start", "https://tocsin.example.com")
        assert made.returncode == 0, made.stderr
        said = cluster.tocsin("doctor")
        assert f"answers at {first}:5432" in said.stdout, said
        assert "replication" not in said.stdout.replace("ok    replication", ""), said.stdout
        assert "synchronous" in said.stdout

        config = tmp_path / "haproxy.cfg"
        config.write_text(file_of("/etc/haproxy/haproxy.cfg"))
        inside = [program("ip"), "netns", "exec", cluster.outside.name]
        cluster.keeper.run([*inside, haproxy, "-f", config, "-db"], cluster.folder / "haproxy.log", PATHS)
        by_proxy = "postgresql://tocsin:PASSWORD@192.0.2.20/tocsin"

        def leads_to(address: str) -> bool:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                return cluster.run(by_proxy, "SELECT host(inet_server_addr())") == [address]
            return False

        poll(lambda: leads_to(first), timeout=STARTING, what=lambda: f"HAProxy to find the primary\n{cluster.tail()}")


def test_systemd_has_nothing_to_say_about_the_guide_s_unit(tmp_path: Path) -> None:
    unit = tmp_path / "patroni.service"
    text = file_of("/etc/systemd/system/patroni.service").replace("/opt/patroni/bin/patroni", sys.executable)
    unit.write_text(text)
    done = subprocess.run(
        [program("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "patroni" in line]) == (0, []), done.stderr
