"""`make cluster-demo`: a cluster loses its primary before your eyes, under 20 openings a second. What is lost?

    python -m tests.cluster.demo [--vanish]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import closing

from tests.cluster import patroni
from tests.cluster.patroni import TTL
from tests.cluster.reckoning import Reckoning, reckon
from tests.cluster.telling import Teller, ended
from tests.cluster.two_machines import Stage, TwoMachines, two_machines
from tests.receivers import Receiver

BEFORE = 3.0
"""Seconds of load before the primary is lost."""

FIGURES = """
  accepted            {accepted:6}   incidents; {resolved} were resolved, too
  delivered           {delivered:6}   notifications
  lost                {lost:6}
  repeated            {repeated:6}
  out of order        {out_of_order:6}
  answered 503        {refused:6}   with Retry-After
  longest 503         {longest_refusal:6.1f} s until the answer
  nothing accepted    {outage:6.1f} s
  writes again        {again:6.1f} s after the promotion
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Lose the primary of a cluster, and count what is lost with it.")
    parser.add_argument("--vanish", action="store_true", help="Its machine vanishes from the network, in place of -9.")
    given = parser.parse_args()
    say = Teller()
    with closing(Receiver()) as receiver, patroni.cluster(say) as cluster, two_machines(cluster, say) as machines:
        seen, again = asyncio.run(show(machines, receiver, say, vanish=given.vanish))
        figures = {name: getattr(seen, name) for name in Reckoning.__slots__} | {"lost": len(seen.lost), "again": again}
        say.plain(FIGURES.format(**figures))
        good = not (seen.lost or seen.out_of_order or seen.wrong)
        if good:
            say("nothing that was accepted was lost; ending all of it", "bold green")
        else:
            say(f"lost: {seen.lost[:5]}, wrong answers: {seen.wrong}; ending all of it", "bold red")
        return 0 if good else 1


async def show(
    machines: TwoMachines, receiver: Receiver, say: Callable[..., None], *, vanish: bool = False
) -> tuple[Reckoning, float]:
    """What became of everything, and how many seconds after the promotion something was accepted again."""
    cluster = machines.cluster
    primary = cluster.primary()
    say(f"all of it runs: {primary.name} is the primary, {cluster.standbys()[0].name} confirms each commit")
    async with machines.under_load(receiver) as stage:
        say("20 incidents are opened each second from now on, and each is resolved half a second later; a webhook is "
            "told of both")  # fmt: skip
        await asyncio.sleep(BEFORE)
        say(_counted(stage))
        lost = time.monotonic()
        if vanish:
            say(f"the machine of {primary.name} vanishes: packets to it are dropped from now on", "bold red")
            say(f"its leader's key lapses {TTL} s after its last word; nobody can know sooner that it is gone")
            primary.vanish()
        else:
            say(f"kill -9 of PostgreSQL on {primary.name}, the primary", "bold red")
            primary.kill_postgres()
        watching = asyncio.create_task(_first_refusal(stage, lost, say))
        promoted = await stage.promoted(lost)
        watching.cancel()
        say(f"{cluster.primary().name} is the primary now: it had confirmed everything that was accepted", "bold")
        again = await stage.writes_again(promoted)
        say(f"incidents are accepted again, {again:.1f} s after the promotion", "bold green")
        primary.come_back()
        await asyncio.sleep(BEFORE)
        say(_counted(stage))
        await asyncio.to_thread(cluster.wait_until_whole)
        say(f"{primary.name} is back, as a standby")
        await stage.load.end()
        say("no more incidents; waiting until the webhook has been told of everything")
        return await reckon(stage.load, stage.ledger), again


async def _first_refusal(stage: Stage, lost: float, say: Callable[..., None]) -> None:
    while not (refused := [call for call in stage.load.calls if call.status == 503 and call.began > lost]):
        await asyncio.sleep(0.05)
    say(f"who asks is answered 503 now, after {refused[0].took:.1f} s: {refused[0].message}")


def _counted(stage: Stage) -> str:
    accepted = sum(call.good for call in stage.load.calls)
    return f"{accepted} accepted, {len(stage.ledger.ids)} notifications delivered so far"


if __name__ == "__main__":
    sys.exit(ended(main))
