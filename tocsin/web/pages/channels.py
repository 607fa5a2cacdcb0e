"""For the operator: whether email, SMS and Slack are set up, which lines are missing, and a test of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from litestar import Response, post

from tocsin.actions import limits
from tocsin.actions.base import OPERATOR, require
from tocsin.domain import account_mail, phones
from tocsin.integrations.slack import CALLBACK, redirect_uri_of
from tocsin.settings import Settings
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.database import transaction
from tocsin.transports.slack import BOT_SCOPES, USER_SCOPES, Slack, SlackRefused
from tocsin.transports.sms import REPLY_PATH, SmsRefused, sms_sender
from tocsin.transports.smtp import Mailer, MailRefused
from tocsin.web import messages
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

TRIALS = Limit(10, 600)
TEXTS = Limit(5, 3600)
"""For the whole installation: each text message costs money."""

NO_CODE = "tocsin-trial"
"""A code that Slack never issued: its error shows whether it knows the app."""
SLACK_SAYS = {
    "invalid_client_id": "Slack does not know an app with the ID in TOCSIN_SLACK_CLIENT_ID.",
    "bad_client_secret": "Slack says that TOCSIN_SLACK_CLIENT_SECRET is not that app's secret.",
    "bad_redirect_uri": "Slack does not know our address: add the redirect URL below to the app.",
}
"""https://docs.slack.dev/reference/methods/oauth.v2.access#errors"""

PAGE = "/settings"

SMTP_LINES = (
    "TOCSIN_SMTP_URL=smtp://user:password@mail.example.com:587",
    "TOCSIN_EMAIL_FROM=tocsin@example.com",
)
SMS_LINES = (
    "TOCSIN_SMS_PROVIDER=twilio",
    "TOCSIN_TWILIO_ACCOUNT_SID=AC0123456789abcdef0123456789abcdef",
    "TOCSIN_TWILIO_AUTH_TOKEN=the-auth-token-of-that-account",
    "TOCSIN_TWILIO_FROM=+15005550006",
)
SLACK_LINES = (
    "TOCSIN_SLACK_CLIENT_ID=0123456789.0123456789",
    "TOCSIN_SLACK_CLIENT_SECRET=the-client-secret-of-your-app",
    "TOCSIN_SLACK_SIGNING_SECRET=the-signing-secret-of-your-app",
)
HTTPS_LINE = "TOCSIN_PUBLIC_URL=https://tocsin.example.com"


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel. `missing` are the lines that the operator has to add, `facts` what the Slack app has to be given."""

    name: Literal["mail", "sms", "slack"]
    title: str
    level: Literal["ok", "warn", "off"]
    status: str
    description: str
    missing: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()


def of(settings: Settings, public_url: str) -> list[Channel]:
    """What this installation can send, judged by its settings; nothing is tested."""
    return [_mail(settings), _sms(settings, public_url), _slack(settings, public_url)]


def _mail(settings: Settings) -> Channel:
    if settings.smtp is None:
        description = f"No email is sent: each one is written to {settings.outbox}."
        return Channel("mail", "Email", "warn", "not set up", description, SMTP_LINES)
    description = f"Sent through {settings.smtp.host}:{settings.smtp.port}, from {settings.email_from}."
    if settings.smtp.exposure:
        return Channel("mail", "Email", "warn", "may be unencrypted", f"{description} {settings.smtp.exposure}.")
    return Channel("mail", "Email", "ok", "set up", description)


def _sms(settings: Settings, public_url: str) -> Channel:
    if settings.sms is None:
        description = "Text messages need an account with a provider. Without one, no SMS integration can be created."
        return Channel("sms", "SMS", "off", "not set up", description, SMS_LINES)
    if settings.sms == "outbox":
        description = f"For testing: each text message is written to {settings.outbox}; none is sent."
        return Channel("sms", "SMS", "warn", "testing only", description, SMS_LINES)
    where = f" Only to {', '.join(settings.sms_countries)}." if settings.sms_countries else ""
    replies = f" So that replying ack acknowledges, have Twilio pass incoming messages on to {public_url}{REPLY_PATH}."
    return Channel("sms", "SMS", "ok", "set up", f"Sent through Twilio, from {settings.sms.sender}.{where}{replies}")


def _slack(settings: Settings, public_url: str) -> Channel:
    facts = (
        ("Redirect URL", f"{public_url}{CALLBACK}"),
        ("Interactivity request URL", f"{public_url}/slack/interactions"),
        ("Bot token scopes", BOT_SCOPES.replace(",", ", ")),
        ("User token scopes", USER_SCOPES.replace(",", ", ")),
    )
    https = () if public_url.startswith("https:") else (HTTPS_LINE,)
    if settings.slack is None:
        description = "Create an app at api.slack.com/apps with the settings below, then add its keys."
        return Channel("slack", "Slack", "off", "not set up", description, (*SLACK_LINES, *https), facts)
    if https:
        description = "Slack only redirects to https addresses, and this installation has none."
        return Channel("slack", "Slack", "warn", "needs https", description, https, facts)
    return Channel("slack", "Slack", "ok", "set up", "Connect it on the integrations page.", (), facts)


# ------------------------------------------------------------------------------------------------------------ tests


@post("/settings/test/mail", include_in_schema=False)
async def try_mail(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """An email to the operator's own address."""
    await fields(request, viewer, readers=True)
    require(viewer.person, OPERATOR)
    await _limit(service, viewer, "trials by mail", TRIALS)
    settings = service.settings
    mailer = Mailer(settings.smtp, settings.email_from, settings.outbox)
    letter = account_mail.test_mail(viewer.email, service.public_url, domain=mailer.domain, now=datetime.now(UTC))
    try:
        description = await mailer.send(letter)
    except MailRefused as error:
        return redirect(PAGE, f"The test email was not accepted. {error}", good=False)
    if settings.smtp is None:
        return redirect(PAGE, f"{description}. Nothing was sent: no mail server is set up.", good=False)
    return redirect(
        PAGE, f"The mail server accepted a test email to {viewer.email} ({description}). Check your mailbox."
    )


@post("/settings/test/sms", include_in_schema=False)
async def try_sms(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """A text message to a number that was typed in."""
    form = await fields(request, viewer, readers=True)
    require(viewer.person, OPERATOR)
    number = "".join(form.get("number", "").split())
    if problem := phones.problem(number):
        return redirect(PAGE, f"No text message was sent: the number {problem}.", good=False)
    sender = sms_sender(service.settings)
    if sender is None:
        return redirect(PAGE, "No text message was sent: SMS is not set up.", good=False)
    try:
        await _limit(service, viewer, "trials by SMS", TEXTS)
        accepted = await sender.send(number, "Tocsin: text messages work.")
    except SmsRefused as error:
        return redirect(PAGE, f"The text message was not accepted. {error}", good=False)
    finally:
        await sender.close()
    if service.settings.sms == "outbox":
        return redirect(PAGE, f"{accepted.response}. Nothing was sent: the provider is the outbox folder.", good=False)
    return redirect(PAGE, f"The provider accepted a text message to {number} ({accepted.response}). Check the phone.")


@post("/settings/test/slack", include_in_schema=False)
async def try_slack(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Whether Slack knows the app, tested with a code that it never issued."""
    await fields(request, viewer, readers=True)
    require(viewer.person, OPERATOR)
    if service.settings.slack is None:
        return redirect(PAGE, "Nothing was tested: Slack is not set up.", good=False)
    await _limit(service, viewer, "trials of Slack", TRIALS)
    client = Slack(service.settings.slack)
    try:
        await client.exchange(NO_CODE, redirect_uri_of(service.public_url, viewer.project_id))
    except SlackRefused as refused:
        if refused.code != "invalid_code":
            return redirect(PAGE, SLACK_SAYS.get(refused.code, f"{refused}."), good=False)
    finally:
        await client.close()
    return redirect(
        PAGE,
        "Slack accepted the app's ID and secret. "
        "Whether the signing secret is right will show when a button is first pressed in Slack.",
    )


async def _limit(service: Service, viewer: Viewer, what: str, limit: Limit) -> None:
    async with transaction(service.pool) as tx:
        await limits.take(tx, viewer.person, what, limit, messages.RATE_LIMITED)


routes = [try_mail, try_sms, try_slack]
