"""Mail that the service sends about accounts."""

from __future__ import annotations

import hashlib
from datetime import datetime

from tocsin.domain import names
from tocsin.domain.mail import OutgoingMail

VERIFY_TEXT = """\
Somebody, most likely you, gave this address to Tocsin, which tells people when their servers and sites are in trouble.

Please open this link within three days to show that the address is yours:

{link}

Until then no alerts are sent here. If this was not you, do nothing: nothing is done by looking at the link.
"""

TAKEN_TEXT = """\
Somebody, perhaps you, tried to register at Tocsin with {email}. There is an account
with this address already, so nothing was done. To get in, sign in or set a new password:

{link}

If this was not you, do nothing.
"""

TRIES_TEXT = """\
Somebody is trying to sign in to Tocsin as {email} with wrong passwords. After too many
failures, attempts from there are refused for a while; where you have signed in before, you can still do so.

If this was you, and you do not remember your password, set a new one:

{link}

If it was not, a password that you use nowhere else keeps them out. You get this mail at most once a day.
"""

INVITE_TEXT = """\
{inviter} invites you to the project {project} on Tocsin, which monitors servers and
sites and notifies people when something happens to them. You would be {role} there.

To join, open this link within 7 days:

{link}

If you do not know what this is about, do nothing.
"""

RESET_TEXT = """\
Somebody, probably you, asked for a new password for {email} on Tocsin. To choose one,
open this link within an hour:

{link}

If this was not you, do nothing; your password stays as it is.
"""

TRIAL_TEXT = """\
Mail works: this was sent by Tocsin at

{link}

because you asked for it on the page of settings.
"""

ROLES = {"owner": "an owner", "member": "a member", "reader": "a reader"}


def verification(recipient: str, link: str, *, domain: str, now: datetime) -> OutgoingMail:
    """Asks the owner of an address to open the link once. `domain` is the sender's."""
    text = VERIFY_TEXT.format(link=link)
    return _mail("verify", recipient, "Please confirm your mail address for Tocsin", text, link, domain, now)


def invitation(
    recipient: str, link: str, *, inviter: str, project: str, role: str, domain: str, now: datetime
) -> OutgoingMail:
    """Invites the owner of an address into a project."""
    project = names.line(project)
    text = INVITE_TEXT.format(inviter=names.line(inviter), project=project, role=ROLES[role], link=link)
    return _mail("invite", recipient, f"You are invited to {project} on Tocsin", text, link, domain, now)


def reset(recipient: str, link: str, *, domain: str, now: datetime) -> OutgoingMail:
    """Lets the owner of an account choose a new password."""
    text = RESET_TEXT.format(email=recipient, link=link)
    return _mail("reset", recipient, "A new password for Tocsin", text, link, domain, now)


def already_registered(recipient: str, link: str, *, domain: str, now: datetime) -> OutgoingMail:
    """Notifies the owner of an account that somebody registered with its address."""
    text = TAKEN_TEXT.format(email=recipient, link=link)
    return _mail(f"taken-{now:%Y%m%d}", recipient, "You have an account at Tocsin", text, link, domain, now)


def failed_sign_ins(recipient: str, link: str, *, domain: str, now: datetime) -> OutgoingMail:
    """Warns the owner of an account that somebody is guessing its password."""
    text = TRIES_TEXT.format(email=recipient, link=link)
    return _mail(f"tries-{now:%Y%m%d}", recipient, "Somebody is trying to sign in as you", text, link, domain, now)


def test_mail(recipient: str, link: str, *, domain: str, now: datetime) -> OutgoingMail:
    """Shows that mail arrives."""
    kind, text = f"trial-{now:%Y%m%d%H%M%S%f}", TRIAL_TEXT.format(link=link)
    return _mail(kind, recipient, "A test mail of Tocsin", text, link, domain, now)


def _mail(kind: str, recipient: str, subject: str, text: str, link: str, domain: str, now: datetime) -> OutgoingMail:
    """The link makes its Message-ID unique: when it is sent again, the duplicate can be recognized."""
    name = hashlib.sha256(link.encode()).hexdigest()[:32]
    return OutgoingMail(recipient, subject, text, now, f"{kind}-{name}@{domain}")
