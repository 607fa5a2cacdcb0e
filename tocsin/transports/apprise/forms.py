"""Apprise's description of a service as the fields of a form, and its addresses from fields and back.

Runs in workers. Pure: `Described` is what `apprise.plugins.details` says of a plugin, its names translated to text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from tocsin.transports.apprise.allowed import OFFERED

Described = Mapping[str, Any]

SECRET = re.compile(r"key|token|secret|pass|auth|sig|webhook|seed|hook|sid$", re.IGNORECASE)
"""Names of fields that are secret, whatever Apprise says of them."""

_TOKEN = re.compile(r"\{(\w+)\}")
_KINDS = {"bool": "boolean", "int": "number", "float": "number"}
_MAX_VALUES = 100


class Unbuildable(Exception):
    """Fields that make no address, or an address that has no such fields; the text says why."""


def fields(service: str, described: Described) -> list[dict[str, Any]]:
    """The fields of a service, those that are required first."""
    found = [*_tokens(service, described), *_arguments(service, described)]
    return sorted(found, key=lambda each: not each["required"])


def _tokens(service: str, described: Described) -> Iterator[dict[str, Any]]:
    used = [set(_TOKEN.findall(template)) for template in templates(service, described)]
    for name in dict.fromkeys(name for template in used for name in sorted(template)):
        token = described["tokens"][name]
        required = all(name in template for template in used)
        yield {"name": name, "required": required, **_field(name, token)}


def _arguments(service: str, described: Described) -> Iterator[dict[str, Any]]:
    for name, argument in described["args"].items():
        if name in OFFERED[service] and "alias_of" not in argument and name not in described["tokens"]:
            yield {"name": name, "required": False, "extra": True, **_field(name, argument)}


def _field(name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(described.get("type", "string"))
    return {
        "label": str(described.get("name") or name)[:100],
        "type": "list" if kind.startswith("list") else "choice" if kind.startswith("choice") else
        _KINDS.get(kind, "string"),
        "secret": bool(described.get("private")) or bool(SECRET.search(name)),
        "values": _values(described.get("values") or ()),
    }  # fmt: skip


def _values(found: Any) -> list[str]:
    """In the order that they have a meaning in; what has none, in that of the alphabet."""
    ordered = found if isinstance(found, list | tuple) else sorted(found, key=str)
    return [str(each) for each in ordered][:_MAX_VALUES]


def templates(service: str, described: Described) -> list[str]:
    """The addresses that a service knows, as far as all their parts are offered, without the scheme."""
    found = []
    for template in described["templates"]:
        text = template.removeprefix("{schema}://")
        if set(_TOKEN.findall(text)) <= OFFERED[service]:
            found.append(text)
    return found


def build(service: str, described: Described, given: Mapping[str, str]) -> Iterator[str]:
    """The addresses that say exactly what was given, those with more of it in the address itself first.

    Every value is escaped, so that none can become another part of the address.
    """
    arguments = {name for name in described["args"] if name in OFFERED[service]}
    ways = [(template, "") for template in _by_size(templates(service, described))]
    # Some services read mail addresses from the place of the host, unescaped; where there is no host, nothing is lost.
    ways += [(template, "@") for template, _ in ways if "{host}" not in template]
    for template, kept in ways:
        names = set(_TOKEN.findall(template))
        rest = given.keys() - names
        if names <= given.keys() and rest <= arguments:
            place, _, query = template.partition("?")
            said = [part.partition("=")[0] + "=" + quote(given[part.partition("{")[2][:-1]], safe="")
                    for part in query.split("&") if part]  # fmt: skip
            said += [f"{name}={quote(given[name], safe='')}" for name in sorted(rest)]
            yield f"{service}://{_filled(place, given, described, kept)}" + (f"?{'&'.join(said)}" if said else "")


def _filled(place: str, given: Mapping[str, str], described: Described, kept: str) -> str:
    filled = _TOKEN.sub(lambda found: _part(found[1], given[found[1]], described, kept), place)
    host, slash, path = filled.partition("/")
    return host + slash + re.sub("/{2,}", "/", path)


def _part(name: str, value: str, described: Described, kept: str) -> str:
    if _is_list(name, described):
        return "/".join([quote(each, safe=kept) for each in re.split(r"[\s,]+", value) if each])
    if name in ("path", "fullpath"):
        bare = value.strip("/")
        return f"/{quote(bare, safe='/')}/" if bare else "/"
    if name == "host" and ":" in value:
        return f"[{value}]"
    return quote(value, safe=kept)


def read(service: str, described: Described, url: str, *, native: bool = False) -> Iterator[dict[str, str]]:
    """What an address may say, most likely first. Raises `Unbuildable` for an argument that is not offered.

    `native` means that Apprise made it of a service's own: then it names defaults too, which are left out.
    """
    place, _, query = url.partition("://")[2].partition("?")
    given = dict(_read_arguments(service, described, query, native))
    seen = []
    ways = [(template, strict) for strict in (True, False) for template in _by_size(templates(service, described))]
    for template, strict in ways:
        body, _, needed = template.partition("?")
        found = re.fullmatch(_pattern(body, described, strict) + "/?", place)
        if not found or not set(_TOKEN.findall(needed)) <= given.keys():
            continue
        parts = {name: _whole(name, text, described) for name, text in found.groupdict().items() if text != "/"}
        said = {**given, **{name: value for name, value in parts.items() if value}}
        if said not in seen and all(_fits(described["tokens"][name], value) for name, value in parts.items() if value):
            seen.append(said)
            yield said


def arguments(url: str) -> dict[str, str]:
    """The arguments of an address. Raises `Unbuildable` if they are too many."""
    try:
        return dict(parse_qsl(url.partition("?")[2], keep_blank_values=True, max_num_fields=_MAX_VALUES))
    except ValueError:
        raise Unbuildable("holds too many arguments") from None


def _read_arguments(
    service: str, described: Described, query: str, native: bool
) -> Iterator[tuple[str, str]]:
    for name, value in arguments(f"?{query}").items():
        if name not in OFFERED[service] or (name not in described["args"] and name not in described["tokens"]):
            if native:
                continue
            raise Unbuildable(f"holds the argument {name[:40]!r}, which is not offered")
        alias = described["args"].get(name, {}).get("alias_of")
        yield alias if isinstance(alias, str) and alias in OFFERED[service] else name, value


def _pattern(template: str, described: Described, strict: bool) -> str:
    parts, at = [], 0
    for found in _TOKEN.finditer(template):
        parts.append(re.escape(template[at : found.start()]))
        parts.append(f"(?P<{found[1]}>{_shape(found[1], described, strict)})")
        at = found.end()
    return "".join(parts) + re.escape(template[at:])


def _shape(name: str, described: Described, strict: bool) -> str:
    if name == "port":
        return "[0-9]{1,5}"
    if name in ("path", "fullpath"):
        return "/(?:[^?]*/)?"
    if _is_list(name, described):
        return "[^?]+"
    return "[^/?@:]+" if strict else "[^/?]+"


def _whole(name: str, text: str, described: Described) -> str:
    return ", ".join(unquote(each) for each in text.split("/") if each) if _is_list(name, described) else unquote(text)


def _fits(token: Mapping[str, Any], value: str) -> bool:
    """Whether a value looks like what the token is: else a part of a secret could pass for something public."""
    shape = token.get("regex")
    return shape is None or re.match(shape[0], value, re.IGNORECASE) is not None


def _is_list(name: str, described: Described) -> bool:
    return str(described["tokens"].get(name, {}).get("type", "")).startswith("list")


def _by_size(found: list[str]) -> list[str]:
    return sorted(dict.fromkeys(found), key=lambda template: -len(_TOKEN.findall(template)))
