"""Mail that the service writes on its own account."""

from __future__ import annotations

from email.message import EmailMessage

VERIFY_TEXT = """\
Somebody, most likely you, gave this address to Tocsin, which tells people when their servers and sites are in trouble.

Please open this link within three days to show that the address is yours:

{link}

Until then no alerts are sent here. If this was not you, do nothing.
"""


def verification(recipient: str, link: str) -> EmailMessage:
    """Asks the owner of an address to open the link once."""
    message = EmailMessage()
    message["To"] = recipient
    message["Subject"] = "Please confirm your mail address for Tocsin"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(VERIFY_TEXT.format(link=link))
    return message
