"""The allow-lists of services and arguments, against the whole of the Apprise that is installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tocsin.transports.apprise.allowed import NOT_OFFERED, OFFERED, REFUSED_ARGUMENTS, REFUSED_PREFIXED

DESCRIBE = """
import inspect, json, sys
from apprise import Apprise
from apprise.manager_plugins import NotificationManager
found = []
for each in Apprise().details(show_requirements=True, show_disabled=True)["schemas"]:
    names = [*(each["protocols"] or ()), *(each["secure_protocols"] or ())]
    found.append({"label": str(each["service_name"]), "names": names, "enabled": each["enabled"],
                  "templates": list(each["details"]["templates"]), "args": list(each["details"]["args"]),
                  "kwargs": list(each["details"]["kwargs"]),
                  "source": inspect.getsource(sys.modules[NotificationManager()[names[0]].__module__])})
print(json.dumps(found))
"""
BY_THEMSELVES = re.compile(
    r"^\s*(?:import|from) (socket|ssl|smtplib|http\.client|urllib\.request|subprocess|asyncio|threading|"
    r"multiprocessing|ctypes|concurrent)\b",
    re.MULTILINE,
)
"""Imports of what opens connections, or runs something, by itself."""


@pytest.fixture(scope="module")
def installed() -> list[dict[str, Any]]:
    """Every service of the installed version; described by a process of its own, as Apprise is never loaded by ours."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DESCRIBE], capture_output=True, text=True, check=True, timeout=100
    )
    return list(json.loads(done.stdout))


def test_each_service_there_is_has_been_read_by_somebody_who_offered_it_or_did_not(
    installed: list[dict[str, Any]],
) -> None:
    assert {name for each in installed for name in each["names"]} == OFFERED.keys() | NOT_OFFERED.keys()
    assert not OFFERED.keys() & NOT_OFFERED.keys()
    assert len(OFFERED) > 150


def test_each_argument_there_is_has_been_offered_or_refused(installed: list[dict[str, Any]]) -> None:
    """An argument that a new version adds is in neither list, and is refused until a person has read what it does."""
    undecided = {}
    for each in installed:
        parts = {part for template in each["templates"] for part in re.findall(r"{(\w+)}", template)} - {"schema"}
        for name in OFFERED.keys() & each["names"]:
            undecided[name] = (parts | set(each["args"])) - OFFERED[name] - REFUSED_ARGUMENTS
            undecided[name] |= set(each["kwargs"]) - REFUSED_PREFIXED
            assert OFFERED[name] <= parts | set(each["args"]), f"{name} is offered what is not there"
    assert not {name: arguments for name, arguments in undecided.items() if arguments}


def test_no_service_is_offered_what_no_service_may_have() -> None:
    assert not {name: fields & REFUSED_ARGUMENTS for name, fields in OFFERED.items() if fields & REFUSED_ARGUMENTS}
    assert {"template", "keyfile", "subfile", "redirect", "verify", "cto", "rto", "attach"} <= REFUSED_ARGUMENTS


def test_what_does_not_speak_http_and_what_posts_to_any_address_is_not_offered() -> None:
    assert NOT_OFFERED.keys() >= {
        "mailto", "irc", "mqtt", "amqp", "smpp", "xmpp", "nostr", "syslog", "rsyslog", "dbus", "growl", "aprs", "json",
        "xml", "form", "apprise",
    }  # fmt: skip


def test_no_service_on_offer_needs_a_package_that_is_not_installed_with_it(installed: list[dict[str, Any]]) -> None:
    assert not [each["label"] for each in installed if OFFERED.keys() & each["names"] and not each["enabled"]]


def test_no_service_on_offer_opens_connections_or_processes_by_itself(installed: list[dict[str, Any]]) -> None:
    """They all use the session whose connections we open; the audit hook of a worker would refuse the rest."""
    offered = [each for each in installed if OFFERED.keys() & each["names"]]
    found = {each["label"]: found for each in offered if (found := BY_THEMSELVES.findall(each["source"]))}
    assert found == {"Matrix": ["threading"]}, "for a lock"


def test_apprise_is_loaded_by_no_process_of_ours() -> None:
    code = (
        "import sys, tocsin.app, tocsin.engine.run, tocsin.api.server, tocsin.web.site, tocsin.cli.main\n"
        "from tocsin.api import server; from tocsin.integrations import base; list(server.nouns()); base.types()\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('apprise', 'requests', 'urllib3')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.strip() == "[]"
