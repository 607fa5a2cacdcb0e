"""Settings that cannot be meant are refused at the start, in one line that names them, in use or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tocsin import settings
from tocsin.domain.settings import Unusable


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEYS", ","), ("SECRET_KEYS", " , ,"), ("TWILIO_API_URL", "x"), ("SLACK_API_URL", "nope"),
        ("SLACK_AUTHORIZE_URL", "ftp://example.com"), ("SMS_COUNTRIES", "XX"), ("SMS_COUNTRIES", "AT,UK"),
        ("RETENTION_RAW", "401"), ("CONNECTIVITY", "https://example.com"), ("CONNECTIVITY", "tcp://192.0.2.1,x"),
        ("CONNECTIVITY", "tcp://192.0.2.1:443,tcp://192.0.2.1:443"), ("CONNECTIVITY", "ftp://192.0.2.1,https://a.example"),
        ("HEARTBEAT_URL", "http://u:Geheim@example.com/ping"), ("RDAP_BOOTSTRAP", "https://u:Geheim@example.com"),
        ("SLACK_API_URL", "ftp://u:Geheim@example.com"), ("PUBLIC_URL", "https://u:Geheim@exa mple.com"),
        ("DATABASE_URL", "postgresql:Geheim"), ("DATABASE_URL", "postgresql:/Geheim"),
        ("DATABASE_URL", "postgresql://tocsin@127.0.0.1/tocsin?sslrootcert=/nope"),
        ("DATABASE_URL", f"postgresql://tocsin@{'a' * 64}.example.com/tocsin"),
        ("DATABASE_URL", "postgresql://tocsin@a..example.com/tocsin"),
        ("CONNECTIVITY", ",".join(f"https://{number}.example.com" for number in range(4))),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_meant_is_refused_by_its_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(Unusable) as refused:
        settings.load(tmp_path, {f"TOCSIN_{name}": value})
    said = str(refused.value)
    assert said.startswith(f"TOCSIN_{name}: ")
    assert "\n" not in said
    assert "Geheim" not in said


def test_a_file_of_keys_without_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret_keys").write_text("\n")
    with pytest.raises(Unusable, match="secret_keys: has no key in it"):
        settings.load(tmp_path, {})


def test_two_or_three_targets_show_whether_there_is_a_way_out(tmp_path: Path) -> None:
    loaded = settings.load(tmp_path, {"TOCSIN_CONNECTIVITY": " tcp://192.0.2.1:443, https://example.com "})
    assert loaded.connectivity == ("tcp://192.0.2.1:443", "https://example.com")
    assert settings.load(tmp_path, {}).connectivity == ()


def test_a_short_retention_is_one_of_samples_too(tmp_path: Path) -> None:
    loaded = settings.load(tmp_path, {"TOCSIN_RETENTION": "7", "TOCSIN_SMS_COUNTRIES": "at, GB"})
    assert (loaded.retention_raw, loaded.retention, loaded.sms_countries) == (7, 7, ("AT", "GB"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_CONNECTIONS", "0"), ("MAX_CONNECTIONS", "many"), ("MAX_CONNECTIONS_PER_ADDRESS", "0"),
        ("MAX_HEAD_BYTES", "100"), ("MAX_HEAD_BYTES", "9" * 5000), ("MAX_HEADERS", "3"), ("HEAD_TIMEOUT", "0"),
        ("HEAD_TIMEOUT", "nan"), ("IDLE_TIMEOUT", "-1"), ("TRANSFER_GRACE", "inf"), ("TRANSFER_RATE", "0"),
    ],
)  # fmt: skip
def test_a_limit_that_cannot_be_kept_is_named(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=f"^TOCSIN_{name}: ") as refused:
        settings.load(tmp_path, {f"TOCSIN_{name}": value})
    assert "\n" not in str(refused.value)
