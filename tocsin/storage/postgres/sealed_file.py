"""A file that opens with a passphrase only, written and read as a stream.

The key comes from the passphrase by scrypt. The content is compressed, then encrypted by AES-GCM in chunks (STREAM:
Hoang and others, 2015, as in age): the nonce of a chunk is its number and whether it is the last. So nothing can be
changed, left out, put into another order or added, and a file that was cut is found to be.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from tocsin.domain.errors import Refused

MAGIC = b"tocsin backup\n"
FORMAT = 1
SALT, MARK, TAG = 16, 32, 16
CHUNK = 64 << 10
SCRYPT = {"n": 1 << 17, "r": 8, "p": 1}
"""128 MiB and a good part of a second for each guess. Fixed by the format, so that no file can ask for more."""
QUICK = 1
"""The level of compression: a tenth of the size at three times the speed of the usual one."""


def unreadable(message: str) -> Refused:
    """The refusal of a file, in one line."""
    return Refused(422, "backup_unreadable", message)


class Writer:
    """Writes to `file` what `write` is given. Without `finish`, it can not be read."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        self._file = file
        salt = os.urandom(SALT)
        head = MAGIC + bytes([FORMAT]) + salt
        self._cipher, mark = _keys(passphrase, salt, head)
        self._deflate = zlib.compressobj(QUICK)
        self._plain = bytearray()
        self._number = 0
        file.write(head + mark)

    def write(self, data: bytes) -> None:
        self._plain += self._deflate.compress(data)
        while len(self._plain) > CHUNK:  # what is left may be the last
            self._put(bytes(self._plain[:CHUNK]), last=False)
            del self._plain[:CHUNK]

    def finish(self) -> None:
        self.write(b"")
        self._plain += self._deflate.flush()
        while len(self._plain) > CHUNK:
            self._put(bytes(self._plain[:CHUNK]), last=False)
            del self._plain[:CHUNK]
        self._put(bytes(self._plain), last=True)

    def _put(self, chunk: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last), chunk, None))
        self._number += 1


def is_sealed(head: bytes) -> bool:
    """Whether a file that begins so is one of these."""
    return head.startswith(MAGIC)


def read(file: BinaryIO, passphrase: str) -> Iterator[bytes]:
    """What was written, in pieces of at most `CHUNK` bytes. Raises `Refused`: at once if it is no such file or the
    passphrase is wrong; later, if it is damaged or was cut.
    """
    head = file.read(len(MAGIC) + 1 + SALT)
    if not is_sealed(head):
        raise unreadable("this is not a backup of Tocsin")
    if len(head) > len(MAGIC) and head[len(MAGIC)] != FORMAT:
        raise unreadable("this backup was made by a newer version of Tocsin; restore it with that version")
    mark = file.read(MARK)
    if len(mark) < MARK:
        raise unreadable("this backup was cut off near its beginning")
    cipher, right = _keys(passphrase, head[-SALT:], head)
    if not hmac.compare_digest(mark, right):
        raise unreadable("the passphrase is wrong, or the beginning of the file is damaged")
    inflate = zlib.decompressobj()
    for chunk in _chunks(file, cipher):
        plain = inflate.decompress(chunk, CHUNK)
        while plain:
            yield plain
            plain = inflate.decompress(inflate.unconsumed_tail, CHUNK)


def _chunks(file: BinaryIO, cipher: AESGCM) -> Iterator[bytes]:
    number, block = 0, file.read(CHUNK + TAG)
    while True:
        after = file.read(CHUNK + TAG)
        last = not after
        try:
            yield cipher.decrypt(_nonce(number, last), block, None)
        except (InvalidTag, ValueError) as error:
            if last and _opens(cipher, _nonce(number, False), block):
                raise unreadable("this backup was cut off: its end is missing") from error
            raise unreadable("this backup is damaged, or was cut off or put together") from error
        if last:
            return
        number, block = number + 1, after


def _opens(cipher: AESGCM, nonce: bytes, block: bytes) -> bool:
    try:
        cipher.decrypt(nonce, block, None)
    except (InvalidTag, ValueError):
        return False
    return True


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _keys(passphrase: str, salt: bytes, head: bytes) -> tuple[AESGCM, bytes]:
    """The cipher, which no other file has, and the mark that shows that the passphrase is right."""
    secret = Scrypt(salt=salt, length=32, **SCRYPT).derive(passphrase.encode("utf-8", "surrogatepass"))

    def derived(use: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"tocsin backup " + use).derive(secret)

    return AESGCM(derived(b"content")), hmac.digest(derived(b"head"), head, hashlib.sha256)
