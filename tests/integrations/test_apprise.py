"""Apprise: the services that are wanted most, through real workers, against stand-ins; and what each answer means."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.apprise_services import LOOPBACK, WANTED, Rerouted, Services, Wanted, services
from tocsin.domain.deliveries import Delivered, Failed
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import Notification
from tocsin.integrations.apprise import AppriseIntegration
from tocsin.integrations.base import MASK, Transports
from tocsin.transports.apprise.workers import Workers
from tocsin.transports.http import Http
from tocsin.transports.smtp import Mailer

KIND = AppriseIntegration()
OPENED = Notification(
    "DLV1", "opened", "INC1", "Server", "web-1", "https://tocsin.example.com/servers/SRV1", "cpu",
    "CPU at 97 % & rising <fast>", datetime(2024, 1, 1, tzinfo=UTC),
)  # fmt: skip

every_service = pytest.mark.parametrize("wanted", WANTED.values(), ids=list(WANTED))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with services(tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture
def far(running: Services) -> Services:
    running.asked.clear()
    running.headers.clear()
    return running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(running: Services) -> AsyncIterator[Workers]:
    workers = Workers(Rerouted(LOOPBACK, running.port), roots=running.roots)
    yield workers
    await workers.close()


def transports(workers: Workers, folder: Path) -> Transports:
    mail = Mailer(None, "tocsin@example.com", folder / "outbox")
    return Transports(Http(LOOPBACK), mail, "https://tocsin.example.com", apprise=workers)


async def stored(workers: Workers, given: dict[str, Any]) -> dict[str, Any]:
    return KIND.parse(await KIND.consult(given, None, workers))


module = pytest.mark.asyncio(loop_scope="module")


@module
@every_service
async def test_a_service_accepts_what_is_sent(
    wanted: Wanted, far: Services, workers: Workers, tmp_path: Path
) -> None:
    far.answer = wanted.answer
    settings = await stored(workers, {"service": wanted.service, "fields": wanted.fields})
    outcome = await KIND.send(settings, OPENED, transports(workers, tmp_path))
    assert isinstance(outcome, Delivered), outcome
    assert outcome.status_code in (200, 201, 202, 204)
    assert {asked.host for asked in far.asked} == {wanted.host}
    sent = far.asked[-1].body.decode().replace("\\", "")
    assert "web-1" in sent
    assert "97" in sent


@module
@every_service
async def test_a_service_that_refuses_is_asked_twice_more_and_its_words_are_on_record(
    wanted: Wanted, far: Services, workers: Workers, tmp_path: Path
) -> None:
    far.answer = wanted.answer
    settings = await stored(workers, {"service": wanted.service, "fields": {**wanted.fields, **wanted.wrong}})
    outcome = await KIND.send(settings, OPENED, transports(workers, tmp_path))
    assert isinstance(outcome, Failed), outcome
    assert (outcome.status_code, outcome.retry) == (wanted.refusal, "twice")
    assert outcome.response
    assert not any(secret in repr(outcome) for secret in settings["secret_fields"].values() if len(secret) > 3)


@module
@pytest.mark.parametrize("wanted", [each for each in WANTED.values() if each.url], ids=lambda each: each.service)
async def test_a_pasted_address_is_the_same_service(
    wanted: Wanted, far: Services, workers: Workers, tmp_path: Path
) -> None:
    far.answer = wanted.answer
    settings = await stored(workers, {"url": wanted.url})
    outcome = await KIND.send(settings, OPENED, transports(workers, tmp_path))
    assert isinstance(outcome, Delivered), outcome
    secrets = {name for name in wanted.fields if name in settings["secret_fields"]}
    assert secrets >= wanted.wrong.keys() - {"from_phone"}


@module
async def test_retry_after_and_gone_for_good_mean_what_they_mean_elsewhere(
    far: Services, workers: Workers, tmp_path: Path
) -> None:
    wanted = WANTED["discord"]
    settings = await stored(workers, {"service": wanted.service, "fields": wanted.fields})
    cases = {503: "scheduled", 429: "scheduled", 410: "disable", 302: "twice"}
    far.headers.update({"Retry-After": "77", "Location": "https://chat.example.com/"})
    for status, retry in cases.items():
        far.answer = lambda asked, status=status: (status, {"message": "no"})
        outcome = await KIND.send(settings, OPENED, transports(workers, tmp_path))
        assert isinstance(outcome, Failed)
        assert (outcome.status_code, outcome.retry) == (status, retry)
        assert outcome.retry_after == (77 if status in (503, 429) else None)
    assert len(far.asked) == len(cases), "no redirect was followed, and nothing was sent again"


@module
async def test_secrets_are_masked_and_a_masked_one_stays(workers: Workers) -> None:
    wanted = WANTED["ntfys"]
    settings = await stored(workers, {"service": "ntfys", "fields": wanted.fields})
    shown = KIND.public_settings(settings, reveal=False)
    assert shown == {"service": "ntfys", "fields": {**wanted.fields, "password": MASK}}
    changed = {"fields": {**shown["fields"], "targets": "other"}}
    after = KIND.parse(await KIND.consult(changed, settings, workers), settings)
    assert after["secret_fields"] == {"password": wanted.fields["password"]}
    assert after["fields"]["targets"] == "other"
    removed = KIND.parse(await KIND.consult({"fields": {"password": None, "user": None}}, after, workers), after)
    assert removed["fields"].keys() == {"host", "targets"}
    assert not removed["secret_fields"]


@module
@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"service": "json", "fields": {"host": "example.com"}}, "settings.service"),
        ({"service": "mailto", "fields": {"host": "example.com"}}, "settings.service"),
        ({"service": "nothing", "fields": {"host": "example.com"}}, "settings.service"),
        ({"service": "gotifys", "fields": {"host": "example.com"}}, "settings.fields.token"),
        ({"service": "gotifys", "fields": {"host": "example.com", "token": MASK}}, "settings.fields.token"),
        ({"service": "gotifys", "fields": {"host": "example.com", "token": "a\r\nb"}}, "settings.fields.token"),
        ({"service": "gotifys", "fields": {"token": "x", "colour": "red"}}, "settings.fields"),
        ({"service": "gotifys", "fields": {"host": "example.com", "token": "x", "port": 65_536}},
         "settings.fields.port"),
        ({"url": "gotifys://example.com:99999/x"}, "settings.fields.port"),
        ({"service": "twilio", "fields": {"account_sid": "no", "auth_token": "x", "from_phone": "1"}},
         "settings.fields"),
        ({"url": "gotifys://example.com/x", "service": "gotifys"}, "settings.url"),
        ({"url": "gotifys://example.com/x, ntfys://example.com/y"}, "settings.url"),
        ({"url": "gotifys://example.com/x,ntfys://example.com/y"}, "settings.url"),
        ({"url": "json://example.com/x"}, "settings.url"),
        ({"url": "https://example.com/hook"}, "settings.url"),
        ({"url": "no address"}, "settings.url"),
        ({"url": "gotifys://" + "x" * 5000}, "settings.url"),
        ({"url": ["gotifys://example.com/x"]}, "settings.url"),
    ],
)  # fmt: skip
async def test_what_cannot_be_sent_is_refused_by_name(workers: Workers, given: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        await stored(workers, given)
    assert refused.value.status == 422
    assert [detail.field for detail in refused.value.details] == [field]


@module
@pytest.mark.parametrize(
    "argument", ["template", "keyfile", "subfile", "redirect", "verify", "cto", "rto", "attach", "store", "retry"]
)
async def test_arguments_that_open_holes_are_refused_in_addresses_and_in_fields(
    workers: Workers, argument: str
) -> None:
    for url in (f"discord://123456/abcdef?{argument}=yes", f"https://discord.com/api/webhooks/1/abc?{argument}=yes",
                f"ntfys://example.com/topic?{argument.upper()}=/etc/passwd"):  # fmt: skip
        with pytest.raises(Refused) as refused:
            await stored(workers, {"url": url})
        assert [detail.field for detail in refused.value.details] == ["settings.url"]
    fields = {"webhook_id": "123456", "webhook_token": "abcdef", argument: "/etc/passwd"}
    with pytest.raises(Refused) as refused:
        await stored(workers, {"service": "discord", "fields": fields})
    assert [detail.field for detail in refused.value.details] == ["settings.fields"]


@module
async def test_a_value_cannot_become_another_part_of_the_address(
    far: Services, workers: Workers, tmp_path: Path
) -> None:
    wanted = WANTED["gotifys"]
    far.answer = wanted.answer
    for token in ("x?redirect=yes", "x&verify=no", "a/b/../c", "x#y", "x@evil.example.com:1/", "%3Fverify=no"):
        settings = KIND.parse({"service": "gotifys", "fields": {**wanted.fields, "token": token}})
        far.asked.clear()
        await KIND.send(settings, OPENED, transports(workers, tmp_path))
        assert {asked.host for asked in far.asked} <= {"chat.example.com"}
        assert not any(asked.query for asked in far.asked)
