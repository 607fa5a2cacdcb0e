"""`make cluster`: three PostgreSQLs under Patroni, etcd, two `serve` and two `engine`, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys

from tests.cluster import patroni
from tests.cluster.patroni import Cluster
from tests.cluster.telling import Teller, ended
from tests.cluster.two_machines import TwoMachines, two_machines
from tocsin import settings as configuration
from tocsin.cli import first_account

WORDS = """
The cluster runs until Ctrl-C. Nothing of it is kept.

  Tocsin      {first}   and   {second}
  health      curl -s {first}/health/ready
{nodes}
  etcd        127.0.0.1:{etcd}
  logs        {folder}

Who is the primary, and who follows:

  {list}

Hand over to another node as planned, or kill the primary:

  {switchover}
  kill -9 $(head -1 {primary}/postmaster.pid)
"""


def main() -> int:
    say = Teller()
    with patroni.cluster(say) as cluster, two_machines(cluster, say) as machines:
        first = machines.services[0]
        settings = configuration.load(environ=first.environ)
        asyncio.run(first_account.make(settings, cluster.url, first.url))
        say.plain(described(cluster, machines))
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
        say("ending all of it")
    return 0


def described(cluster: Cluster, machines: TwoMachines) -> str:
    roles = {name: each["role"] for name, each in cluster.members().items()}
    nodes = [f"  {each.name:10}  127.0.0.1:{each.public_port}   {roles[each.name]}" for each in cluster.nodes]
    return WORDS.format(
        first=machines.services[0].url, second=machines.services[1].url, nodes="\n".join(nodes), etcd=cluster.etcd.port,
        folder=cluster.folder, list=cluster.patronictl("list"), switchover=cluster.patronictl("switchover", "--force"),
        primary=cluster.primary().folder,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(ended(main))
