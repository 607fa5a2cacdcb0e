"""`tocsin project`, `token`, `secrets` and `doctor`, as an operator runs them beside a running service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Postgres
from tests.processes import tocsin
from tests.receivers import Mailbox
from tests.service import Service
from tests.slack_server import SlackServer
from tests.twilio import Twilio


@pytest.fixture
def twilio(twilio: Twilio) -> Iterator[Twilio]:
    """The doctor asks it to send to nobody, so that it says whether it would."""
    yield twilio
    assert set(twilio.mistakes) <= {"A 'To' phone number is required.", "Authenticate"}
    twilio.mistakes.clear()


async def test_a_project_is_made_and_its_token_works_at_once(service: Service) -> None:
    ran = await tocsin("project", "create", "Shop", "--plan", "paid", "--json", environ=service.environ)
    assert ran.code == 0, ran.err
    made = json.loads(ran.out)
    assert list(made) == ["uuid", "name", "plan", "api_token"]
    assert (made["name"], made["plan"]) == ("Shop", "paid")
    async with service.client(made["api_token"]) as client:
        assert (await client.get("/api/v1/integrations")).json() == []
    listed = json.loads((await tocsin("project", "list", "--json", environ=service.environ)).out)
    assert made["uuid"] in [each["uuid"] for each in listed]
    assert made["api_token"] not in json.dumps(listed)


async def test_an_owner_gets_a_link_by_mail_and_nothing_else_is_printed(service: Service, mailbox: Mailbox) -> None:
    ran = await tocsin("project", "create", "Shop", "--owner", "ann@example.com", "--json", environ=service.environ)
    made = json.loads(ran.out)
    assert len(ran.out.splitlines()) == 1
    assert "ann@example.com" in ran.err
    async with service.client(made["api_token"]) as client:
        (integration,) = (await client.get("/api/v1/integrations")).json()
    assert integration["settings"] == {"email": "ann@example.com"}
    assert not integration["editable"]
    assert not integration["deletable"]
    (mail,) = await mailbox.arrivals(1, to="ann@example.com")
    assert "/verify-email?token=" in mail.text


async def test_a_replaced_token_is_dead_when_the_new_one_is_printed(service: Service) -> None:
    made = json.loads((await tocsin("project", "create", "Shop", "--json", environ=service.environ)).out)
    async with service.client(made["api_token"]) as old:
        assert (await old.get("/api/v1/integrations")).status_code == 200
        rotating = asyncio.create_task(tocsin("token", "rotate", made["uuid"], environ=service.environ))
        while not rotating.done():
            await old.get("/api/v1/integrations")
        assert (await old.get("/api/v1/integrations")).status_code == 401
    async with service.client((await rotating).out.strip()) as new:
        assert (await new.get("/api/v1/integrations")).status_code == 200


async def test_a_projects_plan_is_changed(service: Service) -> None:
    made = json.loads((await tocsin("project", "create", "Shop", "--json", environ=service.environ)).out)
    assert made["plan"] == "free"
    ran = await tocsin("project", "set-plan", made["uuid"], "paid", environ=service.environ)
    assert ran.code == 0, ran.err
    listed = json.loads((await tocsin("project", "list", "--json", environ=service.environ)).out)
    assert {each["uuid"]: each["plan"] for each in listed}[made["uuid"]] == "paid"


@pytest.mark.parametrize(
    "arguments",
    [
        ("project", "create"),
        ("project", "create", "  "),
        ("project", "create", "Shop", "--plan", "golden"),
        ("project", "create", "Shop", "--owner", "nobody"),
        ("project", "create", "Shop", "--owner", "a@example.com\nBcc: b@example.com"),
        ("project", "set-plan", "PRJ1"),
        ("project", "nonsense"),
        ("token", "rotate"),
    ],
)
async def test_bad_usage_is_one_line_and_exit_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ran = await tocsin(*arguments, environ={"TOCSIN_DATA_DIR": str(tmp_path)})
    assert ran.code == 2, ran
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [("project", "set-plan", "PRJ1", "paid"), ("token", "rotate", "PRJ00000000000000000000000000")]
)
async def test_a_project_that_is_not_there_is_one_line_and_exit_1(service: Service, arguments: tuple[str, ...]) -> None:
    ran = await tocsin(*arguments, environ=service.environ)
    assert ran.code == 1, ran
    assert len(ran.err.splitlines()) == 1
    assert "There is no project" in ran.err


async def test_where_nothing_runs_the_command_says_how_to_start_it(tmp_path: Path) -> None:
    key = (await tocsin("secrets", "new")).out.strip()
    environ = {"TOCSIN_DATA_DIR": str(tmp_path), "TOCSIN_SECRET_KEYS": key}
    for arguments in (("project", "create", "Shop"), ("project", "list")):
        ran = await tocsin(*arguments, environ=environ)
        assert ran.code == 1
        assert len(ran.err.splitlines()) == 1
        assert "tocsin up" in ran.err


async def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    ran = await tocsin("project", "list", environ={"TOCSIN_ENV": "staging", "TOCSIN_DATA_DIR": str(tmp_path)})
    assert ran.code == 2
    assert "TOCSIN_ENV" in ran.err
    assert len(ran.err.splitlines()) == 1


async def test_the_doctor_finds_a_working_service_well(
    service: Service, slack: SlackServer, twilio: Twilio
) -> None:
    ran = await tocsin("doctor", environ={**service.environ, **slack.environ(), **twilio.environ()})
    assert ran.code == 0, ran
    assert not [line for line in ran.out.splitlines() if not line.startswith("ok")]
    for word in ("configuration", "database", "migrations", "mail", "clock", "sms", "slack", "engine"):
        assert word in ran.out


async def test_the_doctor_says_what_is_wrong(service: Service, slack: SlackServer) -> None:
    key = (await tocsin("secrets", "new")).out.strip()
    wrong = {"TOCSIN_SMTP_URL": "smtp://127.0.0.1:1", "TOCSIN_SECRET_KEYS": key}
    ran = await tocsin("doctor", environ={**service.environ, **slack.environ(), **wrong})
    assert ran.code == 1
    failed = [line for line in ran.out.splitlines() if line.startswith("fail")]
    assert ["mail" in failed[-1], "stored secrets" in failed[0]] == [True, True]
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"TOCSIN_TWILIO_AUTH_TOKEN": "not-this-0ne"}, "error 20003"),
        ({"TOCSIN_TWILIO_API_URL": "http://127.0.0.1:1"}, "Connection refused"),
        ({"TOCSIN_SLACK_API_URL": "http://127.0.0.1:1"}, "Connection refused"),
    ],
)
async def test_the_doctor_says_what_is_wrong_with_sms_and_slack(
    service: Service, slack: SlackServer, twilio: Twilio, wrong: dict[str, str], said: str
) -> None:
    ran = await tocsin("doctor", environ={**service.environ, **slack.environ(), **twilio.environ(), **wrong})
    [failed] = [line for line in ran.out.splitlines() if line.startswith("fail")]
    assert said in failed
    assert "not-this-0ne" not in ran.out + ran.err
    assert not twilio.messages


async def test_the_doctor_looks_on_where_the_database_is_away(tmp_path: Path) -> None:
    nowhere = {"TOCSIN_DATABASE_URL": "postgresql://127.0.0.1:1/x", "TOCSIN_DATA_DIR": str(tmp_path)}
    ran = await tocsin("doctor", environ=nowhere)
    assert ran.code == 1
    assert "cannot be reached" in ran.out
    assert "mail" in ran.out
    assert "Traceback" not in ran.err


async def test_the_doctor_sees_that_the_database_is_not_migrated(postgres: Postgres, service: Service) -> None:
    ran = await tocsin("doctor", environ={**service.environ, "TOCSIN_DATABASE_URL": postgres.dsn})
    assert ran.code == 1
    assert "tocsin migrate" in ran.out


async def test_on_a_database_that_is_not_migrated_commands_say_so(postgres: Postgres, service: Service) -> None:
    ran = await tocsin("project", "list", environ={**service.environ, "TOCSIN_DATABASE_URL": postgres.dsn})
    assert ran.code == 1
    assert "tocsin migrate" in ran.err
    assert len(ran.err.splitlines()) == 1


async def test_the_doctor_names_a_setting_that_cannot_be_used(tmp_path: Path) -> None:
    ran = await tocsin("doctor", environ={"TOCSIN_SECRET_KEYS": "short", "TOCSIN_DATA_DIR": str(tmp_path)})
    assert ran.code == 1
    assert "TOCSIN_SECRET_KEYS" in ran.out


@pytest.mark.parametrize("name", ["", "  ", "\u200b", "\u3164"])
async def test_a_project_needs_a_name_that_can_be_seen(service: Service, name: str) -> None:
    ran = await tocsin("project", "create", name, environ=service.environ)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("tocsin: NAME must ")
