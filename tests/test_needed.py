"""What tests need of the machine: said in a line, skipped at home, a failure in CI."""

from __future__ import annotations

import pytest
from _pytest.outcomes import Failed, Skipped

from tests import needed


@pytest.mark.parametrize(("in_ci", "end"), [(False, Skipped), (True, Failed)])
def test_a_program_that_is_not_there_skips_the_test_with_its_package_or_fails_it_in_ci(
    monkeypatch: pytest.MonkeyPatch, in_ci: bool, end: type[BaseException]
) -> None:
    monkeypatch.setattr(needed, "IN_CI", in_ci)
    monkeypatch.setattr(needed, "FOLDERS", "/nowhere")
    with pytest.raises(end, match="sshd is not installed; on Debian and Ubuntu: apt install openssh-server"):
        needed.program("sshd")


def test_a_program_that_is_there_is_named_by_its_path() -> None:
    assert needed.program("sh").endswith("/sh")
