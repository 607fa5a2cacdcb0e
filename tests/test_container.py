"""The container: what its files say, and, where a builder runs on this machine, that it starts and answers."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import httpx
import pytest
import yaml

from tests.waiting import poll
from tocsin.cli.sockets import free_port
from tocsin.settings import load

ROOT = Path(__file__).parent.parent
FILE = ROOT / "Containerfile"
START = 120.0


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE))
    parts = (line.partition(" ") for line in text.splitlines() if line)
    return [(name, " ".join(rest.split())) for name, _, rest in parts]


def test_it_is_made_in_two_stages_of_a_base_that_can_be_chosen_and_is_not_root() -> None:
    found = instructions()
    assert found[0][0] == "ARG"
    assert [rest.split()[0] for name, rest in found if name == "FROM"] == ["${BASE}", "${BASE}"]
    last = found[max(place for place, each in enumerate(found) if each[0] == "FROM") :]
    said = dict(last)
    assert said["USER"] == "tocsin"
    assert [rest for name, rest in found if name == "VOLUME"] == ["/data"]
    assert "/health/ready" in said["HEALTHCHECK"]
    assert (said["ENTRYPOINT"], said["CMD"]) == ('["tocsin"]', '["up", "--host", "0.0.0.0"]')


def test_what_it_copies_is_there_and_is_not_ignored() -> None:
    copied = [word for name, rest in instructions() if name == "COPY" and "--from" not in rest
              for word in rest.split()[:-1]]
    kept = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    assert set(copied) == kept
    assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()


def test_the_composition_gives_settings_that_exist_and_no_rights() -> None:
    said = yaml.safe_load((ROOT / "compose.yaml").read_text())
    tocsin, postgresql = said["services"]["tocsin"], said["services"]["postgresql"]
    assert (tocsin["read_only"], tocsin["cap_drop"], postgresql["profiles"]) == (True, ["ALL"], ["postgresql"])
    assert all(port.startswith("127.0.0.1:") for port in tocsin["ports"])
    unset = {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for name, value in tocsin["environment"].items()}
    settings = load("/nowhere", unset)
    assert (settings.database_url, settings.secret_keys) == (None, ())
    assert {volume.partition(":")[0] for volume in (*tocsin["volumes"], *postgresql["volumes"])} == set(said["volumes"])


def test_every_setting_of_the_file_beside_the_composition_reaches_tocsin_and_all_data_is_in_volumes() -> None:
    said = yaml.safe_load((ROOT / "compose.yaml").read_text())
    tocsin, postgresql = said["services"]["tocsin"], said["services"]["postgresql"]
    assert tocsin["env_file"] == [{"path": ".env", "required": False}]
    assert "TOCSIN_DATA_DIR" not in tocsin["environment"]
    [volume] = postgresql["volumes"]
    # the images' own volumes are /var/lib/postgresql/data up to 17, and /var/lib/postgresql from 18 on
    assert postgresql["environment"]["PGDATA"].startswith(volume.partition(":")[2] + "/")
    assert not postgresql["environment"]["PGDATA"].startswith("/var/lib/postgresql/data")


@pytest.mark.timeout(900)
def test_where_a_builder_runs_it_is_built_starts_and_answers(record_property: pytest.FixtureRequest) -> None:
    builder = next((each for each in ("docker", "podman") if _runs(each)), None)
    if builder is None:
        record_property("said", "no container engine runs here, so only the files were checked")  # type: ignore[operator]
        return
    name = f"tocsin-test-{uuid.uuid4().hex[:8]}"
    subprocess.run([builder, "build", "--tag", name, "--file", str(FILE), str(ROOT)], check=True)
    port = free_port()
    try:
        publish = f"127.0.0.1:{port}:8000"
        subprocess.run([builder, "run", "--detach", "--init", "--name", name, "--publish", publish, name], check=True)
        poll(lambda: _ready(port), timeout=START, what="a container that answers")
        subprocess.run([builder, "stop", name], check=True)
    finally:
        subprocess.run([builder, "rm", "--force", "--volumes", name], check=False)
        subprocess.run([builder, "rmi", "--force", name], check=False)


def _runs(builder: str) -> bool:
    if shutil.which(builder) is None:
        return False
    return subprocess.run([builder, "info"], capture_output=True).returncode == 0


def _ready(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    return False
