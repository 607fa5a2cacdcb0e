"""The one module that reads the environment. Everything else is given values."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import platformdirs
from dotenv import dotenv_values

from tocsin.domain import database_hosts, hosts
from tocsin.domain.helo import is_helo_name
from tocsin.domain.punctuality import Objective, objective
from tocsin.domain.settings import (
    DAY,
    Network,
    Unusable,
    address,
    between,
    choice,
    days,
    heartbeat_url,
    http_url,
    networks,
    schedule,
    seconds,
    switch,
    targets,
)

Plan = Literal["free", "paid"]

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Smtp:
    """The mail server. `tls` is from the first byte (smtps); `starttls` is `auto`, `always` or `never`.

    `helo` is our name there; if None, it follows from the connection.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    starttls: Literal["auto", "always", "never"] = "auto"
    helo: str | None = None

    @property
    def exposure(self) -> str | None:
        """Why mail may be sent in clear over a network, and what to do, in a sentence; None if it cannot, or is to."""
        if self.tls or self.starttls != "auto" or _is_here(self.host):
            return None
        return (
            "TOCSIN_SMTP_URL leaves encryption to the server, so an attacker in between could have mail sent in clear: "
            "add ?starttls=always to it, or starttls=never where that network is to be trusted"
        )


@dataclass(frozen=True, slots=True)
class Twilio:
    """How SMS is sent through Twilio. `sender` is a number, or the SID (`MG…`) of a messaging service."""

    account_sid: str
    auth_token: str = field(repr=False)
    sender: str
    api_url: str


@dataclass(frozen=True, slots=True)
class Slack:
    """The operator's Slack app. `api_url` ends with a slash."""

    client_id: str
    client_secret: str = field(repr=False)
    signing_secret: str = field(repr=False)
    api_url: str
    authorize_url: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What one API process accepts from unauthenticated clients.

    `idle_timeout` is longer than what proxies use, so that they close connections, not we. An IPv6 address counts by
    its /64; a trusted proxy's has no limit of its own. Some of a body must arrive every `transfer_grace`, and after
    the first of these `transfer_rate` bytes a second on average; a response may stall for `idle_timeout` before it must
    be read at that rate.
    """

    connections: int
    connections_per_address: int
    head_bytes: int
    headers: int
    head_timeout: float
    idle_timeout: float
    transfer_grace: float
    transfer_rate: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, checked; seconds, and days of retention. `tocsin up` passes the `found_url` to its processes."""

    env: Literal["production", "development", "test"]
    data_dir: Path
    database_url: str | None
    public_url: str | None
    found_url: str | None
    secret_keys: tuple[bytes, ...] = field(repr=False)
    allow_networks: tuple[Network, ...]
    trusted_proxies: tuple[Network, ...]
    retry_schedule: tuple[float, ...]
    default_plan: Plan
    registration: Literal["invited", "open"]
    smtp: Smtp | None
    email_from: str
    sms: Twilio | Literal["outbox"] | None
    sms_countries: tuple[str, ...]
    slack: Slack | None
    telegram_api_url: str
    ssh_cooldown: float
    ssh_daily_limit: int
    retention_raw: int
    retention: int
    reveal_secrets: bool
    connectivity: tuple[str, ...]
    heartbeat_url: str | None = field(repr=False)
    heartbeat_every: float
    slo: Objective | None
    rdap_bootstrap: str
    log_level: str
    otlp_endpoint: str | None = field(repr=False)
    limits: Limits

    @property
    def production(self) -> bool:
        return self.env == "production"

    @property
    def outbox(self) -> Path:
        """Where mail is written while no SMTP server is set, and SMS if the provider is `outbox`."""
        return self.data_dir / "outbox"

    @property
    def keys_file(self) -> Path:
        return self.data_dir / "secret_keys"


LOG_LEVELS = ("debug", "info", "warning", "error")
OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""Of OpenTelemetry, as in all programs; what else there is to set is read by its own library."""

LOCAL = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
LOCAL_NETWORKS = tuple(map(ipaddress.ip_network, LOCAL))


def load(data_dir: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from the environment, then from `.env` in the data folder.

    Raises `Unusable` for the first setting that cannot be used; unknown names are ignored.
    """
    folder = Path(data_dir or environ.get("TOCSIN_DATA_DIR") or platformdirs.user_data_path("tocsin"))
    folder = folder.expanduser().absolute()
    values = {**_dotenv(folder / ".env"), **environ}

    def text(name: str, default: str = "") -> str:
        return values.get(f"TOCSIN_{name}", "").strip() or default

    env = choice("ENV", text("ENV", "production"), "production", "development", "test")
    production = env == "production"
    smtp = _smtp(text("SMTP_URL"), _helo(text("SMTP_HELO")))
    if smtp and not text("EMAIL_FROM"):
        raise Unusable("TOCSIN_EMAIL_FROM", "is needed where TOCSIN_SMTP_URL is set, such as tocsin@example.com")
    retention = days("RETENTION", text("RETENTION", "400"))
    retention_raw = days("RETENTION_RAW", text("RETENTION_RAW", str(min(30, retention))))
    if retention_raw > retention:
        raise Unusable("TOCSIN_RETENTION_RAW", f"is {retention_raw}, more than TOCSIN_RETENTION, which is {retention}")
    return Settings(
        env=env,  # type: ignore[arg-type]
        data_dir=folder,
        database_url=_with_its_files(database_hosts.checked(text("DATABASE_URL"))),
        public_url=_public_url(text("PUBLIC_URL")),
        found_url=values.get("TOCSIN_FOUND_URL"),
        secret_keys=_secret_keys(text("SECRET_KEYS"), folder / "secret_keys"),
        allow_networks=(() if production else LOCAL_NETWORKS) + networks("ALLOW_NETWORKS", text("ALLOW_NETWORKS")),
        trusted_proxies=networks("TRUSTED_PROXIES", text("TRUSTED_PROXIES")),
        retry_schedule=schedule(text("RETRY_SCHEDULE", "5,30,120,300,900,1800,3600,7200,14400,28800")),
        default_plan=choice("DEFAULT_PLAN", text("DEFAULT_PLAN", "free"), "free", "paid"),  # type: ignore[arg-type]
        registration=choice(  # type: ignore[arg-type]
            "REGISTRATION", text("REGISTRATION", "invited" if production else "open"), "invited", "open"
        ),
        smtp=smtp,
        email_from=address("EMAIL_FROM", text("EMAIL_FROM", "tocsin@localhost")),
        sms=_sms(text),
        sms_countries=_countries(text("SMS_COUNTRIES")),
        slack=_slack(text),
        telegram_api_url=http_url("TELEGRAM_API_URL", text("TELEGRAM_API_URL", "https://api.telegram.org")).rstrip("/"),
        ssh_cooldown=between("SSH_COOLDOWN", text("SSH_COOLDOWN", "900"), 0, 30 * DAY),
        ssh_daily_limit=between("SSH_DAILY_LIMIT", text("SSH_DAILY_LIMIT", "3"), 0, 1000),
        retention_raw=retention_raw,
        retention=retention,
        reveal_secrets=switch("REVEAL_SECRETS", text("REVEAL_SECRETS", "false")),
        connectivity=targets("CONNECTIVITY", text("CONNECTIVITY")),
        heartbeat_url=heartbeat_url(text("HEARTBEAT_URL")),
        heartbeat_every=seconds("HEARTBEAT_EVERY", text("HEARTBEAT_EVERY", "30")),
        slo=objective(text("SLO", "99% 5s 30m")),
        rdap_bootstrap=http_url("RDAP_BOOTSTRAP", text("RDAP_BOOTSTRAP", "https://data.iana.org/rdap/dns.json")),
        log_level=choice("LOG_LEVEL", text("LOG_LEVEL", "debug" if debugging(environ) else "info"), *LOG_LEVELS),
        otlp_endpoint=_secret_url(OTLP_ENDPOINT, values.get(OTLP_ENDPOINT, "").strip(), "http://127.0.0.1:4318"),
        limits=_limits(text),
    )


def debugging(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether TOCSIN_DEBUG enables tracebacks, and debug logs unless TOCSIN_LOG_LEVEL is set."""
    return environ.get("TOCSIN_DEBUG", "").strip().lower() in ("1", "true", "yes")


def backup_passphrase(environ: Mapping[str, str] = os.environ) -> str:
    """The passphrase of backups, if nobody is to be asked for it."""
    return environ.get("TOCSIN_BACKUP_PASSPHRASE", "")


def _dotenv(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8") as lines:
            return {name: value or "" for name, value in dotenv_values(stream=lines).items()}
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(str(path), f"cannot be read ({error})") from error


def _secret_url(name: str, value: str, example: str) -> str | None:
    """An address, or what it names, that may be a secret, and is not quoted therefore."""
    try:
        return http_url("", value, login=True) if value else None
    except Unusable:
        raise Unusable(name, f"must be an address such as {example}") from None


def _with_its_files(database_url: str | None) -> str | None:
    for option, (file, *_) in parse_qs(urlsplit(database_url or "").query).items():
        if option in ("sslrootcert", "sslcert", "sslkey", "sslcrl") and not os.access(file, os.R_OK):
            problem = f"names the file {file!r} as its {option}, which is not there or cannot be read"
            raise Unusable("TOCSIN_DATABASE_URL", problem)
    return database_url


def _public_url(value: str) -> str | None:
    if not value:
        return None
    http_url("PUBLIC_URL", value)
    if "?" in value or "#" in value:
        raise Unusable("TOCSIN_PUBLIC_URL", f"is {value!r}, but must be an address such as https://tocsin.example.com")
    return value.rstrip("/")


def _secret_keys(value: str, file: Path) -> tuple[bytes, ...]:
    name = "TOCSIN_SECRET_KEYS"
    if not value and file.exists():
        name = str(file)
        try:
            value = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unusable(name, f"cannot be read ({error})") from error
    try:
        keys = tuple(base64.b64decode(part.strip(), b"-_", validate=True) for part in value.split(",") if part.strip())
    except (binascii.Error, ValueError):
        raise Unusable(name, "is not urlsafe base64; `tocsin secrets new` prints a good key") from None
    if not keys and (value or name != "TOCSIN_SECRET_KEYS"):
        raise Unusable(name, "has no key in it; `tocsin secrets new` prints one")
    if any(len(key) != KEY_BYTES for key in keys):
        raise Unusable(name, "has a key that is not 32 bytes long; `tocsin secrets new` prints a good key")
    return keys


Text = Callable[..., str]
"""A setting's value by its name, or a default."""


def _limits(text: Text) -> Limits:
    return Limits(
        connections=between("MAX_CONNECTIONS", text("MAX_CONNECTIONS", "2000"), 10, 1_000_000),
        connections_per_address=between(
            "MAX_CONNECTIONS_PER_ADDRESS", text("MAX_CONNECTIONS_PER_ADDRESS", "500"), 1, 1_000_000
        ),
        head_bytes=between("MAX_HEAD_BYTES", text("MAX_HEAD_BYTES", "32768"), 8 << 10, 1 << 20),
        headers=between("MAX_HEADERS", text("MAX_HEADERS", "100"), 20, 1000),
        head_timeout=seconds("HEAD_TIMEOUT", text("HEAD_TIMEOUT", "10")),
        idle_timeout=seconds("IDLE_TIMEOUT", text("IDLE_TIMEOUT", "65")),
        transfer_grace=seconds("TRANSFER_GRACE", text("TRANSFER_GRACE", "10")),
        transfer_rate=between("TRANSFER_RATE", text("TRANSFER_RATE", "1024"), 1, 1 << 20),
    )


def _sms(text: Text) -> Twilio | Literal["outbox"] | None:
    url = http_url("TWILIO_API_URL", text("TWILIO_API_URL", "https://api.twilio.com"))
    match text("SMS_PROVIDER"):
        case "":
            return None
        case "outbox":
            return "outbox"
        case "twilio":
            needed = ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_FROM")
            _all_or_none(text, needed, "TOCSIN_SMS_PROVIDER is twilio")
            account_sid, auth_token, sender = map(text, needed)
            return Twilio(account_sid, auth_token, sender, url.rstrip("/"))
        case other:
            raise Unusable("TOCSIN_SMS_PROVIDER", f"is {other!r}, but must be one of: twilio, outbox")


def _countries(value: str) -> tuple[str, ...]:
    codes = tuple(part.strip().upper() for part in value.split(",") if part.strip())
    if any(len(code) != 2 or not code.isascii() or not code.isalpha() for code in codes):
        raise Unusable("TOCSIN_SMS_COUNTRIES", f"is {value!r}, but must be two-letter codes with commas, such as AT,DE")
    if codes:
        from phonenumbers import SUPPORTED_REGIONS  # large, and not needed otherwise
        if unknown := [code for code in codes if code not in SUPPORTED_REGIONS]:
            raise Unusable("TOCSIN_SMS_COUNTRIES", f"is {value!r}, but there is no country {unknown[0]}")
    return codes


def _slack(text: Text) -> Slack | None:
    needed = ("SLACK_CLIENT_ID", "SLACK_CLIENT_SECRET", "SLACK_SIGNING_SECRET")
    api_url = http_url("SLACK_API_URL", text("SLACK_API_URL", "https://slack.com/api/")).rstrip("/") + "/"
    authorize_url = http_url("SLACK_AUTHORIZE_URL", text("SLACK_AUTHORIZE_URL", "https://slack.com/oauth/v2/authorize"))
    if not any(map(text, needed)):
        return None
    _all_or_none(text, needed, "another of Slack's settings is set")
    client_id, client_secret, signing_secret = map(text, needed)
    return Slack(client_id, client_secret, signing_secret, api_url, authorize_url)


def _all_or_none(text: Text, needed: Sequence[str], because: str) -> None:
    for name in needed:
        if not text(name):
            raise Unusable(f"TOCSIN_{name}", f"is needed, because {because}")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _helo(value: str) -> str | None:
    if value and not is_helo_name(value):
        raise Unusable(
            "TOCSIN_SMTP_HELO",
            f"is {value!r}, but must be a full host name such as tocsin.example.com, or an address such as [192.0.2.1]",
        )
    return value or None


def _smtp(value: str, helo: str | None) -> Smtp | None:
    if not value:
        return None
    name = "TOCSIN_SMTP_URL"
    shape = "smtp://user:password@mail.example.com:587 or smtps://…:465"
    try:
        url = urlsplit(value)
        host, port = hosts.read(url.hostname or "").removesuffix("."), url.port
    except ValueError as error:
        raise Unusable(name, f"cannot be read ({error}); the form is {shape}") from None
    if url.scheme not in ("smtp", "smtps"):
        raise Unusable(name, f"cannot be read; the form is {shape}")
    starttls = parse_qs(url.query).get("starttls", ["auto"])[-1]
    if starttls not in ("auto", "always", "never"):
        raise Unusable(name, f"says starttls={starttls}, but it must be auto, always or never")
    tls = url.scheme == "smtps"
    return Smtp(
        host=host,
        port=port or (465 if tls else 587),
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password) if url.password else None,
        tls=tls, helo=helo,
        starttls=starttls,  # type: ignore[arg-type]
    )
