"""What Slack takes as the text and the blocks of a message.

https://docs.slack.dev/reference/block-kit/blocks
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def complaint(arguments: Mapping[str, Any]) -> str | None:
    """What Slack would say of a message's text and blocks."""
    text, blocks = arguments.get("text"), arguments.get("blocks")
    if not isinstance(text, str) or not text:
        return "no_text"
    if len(text) > 40_000:
        return "msg_too_long"
    if not isinstance(blocks, list) or not 1 <= len(blocks) <= 50:
        return "invalid_blocks_format"
    fine = all(
        isinstance(block, dict) and block.get("type") in BLOCKS and BLOCKS[block["type"]](block) for block in blocks
    )
    return None if fine else "invalid_blocks"


def _section(block: Mapping[str, Any]) -> bool:
    return block.keys() <= {"type", "text", "block_id", "fields"} and _text(block["text"], 3000)


def _context(block: Mapping[str, Any]) -> bool:
    elements = block["elements"]
    return block.keys() <= {"type", "elements", "block_id"} and 1 <= len(elements) <= 10 and all(
        _text(each, 3000) for each in elements
    )


def _actions(block: Mapping[str, Any]) -> bool:
    elements = block["elements"]
    return block.keys() <= {"type", "elements", "block_id"} and 1 <= len(elements) <= 25 and all(
        each["type"] == "button" and each.keys() <= {"type", "text", "action_id", "value", "style", "url", "confirm"}
        and each["text"]["type"] == "plain_text" and 1 <= len(each["text"]["text"]) <= 75
        and 1 <= len(each["action_id"]) <= 255 and 1 <= len(each.get("value", "-")) <= 2000
        and each.get("style", "primary") in ("primary", "danger")
        for each in elements
    )


def _text(text: Mapping[str, Any], most: int) -> bool:
    """Characters that Slack reads as its own must be escaped, or be part of a link or a date."""
    if text.keys() > {"type", "text", "verbatim", "emoji"} or text["type"] not in ("mrkdwn", "plain_text"):
        return False
    plain = re.sub(r"<(https?://[^<>|\s]+\|[^<>]*|!date\^\d+\^[^<>^|]+\|[^<>|]+)>", "", text["text"])
    bare = re.sub(r"&(amp|lt|gt);", "", plain)
    return 1 <= len(text["text"]) <= most and not set("<>&") & set(bare)


BLOCKS = {"section": _section, "context": _context, "actions": _actions}
