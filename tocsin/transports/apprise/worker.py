"""A worker: one request, answered by Apprise in a process that can reach nothing but us, and then the end.

Its connections are opened by us; its requests follow no redirect, check certificates, and are noted with what was
answered, because Apprise itself only says whether it worked.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import apprise
import requests
import urllib3.util.connection
from apprise.common import NotifyType, OverflowMode
from apprise.manager_plugins import NotificationManager
from apprise.plugins import details
from apprise.url import URLBase

from tocsin.transports.apprise import confinement, forms, messages
from tocsin.transports.apprise.allowed import OFFERED, REFUSED_ARGUMENTS

MAX_BODY = 1024 * 1024
"""Bytes of a response that Apprise gets to see."""
MAX_KEPT = 2048
MAX_NOTED = 20
TOO_MANY_REQUESTS = 429

_memory = 0
_package = str(Path(__file__).parents[2])


class Throttled(BaseException):
    """A service asked to wait. No `Exception`, so that no plugin takes it for one of its own."""


def load() -> None:
    """Load every service, once for all workers that are forked from here."""
    global _memory
    _plugins().load_modules()
    logging.getLogger("apprise").propagate = False
    _memory = confinement.addresses_in_use() + confinement.MEMORY


def run(channel: socket.socket) -> None:
    """Answer the one request that comes over `channel`."""
    request = messages.decoded(channel.recv(messages.MAX_REQUEST))
    confinement.bound(_memory, request["seconds"])
    confinement.confine(_package, request["roots"])
    words: list[str] = []
    _listen(words)
    try:
        answer = _JOBS[request["do"]](request, channel, words)
    except MemoryError:
        answer = {"error": "It took more memory than a worker may have"}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"[:500]}
    for piece in messages.pieces(answer):
        channel.send(piece)


# --------------------------------------------------------------------------------------------------------- describing


def _services(request: Mapping[str, Any], channel: socket.socket, words: list[str]) -> dict[str, Any]:
    """Every service that is offered and works here, by each name under which it differs: with TLS, and without."""
    found = {}
    for plugin in dict.fromkeys(_plugins().plugins()):
        plain, secure = _first(plugin.protocol), _first(plugin.secure_protocol)
        if not plugin.enabled:
            continue
        label = str(plugin.service_name)
        if secure in OFFERED:
            found[secure] = label
        if plain in OFFERED:
            found[plain] = f"{label} without TLS" if secure else label
    ordered = sorted(found.items(), key=lambda each: each[1].lower())
    return {"services": [{"service": service, "label": label} for service, label in ordered]}


def _describe(request: Mapping[str, Any], channel: socket.socket, words: list[str]) -> dict[str, Any]:
    service = request["service"]
    plugin = _plugins()[service]
    return {"fields": forms.fields(service, details(plugin)), "about": str(plugin.setup_url or "")[:300]}


def _read(request: Mapping[str, Any], channel: socket.socket, words: list[str]) -> dict[str, Any]:
    """The service and fields that a pasted address means; `problem` where it means none."""
    url = request["url"]
    service = url.partition("://")[0].lower()
    if native := service in ("http", "https"):
        if refused := forms.arguments(url).keys() & REFUSED_ARGUMENTS:
            return {"problem": f"holds the argument {min(refused)!r}, which is not offered"}
        url = _native(url) or ""
        service = url.partition("://")[0]
    if service not in OFFERED or service not in _plugins():
        return {"problem": "is no address of a service that is offered"}
    described = details(_plugins()[service])
    try:
        ways = list(forms.read(service, described, url, native=native))
    except forms.Unbuildable as error:
        return {"problem": str(error)}
    meant = _made(url)
    for given in ways:
        made = _build(service, described, given)
        if made is not None and (meant is None or made.url() == meant.url()):
            return {"service": service, "fields": given}
    return {"problem": "cannot be read; give service and fields instead"}


def _check(request: Mapping[str, Any], channel: socket.socket, words: list[str]) -> dict[str, Any]:
    """Which fields are secret; `problem` where the service would not accept them."""
    service, given = request["service"], request["fields"]
    described = details(_plugins()[service])
    known = {each["name"]: each for each in forms.fields(service, described)}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        return {"field": unknown[0], "problem": f"is no field of {service}; there are: {', '.join(known)}"}
    missing = [name for name, each in known.items() if each["required"] and name not in given]
    if missing:
        return {"field": missing[0], "problem": "is required"}
    if _build(service, described, given) is None:
        return {"problem": words[-1][:300] if words else "do not go together, or one of them is not valid"}
    return {"secret": sorted(name for name in given if known[name]["secret"])}


def _native(url: str) -> str | None:
    """A service's own address, such as a Discord webhook's, as one of Apprise's."""
    for plugin in dict.fromkeys(_plugins().plugins()):
        if _first(plugin.secure_protocol or plugin.protocol) in OFFERED and (said := plugin.parse_native_url(url)):
            return str(plugin(**{**said, "asset": _asset()}).url())
    return None


# ------------------------------------------------------------------------------------------------------------ sending


def _send(request: Mapping[str, Any], channel: socket.socket, words: list[str]) -> dict[str, Any]:
    service = request["service"]
    target = _build(service, details(_plugins()[service]), request["fields"])
    if target is None:
        return {"error": words[-1] if words else "The service does not accept these settings any more"}
    noted: list[dict[str, Any]] = []
    _reach_out(channel, request["roots"], request["seconds"], noted)
    words.clear()
    try:
        done = target.notify(
            body=request["body"], title=request["title"], notify_type=NotifyType(request["kind"]),
            body_format=apprise.NotifyFormat.TEXT, overflow=OverflowMode.TRUNCATE,
        )  # fmt: skip
    except Throttled:
        done = False
    return {"done": bool(done), "noted": noted[-MAX_NOTED:], "words": words[:MAX_NOTED]}


def _reach_out(channel: socket.socket, roots: str, seconds: float, noted: list[dict[str, Any]]) -> None:
    """From now on, connections are opened by asking for them, and every request is noted with its answer."""
    until = time.monotonic() + seconds

    def connection(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(channel, [messages.CONNECT + messages.encoded(address)], [theirs.fileno()])
        refusal = messages.decoded(channel.recv(messages.PIECE))
        if refusal is not None:
            ours.close()
            raise OSError(refusal)
        ours.settimeout(max(0.1, until - time.monotonic()))
        return ours

    plain_send = requests.adapters.HTTPAdapter.send

    def send(self: requests.adapters.HTTPAdapter, asked: requests.PreparedRequest, *_: Any, **__: Any) -> Any:
        if noted and noted[-1].get("status") == TOO_MANY_REQUESTS:
            raise Throttled
        left = max(0.1, until - time.monotonic())
        try:
            answer = plain_send(self, asked, stream=True, timeout=left, verify=roots or True)
            body = answer.raw.read(MAX_BODY, decode_content=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            noted.append({"error": _said(error, asked)})
            raise
        answer._content, answer._content_consumed = body, True
        answer.close()
        text = body[:MAX_KEPT].decode("utf-8", "replace")
        noted.append({"status": answer.status_code, "retry_after": answer.headers.get("Retry-After"), "text": text})
        return answer

    urllib3.util.connection.create_connection = connection
    requests.adapters.HTTPAdapter.send = send
    requests.Session.get_redirect_target = lambda self, answer: None
    requests.sessions.get_netrc_auth = lambda *_, **__: None
    requests.sessions.get_environ_proxies = lambda *_, **__: {}
    URLBase.throttle = _throttle


def _throttle(self: URLBase, last_io: Any = None, wait: float | None = None) -> None:
    """The rate is kept by what a service answers; where it asks to wait, the queue waits, and no process."""
    if wait:
        raise Throttled


def _said(error: Exception, asked: requests.PreparedRequest) -> str:
    host = urlsplit(asked.url or "").hostname
    if isinstance(error, requests.exceptions.SSLError):
        inner = next((each for each in _causes(error) if getattr(each, "verify_message", "")), None)
        return f"TLS: {inner.verify_message if inner else 'the handshake failed'}"
    if isinstance(error, (requests.exceptions.Timeout, TimeoutError, urllib3.exceptions.TimeoutError)):
        return f"No answer from {host} in time"
    return f"The connection to {host} ended before an answer"


def _causes(error: BaseException | None) -> list[Any]:
    found: list[Any] = []
    while error is not None and len(found) < 10:
        found += [error, *[each for each in error.args if isinstance(each, BaseException)]]
        error = error.__cause__ or error.__context__
    return found + [each.reason for each in found if isinstance(getattr(each, "reason", None), BaseException)]


# ------------------------------------------------------------------------------------------------------------ Apprise


def _build(service: str, described: forms.Described, given: Mapping[str, str]) -> Any:
    """The service's object for these fields, or None."""
    for url in forms.build(service, described, given):
        if (made := _made(url)) is not None:
            return made
    return None


def _made(url: str) -> Any:
    made = apprise.Apprise.instantiate(url, asset=_asset())
    if made is not None:
        made.verify_certificate, made.redirects = True, False
    return made


def _asset() -> apprise.AppriseAsset:
    return apprise.AppriseAsset(
        app_id="Tocsin", app_desc="Tocsin", app_url="", async_mode=False, http_redirects=False, image_url_mask="",
        image_url_logo="", image_path_mask=False, storage_mode=apprise.PersistentStoreMode.MEMORY,
        allow_templates=False, pgp_autogen=False, pem_autogen=False, language="en",
    )  # fmt: skip


def _plugins() -> Any:
    return NotificationManager()


def _first(names: Any) -> str:
    return names if isinstance(names, str) else next(iter(names or ()), "")


def _listen(words: list[str]) -> None:
    """Take what Apprise logs, warnings and worse."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(words) < MAX_NOTED:
                words.append(record.getMessage()[:500])

    log = logging.getLogger("apprise")
    log.handlers[:] = [Listener(logging.WARNING)]
    log.setLevel(logging.WARNING)


_JOBS = {"services": _services, "describe": _describe, "read": _read, "check": _check, "send": _send}
