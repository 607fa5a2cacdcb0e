"""Files that open with a passphrase only: what is written is read, and what was changed is found to be."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tocsin.domain.errors import Refused
from tocsin.storage.postgres import sealed_file
from tocsin.storage.postgres.sealed_file import CHUNK, MAGIC, MARK, SALT, TAG

PASSPHRASE = "four words and more"
HEAD = len(MAGIC) + 1 + SALT + MARK
BLOCK = CHUNK + TAG
NOISE = os.urandom(3 * CHUNK + 1000)
"""What cannot be compressed, so that its chunks are where they are looked for."""


def sealed(content: bytes) -> bytes:
    file = io.BytesIO()
    writer = sealed_file.Writer(file, PASSPHRASE)
    writer.write(content)
    writer.finish()
    return file.getvalue()


def opened(file: bytes, passphrase: str = PASSPHRASE) -> bytes:
    return b"".join(sealed_file.read(io.BytesIO(file), passphrase))


@pytest.fixture(scope="module")
def whole() -> bytes:
    return sealed(NOISE)


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 1000])
def test_what_is_written_is_read(size: int) -> None:
    content = NOISE[:size]
    file = sealed(content)
    assert opened(file) == content
    assert len(content) < 16 or content[:100] not in file  # a byte may be anywhere


def test_what_is_compressed_well_is_read_in_small_pieces() -> None:
    file = sealed(bytes(50 << 20))
    assert len(file) < 1 << 20
    pieces = list(map(len, sealed_file.read(io.BytesIO(file), PASSPHRASE)))
    assert (sum(pieces), max(pieces)) == (50 << 20, CHUNK)


def changed(file: bytes) -> Iterator[tuple[str, bytes, str]]:
    blocks = [file[at : at + BLOCK] for at in range(HEAD, len(file), BLOCK)]
    head = file[:HEAD]
    yield "another file", b"Dear Ann,", "not a backup"
    yield "an empty file", b"", "not a backup"
    yield "cut in its head", file[: HEAD - 1], "cut off"
    yield "cut behind its head", head, "damaged"
    yield "cut within a chunk", file[:-10], "damaged"
    yield "cut between chunks", head + b"".join(blocks[:-1]), "its end is missing"
    yield "chunks in another order", head + blocks[1] + blocks[0] + b"".join(blocks[2:]), "damaged"
    yield "a chunk left out", head + blocks[0] + b"".join(blocks[2:]), "damaged"
    yield "a chunk twice", head + blocks[0] + blocks[0] + b"".join(blocks[1:]), "damaged"
    yield "two files joined", file + file, "damaged"
    yield "something added", file + b"x", "damaged"
    yield "one bit of the content", file[:-1] + bytes([file[-1] ^ 1]), "damaged"
    yield "one bit of the salt", file[:20] + bytes([file[20] ^ 1]) + file[21:], "passphrase is wrong"
    yield "a newer form", MAGIC + b"\x02" + file[len(MAGIC) + 1 :], "newer version"


def test_what_is_not_as_it_was_written_is_refused_in_words(whole: bytes) -> None:
    for what, file, words in changed(whole):
        with pytest.raises(Refused) as refused:
            opened(file)
        assert words in refused.value.message, what


def test_a_wrong_passphrase_is_told_before_anything_is_read(whole: bytes) -> None:
    with pytest.raises(Refused, match="passphrase is wrong"):
        next(sealed_file.read(io.BytesIO(whole), PASSPHRASE + "!"))


def test_the_same_content_never_looks_the_same(whole: bytes) -> None:
    again: Any = sealed(NOISE)
    assert not {whole[at : at + 64] for at in range(HEAD, len(whole), 64)} & {
        again[at : at + 64] for at in range(HEAD, len(again), 64)
    }
