"""Secrets at rest, hashes of tokens, signed links."""

from __future__ import annotations

import os
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import BadSignature

from tests.aged import aged
from tocsin import settings
from tocsin.domain import ids
from tocsin.storage.accounts import links
from tocsin.storage.postgres.secrets import Unopenable, Vault, new_key, new_token

OLD, NEW = b"o" * 32, b"n" * 32
PROJECT, ROW = ids.new(), ids.new()


@given(st.binary(max_size=5000), st.uuids(), st.uuids(), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_was_sealed_opens_again_at_its_place(plain: bytes, project: UUID, row: UUID, field: str) -> None:
    vault = Vault([NEW])
    assert vault.open(project, row, field, vault.seal(project, row, field, plain)) == plain


@pytest.mark.parametrize(
    "place",
    [
        (ids.new(), ROW, "password"),
        (PROJECT, ids.new(), "password"),
        (PROJECT, ROW, "token"),
        (ROW, PROJECT, "password"),
    ],
    ids=["another project", "another row", "another field", "project and row swapped"],
)
def test_an_envelope_copied_to_another_place_does_not_open(place: tuple[UUID, UUID, str]) -> None:
    vault = Vault([NEW])
    envelope = vault.seal(PROJECT, ROW, "password", b"hunter2")
    with pytest.raises(Unopenable, match="moved"):
        vault.open(*place, envelope)


@given(st.data())
def test_an_envelope_with_one_bit_changed_does_not_open(data: st.DataObject) -> None:
    vault = Vault([NEW])
    envelope = bytearray(vault.seal(PROJECT, ROW, "password", b"hunter2"))
    at = data.draw(st.integers(0, len(envelope) * 8 - 1))
    envelope[at // 8] ^= 1 << at % 8
    with pytest.raises(Unopenable):
        vault.open(PROJECT, ROW, "password", bytes(envelope))


@given(st.binary(max_size=60))
def test_what_is_no_envelope_is_refused_in_words(envelope: bytes) -> None:
    with pytest.raises(Unopenable):
        Vault([NEW]).open(PROJECT, ROW, "password", envelope)


def test_the_same_secret_never_looks_the_same_twice() -> None:
    vault = Vault([NEW])
    assert vault.seal(PROJECT, ROW, "password", b"hunter2") != vault.seal(PROJECT, ROW, "password", b"hunter2")


def test_after_a_change_of_keys_what_was_sealed_before_still_opens() -> None:
    envelope = Vault([OLD]).seal(PROJECT, ROW, "password", b"hunter2")
    assert Vault([NEW, OLD]).open(PROJECT, ROW, "password", envelope) == b"hunter2"


def test_after_a_change_of_keys_the_newest_seals() -> None:
    envelope = Vault([NEW, OLD]).seal(PROJECT, ROW, "password", b"hunter2")
    assert Vault([NEW]).open(PROJECT, ROW, "password", envelope) == b"hunter2"


def test_a_secret_of_a_key_that_is_gone_says_which_setting_lacks_it() -> None:
    envelope = Vault([OLD]).seal(PROJECT, ROW, "password", b"hunter2")
    with pytest.raises(Unopenable, match="TOCSIN_SECRET_KEYS lacks") as raised:
        Vault([NEW]).open(PROJECT, ROW, "password", envelope)
    assert "\n" not in str(raised.value)


def test_a_token_is_recognised_after_a_change_of_keys() -> None:
    token = new_token("tcp_")
    stored = Vault([OLD]).token_hash(token)
    assert stored in Vault([NEW, OLD]).token_hashes(token)
    assert stored not in Vault([NEW, OLD]).token_hashes(new_token("tcp_"))


def test_what_is_stored_of_a_token_depends_on_the_key() -> None:
    assert Vault([OLD]).token_hash("tcp_x") != Vault([NEW]).token_hash("tcp_x")


def test_a_token_has_its_prefix_and_43_characters() -> None:
    token = new_token("tcp_")
    assert token.startswith("tcp_")
    assert len(token) == 4 + 43


def test_a_vault_does_not_show_its_keys() -> None:
    vault = Vault([NEW])
    assert "nnnn" not in repr(vault)
    assert "nnnn" not in repr(vault._generations)


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b""]])
def test_a_vault_needs_keys_of_the_right_length(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(keys)


def test_a_new_key_is_one_that_the_settings_accept() -> None:
    key = new_key()
    loaded = settings.load("/nonexistent", {"TOCSIN_SECRET_KEYS": f"{key},{new_key()}"})
    assert [len(each) for each in loaded.secret_keys] == [32, 32]
    assert key not in repr(loaded)


def test_a_signature_is_worth_nothing_for_another_purpose() -> None:
    vault = Vault([NEW])
    with pytest.raises(BadSignature):
        vault.signer("unsubscribe").loads(vault.signer("verify email").dumps("x"))


def test_a_link_signed_before_a_change_of_keys_still_works() -> None:
    integration = ids.new()
    link = links.unsubscribe(Vault([OLD]), "https://tocsin.example.com", integration)
    assert links.read_unsubscribe(Vault([NEW, OLD]), link.partition("token=")[2]) == integration
    assert links.read_unsubscribe(Vault([NEW]), link.partition("token=")[2]) is None


@given(st.text())
def test_a_link_that_we_did_not_sign_says_nothing(token: str) -> None:
    vault = Vault([NEW])
    assert links.read_unsubscribe(vault, token) is None
    assert links.read_verification(vault, token) is None


def test_a_verification_link_tells_when_its_three_days_are_over() -> None:
    vault, user = Vault([os.urandom(32)]), ids.new()
    token = links.verification(vault, "", user, "a@example.com").partition("token=")[2]
    fresh = links.read_verification(vault, token)
    assert fresh == links.Verification(user, "a@example.com", expired=False)
    old = aged(vault.signer("verify email"), [user.hex, "a@example.com"], days=3.01)
    assert links.read_verification(vault, old) == links.Verification(user, "a@example.com", expired=True)
