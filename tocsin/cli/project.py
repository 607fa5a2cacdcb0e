"""`tocsin project`: creates and lists projects, and changes their plan. Works while the service runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import click
import msgspec

from tocsin import app
from tocsin.actions import projects as actions
from tocsin.actions.base import operator
from tocsin.cli import installation
from tocsin.cli.installation import asynchronous, connected
from tocsin.cli.options import settings_option
from tocsin.domain import account_mail, ids, names
from tocsin.domain import accounts as rules
from tocsin.domain.errors import Refused
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts, links
from tocsin.storage.accounts.accounts import NewProject, User
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.smtp import Mailer, MailRefused

PLANS = click.Choice(["free", "paid"])


@click.group()
def project() -> None:
    """Projects: each has its own servers, monitors, integrations and API token."""


def _checked(rule: Callable[[str, str], str]) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    def check(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        try:
            return None if value is None else rule(parameter.human_readable_name, value)
        except Refused as refusal:
            raise click.UsageError(refusal.message, context) from None

    return check


@project.command()
@click.argument("name", callback=_checked(names.checked))
@click.option("--plan", type=PLANS, help="The plan of the project.  [default: TOCSIN_DEFAULT_PLAN]")
@click.option("--owner", metavar="EMAIL", callback=_checked(rules.address), help="The owner of the project.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@settings_option
@asynchronous
async def create(name: str, plan: str | None, owner: str | None, as_json: bool, settings: Settings) -> None:
    """Create a project and print its API token.

    With --owner, the project's notifications also go to that address, once the link in a verification email was opened.
    """
    vault = installation.vault(settings)
    async with connected(settings, vault) as tx:
        async with tx.transaction():
            made = await actions.create_for(tx, operator(), vault, name, plan or settings.default_plan, owner)
        user = await accounts.user_by_email(tx, owner) if owner else None
    sent = await _send_verification(settings, vault, user) if user and not user.verified else None
    if as_json:
        click.echo(as_object(made))
    else:
        click.echo(f"Project    {made.name} ({ids.public(ids.PROJECT, made.id)}), plan {made.plan}")
        click.echo(f"API token  {made.api_token}")
    if sent:
        click.echo(sent, err=True)


@project.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array and nothing else.")
@settings_option
@asynchronous
async def list_(as_json: bool, settings: Settings) -> None:
    """List all projects, oldest first."""
    async with connected(settings) as tx:
        found = await accounts.list_projects(tx)
    if as_json:
        rows = [
            {"uuid": ids.public(ids.PROJECT, each.id), "name": each.name, "plan": each.plan, "owner": each.owner}
            for each in found
        ]
        click.echo(msgspec.json.encode(rows).decode())
        return
    for each in found:
        owner = f"  {each.owner}" if each.owner else ""
        click.echo(f"{ids.public(ids.PROJECT, each.id)}  {each.plan}  {each.name}{owner}")


@project.command()
@click.argument("uuid")
@click.argument("plan", type=PLANS)
@settings_option
@asynchronous
async def set_plan(uuid: str, plan: str, settings: Settings) -> None:
    """Change the plan of a project."""
    project_id = installation.project_id(uuid)
    try:
        async with connected(settings) as tx, tx.transaction():
            name = await actions.set_plan(tx, operator(project_id), plan)
    except Refused:
        raise click.ClickException(installation.no_project(uuid)) from None
    click.echo(f"{name} ({uuid}) is now on the {plan} plan")


def as_object(made: NewProject) -> str:
    """What `--json` prints for a project."""
    uuid = ids.public(ids.PROJECT, made.id)
    shown = {"uuid": uuid, "name": made.name, "plan": made.plan, "api_token": made.api_token}
    return msgspec.json.encode(shown).decode()


async def _send_verification(settings: Settings, vault: Vault, user: User) -> str:
    """Sends the verification email; returns one line about the result."""
    public_url = app.noted_url(settings)
    link = links.verification(vault, public_url, user.id, user.email)
    mailer = Mailer(settings.smtp, settings.email_from, settings.outbox)
    try:
        await mailer.send(account_mail.verification(user.email, link, domain=mailer.domain, now=datetime.now(UTC)))
    except MailRefused as error:
        return f"The verification email could not be sent ({error}); request it at {public_url}/verify-email"
    where = "" if settings.smtp else f" (as a file in {settings.outbox}, because TOCSIN_SMTP_URL is not set)"
    return f"An email with a verification link was sent to {user.email}{where}"
