"""Back is what is back: a machine has been restarted where its boot is another, and by nothing else that it says."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.service import Service
from tests.ssh_scene import scene
from tests.sshd import Machine
from tests.waiting import until
from tocsin.domain import boots, ids

pytestmark = pytest.mark.timeout(300)

UUID = "0b8f6c5e-3c3f-4d4e-9a3b-111111111111"
MARK = "m" * 32


def said(*lines: str) -> str:
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("line", "boot"),
    [
        (UUID, UUID),
        (UUID.upper(), UUID),
        ("{ sec = 1700000000, usec = 123456 } Tue Nov 14 22:13:20 2023", "at 1700000000"),
        ("Tue Nov 14 22:13:20 2023", "at 1700000000"),
        ("2023-11-14 22:13:20", "at 1700000000"),
        ("         system boot  2023-11-14 22:13", "at 1699999980"),
        ("   .       system boot  Nov 14 22:13", "at 974239980"),
    ],
)
def test_a_boot_is_an_id_or_the_moment_of_a_start(line: str, boot: str) -> None:
    assert boots.parse_output(said("Welcome!", MARK, line, MARK), MARK) == boot


@pytest.mark.parametrize(
    "text",
    [
        said(UUID), said(MARK, MARK), said(MARK, UUID), said(MARK, "Last login: Tue", MARK), said(MARK, "", MARK),
        said(MARK, UUID, UUID, MARK), said(MARK, f"id {UUID}", MARK), said(UUID, MARK, "42", MARK), "",
        said(MARK, UUID, MARK, MARK),
    ],
    ids=repr,
)  # fmt: skip
def test_whatever_else_is_said_names_no_boot(text: str) -> None:
    assert boots.parse_output(text, MARK) is None


@pytest.mark.parametrize(
    ("before", "after", "restarted"),
    [
        (UUID, UUID, False), (UUID, UUID.replace("1", "2"), True), ("at 1700000000", "at 1700000002", False),
        ("at 1700000000", "at 1700000090", True), ("at 974239980", "at 946684800", True),
        (None, UUID, None), (UUID, None, None), (UUID, "at 1700000000", None),
        ("Welcome, it is 10:00", UUID, None),
    ],
)  # fmt: skip
def test_another_boot_is_a_restart_and_what_is_unknown_is_none(
    before: str | None, after: str | None, restarted: bool | None
) -> None:
    assert boots.rebooted(before, after) is restarted


def test_this_very_machine_names_its_boot() -> None:
    ran = subprocess.run(["sh", "-c", boots.question(MARK)], capture_output=True, check=True, text=True)
    assert boots.parse_output(ran.stdout, MARK) == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


async def test_a_login_that_prints_something_else_each_time_is_no_return(
    service: Service, client: httpx.AsyncClient, target: Machine
) -> None:
    target.behave("password", then="stay")
    target.say_at_login("date +%N; echo 'You have mail'; date +%N >&2\n")
    here = await scene(client, target.port)
    done = await here.restart()
    assert (done["status"], target.reboots) == ("delivered", 1)
    looks = len(target.texts)

    async def looked_again() -> bool:
        return len(target.texts) >= looks + 2

    await until(looked_again, what="two more looks at the machine")
    connection = await asyncpg.connect(service.database)
    try:
        row = await connection.fetchrow(
            "SELECT boot_id, look_at FROM restarts WHERE delivery_id = $1", ids.parse(ids.DELIVERY, done["uuid"])
        )
    finally:
        await connection.close()
    assert row["look_at"] is not None, "it is still watched for"
    assert row["boot_id"] == "00000000-0000-4000-8000-000000000001"
    assert (await here.delivery(done["uuid"]))["reason"] is None
    await asyncio.to_thread(target.new_boot)

    async def back() -> str | None:
        return (await here.delivery(done["uuid"]))["reason"]

    assert (await until(back, what="its return")).startswith("back after ")
