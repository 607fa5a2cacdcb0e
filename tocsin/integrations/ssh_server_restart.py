"""SSH server restart: `sudo reboot` on the machine that is in trouble, at most once, and only within its limits.

Before the connection the intent is recorded; before the command is sent, the point of no return. What fails before it
is retried; what fails past it never is. A password goes to sudo on its standard input (sudo(8), `-S`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, ClassVar

from tocsin.domain import boots, hosts
from tocsin.domain.deliveries import (
    ATTEMPT_TIMEOUT,
    ONGOING_EVENTS,
    Delivered,
    Failed,
    Finish,
    Outcome,
    Retry,
    Suppressed,
)
from tocsin.domain.errors import forbidden_state, invalid_field
from tocsin.domain.incidents import DRILL, WARNINGS, Notification
from tocsin.integrations.base import MASK, NO_PERMIT, UNSAFE, Field, IntegrationType, Permit, Transports
from tocsin.storage.channels import restarts
from tocsin.storage.channels.integrations import Sendable
from tocsin.storage.channels.restarts import Limits
from tocsin.storage.delivery import health
from tocsin.storage.delivery.leases import UNKNOWN_END, LostDelivery
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres.database import Tx
from tocsin.transports.ssh import (
    CommandNotStarted,
    CommandResult,
    Login,
    Session,
    SshFailed,
    fingerprint,
    key_problem,
    place,
)

READY_WITHIN = 6.0
"""Seconds for all before the point of no return, which takes up to 3 s; the command has the rest of the attempt."""
ENDED_WITHIN = ATTEMPT_TIMEOUT - 0.5

NOTHING_TO_DO = "nothing to do"
DEFAULT_PORT = 22
MAX_SECRET_LENGTH = 1024
MAX_KEY_LENGTH = 16_384
MAX_TYPES = 50
ORDER = ("ip", "username", "password", "private_key", "port", "incident_types")
SECRETS = ("password", "private_key")


@dataclass(slots=True)
class RestartAttempt:
    """What an attempt finds out before the point of no return, for the transaction that commits it."""

    target: str
    limits: Limits
    host_key: str = ""
    reached: str = ""
    boot_id: str | None = None
    sent: bool = field(default=False)


class SshServerRestartIntegration(IntegrationType):
    type: ClassVar[str] = "Integrations::SshServerRestartIntegration"
    label: ClassVar[str] = "SSH server restart"
    about: ClassVar[str] = "Logs in and restarts the machine when an incident opens: at most once, within limits."
    test_label: ClassVar[str] = "Dry run: log in, restart nothing"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("ip", "IP address or hostname", placeholder="203.0.113.7"),
        Field("port", "Port", "number", placeholder="22", required=False),
        Field("username", "User", placeholder="restarter", hint="Who may run sudo reboot there."),
        Field("password", "Password", "password", "Or a private key, below.", required=False),
        Field("private_key", "Private key", "lines", "In OpenSSH's form, without a passphrase.", required=False),
        Field(
            "incident_types", "Only for these types of incident", "list",
            "Between commas, such as downtime, ram. Left empty: for all.", required=False,
        ),
    )  # fmt: skip
    repeatable: ClassVar[bool] = False
    secret_settings: ClassVar[frozenset[str]] = frozenset(SECRETS)
    internal_settings: ClassVar[frozenset[str]] = frozenset({"host_key", "offered_host_key"})
    host_setting: ClassVar[str] = "ip"

    def parse(self, given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        old = stored or {}
        requested = {name: given.get(name, old.get(name)) for name in ORDER}
        ip, username = _host(requested["ip"]), _username(requested["username"])
        port = _port(requested["port"] if "port" in given or old else DEFAULT_PORT)
        elsewhere = bool(old) and place(ip, port) != place(old["ip"], old["port"])
        if old and (elsewhere or username != old["username"]):
            for name in SECRETS:
                if old.get(name) and name not in given:
                    raise invalid_field(
                        f"settings.{name}", "is needed again, because ip, port and username say where it goes"
                    )
        settings: dict[str, Any] = {"ip": ip, "username": username, "port": port}
        if requested["private_key"] is not None:
            settings["private_key"] = _private_key(requested["private_key"])
        if requested["password"] is not None or "private_key" not in settings:
            settings["password"] = _password(requested["password"])
        if requested["incident_types"] is not None:
            settings["incident_types"] = _incident_types(requested["incident_types"])
        kept = () if elsewhere else self.internal_settings
        return settings | {name: old[name] for name in kept if name in old}

    def default_name(self, settings: Mapping[str, Any]) -> str:
        return f"{settings['ip']} ({settings['username']})"

    def host(self, settings: Mapping[str, Any]) -> str | None:
        return hosts.read(settings["ip"])

    def public_settings(self, settings: Mapping[str, Any], *, reveal: bool) -> dict[str, Any]:
        """As everywhere, in the specification's order; host keys by their fingerprints, once there are any."""
        plain = super().public_settings(settings, reveal=reveal)
        prints = {
            f"{name}_fingerprint": fingerprint(settings[name])
            for name in ("host_key", "offered_host_key")
            if name in settings
        }
        return {name: plain[name] for name in ORDER if name in plain} | prints

    def trust_host_key(self, settings: Mapping[str, Any], expected: str) -> dict[str, Any]:
        """The settings with the host key that was offered last as the trusted one.

        Raises `Refused` (422) if none was offered, or `expected` is not its fingerprint.
        """
        offered = settings.get("offered_host_key")
        if offered is None:
            raise forbidden_state(
                "No other host key was offered since the known one was pinned; a test shows what is offered now"
            )
        if fingerprint(offered) != expected:
            raise invalid_field("fingerprint", f"is not the one that was offered last, {fingerprint(offered)}")
        kept = {name: value for name, value in settings.items() if name != "offered_host_key"}
        return kept | {"host_key": offered}

    def needs_permit(self, to: Sendable) -> bool:
        return True

    async def before_send(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], transports: Transports
    ) -> Mapping[str, Any] | Suppressed | Failed:
        """Record the intent before the connection; or why nothing is restarted (now), by the project's own restarts."""
        attempt = RestartAttempt(place(settings["ip"], settings["port"]), transports.restart_limits)
        if job.event == "test":
            return {"attempt": attempt}
        if job.event not in ONGOING_EVENTS:
            return Suppressed(NOTHING_TO_DO)
        targets = [attempt.target]
        await restarts.hold(tx, targets)
        if refused := await _refusal_reason(tx, job, settings, targets, attempt.limits, logged_in=False):
            return refused
        if await restarts.under_way(tx, job, targets, logged_in=False):
            return Failed(f"another restart of {attempt.target} is under way")
        await restarts.intend(tx, job, attempt.target)
        return {"attempt": attempt}

    async def before_point_of_no_return(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Suppressed | None:
        """Check everything again, now that the login worked and the address is known; then pass that point."""
        attempt: RestartAttempt = context["attempt"]
        targets = [attempt.target, attempt.reached]
        await restarts.hold(tx, targets)
        if refused := await _refusal_reason(tx, job, settings, targets, attempt.limits, logged_in=True):
            return refused
        if await restarts.under_way(tx, job, targets, logged_in=True):
            return Suppressed(restarts.not_for_now(attempt.target))
        await restarts.pin(tx, job.integration_id, attempt.host_key, settings["ip"], settings["port"])
        if not await restarts.mark_sent(tx, job.id, attempt.reached, attempt.boot_id):
            return Suppressed("this restart was never recorded; nothing was restarted")
        return None

    def payload(self, notification: Notification) -> str:
        return {"test": "sudo -l reboot", **dict.fromkeys(ONGOING_EVENTS, "sudo reboot")}.get(notification.event, "")

    async def send(
        self, settings: Mapping[str, Any], notification: Notification, transports: Transports,
        permit: Permit = NO_PERMIT,
    ) -> Outcome:
        if notification.event not in ONGOING_EVENTS | {"test"}:
            return Suppressed(NOTHING_TO_DO)
        if (ssh := transports.ssh) is None:
            return Failed("SSH is not available in this process")
        to = login(settings)
        attempt: RestartAttempt = permit.context.get("attempt") or RestartAttempt(to.place, transports.restart_limits)
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(READY_WITHIN) as limit, ssh.login(to, settings.get("host_key")) as session:
                attempt.host_key, attempt.reached = session.host_key, session.reached
                attempt.boot_id = await boot_id(session)
                if (problem := await _checked(session, to)) is not None:
                    return problem
                if notification.event == "test":
                    return _dry_run(to, session)
                limit.reschedule(began + ENDED_WITHIN)
                if (end := await permit.pass_point_of_no_return()) is not None:
                    return end
                attempt.sent = True
                return _ended(await session.run(_sudo(to, "reboot"), _typed(to)), to)
        except TimeoutError:
            if attempt.sent:
                return Failed(f"outcome unknown: the command was sent to {to.place}, but did not end in time", "never")
            return Failed(f"Timed out: {to.place} was not ready for a command within {READY_WITHIN:g} seconds")
        except SshFailed as error:
            receipt = {"offered_host_key": error.offered} if error.offered else None
            return Failed(_redacted(str(error), to), error.retry, receipt=receipt)
        except CommandNotStarted as error:
            if attempt.sent:
                return Failed(f"outcome unknown: {to.place} disconnected while the command was being sent", "never")
            return Failed(f"{to.place} disconnected: {_redacted(str(error), to)}")

    async def after_attempt(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], outcome: Outcome, then: Retry | Finish
    ) -> None:
        receipt = (outcome.receipt if isinstance(outcome, Delivered | Failed) else None) or {}
        if "host_key" in receipt:
            await restarts.pin(tx, job.integration_id, receipt["host_key"], settings["ip"], settings["port"])
        if "offered_host_key" in receipt:
            await restarts.note_offered(tx, job.integration_id, receipt["offered_host_key"])
        if job.event not in ONGOING_EVENTS:
            return
        if UNSAFE in receipt or isinstance(then, Retry):  # what was sent is never retried
            await restarts.withdraw(tx, job.id)
        if isinstance(then, Retry) or then.status == "suppressed":
            return
        watched = await restarts.watch(tx, job.id) if receipt.get("restarting", True) else None
        if then.status == "dead" and (watched or receipt.keys() & {"offered_host_key", "restarting", UNSAFE}):
            end = f"was {then.reason}" if UNSAFE in receipt else f"failed, and is not retried: {then.reason}"
            what = f"{self.default_name(settings)} for {job.content.incident_type} on {job.content.resource_name}"
            await health.notify_people(tx, job.project_id, f"The restart of {what} {end}.", exclude=job.integration_id)

    async def on_lost(self, tx: Tx, lost: LostDelivery) -> None:
        sent = await restarts.watch(tx, lost.id) is not None
        if lost.event not in ONGOING_EVENTS or (lost.reason == UNKNOWN_END and not sent):
            return
        target = await restarts.target_of(tx, lost.id, lost.integration_id)
        why = lost.reason.removeprefix("outcome unknown: ")
        words = f"It is not known whether {target} was restarted: {why}. It is not retried. Please check the machine."
        await health.notify_people(tx, lost.project_id, words, exclude=lost.integration_id)


async def _refusal_reason(
    tx: Tx, job: Job, settings: Mapping[str, Any], targets: list[str], limits: Limits, *, logged_in: bool
) -> Suppressed | None:
    situation = await restarts.situation(tx, job.id)
    if situation is None:
        return Suppressed("the incident is no longer on record; nothing was restarted")
    if reason := situation.objection() or await restarts.silence(tx, job, situation):
        return Suppressed(reason)
    types = settings.get("incident_types")
    if situation.type == DRILL:
        return Suppressed("a drill restarts nothing")
    if types is not None and situation.type not in types:
        return Suppressed(f"{situation.type} is not among this integration's incident_types; nothing was restarted")
    if types is None and situation.type in WARNINGS:
        return Suppressed(f"{situation.type} is a warning, which no restart mends; nothing was restarted")
    limit_reached = await restarts.limit_reached(tx, job, targets, limits, logged_in=logged_in)
    return None if limit_reached is None else Suppressed(limit_reached)


def login(settings: Mapping[str, Any]) -> Login:
    """Where these settings log in, and how."""
    return Login(
        settings["ip"], settings["port"], settings["username"], settings.get("password"), settings.get("private_key")
    )


async def boot_id(session: Session) -> str | None:
    """The id of the machine's current boot, or None if it prints none. Other output of the login is ignored."""
    mark = token_hex(16)
    try:
        ran = await session.run(boots.question(mark))
    except CommandNotStarted:
        return None
    return boots.parse_output(ran.stdout, mark) if ran.status == 0 else None


def _sudo(to: Login, command: str) -> str:
    return f"sudo -S -p '' {command}" if to.password else f"sudo -n {command}"


def _typed(to: Login) -> str:
    return f"{to.password}\n" if to.password else ""


async def _checked(session: Session, to: Login) -> Failed | None:
    """Why sudo would not run the command, as far as it tells beforehand (sudo(8), `-l`)."""
    ran = await session.run(_sudo(to, "-l reboot"), _typed(to))
    return None if ran.status == 0 else _refused(ran, to)


def _refused(ran: CommandResult, to: Login) -> Failed:
    text = _redacted(ran.summary, to)
    match ran.status, text.lower():
        case None, _:
            return Failed(f"{to.place} disconnected while sudo was asked")
        case 127, _:
            return Failed(f"sudo is not installed on {to.place}", "twice")
        case _, words if "not allowed" in words or "may not run" in words or "not in the sudoers" in words:
            return Failed(f"sudo not allowed: user {to.username} may not run reboot on {to.place} ({text})", "twice")
        case _, words if "a password is required" in words:
            return Failed(f"sudo not allowed: it asks user {to.username} for a password, and none is set", "twice")
        case _, words if "try again" in words or "incorrect" in words or "no password was provided" in words:
            return Failed(f"sudo not allowed: it does not accept the password of user {to.username}", "twice")
    return Failed(f"sudo not allowed: it ended with status {ran.status}" + (f" ({text})" if text else ""), "twice")


def _dry_run(to: Login, session: Session) -> Delivered:
    output = (
        f"Dry run: logged in to {to.place} as {to.username}, and sudo allows reboot. Nothing was restarted. "
        f"Host key {fingerprint(session.host_key)}"
    )
    return Delivered(response=output, receipt={"host_key": session.host_key})


def _ended(ran: CommandResult, to: Login) -> Outcome:
    """The outcome of the command: every real restart cuts the connection, or kills the command."""
    if ran.status is None or ran.status > 128:
        return Delivered(response="The command was sent, and the connection was cut, as expected for a restart")
    if ran.status == 0:
        return Delivered(response="The command was sent and accepted")
    failed = _refused(ran, to)
    return Failed(failed.error, "never", receipt={"restarting": False})


def _redacted(text: str, to: Login) -> str:
    """A machine's output, without the secrets that it was sent."""
    for secret in filter(None, (to.password, to.private_key)):
        text = text.replace(secret, MASK)
    return text


def _text(name: str, value: object, longest: int) -> str:
    field_ = f"settings.{name}"
    if value is None or value == "":
        raise invalid_field(field_, "is required")
    if not isinstance(value, str):
        raise invalid_field(field_, "must be a string")
    if len(value) > longest:
        raise invalid_field(field_, f"must have at most {longest} characters")
    if value == MASK:
        raise invalid_field(field_, "is the mask that stands for a secret, not the secret")
    return value


def _host(value: object) -> str:
    host = _text("ip", value, hosts.MAX_LENGTH + 1)
    try:
        hosts.read(host)
    except hosts.Unreadable as error:
        raise invalid_field("settings.ip", f"must be an IP address or a hostname, without port: {error}") from None
    return host


def _username(value: object) -> str:
    username = _text("username", value, 64)
    if not username.isprintable() or " " in username:
        raise invalid_field("settings.username", "must be a user name without spaces")
    return username


def _port(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65_535:
        raise invalid_field("settings.port", "must be an integer from 1 to 65535")
    return value


def _password(value: object) -> str:
    if value is None:
        raise invalid_field("settings.password", "is required, unless there is a private_key")
    password = _text("password", value, MAX_SECRET_LENGTH)
    if any(ord(each) < 32 or 0xD800 <= ord(each) < 0xE000 or ord(each) == 127 for each in password):
        raise invalid_field("settings.password", "must not contain control characters: nobody could type it")
    return password


def _private_key(value: object) -> str:
    key = _text("private_key", value, MAX_KEY_LENGTH).strip() + "\n"
    if problem := key_problem(key):
        raise invalid_field("settings.private_key", problem)
    return key


def _incident_types(value: object) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_TYPES:
        raise invalid_field("settings.incident_types", f"must be a list of 1 to {MAX_TYPES} incident types, or null")
    if not all(isinstance(each, str) and 0 < len(each) <= 255 and each.isprintable() for each in value):
        raise invalid_field("settings.incident_types", "must be a list of incident types such as cpu or downtime")
    return list(dict.fromkeys(value))
