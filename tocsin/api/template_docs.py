"""The description of what shapes a webhook's request: its settings, and the names and filters of its templates."""

from __future__ import annotations

from typing import Any

from tocsin.domain.templates import parts, request
from tocsin.domain.templates.filters import FILTERS
from tocsin.domain.templates.language import GROUPS
from tocsin.domain.templates.names import NAMES
from tocsin.domain.templates.request import METHODS

LANGUAGE = (
    "Templates have Jinja2's syntax: `{{ name }}` and `{% if … %} … {% elif … %} … {% else %} … {% endif %}`, with "
    "constants, comparisons, `and`, `or`, `not`, `in`, `a if b else c` and filters. There are no calls, loops, "
    f"arithmetic or concatenation. An integration's templates may have {parts.MAX_SIZE:,} bytes and "
    f"{parts.MAX_TOKENS:,} words and signs in sum, and what can become of them {parts.MAX_LENGTH:,} characters. A text "
    "of the body that is one `{{ … }}` and nothing else keeps its type: a number is sent as a number, `none` as null. "
    "A field or an item whose value is `omit` is left out. An integration is told that somebody has an incident (the "
    "event `acknowledged`) if its templates speak of it, as in `event == 'acknowledged'`."
)


def text() -> str:
    """The language, with every name and filter, in Markdown."""
    names = "\n".join(f"- `{name}`: {each.about}" for name, each in NAMES.items())
    filters = "\n".join(f"- `{_signature(name)}`: {each.about}" for name, each in FILTERS.items())
    dotted = ", ".join(f"`{group}.…`" for group in GROUPS)
    return (
        f"{LANGUAGE}\n\nNames ({dotted} may be written for `{GROUPS[0]}_…` and so on; `secrets.NAME` is one of the "
        f"integration's secrets):\n\n{names}\n\nFilters:\n\n{filters}"
    )


def _signature(name: str) -> str:
    shown = [key if value is ... else f"{key}={value!r}" for key, value in FILTERS[name].parameters.items()]
    return f"{name}({', '.join(shown)})" if shown else name


def schema() -> dict[str, Any]:
    """The settings of a webhook."""
    strings = {"type": ["object", "null"], "additionalProperties": {"type": "string"}}
    return {
        "type": "object",
        "description": f"The settings of a webhook. Only the address is needed.\n\n{text()}",
        "properties": {
            "webhook_url": {
                "type": "string",
                "description": "May have templates in its path and query; their values are percent-encoded.",
            },
            "method": {"enum": [*METHODS, None], "default": METHODS[0]},
            "headers": {
                **strings, "maxProperties": request.MAX_HEADERS,
                "description": "Secret. Values are templates; what they insert is one line. Null, or a value of "
                "`********`, in a change: as a whole or by name, removed or left as it is stored.",
            },
            "secrets": {
                **strings, "maxProperties": request.MAX_SECRETS,
                "description": "Secret; for templates, as `secrets.NAME`.",
            },
            "body": {
                "description": "Any JSON value, whose texts are templates: what is sent is valid JSON, whatever a "
                "message holds. Without body and text, the seven fields are sent."
            },
            "text": {
                "type": ["string", "null"],
                "description": "A template, in the place of a body. For forms, XML and HTML, values are escaped.",
            },
            "content_type": {
                "type": ["string", "null"],
                "description": f"`{request.JSON}` for a body, `{request.PLAIN}` for a text, unless given.",
            },
        },
        "required": ["webhook_url"],
    }  # fmt: skip
