"""SSH server restart over the API: as the specification prints it; its secrets; its further settings."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.ssh_scene import TYPE
from tocsin.domain.server_alerts import default_alerts
from tocsin.integrations.base import MASK
from tocsin.integrations.ssh_server_restart import SshServerRestartIntegration

PRINTED = {"ip": "192.168.1.100", "username": "admin", "password": "secure_password", "port": 22}


def new_key(passphrase: bytes | None = None) -> str:
    protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(serialization.Encoding.PEM, form, protection).decode()


async def create(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    settings = {name: value for name, value in {**PRINTED, **changes}.items() if value is not None}
    return await client.post("/api/v1/integrations", json={"integration": {"type": TYPE, "settings": settings}})


async def change(client: httpx.AsyncClient, uuid: str, **settings: Any) -> httpx.Response:
    return await client.patch(f"/api/v1/integrations/{uuid}", json={"integration": {"settings": settings}})



async def test_creation_answers_as_the_specification_prints(app_client: httpx.AsyncClient) -> None:
    answer = await create(app_client)
    assert answer.status_code == 201
    made = answer.json()
    assert list(made) == ["uuid", "type", "name", "settings", "editable", "deletable", "created_at", "updated_at"]
    assert (made["type"], made["name"]) == (TYPE, "192.168.1.100 (admin)")
    assert made["settings"] == PRINTED
    assert list(made["settings"]) == ["ip", "username", "password", "port"]
    assert (made["editable"], made["deletable"]) == (True, True)


async def test_the_port_may_be_left_out(app_client: httpx.AsyncClient) -> None:
    assert (await create(app_client, port=None)).json()["settings"]["port"] == 22


@pytest.mark.parametrize("name", ["ip", "username", "password"])
async def test_what_is_required_is_required(app_client: httpx.AsyncClient, name: str) -> None:
    answer = await create(app_client, **{name: None})
    assert answer.status_code == 422
    assert [detail["field"] for detail in answer.json()["details"]] == [f"settings.{name}"]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("ip", "http://192.168.1.100"), ("ip", "192.168.1.100:22"), ("ip", "two words"), ("port", "22"), ("port", 0),
        ("port", 65536), ("username", "ad min"), ("password", MASK), ("private_key", "no key"),
        ("incident_types", []), ("incident_types", "cpu"), ("incident_types", [1]),
    ],
)  # fmt: skip
async def test_what_cannot_be_used_is_refused(app_client: httpx.AsyncClient, name: str, bad: Any) -> None:
    answer = await create(app_client, **{name: bad})
    assert answer.status_code == 422
    assert [detail["field"] for detail in answer.json()["details"]] == [f"settings.{name}"]


async def test_reading_back_masks_the_secrets(app_client: httpx.AsyncClient) -> None:
    made = (await create(app_client, private_key=new_key())).json()
    read = (await app_client.get(f"/api/v1/integrations/{made['uuid']}")).json()
    assert read["settings"] == {**PRINTED, "password": MASK, "private_key": MASK}
    assert (await app_client.get("/api/v1/integrations")).json() == [read]


async def test_a_private_key_with_a_passphrase_is_refused_with_what_to_do(app_client: httpx.AsyncClient) -> None:
    answer = await create(app_client, private_key=new_key(b"locked"))
    assert answer.status_code == 422
    assert "has a passphrase; take it off" in answer.json()["message"]


async def test_a_private_key_may_stand_alone_and_take_the_place_of_the_password(app_client: httpx.AsyncClient) -> None:
    made = (await create(app_client, password=None, private_key=new_key())).json()
    assert "password" not in made["settings"]
    uuid = (await create(app_client)).json()["uuid"]
    changed = await change(app_client, uuid, password=None, private_key=new_key())
    assert changed.status_code == 200, changed.text
    assert set(changed.json()["settings"]) == {"ip", "username", "private_key", "port"}
    neither = await change(app_client, uuid, private_key=None)
    assert neither.json()["details"][0]["field"] == "settings.password"


async def test_a_mask_that_is_sent_back_leaves_the_secret_alone(app_client: httpx.AsyncClient) -> None:
    uuid = (await create(app_client)).json()["uuid"]
    same = {**PRINTED, "password": MASK}
    changed = await change(app_client, uuid, **same, incident_types=["downtime"])
    assert changed.status_code == 200
    assert changed.json()["settings"] == {**same, "incident_types": ["downtime"]}
    cleared = await change(app_client, uuid, incident_types=None)
    assert cleared.json()["settings"] == same


@pytest.mark.parametrize("elsewhere", [{"ip": "192.168.1.101"}, {"port": 2222}, {"username": "root"}])
async def test_where_the_secret_goes_changes_only_together_with_the_secret(
    app_client: httpx.AsyncClient, elsewhere: dict[str, Any]
) -> None:
    uuid = (await create(app_client)).json()["uuid"]
    for sent in ({}, {"password": MASK}):
        answer = await change(app_client, uuid, **elsewhere, **sent)
        assert answer.status_code == 422
        assert [detail["field"] for detail in answer.json()["details"]] == ["settings.password"]
    moved = await change(app_client, uuid, **elsewhere, password="another")
    assert moved.status_code == 200
    assert moved.json()["settings"] == {**PRINTED, **elsewhere, "password": "another"}


@pytest.mark.parametrize("ip", ["169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1", "0xa9fea9fe"])
async def test_literals_that_can_never_be_a_server_are_refused(app_client: httpx.AsyncClient, ip: str) -> None:
    answer = await create(app_client, ip=ip)
    assert answer.status_code == 422
    assert answer.json()["details"][0]["field"] == "settings.ip"


async def test_only_a_restart_integration_has_a_host_key_to_trust(app_client: httpx.AsyncClient) -> None:
    uuid = (await create(app_client)).json()["uuid"]
    body = {"fingerprint": "SHA256:anything"}
    none_offered = await app_client.post(f"/api/v1/integrations/{uuid}/trust_host_key", json=body)
    assert (none_offered.status_code, none_offered.json()["error"]) == (422, "unprocessable_entity")
    webhook = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": "https://203.0.113.5/"}}
    other = (await app_client.post("/api/v1/integrations", json={"integration": webhook})).json()["uuid"]
    answer = await app_client.post(f"/api/v1/integrations/{other}/trust_host_key", json=body)
    assert answer.status_code == 422
    missing = await app_client.post("/api/v1/integrations/INT123/trust_host_key", json=body)
    assert missing.status_code == 404


def test_the_types_of_incident_that_the_form_names_are_ones_that_there_are() -> None:
    field = next(each for each in SshServerRestartIntegration.fields if each.name == "incident_types")
    assert "such as downtime, ram." in field.hint
    assert {"downtime", "ram"} <= default_alerts().keys()
