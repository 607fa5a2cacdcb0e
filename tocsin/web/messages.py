"""What the console's machinery says, in one place; the pages' own texts stand in their templates."""

from __future__ import annotations

SIGN_IN_NEEDED = "Please sign in"
PROJECT_NEEDED = "You belong to no project yet; make one, or ask a project's owner to invite you"
OLD_FORM = "This form is too old, or was not ours. Go back, load the page again and send it once more"
FOREIGN_FORM = "This form was sent by another site. Open the page here and send it from there"

TITLES = {
    400: "That could not be read",
    401: "Please sign in",
    403: "That is not yours to do",
    404: "There is nothing here",
    405: "That does not work here",
    413: "That is too much at once",
    422: "That cannot be accepted",
    429: "Too many tries",
    500: "Something went wrong",
    503: "Not available right now",
}
NO_PAGE = "Perhaps it was deleted, or it belongs to another project of yours."

NAVIGATION = (
    ("/incidents", "Incidents"),
    ("/integrations", "Integrations"),
    ("/servers", "Servers"),
    ("/network_monitors", "Monitors"),
    ("/settings", "Settings"),
)

NOT_KNOWN = "The address or the password is wrong."
TOO_MANY_TRIES = "Too many tries. Wait {minutes} min, or set a new password by mail."
SIGN_IN_NOTICES = {
    "out": "You are signed out.",
    "password": "Your new password is set. Sign in with it.",
}

WELCOME = "Welcome to Tocsin"
WELCOME_BACK = "Set your account up anew"
LINK_BROKEN = "This link does not work"
COPY_WHOLE = "Some part of it may be missing; please copy it from the mail in whole."
NEW_ONE = "Or have a new one sent."
LINK_OVER = "This link is no longer valid"
OPERATOR_LINK_OVER = (
    "It works for one hour, and once. Where Tocsin runs, the command tocsin operator link prints another one."
)
RESET_LINK_OVER = "It works for one hour, and once. Have another one sent."
FORGOT = "Forgot your password?"
NEW_PASSWORD = "Choose a new password"  # noqa: S105
LOOK_INTO_MAILBOX = "Look into your mailbox"
RESET_SENT = "If {email} has an account here, a mail is on its way to it. The link in it works for an hour."

NAME_SET = "Your name is changed."
PASSWORD_SET = "Your password is changed, and every other session has ended."  # noqa: S105
OLD_PASSWORD = "is not your present password"  # noqa: S105
SESSION_ENDED = "Signed out there."

NO_PROJECTS = "Projects are made by whoever runs this installation"
PROJECT_MADE = "The project {name} is made. Next: where shall its alerts go?"
INVITED = "You are invited"
INVITATION_OVER = "It was used, withdrawn, or is older than a week. Ask whoever invited you to do it again."
JOINED = "Welcome to {name}."
ROLES = {
    "owner": "an owner: may do everything, and decides who is in it",
    "member": "a member: may change everything but who is in it",
    "reader": "a reader: may look at everything and change nothing",
}

OPERATORS_ONLY = "That is for whoever runs this installation"
TOO_MANY_TRIALS = "That was tried often enough for now. Wait {minutes} min"
PROJECT_RENAMED = "The project has its new name."
TOKEN_ROTATED = "This is the new token. The old one has stopped working."  # noqa: S105
VERIFY_FIRST = "Verify your own address first, by the link that was mailed to you; your account page sends it again"
ENOUGH_TODAY = "That is enough for today: the limit of {what} a day (UTC) is reached"
INVITATION_SENT = "An invitation is on its way to {email}. It can be accepted for a week."
INVITATION_KEPT = "{email} is invited, but no mail server is set up: the letter lies in the outbox folder."
INVITATION_WITHDRAWN = "The invitation of {email} is withdrawn."
ROLE_SET = "{email} is {role} now."
MEMBER_REMOVED = "{email} is not in this project any more."
LEFT = "You have left {name}."

INCIDENT_RESOLVED = "The incident is resolved. Those who heard of it are told."
INCIDENT_SNOOZED = "Nothing more is said of it until then. If it still lasts, there will be a reminder."
SNOOZE_WHEN = "Choose a moment that is to come, within a year."
INCIDENT_OVER = "It was over already, so there is nothing to snooze."

INTEGRATION_MADE = "{name} is made. Attach it, then try it out."
INTEGRATION_DELETED = "{name} is deleted. What waited for it is not sent."
SETTINGS_CHANGED = "The settings are changed."
ATTACHED_TO_ALL = "It is told of every server and monitor from now on, future ones included."
STOPPED_ATTACH_ALL = "Servers and monitors that are made from now on are not attached to it any more."
ATTACHED = "It is told from now on."
DETACHED = "It is not told of that any more."
ENABLED = "It is enabled. Its past failures are forgotten."
TRUSTED = "The new host key is trusted from now on."
REDELIVERED = "It is sent again, as a delivery of its own."
