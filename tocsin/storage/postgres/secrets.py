"""Secrets at rest: encrypted with keys that the database never sees, and bound to the row they belong to.

An envelope is: one version byte, four bytes that say which key, a nonce of 12 bytes, ciphertext and tag (AES-256-GCM).
Its associated data names project, row and field, so an envelope copied elsewhere does not open. Everything is derived
from the installation's keys by HKDF (RFC 5869), each use with a key of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from itsdangerous import URLSafeTimedSerializer

from tocsin.settings import KEY_BYTES

VERSION = b"\x01"
KEY_ID_BYTES = 4
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER_BYTES = len(VERSION) + KEY_ID_BYTES


class Unopenable(Exception):
    """A sealed secret that cannot be opened; the text says why and what to do."""


def new_key() -> str:
    """A key as `TOCSIN_SECRET_KEYS` takes it: 32 random bytes in urlsafe base64."""
    return urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


def new_token(prefix: str) -> str:
    """A token that cannot be guessed: `prefix` and 43 urlsafe characters (256 bits)."""
    return prefix + secrets.token_urlsafe(32)


def _derive(key: bytes, use: str, length: int = KEY_BYTES) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=f"tocsin {use}".encode()).derive(key)


@dataclass(frozen=True, slots=True, repr=False)
class _Generation:
    """What one installation key is used for."""

    key_id: bytes
    cipher: AESGCM
    token_key: bytes


class Vault:
    """Seals with the newest key, opens and recognises with any. `keys` are 32 bytes each, newest first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a vault needs at least one key, each of {KEY_BYTES} bytes")
        self._keys = tuple(keys)
        self._generations = tuple(
            _Generation(
                key_id=_derive(key, "key id", KEY_ID_BYTES),
                cipher=AESGCM(_derive(key, "seal")),
                token_key=_derive(key, "token"),
            )
            for key in keys
        )

    def seal(self, project_id: UUID, row: UUID, field: str, plain: bytes) -> bytes:
        """An envelope that opens only with the same project, row and field."""
        newest = self._generations[0]
        header = VERSION + newest.key_id
        nonce = os.urandom(NONCE_BYTES)
        return header + nonce + newest.cipher.encrypt(nonce, plain, _place(header, project_id, row, field))

    def open(self, project_id: UUID, row: UUID, field: str, envelope: bytes) -> bytes:
        """The secret that was sealed there. Raises `Unopenable`."""
        if len(envelope) < HEADER_BYTES + NONCE_BYTES + TAG_BYTES or envelope[:1] != VERSION:
            raise Unopenable("this is not a sealed secret of this version of Tocsin")
        header, nonce = envelope[:HEADER_BYTES], envelope[HEADER_BYTES : HEADER_BYTES + NONCE_BYTES]
        fitting = [each for each in self._generations if each.key_id == header[len(VERSION) :]]
        if not fitting:
            raise Unopenable(
                f"this secret was sealed with a key (id {header[len(VERSION) :].hex()}) that TOCSIN_SECRET_KEYS lacks; "
                "add that key at the end of the list"
            )
        for generation in fitting:
            try:
                return generation.cipher.decrypt(
                    nonce, envelope[HEADER_BYTES + NONCE_BYTES :], _place(header, project_id, row, field)
                )
            except InvalidTag:
                continue
        raise Unopenable("this secret was damaged, or moved from the place that it was sealed for")

    def split(
        self, project_id: UUID, row: UUID, field: str, settings: Mapping[str, Any], secret: Collection[str]
    ) -> tuple[dict[str, Any], bytes | None]:
        """Settings as they are stored: the plain ones, and an envelope with those whose names are `secret`."""
        hidden = {name: value for name, value in settings.items() if name in secret}
        plain = {name: value for name, value in settings.items() if name not in secret}
        return plain, self.seal(project_id, row, field, msgspec.json.encode(hidden)) if hidden else None

    def join(
        self, project_id: UUID, row: UUID, field: str, plain: Mapping[str, Any], envelope: bytes
    ) -> tuple[dict[str, Any], str | None]:
        """All settings that `split` took apart; or only the plain ones, and why the rest cannot be read."""
        try:
            hidden = self.open(project_id, row, field, envelope)
        except Unopenable as error:
            return dict(plain), f"Its secrets cannot be read: {error}"
        return {**plain, **msgspec.json.decode(hidden)}, None

    @property
    def header(self) -> bytes:
        """The prefix of every envelope that is sealed now: any other prefix means an older key."""
        return VERSION + self._generations[0].key_id

    @property
    def key_id(self) -> str:
        """The newest key's name in hexadecimal, which reveals nothing about the key itself."""
        return self._generations[0].key_id.hex()

    def token_hash(self, token: str) -> bytes:
        """The stored hash of a token: 32 bytes, keyed with the newest key."""
        return self.token_hashes(token)[0]

    def token_hashes(self, token: str) -> list[bytes]:
        """The possible stored hashes of a token, one per key, newest first: a token survives key rotation."""
        data = token.encode("utf-8", "surrogatepass")
        return [hmac.digest(each.token_key, data, hashlib.sha256) for each in self._generations]

    def signer(self, purpose: str) -> URLSafeTimedSerializer:
        """Signs small JSON values for links; a signature for one purpose is invalid for another."""
        return URLSafeTimedSerializer(
            [_derive(key, f"sign {purpose}") for key in reversed(self._keys)],
            salt=b"tocsin " + purpose.encode(),
            signer_kwargs={"digest_method": hashlib.sha256},
        )


def _place(header: bytes, project_id: UUID, row: UUID, field: str) -> bytes:
    return header + project_id.bytes + row.bytes + field.encode()
