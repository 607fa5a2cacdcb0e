"""No secret that was ever put into an installation can be found where it should not be.

A whole installation is taken through everything that handles secrets, well and badly. Then every secret that was used
is looked for, as it is and in the encodings it travels in, in the data folder (PostgreSQL's own files and log
included), in the service's log, in everything that the API and the pages answered, and on all command lines.
SECURITY.md lists what may show one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from tests.command_lines import CommandLines
from tests.installation import Installation
from tests.receivers import Answer
from tests.secrets_in_use import MARK, SLACK_APP, Scene, dsn, everything, far_ends, keep_what_is_set, read_all, users

MAY_SHOW = {"secret_keys", "outbox", "first-start.txt"}
"""Of the data folder. There is no outbox here, since mail and SMS have providers."""


def forms(secret: str) -> dict[str, bytes]:
    """How a secret may be written where it leaks."""
    raw = secret.encode()
    return {
        "plain": raw,
        "URL": quote(secret, safe="").encode(),
        "JSON": json.dumps(secret)[1:-1].encode(),
        "base64": base64.b64encode(raw),
        "hex": raw.hex().encode(),
    }


def found_in(content: bytes, secrets: Mapping[str, str]) -> list[str]:
    return [
        f"{name} ({form})"
        for name, secret in secrets.items()
        for form, written in forms(secret).items()
        if written in content
    ]


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).parts[0] not in MAY_SHOW:
            try:
                yield path, path.read_bytes()
            except FileNotFoundError:  # PostgreSQL's, gone meanwhile
                continue


@pytest.fixture
def command_lines() -> Iterator[CommandLines]:
    watching = CommandLines()
    yield watching
    watching.stop()


async def test_no_secret_is_found_where_it_should_not_be(command_lines: CommandLines) -> None:
    with far_ends() as (post, twilio, receiver, target, bots):
        receiver.otherwise = Answer(body=json.dumps({"ok": True, "channel": "C1", "ts": "1.1"}).encode())
        installation = Installation(
            TOCSIN_ENV="production", TOCSIN_REGISTRATION="open", TOCSIN_DEFAULT_PLAN="paid",
            TOCSIN_ALLOW_NETWORKS="127.0.0.0/8", TOCSIN_SMTP_URL=post.url, TOCSIN_EMAIL_FROM="tocsin@example.com",
            TOCSIN_SLACK_API_URL=receiver.url("/api/"), TOCSIN_RETRY_SCHEDULE="0.2,0.2",
            **SLACK_APP, **twilio.environ(), **bots.environ(),
        )  # fmt: skip
        scene = Scene(installation)
        try:
            installation.start()
            keep_what_is_set(scene)
            await users(scene, post)
            await everything(scene, twilio, receiver, target, bots)
            assert target.reboots, "no restart came as far as its command"
            await read_all(scene)
            await checkpoint(installation)
            command_lines.stop()
            look(scene, command_lines)
        finally:
            installation.stop()
            for relay in scene.relays:
                relay.close()


async def checkpoint(installation: Installation) -> None:
    connection = await asyncpg.connect(dsn(installation))
    try:
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def look(scene: Scene, command_lines: CommandLines) -> None:
    leaks: list[str] = []
    marked = False
    for path, content in files(Path(scene.installation.environ["TOCSIN_DATA_DIR"])):
        # Six digits turn up among millions of others by chance: how codes are stored is tested where they are made.
        sought = {name: secret for name, secret in scene.secrets.items() if name != "verification code"}
        leaks += [f"{path.name} has the {name}" for name in found_in(content, sought)]
        marked = marked or MARK.encode() in content
    assert marked, "what is no secret was not found either: the search finds nothing"
    leaks += [f"the log has the {name}" for name in found_in(scene.installation.up.said().encode(), scene.secrets)]
    for where, text in scene.answers:
        leaks += [f"{where} answered the {name}" for name in found_in(text.encode(), scene.secrets)]
    for line in command_lines.seen:
        leaks += [f"a command line has the {name}: {line[:40]}" for name in found_in(line.encode(), scene.secrets)]
    assert len(scene.secrets) >= 15
    assert len(command_lines.seen) > 3
    assert not sorted(set(leaks))
