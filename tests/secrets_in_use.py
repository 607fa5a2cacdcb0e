"""A whole installation, taken through everything that handles secrets, well and badly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import httpx
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.calls import alarm, new_server
from tests.installation import Installation
from tests.receivers import Answer, Receiver
from tests.sshd import PASSWORD, USER, Machine, Relay, machine
from tests.telegram_server import TelegramServer
from tests.twilio import AUTH_TOKEN, Twilio
from tests.waiting import poll, until
from tocsin.cli.sockets import free_port
from tocsin.integrations import base
from tocsin.settings import load
from tocsin.storage.channels import integrations
from tocsin.storage.channels.integrations import Facts
from tocsin.storage.postgres import database, embedded
from tocsin.storage.postgres.secrets import Vault

MAIL_PASSWORD = "sm7p-p4ssword-s3ntinel"
USER_PASSWORD = "us3r-p4ssword-s3ntinel"
WRONG_PASSWORD = "wr0ng-p4ssword-s3ntinel"
SLACK = {
    "bot_token": "xoxb-s3ntinel-b0t-t0ken",
    "user_token": "xoxp-s3ntinel-us3r-t0ken",
    "webhook_url": "https://hooks.slack.com/services/T1/B1/s3ntinel",
}
SLACK_APP = {"TOCSIN_SLACK_CLIENT_ID": "1.2", "TOCSIN_SLACK_CLIENT_SECRET": "sl4ck-cl1ent-s3ntinel",
             "TOCSIN_SLACK_SIGNING_SECRET": "sl4ck-s1gning-s3ntinel"}  # fmt: skip
NUMBER = "+1234567890"
MARK = "n0-s3cret-at-all"
"""What is no secret, and has to be found: it shows that the search can find anything."""


class Post:
    """A mail server that lets only the operator in, over a password."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._controller = Controller(
            self, hostname="127.0.0.1", port=free_port(), authenticator=self._check, auth_require_tls=False,
            ready_timeout=10,
        )
        self._controller.start()

    @property
    def url(self) -> str:
        return f"smtp://operator:{MAIL_PASSWORD}@127.0.0.1:{self._controller.port}?starttls=never"

    def close(self) -> None:
        self._controller.stop()

    def _check(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, said: Any) -> AuthResult:
        good = isinstance(said, LoginPassword) and said.password == MAIL_PASSWORD.encode()
        return AuthResult(success=good)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if not session.authenticated:
            return "530 5.7.0 Authentication required"
        content = envelope.content
        assert isinstance(content, bytes)
        self.texts.append(content.replace(b"=\r\n", b"").decode().replace("=3D", "="))
        return "250 OK"


@dataclass
class Scene:
    """An installation under way: what is secret, and what it said."""

    installation: Installation
    secrets: dict[str, str] = field(default_factory=dict)
    answers: list[tuple[str, str]] = field(default_factory=list)
    relays: list[Relay] = field(default_factory=list)

    def keep(self, name: str, secret: str) -> str:
        assert len(secret) >= 6, name
        self.secrets[name] = secret
        return secret

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """What it is answered is looked through at the end, unless the request says `may_show`."""
        client = self.installation.client()
        if token:
            client.headers["Authorization"] = f"Bearer {token}"
        client.event_hooks["response"] = [self._listen]
        return client

    async def _listen(self, response: httpx.Response) -> None:
        await response.aread()
        if "may_show" not in response.request.extensions:
            headers = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
            self.answers.append((f"{response.request.method} {response.request.url.path}", headers + response.text))


ONCE: Mapping[str, Any] = {"may_show": True}
"""For the calls that answer with a secret by intention."""


SHOW_ADDRESSES = ("/api/v1/sources", "/api/v1/sources/{uuid}")
"""Of sources, with their keys: to whoever may change them."""


@contextmanager
def far_ends() -> Iterator[tuple[Post, Twilio, Receiver, Machine, TelegramServer]]:
    post, twilio, receiver, target, bots = Post(), Twilio(), Receiver(), machine(), TelegramServer()
    try:
        yield post, twilio, receiver, target, bots
    finally:
        bots.close()
        post.close()
        twilio.close()
        receiver.close()
        target.close()


def keep_what_is_set(scene: Scene) -> None:
    folder = Path(scene.installation.environ["TOCSIN_DATA_DIR"])
    scene.keep("installation key", (folder / "secret_keys").read_text().strip())
    scene.keep("project token", scene.installation.token)
    scene.keep("SMTP password", MAIL_PASSWORD)
    scene.keep("Twilio auth token", AUTH_TOKEN)
    scene.keep("Slack client secret", SLACK_APP["TOCSIN_SLACK_CLIENT_SECRET"])
    scene.keep("Slack signing secret", SLACK_APP["TOCSIN_SLACK_SIGNING_SECRET"])
    first = (folder / "first-start.txt").read_text()
    patterns = {"operator's password": r"with the password (\S+)", "first token": r"API token +(\S+)"}
    for name, pattern in patterns.items():
        if match := re.search(pattern, first):
            scene.keep(name, match[1])


async def users(scene: Scene, post: Post) -> None:
    """Somebody registers, is sent a link, fails to sign in, signs in."""
    scene.keep("user's password", USER_PASSWORD)
    scene.keep("wrong password", WRONG_PASSWORD)
    given = {"email": "ann@example.com", "password": USER_PASSWORD, "password_confirmation": USER_PASSWORD}
    async with scene.client() as client:
        bad = {**given, "password_confirmation": WRONG_PASSWORD}
        assert (await client.post("/api/v1/users", json={"user": bad})).status_code == 422
        assert (await client.post("/api/v1/users", json={"user": given})).status_code == 201
        wrong = {"user": {"email": "ann@example.com", "password": WRONG_PASSWORD}}
        assert (await client.post("/api/v1/users/sign_in", json=wrong)).status_code == 401
        good = {"user": {"email": "ann@example.com", "password": USER_PASSWORD}}
        signed_in = await client.post("/api/v1/users/sign_in", json=good, extensions=dict(ONCE))
        token = scene.keep("session", signed_in.json()["token"])
    async with scene.client(token) as client:
        [own] = (await client.get("/api/v1/projects", extensions=dict(ONCE))).json()
        scene.keep("own project's token", own["api_token"])
        assert (await client.get("/api/v1/integrations")).status_code == 200
    text = poll(lambda: next((each for each in post.texts if "/verify-email?" in each), None), what="a mail")
    found = re.search(r"http\S+/verify-email\?token=[\w.=-]+", text)
    assert found
    token = scene.keep("verification link", parse_qs(urlsplit(found[0]).query)["token"][0])
    new = scene.keep("chosen password", "ch0sen-p4ssword-s3ntinel")
    async with scene.client() as client:
        # Its form carries what the link did.
        assert (await client.get(found[0], extensions=dict(ONCE))).status_code == 200
        form = {"token": token, "password": new, "password_confirmation": new}
        assert "Thank you" in (await client.post("/verify-email/password", data=form)).text


async def everything(
    scene: Scene, twilio: Twilio, receiver: Receiver, target: Machine, bots: TelegramServer
) -> None:
    """One integration of each type, and one of each that fails; an incident for all of them."""
    async with scene.client() as client:
        server = await new_server(client, MARK)
        await webhooks(scene, client, receiver)
        await make(client, "Email", {"email": "alerts@example.com"})
        await restarts(scene, client, target)
        await texts(scene, client, twilio)
        if "Integrations::SlackIntegration" in base.types():
            await slack(scene)
        await telegram(scene, client, bots)
        await heartbeats(scene, client)
        await sources(scene, client)
        for each in (await client.get("/api/v1/integrations")).json():
            assert (await client.post(f"/api/v1/integrations/{each['uuid']}/attach_all")).status_code == 200
            assert (await client.post(f"/api/v1/integrations/{each['uuid']}/test")).status_code == 202
        await ended(client)
        opened = await client.post("/api/v1/incidents", json={"incident": alarm(server, message=MARK)})
        assert opened.status_code == 201
        await ended(client)
        await client.post(f"/api/v1/incidents/{opened.json()['uuid']}/resolve")
        await ended(client)


async def sources(scene: Scene, client: httpx.AsyncClient) -> None:
    """Alerts are sent to sources, well and badly, and one gets a new address."""
    signing = scene.keep("what Grafana signs with", "gr4fana-s1gning-s3ntinel")
    for wanted in ({"type": "pagerduty"}, {"type": "grafana", "signing_secret": signing}):
        made = (await client.post("/api/v1/sources", json={"source": wanted}, extensions=dict(ONCE))).json()
        at = f"/api/v1/sources/{made['uuid']}"
        for name in ("old key", "key"):
            key = scene.keep(f"{name} of a {wanted['type']} source", made["url"].rpartition("/")[2])
            for path in (f"/in/{key}", f"/in/{key}/api/v2/alerts", "/v2/enqueue", "/v2/change/enqueue"):
                for body in ({"routing_key": key, "event_action": "trigger"}, {"routing_key": key, "alerts": [5]}):
                    assert (await client.post(path, json=body)).status_code in (400, 401)
            event = {"routing_key": key, "event_action": "resolve", "dedup_key": "k"}
            await client.post("/v2/enqueue", json=event)
            made = (await client.post(f"{at}/rotate", extensions=dict(ONCE))).json()
        scene.keep(f"last key of a {wanted['type']} source", made["url"].rpartition("/")[2])


async def make(
    client: httpx.AsyncClient, kind: str, settings: Mapping[str, Any], status: Literal[201, 422] = 201
) -> httpx.Response:
    body = {"integration": {"type": f"Integrations::{kind}Integration", "settings": settings}}
    made = await client.post("/api/v1/integrations", json=body, extensions=dict(ONCE if status == 201 else {}))
    assert made.status_code == status, made.text
    return made


async def webhooks(scene: Scene, client: httpx.AsyncClient, receiver: Receiver) -> None:
    receiver.answers["/fails"] = Answer(500, body=b"no")
    for path in ("/hook", "/fails"):
        made = await make(client, "Webhook", {"webhook_url": receiver.url(path)})
        scene.keep(f"first secret of {path}", made.headers["Tocsin-Webhook-Secret"])
        rotated = await client.post(f"/api/v1/integrations/{made.json()['uuid']}/rotate_secret", extensions=dict(ONCE))
        scene.keep(f"second secret of {path}", rotated.json()["secret"])


async def restarts(scene: Scene, client: httpx.AsyncClient, target: Machine) -> None:
    scene.keep("SSH password", PASSWORD)
    key = target.private_key
    scene.keep("SSH key", max(key.splitlines(), key=len))
    there = {"ip": "127.0.0.1", "username": USER, "port": target.port}
    await make(client, "SshServerRestart", {**there, "password": PASSWORD})
    # Targets of their own, since one target is not restarted twice at a time.
    with_key, wrong = Relay(target.port), Relay(target.port)
    scene.relays += [with_key, wrong]
    await make(client, "SshServerRestart", {**there, "port": with_key.port, "private_key": key, "password": PASSWORD})
    await make(client, "SshServerRestart", {**there, "port": wrong.port, "password": WRONG_PASSWORD})
    for name, value in {"ip": "no host", "port": 99_999, "username": ""}.items():
        await make(client, "SshServerRestart", {**there, "password": PASSWORD, name: value}, 422)
    await make(client, "SshServerRestart", {**there, "password": [PASSWORD]}, 422)
    await make(client, "SshServerRestart", {**there, "private_key": key[: len(key) // 2]}, 422)
    assert (await client.post("/api/v1/integrations", content=f'{{"password": "{MAIL_PASSWORD}')).status_code == 400


async def texts(scene: Scene, client: httpx.AsyncClient, twilio: Twilio) -> None:
    sent = await client.post("/api/v1/integrations/sms/send_verification_code", json={"phone_number": NUMBER})
    assert sent.status_code == 200, sent.text
    [message] = twilio.wait_for(1, to=NUMBER)
    code = re.search(r"\b\d{6}\b", message.body)
    assert code
    scene.keep("verification code", code[0])
    wrong = f"{(int(code[0]) + 1) % 1_000_000:06}"
    await make(client, "Sms", {"phone_number": NUMBER, "verification_code": wrong}, 422)
    await make(client, "Sms", {"phone_number": NUMBER, "verification_code": code[0]})
    twilio.refuse(400, 21610, "Attempt to send to unsubscribed recipient")


async def slack(scene: Scene) -> None:
    """As consent at Slack leaves it; that way itself is tested where Slack is."""
    for name, secret in SLACK.items():
        scene.keep(f"Slack {name}", secret)
    kind = base.of("Integrations::SlackIntegration")
    assert SLACK.keys() <= kind.secret_settings
    pool = await database.pool(dsn(scene.installation), size=1, name="tests")
    try:
        async with pool.acquire() as tx, tx.transaction():
            project = await tx.fetchval("SELECT id FROM projects WHERE name = 'Tests'")
            settings = load(environ=scene.installation.environ)
            await integrations.create(
                tx, Vault(settings.secret_keys), database.key(project), kind.type,
                Facts(kind.for_people, kind.repeatable), name="My Workspace #alerts", secret=kind.secret_settings,
                settings={**SLACK, "channel_id": "C1", "bot_user_id": "U1", "team_id": "T1"},
            )  # fmt: skip
    finally:
        await pool.close()


async def telegram(scene: Scene, client: httpx.AsyncClient, server: TelegramServer) -> None:
    """A bot that works, with its code, and one whose token was revoked."""
    for chat in (server.chat("Ann"), server.chat("Ben")):
        bot = server.bot()
        scene.keep(f"token of @{bot.username}", bot.token.partition(":")[2])
        made = await make(client, "Telegram", {"bot_token": bot.token, "chat_id": chat.id})
        code = await client.post(f"/api/v1/integrations/{made.json()['uuid']}/telegram_code", extensions=dict(ONCE))
        scene.keep(f"code of {chat.title}", code.json()["code"])
    bot.revoked = True
    await make(client, "Telegram", {"bot_token": bot.token}, 422)


async def heartbeats(scene: Scene, client: httpx.AsyncClient) -> None:
    """Jobs that report well and badly, by both kinds of address."""
    wanted = {"heartbeat": {"name": MARK, "slug": "backup"}}
    made = await client.post("/api/v1/heartbeats", json=wanted, extensions=dict(ONCE))
    key = scene.keep("key of a heartbeat", made.json()["ping_url"].rpartition("/")[2])
    scene.keep("key of a heartbeat, without hyphens", key.replace("-", ""))
    rotated = await client.post("/api/v1/ping_key/rotate", extensions=dict(ONCE))
    project = scene.keep("ping key", rotated.json()["ping_key"])
    for path in (f"/ping/{key}", f"/ping/{project}/backup", f"/api/push/{key}", f"/api/v1/endpoints/{key}/external"):
        for method, more in (("POST", ""), ("POST", "/fail"), ("POST", "?rid=x&success=false"), ("PUT", "")):
            for size in (10, 200_000):
                await client.request(method, path + more, content=b"x" * size, headers={"Authorization": ""})


async def ended(client: httpx.AsyncClient) -> None:
    """Nothing is under way any more, however it ended."""

    async def look() -> bool:
        health = [
            (await client.get(f"/api/v1/integrations/{each['uuid']}/health")).json()["outstanding"]
            for each in (await client.get("/api/v1/integrations")).json()
        ]
        return not any(health)

    await until(look, timeout=40, what="the end of all deliveries")


async def read_all(scene: Scene) -> None:
    """Every address that only reads, about all that there is."""
    async with scene.client() as client:
        description = (await client.get("/api/v1/openapi.json")).json()
        uuids = {
            noun: [each["uuid"] for each in rows(await client.get(f"/api/v1/{noun}", extensions=dict(ONCE)))]
            for noun in ("integrations", "servers", "incidents", "network_monitors", "sources")
        }
        uuids["deliveries"] = [
            each["uuid"]
            for uuid in uuids["integrations"]
            for each in rows(await client.get(f"/api/v1/integrations/{uuid}/deliveries"))
        ]
        for path, methods in description["paths"].items():
            if "get" in methods:
                noun = path.split("/")[3] if path.count("/") > 2 else ""
                for uuid in uuids.get(noun, [""]) if "{" in path else [""]:
                    once = noun in ("heartbeats", "ping_key") or path in SHOW_ADDRESSES  # to their owners
                    await client.get(re.sub(r"\{\w+\}", uuid, path), extensions=dict(ONCE if once else {}))
        for page in ("/metrics", "/health/live", "/health/ready", "/integrations", "/settings", "/nowhere", "/"):
            await client.get(page)
        for uuid in uuids["incidents"]:
            await client.get(f"/incidents/{uuid}")
        found = [path for path, _ in scene.answers]
        assert sum("/deliveries/DLV" in path for path in found) >= 5


def rows(answer: httpx.Response) -> list[dict[str, Any]]:
    said = answer.json()
    return list(said["data"] if isinstance(said, dict) else said)


def dsn(installation: Installation) -> str:
    return embedded.dsn_of(Path(installation.environ["TOCSIN_DATA_DIR"]))
