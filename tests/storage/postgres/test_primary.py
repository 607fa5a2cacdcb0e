"""The sessions of one primary, and who looks after them: for everybody, and in nobody's name."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import structlog
from structlog.testing import capture_logs

from tests.waiting import until
from tocsin.cli.sockets import free_port
from tocsin.domain import requests
from tocsin.storage.postgres.primary import Primary
from tocsin.storage.postgres.session import Session


async def test_a_session_that_stands_still_while_it_is_prepared_is_not_passed_on_for_ever(database: str) -> None:
    primary = Primary(database)
    begun: list[Session] = []

    async def prepare(session: Session) -> None:
        begun.append(session)
        if len(begun) == 1:
            await session.execute("SELECT pg_sleep(120)")

    async def somebody_has_one() -> bool:
        try:
            async with asyncio.timeout(0.5):
                await primary.connect(prepare=prepare)
        except TimeoutError:
            return False
        return True

    await until(somebody_has_one, timeout=20, what="a session")
    assert begun[0].is_closed()
    primary.close()


async def test_what_is_done_for_everybody_is_done_in_the_name_of_nobodys_request(database: str) -> None:
    requests.ORIGIN.set("somebody")
    primary, seen = Primary(database), [requests.current()]

    async def prepare(_: Session) -> None:
        seen.append(requests.current())

    await primary.connect(prepare=prepare)
    assert seen == ["somebody", None]
    primary.close()


async def test_the_end_of_a_primary_is_no_line_of_the_request_that_was_under_way() -> None:
    requests.ORIGIN.set("somebody")
    gone = Primary(f"postgresql://127.0.0.1:{free_port()}/tocsin")

    def named(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**event, "origin": requests.current()}

    with capture_logs(processors=[named]) as said:
        gone.took("a session")

        async def given_up() -> bool:
            return bool(said)

        await until(given_up, what="a line")
    gone.gave_back("a session", None)
    assert [(each["event"], each["origin"]) for each in said] == [
        ("The primary is given up", None), ("Database unavailable; looking for it", None),
    ]  # fmt: skip


async def test_what_a_host_said_that_is_not_the_primary_any_more_is_no_error_that_nobody_heard_of() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    primary = Primary(f"postgresql://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/tocsin")
    await primary._judge(primary.hosts[0])
    gc.collect()
    assert complaints == []
