"""Mail that the service writes on its own account."""

from __future__ import annotations

import hashlib
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

VERIFY_TEXT = """\
Somebody, most likely you, gave this address to Tocsin, which tells people when their servers and sites are in trouble.

Please open this link within three days to show that the address is yours:

{link}

Until then no alerts are sent here. If this was not you, do nothing.
"""


def verification(recipient: str, link: str, *, domain: str, now: datetime) -> EmailMessage:
    """Asks the owner of an address to open the link once. Complete but for its sender; `domain` is the sender's."""
    message = EmailMessage(policy=SMTP)
    message["To"] = recipient
    message["Subject"] = "Please confirm your mail address for Tocsin"
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<verify-{hashlib.sha256(link.encode()).hexdigest()[:32]}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    text = VERIFY_TEXT.format(link=link)
    # Not folded: an operator without mail server copies the link from the file.
    message.set_content(text, cte="7bit" if text.isascii() else "8bit")
    return message
