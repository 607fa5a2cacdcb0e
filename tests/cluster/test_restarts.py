"""How restarts are counted while a cluster is under fire: one that comes late is one too many, too."""

from __future__ import annotations

import httpx

from tests.cluster.restarts import Restarts
from tests.ssh_scene import scene
from tests.sshd import Machine
from tests.waiting import until


async def test_a_restart_that_comes_after_its_incidents_end_is_counted(
    client: httpx.AsyncClient, target: Machine
) -> None:
    target.behave("password", then="stay")
    restarts = Restarts([client], await scene(client, target.port), target)

    async def ordered() -> bool:
        return restarts.ordered == 1

    await until(ordered, what="the first one to be ordered")
    await restarts.end()
    assert (restarts.ordered, dict(restarts.ends), restarts.twice) == (1, {"delivered": 1}, [])
    with (target.folder / "reboots").open("a") as file:
        file.write("x")
    restarts.settle()
    assert restarts.twice == ["after the last one: 1 times"]
