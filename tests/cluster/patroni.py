"""A whole cluster on this machine: etcd, and three PostgreSQL servers, each watched over by its Patroni.

Every node reaches the others and etcd by wires alone, as a machine does by its network; when they fall silent it has
vanished. `docs/cluster.md` has the same settings for three machines, and their reasons.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import yaml

from tests.cluster.etcd import Etcd
from tests.cluster.keeper import Keeper
from tests.cluster.nodes import DATABASE, SETTINGS, USER
from tests.cluster.wires import Wire
from tests.needed import program
from tests.processes import NO_AUTHORITIES
from tests.waiting import poll
from tocsin.cli.sockets import free_port
from tocsin.storage.postgres import binaries
from tocsin.storage.postgres.binaries import Account

NAMES = ("pg-1", "pg-2", "pg-3")
TTL = 20
"""Seconds without a word of its owner after which the leader's key lapses: the least that Patroni takes. All that a
vanished primary costs is this."""
DYNAMIC: dict[str, Any] = {
    "ttl": TTL,
    "loop_wait": 1,  # how often each looks: 10 is enough for a ttl of 30, but tests wait for it
    "retry_timeout": 3,  # the least; loop_wait + 2 * retry_timeout must fit into ttl
    "primary_start_timeout": 0,  # a primary that crashed is replaced, not started again where it was
    "synchronous_mode": True,
    "maximum_lag_on_failover": 1_048_576,
    "postgresql": {
        "use_pg_rewind": True, "use_slots": True, "remove_data_directory_on_rewind_failure": True,
        "remove_data_directory_on_diverged_timelines": True,
    },
}  # fmt: skip
PARAMETERS = {
    **SETTINGS, "wal_log_hints": "on", "log_line_prefix": "%m ", "log_timezone": "UTC", "scram_iterations": "16",
    "max_connections": "80",
}  # fmt: skip
del PARAMETERS["listen_addresses"], PARAMETERS["unix_socket_directories"]
PROMOTED = " LOG:  database system is ready to accept connections"
STARTING = 90.0
"""Seconds in which a cluster must be made, or be whole again, on a machine that is busy with other things."""


class Node:
    """One machine of the cluster: a PostgreSQL and its Patroni. `wires`: the only ways to them and from them."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.name = name
        self.folder = cluster.folder / name
        self.log = cluster.folder / f"{name}.log"
        self.config = cluster.folder / f"{name}.yml"
        self.port, self.rest = free_port(), free_port()
        self.wires = [Wire(self.port), Wire(self.rest), Wire(cluster.etcd.port)]
        self._cluster = cluster
        self._patroni: psutil.Process | None = None
        cluster.write(self.config, yaml.safe_dump(self._settings()))

    @property
    def public_port(self) -> int:
        """Where PostgreSQL is for everybody else."""
        return self.wires[0].port

    def start(self) -> None:
        command = [sys.executable, "-m", "patroni", str(self.config)]
        self._patroni = psutil.Process(self._cluster.run(command, self.log))

    def kill_postgres(self) -> None:
        """kill -9 of PostgreSQL's first process."""
        with suppress(psutil.NoSuchProcess):
            self._postmaster().kill()

    def kill_patroni(self) -> None:
        """kill -9 of Patroni alone; nobody watches over its PostgreSQL then."""
        assert self._patroni is not None
        with suppress(psutil.NoSuchProcess):
            self._patroni.kill()

    def kill(self) -> None:
        """kill -9 of everything on it, as when its power goes."""
        for member in self._family():
            with suppress(psutil.NoSuchProcess):
                member.kill()

    def freeze(self) -> None:
        """Everything on it stands still: connections stay, and say nothing."""
        for member in self._family():
            with suppress(psutil.NoSuchProcess):
                member.suspend()

    def thaw(self) -> None:
        for member in reversed(self._family()):
            with suppress(psutil.NoSuchProcess):
                member.resume()

    def vanish(self) -> None:
        """All packets to it and from it are dropped."""
        for wire in self.wires:
            wire.vanish()

    def come_back(self) -> None:
        for wire in self.wires:
            wire.come_back()

    @property
    def alive(self) -> bool:
        return self._patroni is not None and self._patroni.is_running()

    def promoted_at(self, since: float) -> float | None:
        """When it became the primary (as `time.time()`), if it did since then: as its own log says."""
        for line in reversed(self.log.read_text(errors="replace").splitlines()):
            if line.endswith(PROMOTED):
                stamp = " ".join(line.split()[:2])
                at = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp()
                return at if at > since else None
        return None

    async def run(self, query: str, *arguments: object, database: str = DATABASE) -> list[asyncpg.Record]:
        """As the superuser, past its wire."""
        connection = await asyncpg.connect(
            f"postgresql://postgres:{self._cluster.password}@127.0.0.1:{self.port}/{database}", timeout=10
        )
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    def _postmaster(self) -> psutil.Process:
        try:
            pid = int((self.folder / "postmaster.pid").read_text().split("\n")[0])
        except (OSError, ValueError):
            raise psutil.NoSuchProcess(0) from None
        return psutil.Process(pid)

    def _family(self) -> list[psutil.Process]:
        found = []
        for first in (lambda: self._patroni, self._postmaster):
            with suppress(psutil.NoSuchProcess):
                if (process := first()) is not None:
                    found += [process, *process.children(recursive=True)]
        return found

    def _settings(self) -> dict[str, Any]:
        cluster, words = self._cluster, {"password": self._cluster.password}
        return {
            "scope": "tocsin",
            "name": self.name,
            "log": {"level": "INFO"},
            "restapi": {
                "listen": f"127.0.0.1:{self.rest}", "connect_address": f"127.0.0.1:{self.wires[1].port}",
                "authentication": {"username": "patroni", **words},
            },
            "etcd3": {"host": f"127.0.0.1:{self.wires[2].port}", "use_proxies": True},
            "bootstrap": {
                "dcs": DYNAMIC,
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.public_port}",
                "data_dir": str(self.folder),
                "bin_dir": str(cluster.programs),
                "pgpass": str(cluster.folder / f"{self.name}.pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", **words},
                    "replication": {"username": "replicator", **words},
                    "rewind": {"username": "rewinder", **words},
                },
                "basebackup": {"checkpoint": "fast", "no-sync": ""},
                "parameters": {**PARAMETERS, "unix_socket_directories": ""},
                "pg_hba": [
                    "host replication replicator 127.0.0.1/32 scram-sha-256",
                    "host all all 127.0.0.1/32 scram-sha-256",
                ],
            },
        }  # fmt: skip


class Cluster:
    """The nodes, in the order in which `url` names them. Made by `cluster`."""

    def __init__(self, folder: Path, keeper: Keeper, runner: Account) -> None:
        self.folder = folder
        self.password = secrets.token_urlsafe(16)
        self.programs = binaries.programs(runner)
        self._keeper = keeper
        self._runner = runner
        self._prefix = reaching(runner)
        self.etcd = Etcd(folder, self.run)
        self.nodes = [Node(self, name) for name in NAMES]

    @property
    def url(self) -> str:
        """The address of the database, with all its hosts."""
        return self.url_of(*self.nodes)

    def url_of(self, *nodes: Node) -> str:
        hosts = ",".join(f"127.0.0.1:{node.public_port}" for node in nodes)
        return f"postgresql://{USER}:{self.password}@{hosts}/{DATABASE}"

    def write(self, file: Path, text: str) -> None:
        """A file that its account alone may read."""
        file.touch(mode=0o600)
        if self._runner.switch:
            os.chown(file, self._runner.uid, self._runner.gid)
        file.write_text(text)

    def run(self, command: list[str], log: Path) -> int:
        """Start a program that ends with this process; its process id."""
        account = (self._runner.uid, self._runner.gid) if self._runner.switch and not self._prefix else None
        environ = {**binaries.ENVIRONMENT, "HOME": str(self.folder)}
        return self._keeper.run([*self._prefix, *command], log, environ, account)

    def members(self) -> dict[str, dict[str, Any]]:
        """What Patroni says of each node, as the first one says it that answers; nothing if none does."""
        for node in self.nodes:
            with suppress(httpx.HTTPError):
                answer = httpx.get(f"http://127.0.0.1:{node.rest}/cluster", timeout=2, verify=NO_AUTHORITIES)
                return {each["name"]: each for each in answer.json()["members"]}
        return {}

    def primary(self) -> Node:
        """The node that is the primary, once there is one."""
        leading = poll(self._leading, timeout=STARTING, what=lambda: f"a primary:\n{self.tail()}")
        return next(node for node in self.nodes if node.name == leading)

    def standbys(self) -> list[Node]:
        """The others, the synchronous one first."""
        roles = {name: each["role"] for name, each in self.members().items()}
        others = [node for node in self.nodes if roles.get(node.name) in ("sync_standby", "replica")]
        return sorted(others, key=lambda node: roles[node.name] != "sync_standby")

    def whole(self) -> bool:
        """Everybody runs: one primary, a synchronous standby, and another one that follows."""
        members = self.members().values()
        roles = sorted(each["role"] for each in members)
        states = {each["state"] for each in members if each["role"] != "leader"}
        return roles == ["leader", "replica", "sync_standby"] and states == {"streaming"}

    def wait_until_whole(self, say: Callable[[str], None] = lambda _: None) -> None:
        said: set[str] = set()

        def look() -> bool:
            for name, each in self.members().items():
                words = f"{name}: {each['role'].replace('_', ' ')}, {each['state']}"
                if words not in said:
                    said.add(words)
                    say(words)
            return self.whole()

        poll(look, timeout=STARTING, what=lambda: f"a whole cluster; {self.members()}\n{self.tail()}")

    def heal(self) -> None:
        """Everything that was done to it is undone; back when it is whole."""
        self.etcd.thaw()
        for node in self.nodes:
            node.come_back()
            node.thaw()
            if not node.alive:
                node.start()
        self.change(synchronous_mode_strict=None)
        self.wait_until_whole()

    def change(self, **settings: Any) -> None:
        """Change what Patroni keeps for all nodes; None: what it is otherwise."""
        poll(lambda: self._changed(settings), timeout=STARTING, what=lambda: f"a Patroni that answers:\n{self.tail()}")

    def switch_over(self, to: Node) -> None:
        """What `patronictl switchover` does."""
        leader = self.primary()
        self._ask("POST", leader, "/switchover", {"leader": leader.name, "candidate": to.name})

    def _changed(self, settings: dict[str, Any]) -> bool:
        for node in self.nodes:
            with suppress(httpx.TransportError):
                self._ask("PATCH", node, "/config", settings)
                return True
        return False

    def _ask(self, method: str, node: Node, path: str, body: dict[str, Any]) -> None:
        address, who = f"http://127.0.0.1:{node.rest}{path}", ("patroni", self.password)
        answer = httpx.request(method, address, json=body, auth=who, timeout=60, verify=NO_AUTHORITIES)
        answer.raise_for_status()

    def patronictl(self, *words: str) -> str:
        """The command for somebody who wants to look, or to do something."""
        program = os.path.relpath(Path(sys.executable).with_name("patronictl"))
        return " ".join((program, "-c", str(self.nodes[0].config), *words))

    def tail(self) -> str:
        return "\n".join(f"--- {node.log}\n{node.log.read_text(errors='replace')[-1500:]}" for node in self.nodes)

    def _leading(self) -> str | None:
        return next((name for name, each in self.members().items() if each["role"] == "leader"), None)


@contextmanager
def cluster(say: Callable[[str], None] = lambda _: None) -> Iterator[Cluster]:
    """A cluster that is whole, with an empty database. It ends with this process, whatever becomes of that."""
    program("etcd")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="tocsin-pg", dir=memory))
    folder.chmod(0o755)
    runner = binaries.account(folder / "none")
    if runner.switch:
        os.chown(folder, runner.uid, runner.gid)
    keeper = Keeper(folder)
    made: Cluster | None = None
    try:
        say("starting etcd")
        made = Cluster(folder, keeper, runner)
        say("starting three times PostgreSQL, each with its Patroni")
        for node in made.nodes:
            node.start()
        made.wait_until_whole(say)
        yield made
    finally:
        keeper.end()
        for node in made.nodes if made is not None else ():
            for wire in node.wires:
                wire.close()
        shutil.rmtree(folder, ignore_errors=True)


def reaching(runner: Account) -> list[str]:
    """How root starts a Python of its own folders under another account: it may read there, and nothing else."""
    if not runner.switch:
        return []
    look = [sys.executable, "-c", "import patroni"]
    with suppress(OSError):
        if subprocess.run(look, capture_output=True, check=False, **runner.options()).returncode == 0:
            return []
    return [
        program("setpriv"), "--reuid", str(runner.uid), "--regid", str(runner.gid), "--clear-groups",
        "--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search",
    ]  # fmt: skip


async def create_database(made: Cluster) -> None:
    """As docs/cluster.md has it: an account of Tocsin's own, which may see who follows the primary."""
    primary = made.primary()
    await primary.run(f"CREATE ROLE {USER} LOGIN PASSWORD '{made.password}' IN ROLE pg_monitor", database="postgres")
    await primary.run(f"CREATE DATABASE {DATABASE} OWNER {USER}", database="postgres")


