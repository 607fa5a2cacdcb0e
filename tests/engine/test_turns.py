"""The engine's loop that decides about what is due."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.receivers import Receiver
from tests.waiting import until
from tests.world import World, start, world
from tocsin.domain.attachments import Attachment

__all__ = ["start", "world"]


async def test_what_cannot_be_decided_about_keeps_nothing_else_from_being_told(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    """As hours that a later version could not read any more."""
    await world.attach(receiver.url("/broken"), Attachment(repeat=60))
    await world.pool.execute("""UPDATE attachments SET hours = '{"timezone": "Nowhere/At_All"}'""")
    await world.open("a")
    well = await world.attach(receiver.url("/well"), Attachment(repeat=60))
    await world.pool.execute("UPDATE attachments SET hours = NULL WHERE integration_id = $1", well)
    await start()
    await world.open("b")

    async def arrived() -> bool:
        return any(request.path == "/well" for request in receiver.requests)

    await until(arrived, timeout=20, what="the other one to be told")
