"""Ready-made webhooks for services that want requests of their own shape. One file is one service."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import msgspec


class ReadyMade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one service wants to be told. `address` shows what its addresses look like, `hint` says where to get one,
    `source` is the vendor's description of the request; `settings` are those of the webhook, without its address. What
    is to be replaced in them begins with `YOUR-`, and is a secret.
    """

    name: str
    address: str
    hint: str
    source: str
    settings: dict[str, Any]
    webhook_url: str = ""
    """The address, where it is the same for everybody."""


@cache
def all_() -> dict[str, ReadyMade]:
    """Every service, by the name of its file, in the order of the names for people."""
    folder = resources.files(__name__)
    found = {
        each.name.removesuffix(".json"): msgspec.json.decode(each.read_bytes(), type=ReadyMade)
        for each in folder.iterdir()
        if each.name.endswith(".json")
    }
    return dict(sorted(found.items(), key=lambda item: item[1].name.lower()))
