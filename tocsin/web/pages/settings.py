"""The project's name, token and plan, and what this installation is set up for."""

from __future__ import annotations

from litestar import Response, get, post

from tocsin.actions import projects, tokens
from tocsin.domain import names
from tocsin.domain.errors import Refused
from tocsin.storage.accounts import operator
from tocsin.storage.channels import mail_limits
from tocsin.storage.postgres.database import transaction
from tocsin.web import messages
from tocsin.web.pages import channels
from tocsin.web.pages.channels import PAGE
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect


@get(PAGE, include_in_schema=False)
async def show(viewer: Viewer, service: Service) -> Response[str]:
    return await _page(viewer, service)


async def _page(
    viewer: Viewer, service: Service, *, token: str = "", name: str = "", error: str = ""
) -> Response[str]:
    ask = None
    async with service.pool.acquire() as tx:
        today = await mail_limits.today(tx, viewer.project_id)
        if not viewer.operator and service.settings.registration != "open":
            ask = await operator.address(tx)
    return page(
        "settings.html", viewer, title="Settings", status_code=422 if error else 200,
        channels=channels.of(service.settings, service.public_url), ask=ask, token=token,
        name=name or viewer.project_name, error=error, owner=viewer.role == "owner",
        env_file=service.settings.data_dir / ".env", public_url=service.public_url, today=today,
        most_mails=mail_limits.NOTIFICATIONS_OF_PROJECT, most_to_one=mail_limits.NOTIFICATIONS_TO_ONE,
        most_invitations=mail_limits.INVITATIONS_OF_PROJECT,
    )


@post("/settings/name", include_in_schema=False)
async def rename(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form = await fields(request, viewer)
    given = form.get("name", "")
    try:
        name = names.checked("name", given)
    except Refused as refused:
        return await _page(viewer, service, name=given, error=refused.details[0].message)
    async with transaction(service.pool) as tx:
        await projects.rename(tx, viewer.actor, name)
    return redirect(PAGE, messages.PROJECT_RENAMED)


@post("/settings/token", include_in_schema=False, status_code=200)
async def reveal(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """The token in clear, in this response only, for those who can read it through the API; goes to the audit log."""
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        token = await tokens.reveal(tx, viewer.actor, service.vault)
    return await _page(viewer, service, token=token)


@post("/settings/token/rotate", include_in_schema=False, status_code=200)
async def rotate(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """A new token, shown once; the old one stops working within a second."""
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        made = await tokens.rotate(tx, viewer.actor, service.vault)
    viewer.flash_message = (messages.TOKEN_ROTATED, True)
    return await _page(viewer, service, token=made.api_token)


routes = [show, rename, reveal, rotate]
