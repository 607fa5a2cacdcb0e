"""Who is in the project, and who is invited."""

from __future__ import annotations

from typing import get_args
from uuid import UUID

from litestar import Response, get, post
from litestar.background_tasks import BackgroundTask

from tocsin.actions import members as actions
from tocsin.actions.account_mail import send_invitation
from tocsin.domain import accounts as rules
from tocsin.domain.errors import Refused, invalid_field, not_found
from tocsin.storage.accounts import members
from tocsin.storage.accounts.accounts import Role
from tocsin.storage.channels import mail_limits
from tocsin.storage.postgres.database import transaction
from tocsin.web import messages
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Form, Service, Viewer, fields, redirect

PAGE = "/settings/members"


@get(PAGE, include_in_schema=False)
async def show(viewer: Viewer, service: Service) -> Response[str]:
    return await _page(viewer, service)


async def _page(
    viewer: Viewer, service: Service, form: Form | None = None, refused: Refused | None = None
) -> Response[str]:
    async with service.pool.acquire() as tx:
        found = await members.members(tx, viewer.project_id)
        invited = await members.invitations(tx, viewer.project_id)
        today = await mail_limits.today(tx, viewer.project_id)
    errors = {each.field: each.message for each in refused.details} if refused else {}
    if refused and not errors:
        errors = {"email": refused.message}
    return page(
        "members.html", viewer, title="Members", status_code=refused.status if refused else 200, members=found,
        invited=invited, errors=errors, values=form or {}, owner=viewer.role == "owner", roles=messages.ROLES,
        owners=sum(each.role == "owner" for each in found), mail=service.settings.smtp is not None,
        may_invite=viewer.verified or viewer.operator, today=today, most=mail_limits.INVITATIONS_OF_PROJECT,
    )


@post("/settings/members/invite", include_in_schema=False)
async def invite(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Invites, or sends the invitation again. Only somebody with a verified address may invite."""
    form = await fields(request, viewer)
    try:
        email, role = rules.address("email", form.get("email", "")), _role(form)
        async with transaction(service.pool) as tx:
            made = await actions.invite(tx, viewer.actor, email, role)
    except Refused as refused:
        if refused.status != 422:
            raise
        return await _page(viewer, service, form, refused)
    sent = messages.INVITATION_SENT if service.settings.smtp else messages.INVITATION_KEPT
    answer = redirect(PAGE, sent.format(email=email), good=service.settings.smtp is not None)
    answer.background = BackgroundTask(send_invitation, service, made)
    return answer


@post("/settings/members/withdraw", include_in_schema=False)
async def withdraw(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form = await fields(request, viewer)
    async with transaction(service.pool) as tx:
        email = await actions.withdraw(tx, viewer.actor, _key(form, "invitation"))
    return redirect(PAGE, messages.INVITATION_WITHDRAWN.format(email=email))


@post("/settings/members/role", include_in_schema=False)
async def set_role(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form = await fields(request, viewer)
    role, user_id = _role(form), _key(form, "member")
    try:
        async with transaction(service.pool) as tx:
            member = await actions.set_role(tx, viewer.actor, user_id, role)
    except Refused as refused:
        return _kept(refused)
    return redirect(PAGE, messages.ROLE_SET.format(email=member.email, role=messages.ROLES[role].partition(":")[0]))


@post("/settings/members/remove", include_in_schema=False)
async def remove(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """By an owner, or by oneself: readers may leave as well."""
    form = await fields(request, viewer, readers=True)
    user_id = _key(form, "member")
    try:
        async with transaction(service.pool) as tx:
            if user_id == viewer.user_id:
                await actions.leave(tx, viewer.actor, viewer.project_name)
                return redirect("/projects", messages.LEFT.format(name=viewer.project_name))
            member = await actions.remove(tx, viewer.actor, user_id)
    except Refused as refused:
        return _kept(refused)
    return redirect(PAGE, messages.MEMBER_REMOVED.format(email=member.email))


def _kept(refused: Refused) -> Response[str]:
    """Back to the list, with the reason; reraises refusals that are not about the members."""
    if refused.status != 422:
        raise refused
    return redirect(PAGE, f"{refused.message}.", good=False)


def _role(form: Form) -> Role:
    for role in get_args(Role):
        if role == form.get("role"):
            return role  # type: ignore[no-any-return]
    raise invalid_field("role", "must be owner, member or reader")


def _key(form: Form, name: str) -> UUID:
    try:
        return UUID(hex=form.get(name, ""))
    except ValueError:
        raise not_found(name) from None


routes = [show, invite, withdraw, set_role, remove]
