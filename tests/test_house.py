"""The house rules: floors, types, style, lengths; nothing in the tree that does not belong there; papers that hold."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_LENGTH = 400
LONGER = {"tocsin/web/static/agent.py"}
"""The agent is downloaded as one file, so that a machine needs nothing else."""

MACHINE_PATHS = ["/" + "work/", "/" + "root/"]
REGISTRY_HOSTS = {
    (8, "a4aa2ac280bb8d1a0ce7a1be5a7bfb10292b49fe9435ad5cff19f421f3c70e41"),
    (16, "8b5bb5eb9d758455b8635855cf8aaf05b68775e3f83f0291e800ef338fb9783c"),
    (9, "8743857e3ea00fd1c64bbc68b8af241954ad2c285e7a60340eec7ea5dcb200db"),
    (9, "3ca29e55be4befa48f875d24c27f9bed32fe06588819ed6264084b6670a1ebb0"),
    (14, "e680c440a2e92079ab1bf7a927e8d3920f1bcd173c0487e28e020110b2e59efc"),
}
"""Hosts that packages come from: how long each name is, and its SHA-256."""
DOTTED = re.compile(r"[\w-]+(?:\.[\w-]+)+", re.ASCII)
UNFINISHED = ["TO" + "DO", "FIX" + "ME", "XX" + "X:"]
NO_ROOMS = {"utils.py", "helpers.py", "managers.py", "services.py", "misc.py", "common.py"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def sources(folder: str) -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and path.is_relative_to(ROOT / folder)]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def project() -> dict[str, object]:
    return dict(tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"])


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# ------------------------------------------------------------------------------------------------------------- tools


def test_each_floor_imports_downwards_only() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(program)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_ruff_has_nothing_to_say() -> None:
    done = run("ruff", "check", "--output-format", "concise", ".")
    assert done.returncode == 0, done.stdout


def test_mypy_has_nothing_to_say() -> None:
    done = run("mypy")
    assert done.returncode == 0, done.stdout


# -------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("folder", ["tocsin", "bench", "tests"])
def test_no_file_is_too_long_to_read(folder: str) -> None:
    lengths = {str(path.relative_to(ROOT)): len(text_of(path).splitlines()) for path in sources(folder)}
    assert not {name: length for name, length in lengths.items() if length > MAX_LENGTH and name not in LONGER}


def test_no_file_is_a_drawer_for_everything() -> None:
    assert not [path for path in tracked() if path.name in NO_ROOMS]


@pytest.mark.parametrize("words", [MACHINE_PATHS, UNFINISHED], ids=["paths", "unfinished"])
def test_nothing_in_the_tree_names_what_does_not_belong_there(words: list[str]) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked()
        for word in words
        if word in text_of(path)
    ]
    assert not found


def names_in(text: str, digests: set[tuple[int, str]]) -> set[str]:
    """The dotted names of which any part has one of the digests, however it is joined to what is around it."""
    return {
        name
        for name in set(DOTTED.findall(text.lower()))
        for length in {length for length, _ in digests}
        for start in range(len(name) - length + 1)
        if (length, hashlib.sha256(name[start : start + length].encode()).hexdigest()) in digests
    }


def test_no_host_that_packages_come_from_is_named_in_the_tree() -> None:
    example = (12, hashlib.sha256(b"example.test").hexdigest())
    assert names_in(r"see \nhttps://www.Example.test/", {example}) == {"www.example.test"}
    assert not {str(path.relative_to(ROOT)): found for path in tracked()
                if (found := names_in(text_of(path), REGISTRY_HOSTS))}


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path in sources("tocsin") if text_of(path).strip() and not text_of(path).startswith('"""')]
    assert not silent


def test_only_settings_reads_the_environment() -> None:
    # handing the whole environment on to a child is not reading it
    reading = re.compile(r"os\.(getenv\(|environ(\[|\.get\())")
    assert not [path for path in sources("tocsin") if reading.search(text_of(path)) and path.name != "settings.py"]


def test_migrations_are_numbered_without_a_gap() -> None:
    names = sorted(path.name for path in (ROOT / "tocsin/storage/postgres/migrations").glob("*.sql"))
    assert [name[:5] for name in names] == [f"{number:04}_" for number in range(1, len(names) + 1)]


# ------------------------------------------------------------------------------------------------------------- papers


def test_every_dependency_is_pinned() -> None:
    lines = [line for line in text_of(ROOT / "constraints.txt").splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines), "names and versions only"
    pinned = {canonical(line.partition("==")[0]) for line in lines}
    given = project()
    wanted = [*given["dependencies"], *(each for extra in given["optional-dependencies"].values() for each in extra)]
    missing = {canonical(re.split(r"[\[<>=;~! ]", each)[0]) for each in wanted} - pinned
    assert not missing


def test_the_readme_names_only_commands_that_exist() -> None:
    readme = text_of(ROOT / "README.md")
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", readme)) <= targets
    named = set(re.findall(r"`(?:\.venv/bin/)?tocsin ([a-z-]+(?: [a-z]+)?)", readme))
    assert named
    for command in sorted(named):
        done = run("tocsin", *command.split(), "--help")
        assert done.returncode == 0, f"tocsin {command}: {done.stderr}"


def test_the_readme_lists_every_setting() -> None:
    read = set(re.findall(r'text\("([A-Z_]+)"', text_of(ROOT / "tocsin/settings.py"))) | {"DATA_DIR"}
    listed = set(re.findall(r"TOCSIN_([A-Z_]+)", text_of(ROOT / "README.md")))
    assert not read - listed


def test_the_version_is_in_the_changelog_or_still_to_come() -> None:
    changelog = text_of(ROOT / "CHANGELOG.md")
    assert "## [Unreleased]" in changelog or re.search(r"^## \[\d+\.\d+\.\d+\]", changelog, re.MULTILINE)
