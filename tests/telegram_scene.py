"""A service that notifies chats of Telegram's, and what people do there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.postgres import Postgres
from tests.receivers import Mailbox
from tests.service import Service, shared_service
from tests.telegram_chats import Bot, Chat, Posted
from tests.telegram_server import TelegramServer
from tests.waiting import until

PUBLIC_URL = "https://tocsin.example.com"


@pytest.fixture(scope="module")
def _telegram() -> Iterator[TelegramServer]:
    telegram = TelegramServer()
    yield telegram
    telegram.close()


@pytest.fixture
def telegram(_telegram: TelegramServer) -> Iterator[TelegramServer]:
    """Telegram, which nobody may ask wrongly."""
    yield _telegram
    _telegram.answers_go.set()
    assert not _telegram.mistakes
    assert not _telegram.faults


@pytest.fixture(scope="module")
def _telegram_service(
    postgres: Postgres, _telegram: TelegramServer, _mail_server: Mailbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with shared_service(
        postgres, tmp_path_factory.mktemp("telegram"), _mail_server, **_telegram.environ(),
        TOCSIN_PUBLIC_URL=PUBLIC_URL,
    ) as service:  # fmt: skip
        yield service


@pytest_asyncio.fixture
async def service(_telegram_service: Service) -> Service:
    _telegram_service.project = await _telegram_service.new_project()
    return _telegram_service


@pytest.fixture
def bot(telegram: TelegramServer) -> Bot:
    return telegram.bot()


@pytest.fixture
def chat(telegram: TelegramServer) -> Chat:
    return telegram.chat()


def wanted(bot: Bot, **settings: Any) -> dict[str, Any]:
    given = {"bot_token": bot.token, **settings}
    return {"integration": {"type": "Integrations::TelegramIntegration", "settings": given}}


async def made(client: httpx.AsyncClient, bot: Bot, **settings: Any) -> str:
    """The uuid of a new integration, attached to everything."""
    answer = await client.post("/api/v1/integrations", json=wanted(bot, **settings))
    assert answer.status_code == 201, answer.text
    uuid = str(answer.json()["uuid"])
    assert (await client.post(f"/api/v1/integrations/{uuid}/attach_all")).status_code == 200
    return uuid


async def code(client: httpx.AsyncClient, uuid: str) -> dict[str, Any]:
    answer = await client.post(f"/api/v1/integrations/{uuid}/telegram_code")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def connected(client: httpx.AsyncClient, telegram: TelegramServer, bot: Bot, chat: Chat) -> str:
    """As `made`, its chat found by a code and told so."""
    uuid = await made(client, bot)
    telegram.write(bot, chat, (await code(client, uuid))["text"])
    await asyncio.to_thread(telegram.wait_for, chat, "This chat is connected")
    return uuid


async def message(telegram: TelegramServer, chat: Chat, text: str, count: int = 1) -> Posted:
    found = await asyncio.to_thread(telegram.wait_for, chat, text, count)
    assert len(found) == count
    return found[-1]


async def press(
    telegram: TelegramServer, posted: Posted, button: str, bot: Bot | None = None, **changes: Any
) -> str:
    """What the presser is told."""
    query = telegram.press(posted, button, bot=bot, **changes)
    return await asyncio.to_thread(telegram.answer_to, bot or posted.bot, query)


async def settings(client: httpx.AsyncClient, uuid: str) -> dict[str, Any]:
    return dict((await client.get(f"/api/v1/integrations/{uuid}")).json()["settings"])


async def trial(client: httpx.AsyncClient, uuid: str) -> dict[str, Any]:
    """A test's delivery, once it has ended."""
    answer = await client.post(f"/api/v1/integrations/{uuid}/test")
    assert answer.status_code == 202

    async def look() -> dict[str, Any] | None:
        found = (await client.get(f"/api/v1/deliveries/{answer.json()['uuid']}")).json()
        return found if found["finished_at"] else None

    return await until(look, what="the test to end")
