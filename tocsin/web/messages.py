"""Texts that pages show after a form or in place of a page; each page's own texts are in its template."""

from __future__ import annotations

SIGN_IN_NEEDED = "Please sign in"
PROJECT_NEEDED = "You are not in a project yet; create one, or ask a project's owner to invite you"
OLD_FORM = "This form has expired, or did not come from this site. Go back, reload the page and submit it again"
FOREIGN_FORM = "This form was submitted by another site. Open the page on this site and submit the form there"

TITLES = {
    400: "The request could not be read",
    401: "Please sign in",
    403: "You are not allowed to do that",
    404: "Not found",
    405: "That does not work here",
    413: "The request is too large",
    422: "The request cannot be accepted",
    429: "Too many attempts",
    500: "Something went wrong",
    503: "Not available right now",
}
NO_PAGE = "It may have been deleted, or it may belong to another of your projects."

MONITORS_PATH = "/network_monitors"
"""What the map and the pages of probes belong to."""

NAVIGATION = (
    ("/overview", "Overview"),
    ("/incidents", "Incidents"),
    ("/integrations", "Integrations"),
    ("/servers", "Servers"),
    (MONITORS_PATH, "Monitors"),
    ("/heartbeats", "Heartbeats"),
    ("/sources", "Sources"),
    ("/silences", "Silences"),
    ("/settings", "Settings"),
)

NOT_KNOWN = "The email address or the password is wrong."
TOO_MANY_ATTEMPTS = "Too many attempts. Wait {minutes} min, or reset your password by email."
SIGN_IN_NOTICES = {
    "out": "You are signed out.",
    "password": "Your new password is set. Sign in with it.",
}

DEPENDENCIES_SAVED = "Dependencies saved."
NOT_SAVED = "Nothing was changed: {why}."

WELCOME = "Welcome to Tocsin"
WELCOME_BACK = "Set up your account again"
LINK_BROKEN = "This link does not work"
COPY_WHOLE = "Part of it may be missing; please copy the whole link from the email."
NEW_ONE = "Or request a new one."
LINK_OVER = "This link is no longer valid"
OPERATOR_LINK_OVER = (
    "It is valid once, for one hour. Where Tocsin runs, the command tocsin operator link prints a new one."
)
RESET_LINK_OVER = "It is valid once, for one hour. Request a new one."
FORGOT = "Forgot your password?"
NEW_PASSWORD = "Choose a new password"  # noqa: S105
CHECK_YOUR_EMAIL = "Check your email"
RESET_SENT = "If {email} has an account here, an email is on its way. The link in it is valid for one hour."

NAME_SET = "Your name was changed."
PASSWORD_SET = "Your password was changed, and all other sessions have ended."  # noqa: S105
OLD_PASSWORD = "is not your current password"  # noqa: S105
SESSION_ENDED = "The session has ended."

PROJECT_MADE = "Project {name} created. Next, choose where its notifications go."
INVITED = "You are invited"
INVITATION_OVER = "It was used or withdrawn, or is older than a week. Ask whoever invited you to invite you again."
JOINED = "Welcome to {name}."
ROLES = {
    "owner": "an owner: can change everything and manage members",
    "member": "a member: can change everything except who is in it",
    "reader": "a reader: can see everything but change nothing",
}

RATE_LIMITED = "Too many attempts. Wait {minutes} min"
PROJECT_RENAMED = "The project was renamed."
TOKEN_ROTATED = "This is the new token. The old one has stopped working."  # noqa: S105
INVITATION_SENT = "An invitation is on its way to {email}. It is valid for a week."
INVITATION_KEPT = "{email} was invited, but no mail server is set up: the email is in the outbox folder."
INVITATION_WITHDRAWN = "The invitation for {email} was withdrawn."
ROLE_SET = "{email} is now {role}."
MEMBER_REMOVED = "{email} is no longer in this project."
LEFT = "You have left {name}."

INCIDENT_ACKNOWLEDGED = "You have it: nobody else is told of it, and nobody is reminded."
INCIDENT_ACKNOWLEDGED_FOR = (
    "You have it for {lasting}: until then nobody else is told of it, and nobody is reminded. "
    "After that, what was called off is due again."
)
INCIDENT_TAKEN_BACK = "Nobody has it any more: what was called off is due again."
INCIDENT_RESOLVED_BEFORE = "The incident is already resolved."
INCIDENT_RESOLVED = "Incident resolved. Everyone who was notified of it will be notified."
INCIDENT_SNOOZED = "Snoozed: no notifications until then. If it is still ongoing, a reminder is sent."
SNOOZE_WHEN = "Choose a time in the future, at most a year ahead."
INCIDENT_OVER = "The incident is already resolved, so there is nothing to snooze."

DRILL_ACKNOWLEDGED = "Acknowledged. Everybody else is asked all the same: this is a drill."
DRILL_ENDED = "The drill is over."

SILENCE_MADE = "Silent now: {name}. What lasts when it ends is told then."
SILENCE_PLANNED = "Planned: {name}. What lasts when it ends is told then."
SILENCE_ENDED = "Ended. Who was not notified because of it is notified of what lasts."

INTEGRATION_MADE = "{name} created. Attach it, then test it."
INTEGRATION_DELETED = "{name} deleted. Its pending deliveries were cancelled."
SOURCE_MADE = "{name} created. Paste its address where the alerts are."
SOURCE_MOVED = "It has a new address; the old one is known no more."
PROBE_REVOKED = "{name} is revoked: its token opens nothing any more."
SETTINGS_CHANGED = "Settings saved."
ATTACHED_TO_ALL = "It is now notified about all servers and monitors, including future ones."
STOPPED_ATTACH_ALL = "It is no longer attached to new servers and monitors."
ATTACHED = "Attached: it will be notified."
DETACHED = "Detached: it is no longer notified."
ENABLED = "Enabled. Its past failures were cleared."
TRUSTED = "The new host key is now trusted."
ON_DUTY = "{name} takes over."
ON_DUTY_AGAIN = "Taken back: whoever's turn it is is on duty."
CALENDAR_MOVED = "The calendar has a new address; the old one no longer works."
REDELIVERED = "Sending again, as a new delivery."
REPLAY_STARTED = "Sending again, a few at a time."
REPLAY_STOPPED = "Stopped: nothing more is sent again."
