"""Whether mail, SMS and Slack are set up, the exact lines that are missing, and a trial of each: for the operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from litestar import Response, post

from tocsin.actions import limits
from tocsin.domain import account_mail, phones
from tocsin.integrations.slack import CALLBACK, redirect_uri_of
from tocsin.settings import Settings
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.database import transaction
from tocsin.transports.slack import BOT_SCOPES, USER_SCOPES, Slack, SlackRefused
from tocsin.transports.sms import SmsRefused, sms_sender
from tocsin.transports.smtp import Mailer, MailRefused
from tocsin.web import messages
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

TRIALS = Limit(10, 600)
TEXTS = Limit(5, 3600)
"""Of the whole installation: each costs money."""

NO_CODE = "tocsin-trial"
"""No code that Slack ever gave: what it says to it shows whether it knows the app."""
SLACK_SAYS = {
    "invalid_client_id": "Slack knows no app with the id in TOCSIN_SLACK_CLIENT_ID.",
    "bad_client_secret": "Slack says that TOCSIN_SLACK_CLIENT_SECRET is not the secret of that app.",
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
    """One way out. `missing` are the lines that the operator has to add, `facts` what the far end wants to know."""

    name: Literal["mail", "sms", "slack"]
    title: str
    level: Literal["ok", "warn", "off"]
    status: str
    response: str
    missing: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()


def of(settings: Settings, public_url: str) -> list[Channel]:
    """What this installation can do, by its settings alone; nothing is tried."""
    return [_mail(settings), _sms(settings), _slack(settings, public_url)]


def _mail(settings: Settings) -> Channel:
    if settings.smtp is None:
        description = f"No mail leaves this machine: each one is written to {settings.outbox}."
        return Channel("mail", "Mail", "warn", "not set up", description, SMTP_LINES)
    description = f"By {settings.smtp.host}:{settings.smtp.port}, from {settings.email_from}."
    if settings.smtp.exposure:
        return Channel("mail", "Mail", "warn", "may go in clear", f"{description} {settings.smtp.exposure}.")
    return Channel("mail", "Mail", "ok", "set up", description)


def _sms(settings: Settings) -> Channel:
    if settings.sms is None:
        description = "Text messages need an account at a provider. Without one, no SMS integration can be made."
        return Channel("sms", "SMS", "off", "not set up", description, SMS_LINES)
    if settings.sms == "outbox":
        description = f"For trials: each text message is written to {settings.outbox}, none is sent."
        return Channel("sms", "SMS", "warn", "trial only", description, SMS_LINES)
    where = f" To {', '.join(settings.sms_countries)} only." if settings.sms_countries else ""
    return Channel("sms", "SMS", "ok", "set up", f"By Twilio, from {settings.sms.sender}.{where}")


def _slack(settings: Settings, public_url: str) -> Channel:
    facts = (
        ("Redirect URL", f"{public_url}{CALLBACK}"),
        ("Interactivity request URL", f"{public_url}/slack/interactions"),
        ("Bot token scopes", BOT_SCOPES.replace(",", ", ")),
        ("User token scopes", USER_SCOPES.replace(",", ", ")),
    )
    https = () if public_url.startswith("https:") else (HTTPS_LINE,)
    if settings.slack is None:
        description = "Make an app at api.slack.com/apps with what stands below, then add its keys here."
        return Channel("slack", "Slack", "off", "not set up", description, (*SLACK_LINES, *https), facts)
    if https:
        description = "Slack sends people back to https addresses only, and this installation has none."
        return Channel("slack", "Slack", "warn", "needs https", description, https, facts)
    return Channel("slack", "Slack", "ok", "set up", "People connect it on the integrations page.", (), facts)


# ----------------------------------------------------------------------------------------------------------- trials


@post("/settings/test/mail", include_in_schema=False)
async def try_mail(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """A mail to the operator's own address."""
    await fields(request, viewer, readers=True)
    await _limit(service, viewer, "trials by mail", TRIALS)
    settings = service.settings
    mailer = Mailer(settings.smtp, settings.email_from, settings.outbox)
    letter = account_mail.test_mail(viewer.email, service.public_url, domain=mailer.domain, now=datetime.now(UTC))
    try:
        description = await mailer.send(letter)
    except MailRefused as error:
        return redirect(PAGE, f"The test mail was not taken. {error}", good=False)
    if settings.smtp is None:
        return redirect(PAGE, f"{description}. Nothing was sent: no mail server is set up.", good=False)
    return redirect(
        PAGE, f"The mail server took a test mail for {viewer.email} ({description}). Look into your mailbox."
    )


@post("/settings/test/sms", include_in_schema=False)
async def try_sms(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """A text message to a number that was typed in."""
    form = await fields(request, viewer, readers=True)
    number = "".join(form.get("number", "").split())
    if problem := phones.problem(number):
        return redirect(PAGE, f"No text message was sent: the number {problem}.", good=False)
    way = sms_sender(service.settings)
    if way is None:
        return redirect(PAGE, "No text message was sent: SMS is not set up.", good=False)
    try:
        await _limit(service, viewer, "trials by SMS", TEXTS)
        taken = await way.send(number, "Tocsin: text messages work.")
    except SmsRefused as error:
        return redirect(PAGE, f"The text message was not taken. {error}", good=False)
    finally:
        await way.close()
    if service.settings.sms == "outbox":
        return redirect(PAGE, f"{taken.response}. Nothing was sent: the provider is the outbox folder.", good=False)
    return redirect(PAGE, f"The provider took a text message for {number} ({taken.response}). Look at the phone.")


@post("/settings/test/slack", include_in_schema=False)
async def try_slack(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Whether Slack knows the app, asked with a code that it never gave."""
    await fields(request, viewer, readers=True)
    if service.settings.slack is None:
        return redirect(PAGE, "Nothing was tried: Slack is not set up.", good=False)
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
        "Slack answers and has nothing against the app's id and secret. "
        "Whether the signing secret is right shows at the first press of a button in Slack.",
    )


async def _limit(service: Service, viewer: Viewer, what: str, limit: Limit) -> None:
    async with transaction(service.pool) as tx:
        await limits.take_trial(tx, viewer.person, what, limit, messages.TOO_MANY_TRIALS)


routes = [try_mail, try_sms, try_slack]
