"""Who views a page, what they may do, and their cookies and forms."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
from litestar import Request, Response
from litestar.datastructures import Cookie

from tocsin.actions.base import INSTALLATION, MEMBERS, Actor, require
from tocsin.domain import clients, ids, urls
from tocsin.domain.errors import Refused
from tocsin.settings import Settings
from tocsin.storage.accounts import sessions
from tocsin.storage.accounts.accounts import Role
from tocsin.storage.accounts.passwords import Requester
from tocsin.storage.accounts.sessions import Membership, SignedIn
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.apprise.catalog import Catalog
from tocsin.transports.apprise.workers import Workers
from tocsin.web import messages

AnyRequest = Request[Any, Any, Any]

SESSION_SECONDS = 30 * 86_400
FLASH = "said"
ZONE = "zone"
MAX_FIELDS, MAX_ESCAPES = 2_000, 22_000
"""Of a form. The longest accepted one has that many percent signs if none of its text is ASCII."""
MAX_TOKEN_LENGTH = 200
MAX_COOKIE_LENGTH = 4_096
"""What browsers must support (RFC 6265, 6.1)."""
MAX_ZONE_LENGTH = 60


@runtime_checkable
class Service(Protocol):
    """What the pages need from the service."""

    pool: asyncpg.Pool
    settings: Settings
    vault: Vault
    public_url: str
    apprise: Workers
    apprise_catalog: Catalog


class Viewer:
    """Somebody who views a page, in their current project. Immutable by convention.

    `zone` is their time zone by its IANA name, `flash_message` the result of the last form: (text, whether it is good).
    """

    # Not a dataclass: the framework would inspect its fields for each handler.

    def __init__(self, person: Person, current: Membership, csrf: str, request: AnyRequest) -> None:
        self.user_id: UUID = person.user_id
        self.session_id: UUID = person.session_id
        self.email: str = person.email
        self.name: str = person.name
        self.operator: bool = person.operator
        self.verified: bool = person.verified
        self.projects: tuple[Membership, ...] = person.projects
        self.person: Actor = person.actor
        """As `actor`, for actions on their own account or the installation."""
        self.project_id: UUID = current.project_id
        self.project_uuid: str = ids.public(ids.PROJECT, current.project_id)
        self.project_name: str = current.name
        self.plan: str = current.plan
        self.role: Role = current.role
        self.csrf: str = csrf
        self.zone: str = _zone(request)
        self.path: str = request.url.path
        self.reads: bool = request.method == "GET"
        self.flash_message: tuple[str, bool] | None = flash(request)

    @property
    def actor(self) -> Actor:
        """The actor of actions in the current project."""
        return Actor(self.project_id, self.role, self.email, self.plan, self.user_id)

    @property
    def writes(self) -> bool:
        """Whether they may change anything: readers may not."""
        return self.role != "reader"


class Person:
    """Somebody who is signed in, with or without a project."""

    def __init__(self, found: SignedIn, csrf: str, request: AnyRequest) -> None:
        self.user_id = found.user_id
        self.session_id = found.session_id
        self.email = found.email
        self.name = found.name
        self.operator = found.operator
        self.verified = found.verified
        self.projects = found.projects
        self.current = found.current
        self.csrf = csrf

    @property
    def actor(self) -> Actor:
        """The actor of actions outside any project."""
        return Actor(INSTALLATION, "operator" if self.operator else "person", self.email, user_id=self.user_id)


async def signed_in(request: AnyRequest) -> Person | None:
    """Who is signed in, if anybody."""
    service: Service = request.app.state.service
    token = cookie(request, cookie_name(service))
    if not token or len(token) > MAX_TOKEN_LENGTH:
        return None
    async with service.pool.acquire() as tx:
        found = await sessions.session_of_token(tx, service.vault, token)
    return Person(found, csrf_of(service.vault, token), request) if found else None


async def person(request: AnyRequest) -> Person:
    """The dependency `person`: somebody signed in, perhaps without a project. Raises `Refused` (401)."""
    found = await signed_in(request)
    if found is None:
        raise Refused(401, SIGN_IN_NEEDED, messages.SIGN_IN_NEEDED)
    return found


async def viewer(request: AnyRequest) -> Viewer:
    """The dependency `viewer`. Raises `Refused`, which the pages turn into a way to sign in, or to a project."""
    found = await person(request)
    if found.current is None:
        raise Refused(403, PROJECT_NEEDED, messages.PROJECT_NEEDED)
    return Viewer(found, found.current, found.csrf, request)


SIGN_IN_NEEDED = "sign_in_needed"
PROJECT_NEEDED = "project_needed"


# ---------------------------------------------------------------------------------------------------------- cookies


def secure(service: Service) -> bool:
    """Whether cookies travel by https only: exactly when people come by https."""
    return service.public_url.startswith("https:")


def cookie_name(service: Service) -> str:
    """Browsers hold the longer name to its promise: set by this very host, over https (RFC 6265bis, 4.1.3.2)."""
    return "__Host-tocsin" if secure(service) else "tocsin"


def cookie(request: AnyRequest, name: str) -> str:
    """The value of a cookie as it was sent, empty where there is none. Ours need no quotes and no escapes."""
    # Not by the framework, which undoes both in time by the square of their length, and remembers what it was sent.
    for each in request.headers.get("cookie", "").split(";"):
        key, _, value = each.partition("=")
        if key.strip() == name:
            return value.strip() if len(value) <= MAX_COOKIE_LENGTH else ""
    return ""


def session_cookie(service: Service, token: str) -> Cookie:
    return Cookie(
        key=cookie_name(service), value=token, max_age=SESSION_SECONDS, path="/",
        httponly=True, samesite="lax", secure=secure(service),
    )


def no_session(service: Service) -> Cookie:
    return Cookie(
        key=cookie_name(service), value="", max_age=0, path="/",
        httponly=True, samesite="lax", secure=secure(service),
    )


def redirect(
    to: str, flash_message: str = "", good: bool = True, cookies: list[Cookie] | None = None,
    warning: str | None = None,
) -> Response[str]:
    """303 to another page of ours, which shows `flash_message` once; `good` is whether it reports success. A `warning`
    follows it, and makes it none.
    """
    if warning:
        flash_message, good = f"{flash_message} However: {warning}.", False
    cookies = list(cookies or [])
    if flash_message:
        value = base64.urlsafe_b64encode(_flash_encoder.encode((flash_message[:1_000], good))).decode()
        cookies.append(Cookie(key=FLASH, value=value, max_age=60, path="/", httponly=True, samesite="lax"))
    headers = {"Location": local(to), "Cache-Control": "no-store"}
    return Response("", status_code=303, headers=headers, cookies=cookies, media_type="text/html")


def local(to: str) -> str:
    """The address if it is one of our own pages, else `/`: a link to us never redirects to another site."""
    if not to.startswith("/") or to.startswith(("//", "/\\")) or not to.isprintable() or urlsplit(to).netloc:
        return "/"
    return quote(to, safe="/?&=#%:+,.~-_@!$'()*;")


def flash(request: AnyRequest) -> tuple[str, bool] | None:
    """The message of the last `redirect`, and whether it reports success."""
    try:
        flash_message: tuple[str, bool] = _flash_decoder.decode(base64.urlsafe_b64decode(cookie(request, FLASH)))
    except (ValueError, msgspec.DecodeError):
        return None
    return flash_message


_flash_encoder = msgspec.json.Encoder()
_flash_decoder = msgspec.json.Decoder(tuple[str, bool])


def network(request: AnyRequest) -> str:
    """The client's network, as limits count it."""
    service: Service = request.app.state.service
    return clients.network_of(request.scope, service.settings.trusted_proxies)


def requester(request: AnyRequest) -> Requester:
    """Somebody with a session or a link of ours, for whom a password is computed."""
    return Requester(network(request), True, request.receive)


def _zone(request: AnyRequest) -> str:
    name = cookie(request, ZONE).replace("%2F", "/")
    try:
        return ZoneInfo(name).key if name and len(name) <= MAX_ZONE_LENGTH else "UTC"
    except (ValueError, OSError, KeyError):  # no such zone, a folder of zones, or another kind of file
        return "UTC"


# ------------------------------------------------------------------------------------------------------------ forms


class Form(Mapping[str, str]):
    """A submitted form: the last value of each field as text; `getall` for repeated fields."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name][-1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def getall(self, name: str) -> list[str]:
        """All values of the field; empty if it was not sent."""
        return list(self._fields.get(name, ()))


async def fields(request: AnyRequest, viewer: Viewer | Person, *, readers: bool = False) -> Form:
    """The form of somebody signed in. Raises `Refused` (403) if another site or a reader sent it. Readers may only send
    forms that change nothing but their own account (`readers`); actions refuse them too, but later.
    """
    form = await open_fields(request)
    service: Service = request.app.state.service
    token = cookie(request, cookie_name(service))
    if not any(hmac.compare_digest(form.get("csrf", ""), each) for each in _csrfs(service.vault, token)):
        raise Refused(403, "forbidden", messages.OLD_FORM)
    if isinstance(viewer, Viewer) and not readers:
        require(viewer.actor, MEMBERS)
    return form


async def open_fields(request: AnyRequest) -> Form:
    """The form of somebody who need not be signed in. Raises `Refused` (403) if another site sent it."""
    check_origin(request)
    body = await request.body()
    if body.count(b"&") >= MAX_FIELDS or body.count(b"%") > MAX_ESCAPES:
        return Form({})
    sent = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return Form({name: [each.replace("\0", "") for each in values] for name, values in sent.items()})


def check_origin(request: AnyRequest) -> None:
    """Refuse what a browser sends on behalf of another site. Clients that are not browsers send neither header.

    Our origin is that of TOCSIN_PUBLIC_URL; if it is not set, the host that the request names.
    """
    fetched = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    service: Service = request.app.state.service
    # `null` comes from a sandboxed frame, for example; never from our own pages, thanks to their Referrer-Policy.
    if origin is None or origin == "null":
        ours = origin is None or fetched == "same-origin"
    elif service.settings.public_url:
        ours = origin == origin_of(service.settings.public_url)
    else:
        ours = origin.partition("://")[2] == request.headers.get("host", "").lower()
    if (fetched or "same-origin") not in ("same-origin", "none") or not ours:
        raise Refused(403, "forbidden", messages.FOREIGN_FORM)


def origin_of(text: str) -> str:
    """Scheme and authority as browsers send them, without the default port (RFC 6454, 6.2)."""
    url = urls.read(text)
    return f"{url.scheme}://{url.authority}"


def csrf_of(vault: Vault, token: str) -> str:
    """The CSRF token of a session's forms: it cannot be guessed without the session."""
    return _csrfs(vault, token)[0]


def _csrfs(vault: Vault, token: str) -> list[str]:
    return [each.hex()[:40] for each in vault.token_hashes(f"csrf {token}")]
