"""A workspace of Slack's as its far end keeps it: its tokens, its channel, the messages in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Workspace:
    """One workspace that has the app, and the channel that its person chose."""

    id: str
    name: str
    channel_id: str
    channel: str
    bot_token: str
    user_token: str
    bot_user_id: str
    members: set[str] = field(default_factory=set)
    trouble: str | None = None
    """What calls with its tokens are told: `token_revoked`, `account_inactive`."""
    archived: bool = False
    private: bool = False


@dataclass
class Posted:
    """One message as it stands, and how often it was written."""

    workspace: Workspace
    ts: str
    text: str
    blocks: list[dict[str, Any]]
    writes: int = 1

    @property
    def words(self) -> str:
        """Everything that a reader can see."""
        return json.dumps(self.blocks, ensure_ascii=False)

    @property
    def buttons(self) -> dict[str, dict[str, Any]]:
        """By what is written on them."""
        found = [each for block in self.blocks for each in block.get("elements", []) if each["type"] == "button"]
        return {each["text"]["text"]: each for each in found}

    @property
    def button(self) -> dict[str, Any] | None:
        """The one that resolves."""
        return self.buttons.get("Resolve")


@dataclass(frozen=True, slots=True)
class Fault:
    """What the next call of a method gets in the place of its answer. With `done`, it is carried out all the same."""

    method: str
    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]
    done: bool = False
