"""The specification's section "SSH Server Restart Integration", by running what it prints."""

from __future__ import annotations

import json

import asyncpg
import httpx
import pytest

from tests.service import Service
from tests.specification import assert_as_printed, curl
from tests.ssh_scene import scene
from tests.sshd import PASSWORD, Machine

CREATE_SSH = r"""
curl -X POST https://app.uptinio.com/api/v1/integrations \
  -H "Authorization: Bearer YOUR_PROJECT_API_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{
    "integration": {
      "type": "Integrations::SshServerRestartIntegration",
      "settings": {
        "ip": "192.168.1.100",
        "username": "admin",
        "password": "secure_password",
        "port": 22
      }
    }
  }'
"""

SSH_RESPONSE = """
{
  "uuid": "INT123",
  "type": "Integrations::SshServerRestartIntegration",
  "name": "192.168.1.100 (admin)",
  "settings": {
    "ip": "192.168.1.100",
    "username": "admin",
    "password": "secure_password",
    "port": 22
  },
  "editable": true,
  "deletable": true,
  "created_at": "2024-01-01T00:00:00Z",
  "updated_at": "2024-01-01T00:00:00Z"
}
"""


async def test_an_ssh_server_restart_integration_is_created_as_printed(service: Service) -> None:
    said = await curl(service, CREATE_SSH)
    assert said.status == 201
    assert_as_printed(said, SSH_RESPONSE)


@pytest.mark.parametrize("required", ["ip", "username", "password"])
async def test_each_parameter_of_the_table_is_required_and_the_port_is_22_where_it_is_left_out(
    client: httpx.AsyncClient, required: str
) -> None:
    body = json.loads(CREATE_SSH.partition("-d '")[2].rpartition("'")[0])
    del body["integration"]["settings"]["port"]
    made = await client.post("/api/v1/integrations", json=body)
    assert (made.status_code, made.json()["settings"]["port"]) == (201, 22)
    del body["integration"]["settings"][required]
    answer = await client.post("/api/v1/integrations", json=body)
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")
    assert answer.json()["details"][0]["field"] == f"settings.{required}"


async def test_note_the_password_is_stored_securely_in_the_database(
    service: Service, client: httpx.AsyncClient
) -> None:
    await scene(client, 22, ip="192.168.1.100")
    connection = await asyncpg.connect(service.database)
    try:
        rows = await connection.fetch("SELECT i::text AS everything, sealed FROM integrations i")
    finally:
        await connection.close()
    assert rows
    for row in rows:
        assert PASSWORD not in row["everything"]
        assert PASSWORD.encode().hex() not in row["everything"]


async def test_note_when_an_incident_occurs_sudo_reboot_is_executed_on_the_target_server(
    client: httpx.AsyncClient, target: Machine
) -> None:
    done = await (await scene(client, target.port)).restart()
    assert done["status"] == "delivered"
    assert target.reboots == 1
    assert target.commands[-1] == "-S -p  reboot"
