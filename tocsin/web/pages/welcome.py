"""The first page after installation: the operator sets up their account, by a link that Tocsin printed."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.background_tasks import BackgroundTask

from tocsin.actions import people
from tocsin.actions.account_mail import send_verification
from tocsin.actions.base import system
from tocsin.domain import accounts as rules
from tocsin.domain import names
from tocsin.domain.errors import Refused
from tocsin.storage.accounts import operator, passwords
from tocsin.storage.accounts.operator import Operator
from tocsin.storage.postgres.database import transaction
from tocsin.web import messages
from tocsin.web.pages.sign_in import begin
from tocsin.web.render import message, page
from tocsin.web.session import AnyRequest, Service, open_fields, redirect, requester


@get("/welcome", include_in_schema=False)
async def welcome(service: Service, token: str = "") -> Response[str]:
    """Opening the page does not use up the link."""
    async with service.pool.acquire() as tx:
        found = await operator.of_link(tx, service.vault, token)
    if found is None:
        return _over()
    return _form(found, token, {"email": "" if found.fresh else found.email, "name": "" if found.fresh else found.name})


@post("/welcome", include_in_schema=False, status_code=200)
async def set_up(request: AnyRequest, service: Service) -> Response[str]:
    """Uses up the link in the transaction that sets up the account, and signs in."""
    form = await open_fields(request)
    token = form.get("token", "")
    async with service.pool.acquire() as tx:
        found = await operator.of_link(tx, service.vault, token)
    if found is None:
        return _over()
    try:
        email = rules.address("email", form.get("email", ""))
        name = names.checked("name", form.get("name", ""))
        password = rules.password("password", form.get("password", ""), form.get("password_confirmation", ""))
        password_hash = await passwords.hash_of(password, requester(request))
        async with transaction(service.pool) as tx:
            user = await people.set_up_operator(tx, system(), service.vault, token, email, name, password_hash)
    except Refused as refused:
        if refused.status != 422:
            raise
        return _form(found, token, form, {each.field: each.message for each in refused.details})
    if user is None:
        return _over()
    to = "/integrations" if found.fresh else "/overview"
    answer = await begin(request, service, user, to) or redirect("/sign-in")
    if not user.verified:
        answer.background = BackgroundTask(send_verification, service, user)
    return answer


def _form(found: Operator, token: str, values: object, errors: dict[str, str] | None = None) -> Response[str]:
    return page(
        "welcome.html", None, title=messages.WELCOME if found.fresh else messages.WELCOME_BACK,
        status_code=422 if errors else 200, fresh=found.fresh, token=token, values=values, errors=errors or {},
    )


def _over() -> Response[str]:
    return message(messages.LINK_OVER, messages.OPERATOR_LINK_OVER, on="/sign-in", status=410)


routes = [welcome, set_up]
