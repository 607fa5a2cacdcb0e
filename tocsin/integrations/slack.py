"""Slack: one message for an incident, with buttons to acknowledge and resolve it, updated in place.

A message shows the incident's state when it is rendered, and what was posted is stored with the result of the
delivery. Updates are deliveries like any other, so they are retried until they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit
from uuid import UUID

from tocsin.domain import ids, names
from tocsin.domain.deliveries import Delivered, Failed, Finish, Outcome, Retry, Suppressed
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Notification, format_duration
from tocsin.integrations.base import NO_PERMIT, IntegrationType, Permit, Transports
from tocsin.storage.channels import posted
from tocsin.storage.channels.integrations import Sendable
from tocsin.storage.channels.posted import IncidentState, Message
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres.database import Tx
from tocsin.transports.slack import Grant, Slack, SlackRefused

CALLBACK = "/auth/slack/callback"
ACKNOWLEDGE, RESOLVE = "acknowledge_incident", "resolve_incident"
"""The buttons' action ids in Slack's interaction payloads."""

OFF = (
    "Slack is not set up here; the operator can do so with TOCSIN_SLACK_CLIENT_ID, TOCSIN_SLACK_CLIENT_SECRET and "
    "TOCSIN_SLACK_SIGNING_SECRET"
)
SHOWN = ("bot_token", "user_token", "channel_id", "webhook_url", "bot_user_id")
MASKS = {
    "bot_token": "xoxb-...",
    "user_token": "xoxp-...",
    "webhook_url": "https://hooks.slack.com/services/...",
}

GONE = {
    "token_revoked": "its access was taken back in Slack",
    "token_expired": "its access to Slack has run out",
    "invalid_auth": "Slack does not know its token any more",
    "not_authed": "Slack does not know its token any more",
    "account_inactive": "the app was removed from the workspace",
    "app_uninstalled": "the app was removed from the workspace",
    "team_access_not_granted": "the app was removed from the workspace",
    "missing_scope": "the app may not post to the workspace any more",
    "is_archived": "the channel was archived",
    "channel_not_found": "the channel is not there any more",
}
"""Errors after which nothing will ever arrive. https://docs.slack.dev/reference/methods/chat.postMessage#errors"""
HOPELESS = frozenset({"msg_too_long", "msg_blocks_too_long", "invalid_blocks", "invalid_blocks_format", "no_text"})
PASSING = frozenset({
    "ratelimited", "rate_limited", "message_limit_exceeded", "fatal_error", "internal_error", "service_unavailable",
    "request_timeout", "unreachable", "team_added_to_org",
})  # fmt: skip
NOT_THERE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "is_inactive"})
"""Errors by which a message cannot be changed, ever; the channel itself may be fine."""
INSIDE = frozenset({"already_in_channel", "cant_invite_self"})

MAX_SECTION_LENGTH = 3000
"""Characters of one section's text (https://docs.slack.dev/reference/block-kit/blocks/section-block)."""
MAX_LINK_LENGTH = 500
RED = ":red_circle:"


class SlackIntegration(IntegrationType):
    type: ClassVar[str] = "Integrations::SlackIntegration"
    label: ClassVar[str] = "Slack"
    about: ClassVar[str] = "Posts to a channel, with buttons to acknowledge and resolve, and updates its message."
    for_people: ClassVar[bool] = True
    editable: ClassVar[bool] = False
    secret_settings: ClassVar[frozenset[str]] = frozenset(MASKS)
    internal_settings: ClassVar[frozenset[str]] = frozenset({"team_id", "team_name", "channel"})

    def parse(self, given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if stored is None:
            raise invalid_field(
                "type",
                f"{self.type} is created by consent at Slack, not by this call: use "
                "POST /api/v1/integrations/slack/initiate and open its oauth_url in a browser",
            )
        return dict(stored)

    def default_name(self, settings: Mapping[str, Any]) -> str:
        named = (settings.get("team_name", "Slack"), settings.get("channel", settings.get("channel_id", "")))
        return " ".join(named).strip()

    def public_settings(self, settings: Mapping[str, Any], *, reveal: bool) -> dict[str, Any]:
        values = settings if reveal else {**settings, **{name: MASKS[name] for name in MASKS if name in settings}}
        return {name: values[name] for name in SHOWN if name in values}

    def hears_acknowledgements(self, settings: Mapping[str, Any]) -> bool:
        return True

    def needs_permit(self, to: Sendable) -> bool:
        return True

    async def before_send(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], transports: Transports
    ) -> Mapping[str, Any]:
        incident = job.content.incident_id
        if incident is None:
            return {}
        return {
            "standing": await posted.incident_state(tx, incident),
            "messages": await posted.messages(tx, job.integration_id, incident),
        }

    def payload(self, notification: Notification) -> str:
        return str(render(notification, IncidentState(), "")["text"])

    async def send(
        self, settings: Mapping[str, Any], notification: Notification, transports: Transports,
        permit: Permit = NO_PERMIT,
    ) -> Outcome:
        if transports.slack is None:
            return Suppressed(OFF)
        standing = permit.context.get("standing", IncidentState())
        body = render(notification, standing, transports.public_url)
        channel = _Channel(transports.slack, settings)
        try:
            if notification.event in ("resolved", "acknowledged"):
                known = permit.context.get("messages", ())
                # Messages that already show it are updated again only for a redelivery.
                wrong = [message for message in known if not message.closed] or known
                changed, lost = await channel.update(wrong, body)
                if changed:
                    return _delivered(changed, lost, standing)
                if notification.event == "acknowledged":
                    return Suppressed("there is no message that could be updated")
                return _delivered([await channel.post(body)], lost, standing)
            return _delivered([await channel.post(body)], [], standing)
        except SlackRefused as refusal:
            return failed(refusal)

    async def after_attempt(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], outcome: Outcome, then: Retry | Finish
    ) -> None:
        """Store what was posted and what it shows now, in the transaction that records the delivery."""
        if isinstance(outcome, Delivered) and outcome.receipt is not None:
            await posted.record(tx, job, outcome.receipt)


# ---------------------------------------------------------------------------------------------------------- connecting


def redirect_uri_of(public_url: str, project_id: UUID) -> str:
    return f"{public_url}{CALLBACK}?project_uuid={ids.public(ids.PROJECT, project_id)}"


def granted(grant: Grant) -> dict[str, Any]:
    """The settings to store for a workspace's grant."""
    return {
        "bot_token": grant.bot_token,
        "user_token": grant.user_token,
        "channel_id": grant.channel_id,
        "webhook_url": grant.webhook_url,
        "bot_user_id": grant.bot_user_id,
        "team_id": grant.team_id,
        "team_name": grant.team_name,
        "channel": grant.channel,
    }


async def join(client: Slack, settings: Mapping[str, Any]) -> None:
    """Have the person who consented invite the bot to the channel, as it may post only there. Raises `SlackRefused`.

    https://docs.slack.dev/reference/methods/conversations.invite
    """
    arguments = {"channel": settings["channel_id"], "users": settings["bot_user_id"]}
    try:
        await client.call("conversations.invite", settings["user_token"], arguments)
    except SlackRefused as refusal:
        if refusal.code not in INSIDE:
            raise


# ------------------------------------------------------------------------------------------------------------- sending


@dataclass(frozen=True, slots=True)
class _Channel:
    """One channel, as the bot may use it."""

    client: Slack
    settings: Mapping[str, Any]

    async def post(self, body: Mapping[str, Any]) -> Message:
        """https://docs.slack.dev/reference/methods/chat.postMessage"""
        arguments = {"channel": self.settings["channel_id"], **body, "unfurl_links": False, "unfurl_media": False}
        try:
            answer = await self.client.call("chat.postMessage", self.settings["bot_token"], arguments)
        except SlackRefused as refusal:
            if refusal.code != "not_in_channel":
                raise
            await join(self.client, self.settings)  # somebody had removed the bot from it
            answer = await self.client.call("chat.postMessage", self.settings["bot_token"], arguments)
        return Message(str(answer.get("channel") or self.settings["channel_id"]), str(answer.get("ts", "")))

    async def update(
        self, messages: list[Message], body: Mapping[str, Any]
    ) -> tuple[list[Message], list[Message]]:
        """Update messages. Returns those that were updated, and those that no longer exist.

        https://docs.slack.dev/reference/methods/chat.update
        """
        changed, lost = [], []
        for message in messages:
            arguments = {"channel": message.place, "ts": message.name, **body}
            try:
                await self.client.call("chat.update", self.settings["bot_token"], arguments)
                changed.append(message)
            except SlackRefused as refusal:
                if refusal.code not in NOT_THERE:
                    raise
                lost.append(message)
        return changed, lost


def _delivered(written: list[Message], lost: list[Message], shown: IncidentState) -> Delivered:
    named = [message for message in written if message.name]
    where = ", ".join(f"{message.place} {message.name}" for message in named)
    body = f"message {where}" if where else "message accepted; the response ended before its identifier"
    return Delivered(200, body, posted.receipt(named, lost, shown))


def failed(refusal: SlackRefused) -> Failed:
    """The outcome for an error of Slack."""
    retry: Literal["scheduled", "twice", "never", "disable"] = "twice"
    what = str(refusal)
    if refusal.code in GONE:
        retry, what = "disable", f"{what}: {GONE[refusal.code]}"
    elif refusal.code in HOPELESS:
        retry = "never"
    elif refusal.code in PASSING or (refusal.status or 0) >= 500:
        retry = "scheduled"
    return Failed(what, retry, refusal.status, refusal.response, refusal.retry_after)


# ------------------------------------------------------------------------------------------------------------- writing


def render(notification: Notification, incident_state: IncidentState, public_url: str) -> dict[str, Any]:
    """The message: what, where, since when, link and button; of a resolve, how long it took, and who resolved it."""
    if notification.event in ("test", "notice"):
        text = escaped(notification.message, MAX_SECTION_LENGTH - 10)
        return {"text": text, "blocks": [_section(text)]}
    ended = notification.closed_at or incident_state.closed_at
    what = escaped(names.line(notification.incident_type), 200)
    where = escaped(names.line(notification.resource_name), 300)
    link = f"{public_url}/incidents/{notification.incident_id}"
    linked = _link(notification.resource_url, where)
    more = escaped(notification.message, 1500)
    since = f"since {_moment(notification.started_at)}"
    if ended is None:
        who = incident_state.acknowledged_by
        sign, has = (":large_yellow_circle:", f" · {escaped(names.line(who), 300)} has it") if who else (RED, "")
        buttons = [] if who else [_button(ACKNOWLEDGE, "Acknowledge", notification)]
        buttons.append(_button(RESOLVE, "Resolve", notification))
        again = "Reminder: " if notification.event == "reminder" else ""
        return {
            "text": f"{again}{what} on {where}: {more}",
            "blocks": [
                _section(f"{sign} *{again}{what}* on {linked}\n{more}"),
                _context(f"Ongoing {since}{has} · <{link}|Open the incident>"),
                {"type": "actions", "elements": buttons},
            ],
        }
    took = f"Lasted {format_duration((ended - notification.started_at).total_seconds())}, {since}"
    by = f" · resolved by: {escaped(incident_state.resolved_by, 300)}" if incident_state.resolved_by else ""
    missed = "\nThe first notice could not be delivered." if notification.first_notice_failed else ""
    return {
        "text": f"Resolved: {what} on {where}. {took}{by}",
        "blocks": [
            _section(f":large_green_circle: *Resolved: {what}* on {linked}\n{more}{missed}"),
            _context(f"{took}{by} · <{link}|Open the incident>"),
        ],
    }


def escaped(text: str, room: int) -> str:
    """Text in which Slack finds neither links nor mentions, at most `room` characters long.

    https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    parts: list[str] = []
    left = room - 1
    for character in text:
        part = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(character, character)
        if len(part) > left:
            return "".join(parts) + "…"
        parts.append(part)
        left -= len(part)
    return "".join(parts)


def _link(url: str, words: str) -> str:
    """`words`, leading to `url` if a browser could open that."""
    safe = url.replace("<", "%3C").replace(">", "%3E").replace("|", "%7C").replace("&", "&amp;")
    if urlsplit(url).scheme not in ("http", "https") or len(safe) > MAX_LINK_LENGTH or not url.isprintable():
        return f"*{words}*"
    return f"<{safe}|{words}>"


def _moment(moment: datetime) -> str:
    """A time that Slack shows in its reader's zone."""
    words = moment.astimezone(UTC).strftime("%d %b %Y %H:%M UTC")
    return f"<!date^{int(moment.timestamp())}^{{date_short_pretty}} at {{time}}|{words}>"


def _button(action: str, text: str, notification: Notification) -> dict[str, Any]:
    """https://docs.slack.dev/reference/block-kit/block-elements/button-element"""
    style = {"style": "primary"} if action == RESOLVE else {}
    label = {"type": "plain_text", "text": text}
    return {"type": "button", "action_id": action, "value": notification.incident_id, "text": label, **style}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _context(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}
