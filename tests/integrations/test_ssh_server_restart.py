"""SSH server restart against a real OpenSSH server: what is sent, what is said, and who may be trusted."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from tests.receivers import Mailbox
from tests.service import Service
from tests.ssh_scene import scene
from tests.sshd import PASSWORD, USER, Machine, Relay
from tests.waiting import until
from tocsin.cli.sockets import free_port

pytestmark = pytest.mark.timeout(300)


async def test_an_incident_restarts_the_server_once_and_the_cut_connection_is_its_delivery(
    client: httpx.AsyncClient, target: Machine
) -> None:
    here = await scene(client, target.port)
    done = await here.restart()
    assert done["status"] == "delivered"
    assert "connection was cut" in done["attempts"][-1]["response"]
    assert target.reboots == 1


async def test_the_command_is_sudo_reboot_and_the_password_travels_on_standard_input_alone(
    client: httpx.AsyncClient, target: Machine
) -> None:
    here = await scene(client, target.port)
    await here.restart()
    asked, sent = target.calls[-2:]
    assert asked.words == ["-S", "-p", "", "-l", "reboot"]
    assert sent.words == ["-S", "-p", "", "reboot"]
    assert asked.typed == sent.typed == PASSWORD
    assert target.texts[-1] == "sudo -S -p '' reboot"
    assert not any(PASSWORD in text for text in target.texts)
    assert PASSWORD not in target.log


async def test_a_command_that_is_accepted_without_a_cut_is_delivered(
    client: httpx.AsyncClient, target: Machine
) -> None:
    target.behave("password", then="stay")
    done = await (await scene(client, target.port)).restart()
    assert (done["status"], done["attempts"][-1]["response"]) == ("delivered", "The command was sent and accepted")


async def test_a_resolve_restarts_nothing(client: httpx.AsyncClient, target: Machine) -> None:
    here = await scene(client, target.port)
    await here.restart()
    await here.resolve()
    listed = (await client.get(f"/api/v1/integrations/{here.integration}/deliveries")).json()["data"]
    [resolved] = [each for each in listed if each["event"] == "resolved"]
    ended = await here.ended(resolved["uuid"])
    assert (ended["status"], ended["reason"]) == ("suppressed", "nothing to do")
    assert target.reboots == 1


async def test_a_private_key_serves_instead_of_the_password(client: httpx.AsyncClient, target: Machine) -> None:
    target.behave("free")
    here = await scene(client, target.port, password=None, private_key=target.private_key)
    assert (await here.restart())["status"] == "delivered"
    assert target.commands[-2:] == ["-n -l reboot", "-n reboot"]


async def test_a_key_logs_in_while_the_password_is_for_sudo(client: httpx.AsyncClient, target: Machine) -> None:
    here = await scene(client, target.port, private_key=target.private_key)
    assert (await here.restart())["status"] == "delivered"
    assert "Accepted publickey" in target.log
    assert "Accepted password" not in target.log
    assert target.reboots == 1


# ------------------------------------------------------------------------------------------------------------ dry run


async def test_a_test_logs_in_asks_sudo_and_restarts_nothing(client: httpx.AsyncClient, target: Machine) -> None:
    here = await scene(client, target.port)
    done = await here.test()
    assert done["status"] == "delivered"
    assert f"as {USER}, and sudo allows reboot. Nothing was restarted" in done["attempts"][0]["response"]
    assert target.fingerprint in done["attempts"][0]["response"]
    assert target.reboots == 0
    assert all("-l" in call.words for call in target.calls)
    assert (await here.restart())["status"] == "delivered", "a dry run counts against no guard rail"


# ---------------------------------------------------------------------------------------------- errors in plain words


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("denied", "sudo not allowed: user admin may not run reboot"),
        ("broken", "sudo not allowed: it ended with status 1"),
    ],
)
async def test_what_sudo_refuses_is_said_in_plain_words_without_the_password(
    client: httpx.AsyncClient, target: Machine, mode: str, said: str
) -> None:
    target.behave(mode)  # type: ignore[arg-type]
    here = await scene(client, target.port)
    done = await here.restart()
    assert done["status"] == "dead"
    assert said in done["reason"]
    assert PASSWORD not in repr(done)
    assert target.reboots == 0


async def test_a_sudo_password_that_is_not_accepted_is_said(client: httpx.AsyncClient, target: Machine) -> None:
    here = await scene(client, target.port, private_key=target.private_key, password="another")
    assert "it does not accept the password of user admin" in (await here.test())["reason"]


async def test_a_sudo_that_wants_a_password_where_none_is_set_is_said(
    client: httpx.AsyncClient, target: Machine
) -> None:
    here = await scene(client, target.port, private_key=target.private_key, password=None)
    assert "asks user admin for a password, and none is set" in (await here.test())["reason"]


async def test_a_wrong_password_is_said(client: httpx.AsyncClient, target: Machine) -> None:
    done = await (await scene(client, target.port, password="wrong-one")).restart()
    assert "Authentication failed" in done["reason"]
    assert "does not accept the password of user admin" in done["reason"]
    assert "wrong-one" not in repr(done)


async def test_a_port_where_nothing_listens_is_said(client: httpx.AsyncClient) -> None:
    port = free_port()
    here = await scene(client, port)
    tried = await here.tried(await here.open())
    assert tried["attempts"][0]["error"] == f"Connection refused: nothing listens at 127.0.0.1:{port}"


async def test_a_name_that_nobody_knows_is_said(client: httpx.AsyncClient) -> None:
    here = await scene(client, 22, ip="nowhere.invalid")
    tried = await here.tried(await here.open())
    assert "Could not resolve nowhere.invalid" in tried["attempts"][0]["error"]


async def test_an_address_that_is_not_public_ends_it_and_names_the_setting(client: httpx.AsyncClient) -> None:
    done = await (await scene(client, 22, ip="100.64.0.1")).restart()
    assert done["status"] == "dead"
    assert "TOCSIN_ALLOW_NETWORKS=100.64.0.1/32" in done["reason"]


async def test_a_machine_that_does_not_answer_is_said(client: httpx.AsyncClient, target: Machine) -> None:
    relay = Relay(target.port)
    relay.hold()
    try:
        here = await scene(client, relay.port)
        tried = await here.tried(await here.open())
    finally:
        relay.close()
    said = f"Timed out: 127.0.0.1:{relay.port} was not ready for a command within 6 seconds"
    assert tried["attempts"][0]["error"] == said


async def test_a_conversation_that_breaks_off_before_the_login_is_said(client: httpx.AsyncClient) -> None:
    relay = Relay(free_port())
    try:
        here = await scene(client, relay.port)
        tried = await here.tried(await here.open())
    finally:
        relay.close()
    assert f"to 127.0.0.1:{relay.port} was lost before the login" in tried["attempts"][0]["error"]


async def test_what_fails_before_the_command_is_tried_again_and_then_restarts_once(
    client: httpx.AsyncClient, target: Machine, relay: Relay
) -> None:
    relay.to = free_port()  # nothing listens there
    here = await scene(client, relay.port)
    uuid = await here.open()
    await here.tried(uuid, times=2)
    relay.to = target.port
    done = await here.ended(uuid)
    assert done["status"] == "delivered"
    assert [each["outcome"] for each in done["attempts"][:2]] == ["failed", "failed"]
    assert target.reboots == 1


# ----------------------------------------------------------------------------------------------------------- host keys


async def test_the_host_key_of_first_use_is_pinned_and_shown(client: httpx.AsyncClient, target: Machine) -> None:
    here = await scene(client, target.port)
    assert "host_key_fingerprint" not in await here.settings()
    await here.restart()
    assert (await here.settings())["host_key_fingerprint"] == target.fingerprint


async def test_a_changed_host_key_is_refused_told_and_trusted_only_by_a_person_who_names_it(
    service: Service, client: httpx.AsyncClient, target: Machine, mailbox: Mailbox
) -> None:
    here = await scene(client, target.port)
    await client.post("/api/v1/integrations", json={
        "integration": {"type": "Integrations::EmailIntegration", "settings": {"email": "people@example.com"}},
    })  # fmt: skip
    assert (await here.test())["status"] == "delivered"
    known = target.fingerprint
    target.new_host_key()
    done = await here.restart()
    assert done["status"] == "dead"
    assert "has changed" in done["reason"]
    assert known in done["reason"]
    assert target.fingerprint in done["reason"]
    assert not target.calls[1:], "nothing was asked of the other machine"
    [mail] = await mailbox.arrivals(1, to="people@example.com")
    assert "host key" in mail.text

    path = f"/api/v1/integrations/{here.integration}/trust_host_key"
    wrong = await client.post(path, json={"fingerprint": known})
    assert (wrong.status_code, wrong.json()["details"][0]["field"]) == (422, "fingerprint")
    trusted = await client.post(path, json={"fingerprint": target.fingerprint})
    assert trusted.status_code == 200, trusted.text
    assert trusted.json()["settings"]["host_key_fingerprint"] == target.fingerprint
    assert "offered_host_key_fingerprint" not in trusted.json()["settings"]
    assert (await here.test())["status"] == "delivered"
    again = await client.post(path, json={"fingerprint": target.fingerprint})
    assert again.status_code == 422
    assert target.reboots == 0


async def test_settings_that_name_another_machine_begin_with_no_host_key(
    client: httpx.AsyncClient, target: Machine
) -> None:
    here = await scene(client, target.port)
    await here.test()
    kept = await here.change(incident_types=["downtime"])
    assert kept.json()["settings"]["host_key_fingerprint"] == target.fingerprint
    moved = await here.change(ip="127.0.0.2", password=PASSWORD)
    assert "host_key_fingerprint" not in moved.json()["settings"]


# -------------------------------------------------------------------------------------------------------------- return


async def test_a_machine_that_comes_back_with_another_boot_is_put_on_record(
    client: httpx.AsyncClient, target: Machine
) -> None:
    here = await scene(client, target.port)
    done = await here.restart()
    target.new_boot()

    async def back() -> str | None:
        return (await here.delivery(done["uuid"]))["reason"]

    reason = await until(back, what="its return on record")
    assert reason.startswith("back after ")
    assert (await here.delivery(done["uuid"]))["status"] == "delivered"


# -------------------------------------------------------------------------------------------------------------- memory


def test_an_engine_that_restarts_nothing_does_not_carry_the_ssh_library() -> None:
    look = "import sys, tocsin.engine.run; from tocsin.integrations.base import types; types(); print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, check=True, text=True).stdout
    assert "asyncssh" not in said.split()
