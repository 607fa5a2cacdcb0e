"""Clients made for Healthchecks, and what its documentation tells people to paste: all work with another host name.

The examples are ours, after https://healthchecks.io/docs/ (bash, python, javascript, attaching_logs,
measuring_script_run_time, signaling_failures, monitoring_cron_jobs, autoprovisioning).
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import healthchecks_decorator
import healthchecks_wrapper
import httpx
import pytest

from tests import needed
from tests.heartbeat_scene import body_of, new_heartbeat, pings_of, shown
from tests.processes import clean_environ
from tests.service import Service

CURL = {
    "a success": ("curl -m 10 --retry 5 $URL", [("success", None, 0)]),
    "a success of a cron job": ("true && curl -fsS -m 10 --retry 5 -o /dev/null $URL", [("success", None, 0)]),
    "a failure": ("curl --retry 3 $URL/fail", [("fail", None, 0)]),
    "an exit status": ("sh -c 'exit 7'; curl -m 10 --retry 5 $URL/$?", [("fail", 7, 0)]),
    "output": (
        "m=$(echo renewed 2>&1); curl -fsS -m 10 --retry 5 --data-raw \"$m\" $URL/$?", [("success", 0, 7)],
    ),
    "output in a file": (
        "printf '%060000d' 1 > out; curl -fsS -m 10 --retry 5 --data-binary @out $URL/$?", [("success", 0, 60_000)],
    ),
    "a note": ("curl -fsS -m 10 --data-raw 'disk at 80 %' $URL/log", [("log", None, 12)]),
    "the start and the end of a run": (
        "RID=123e4567-e89b-12d3-a456-426614174000; curl -fsS -m 10 --retry 5 $URL/start?rid=$RID;"
        " curl -fsS -m 10 --retry 5 $URL?rid=$RID", [("start", None, 0), ("success", None, 0)],
    ),
    "a head alone": ("curl -fsS --head -m 10 $URL", [("success", None, 0)]),
    "a long body that is streamed": (
        "printf '%0200000d' 1 | curl -fsS -T - -X POST -H 'Expect:' $URL", [("success", None, 100_000)],
    ),
}  # fmt: skip
OTHERS = {
    "wget": ("wget -q -O /dev/null -T 10 -t 5 $URL", [("success", None, 0)]),
    "wget with output": ("wget -q -O - --post-data=done $URL/0", [("success", 0, 4)]),
    "node": (
        "node -e \"require('http').get(process.env.URL).on('error', e => { process.exitCode = 1 })\"",
        [("success", None, 0)],
    ),
    "urllib": (
        f"{sys.executable} -c \"import os, urllib.request as r; r.urlopen(os.environ['URL'], timeout=10)\"",
        [("success", None, 0)],
    ),
    "requests": (
        f"{sys.executable} -c \"import os, requests; requests.post(os.environ['URL'], data='temperature=-7')\"",
        [("success", None, 14)],
    ),
}  # fmt: skip


async def pasted(script: str, url: str, folder: Any) -> tuple[int, str]:
    """What a shell script ends with, and what it says."""
    environ = {**clean_environ(), "URL": url, "NO_PROXY": "*"}
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 90)
    return process.returncode or 0, said.decode()


async def seen(client: httpx.AsyncClient, made: dict[str, Any]) -> list[tuple[str, int | None, int]]:
    """The pings, oldest first."""
    return [(each["kind"], each["exit_status"], each["body_bytes"]) for each in (await pings_of(client, made))[::-1]]


@pytest.mark.parametrize("name", [*CURL, *OTHERS])
async def test_what_is_documented_works_when_it_is_pasted(
    client: httpx.AsyncClient, tmp_path: Any, name: str
) -> None:
    script, expected = {**CURL, **OTHERS}[name]
    needed.program("curl" if name in CURL else "sh" if name in ("urllib", "requests") else name.split()[0])
    made = await new_heartbeat(client)
    status, said = await pasted(script, made["ping_url"], tmp_path)
    assert status == 0, said
    assert await seen(client, made) == expected


async def test_a_host_registers_itself_by_its_first_ping(
    client: httpx.AsyncClient, service: Service, tmp_path: Any
) -> None:
    needed.program("curl")
    key = (await client.post("/api/v1/ping_key/rotate")).json()["ping_key"]
    script = "SLUG=srv01; curl -s -m 10 --retry 5 $URL/$SLUG?create=1"
    said = [(await pasted(script, f"{service.url}/ping/{key}", tmp_path))[1] for _ in range(2)]
    assert said == ["Created", "OK"]
    assert [each["slug"] for each in (await client.get("/api/v1/heartbeats")).json()["data"]] == ["srv01"]


async def test_curl_retries_until_the_service_is_back(own_service: Service, tmp_path: Any) -> None:
    needed.program("curl")
    async with own_service.client() as client:
        made = await new_heartbeat(client)
        own_service.api.kill()
        script = "curl -sS -m 10 --retry 60 --retry-delay 1 --retry-connrefused $URL/start; echo"
        retrying = asyncio.create_task(pasted(script, made["ping_url"], tmp_path))
        await asyncio.sleep(0)
        own_service.start()
        status, said = await retrying
        assert (status, said.strip().splitlines()[-1]) == (0, "OK")
        assert (await shown(client, made))["status"] == "running"


async def test_a_function_decorated_with_healthchecks_decorator_reports(client: httpx.AsyncClient) -> None:
    made = await new_heartbeat(client)

    @healthchecks_decorator.healthcheck(url=made["ping_url"], send_start=True, send_diagnostics=True)
    def job(fails: bool) -> dict[str, int]:
        if fails:
            raise RuntimeError("it failed")
        return {"files": 12}

    await asyncio.to_thread(job, False)
    with pytest.raises(RuntimeError):
        await asyncio.to_thread(job, True)
    assert [kind for kind, _, _ in await seen(client, made)] == ["start", "success", "start", "fail"]
    assert await body_of(client, made, 2) == "files=12"


async def test_a_block_in_healthchecks_wrapper_reports(client: httpx.AsyncClient) -> None:
    made = await new_heartbeat(client)

    def job(fails: bool) -> None:
        with healthchecks_wrapper.HealthCheck(made["ping_url"], suppress_exceptions=True):
            if fails:
                raise RuntimeError("no space left on device")

    await asyncio.to_thread(job, False)
    await asyncio.to_thread(job, True)
    assert [kind for kind, _, _ in await seen(client, made)] == ["start", "success", "start", "fail"]
    assert "RuntimeError: no space left on device" in await body_of(client, made, 4)
    assert (await shown(client, made))["status"] == "down"


