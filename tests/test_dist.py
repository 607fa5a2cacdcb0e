"""What people install: the wheel, built from the source distribution, in an environment outside of the checkout."""

from __future__ import annotations

import ast
import email
import importlib.metadata
import re
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.processes import NO_AUTHORITIES, clean_environ
from tests.waiting import PATIENCE

ROOT = Path(__file__).parent.parent
BROUGHT = {"markupsafe", "requests", "urllib3"}
"""What jinja2 and apprise bring, used only beside them."""

@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made as `make dist` makes it, of what is in the repository alone."""
    folder = tmp_path_factory.mktemp("dist")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    names = [name for name in listed.split("\0") if name.startswith("tocsin/") or "/" not in name]
    for name in names:
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(folder / "source")],
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def tocsin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, in an environment that has the wheel, and what it needs, but not this checkout."""
    folder = tmp_path_factory.mktemp("elsewhere") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", "--quiet", "--no-deps",
         "--no-index", "--ignore-installed", "--disable-pip-version-check", str(wheel)], check=True,
    )
    return folder / "bin" / "tocsin"


def ran(tocsin: Path, *arguments: str) -> str:
    done = subprocess.run(
        [tocsin, *arguments], cwd=tocsin.parent, env=clean_environ(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z", "tocsin"], cwd=ROOT, capture_output=True, check=True, text=True)
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    assert names == {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        [name] = [each for each in file.namelist() if each.endswith(".dist-info/METADATA")]
        said = email.message_from_bytes(file.read(name))
        assert any(each.endswith("licenses/LICENSE") for each in file.namelist())
    assert (said["Name"], said["License-Expression"], said["Requires-Python"]) == ("tocsin", "Apache-2.0", ">=3.11")
    assert said["Description-Content-Type"] == "text/markdown"
    assert "# Tocsin" in str(said.get_payload())
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(said.get_all("Classifier"))


def test_it_asks_for_every_package_that_it_imports(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        [name] = [each for each in file.namelist() if each.endswith(".dist-info/METADATA")]
        asked = email.message_from_bytes(file.read(name)).get_all("Requires-Dist")
        imported = {
            module.partition(".")[0]
            for each in file.namelist() if each.endswith(".py")
            for node in ast.walk(ast.parse(file.read(each)))
            for module in ([node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level
                           else [alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
        }
    plain = {canonical(re.split(r"[\[<>=;~! ]", each)[0]) for each in asked if "extra ==" not in each}
    owners = importlib.metadata.packages_distributions()
    foreign = {module for module in imported if module not in sys.stdlib_module_names} - {"tocsin"}
    foreign -= BROUGHT
    assert [each for each in asked if each.startswith("opentelemetry-sdk") and each.endswith('extra == "otel"')]
    foreign -= {"opentelemetry"}  # which only that extra brings
    assert not {module for module in foreign if not plain & {canonical(each) for each in owners.get(module, [])}}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_works_where_it_is_installed(tocsin: Path, tmp_path: Path) -> None:
    assert re.fullmatch(r"tocsin, version \d+\.\d+\.\d+\n", ran(tocsin, "--version"))
    where = "import tocsin; print(tocsin.__file__)"
    found = subprocess.run([tocsin.with_name("python"), "-c", where], cwd="/", capture_output=True, text=True)
    assert found.stdout.startswith(str(tocsin.parent.parent)), found
    with (tmp_path / "log").open("w") as log:
        up = subprocess.Popen(
            [tocsin, "up", "--port", "0", "--data-dir", tmp_path / "data"], cwd="/", env=clean_environ(),
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    try:
        assert up.stdout
        url = up.stdout.readline().removeprefix("ready ").strip()
        assert url, (tmp_path / "log").read_text()
        for path in ("/sign-in", "/agent", "/api/docs", "/api/v1/openapi.json", "/health/ready"):
            answer = httpx.get(f"{url}{path}", verify=NO_AUTHORITIES)
            assert answer.status_code == 200, path
        asset = re.search(r'href="(/static/[^"]+\.css[^"]*)"', httpx.get(f"{url}/sign-in", verify=NO_AUTHORITIES).text)
        assert asset
        assert httpx.get(f"{url}{asset[1]}", verify=NO_AUTHORITIES).status_code == 200
    finally:
        up.terminate()
        up.communicate(timeout=PATIENCE)
    assert up.returncode == 0


def test_the_demo_works_where_it_is_installed(tocsin: Path) -> None:
    """Up to its first integration; tests/cli/test_demo.py watches all of it."""
    demo = subprocess.Popen(
        [tocsin, "demo"], cwd="/", env=clean_environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert demo.stdout
    said = ""
    for line in demo.stdout:
        said += line
        if "Integrations::WebhookIntegration" in line:
            demo.send_signal(signal.SIGINT)
    demo.stdout.close()
    demo.wait(PATIENCE)
    assert "Integrations::WebhookIntegration" in said, said
