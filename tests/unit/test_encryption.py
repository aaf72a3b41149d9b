"""Envelopes open in their own place only, and key files say what is wrong with them."""

import json
import os
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.encryption.envelope import DataKey, Place, UnreadableError, length_prefixed
from services.runtime.encryption.key_file import KeyFile, make_key_file
from services.runtime.encryption.key_provider import KeyProviderError, WrappedKey

PLACE = Place(table="messages", field="body", owner=uuid4(), row=(uuid4(), uuid4()))


def _key() -> DataKey:
    return DataKey(uuid4(), os.urandom(32))


@given(st.binary(max_size=500))
def test_what_was_sealed_opens_in_its_place(plaintext: bytes) -> None:
    key = _key()
    envelope = key.seal(plaintext, PLACE)
    assert key.open(envelope, PLACE) == plaintext
    assert len(envelope) == 45 + len(plaintext)


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, table="sessions"),
        replace(PLACE, field="title"),
        replace(PLACE, owner=uuid4()),
        replace(PLACE, row=(PLACE.row[1], PLACE.row[0])),
        replace(PLACE, row=PLACE.row[:1]),
    ],
)
def test_a_moved_envelope_does_not_open(elsewhere: Place) -> None:
    key = _key()
    with pytest.raises(UnreadableError):
        key.open(key.seal(b"words", PLACE), elsewhere)


def test_an_altered_or_truncated_envelope_does_not_open() -> None:
    key = _key()
    envelope = key.seal(b"words", PLACE)
    altered = [
        envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1 :]
        # The key id's bytes choose the key; the associated data holds the key's own.
        for at in (0, *range(17, len(envelope)))
    ]
    for damaged in (*altered, *(envelope[:length] for length in range(len(envelope)))):
        with pytest.raises(UnreadableError) as error:
            key.open(damaged, PLACE)
        assert "words" not in str(error.value)


def test_another_key_does_not_open_it() -> None:
    key, other = _key(), _key()
    with pytest.raises(UnreadableError):
        other.open(key.seal(b"words", PLACE), PLACE)


def test_the_envelope_is_what_its_documentation_says_to_the_byte() -> None:
    key_id = UUID("00112233-4455-6677-8899-aabbccddeeff")
    owner, row = UUID(int=1), (UUID(int=2), UUID(int=3))
    secret = bytes(range(32))
    place = Place(table="messages", field="body", owner=owner, row=row)
    envelope = DataKey(key_id, secret).seal(b"words", place)
    parts = [b"\x01", key_id.bytes, b"messages", b"body", owner.bytes, row[0].bytes, row[1].bytes]
    bound = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    assert envelope[0] == 1
    assert envelope[1:17] == key_id.bytes
    assert AESGCM(secret).decrypt(envelope[17:29], envelope[29:], bound) == b"words"


def test_joined_parts_are_unlike_any_others() -> None:
    assert length_prefixed(b"ab", b"c") != length_prefixed(b"a", b"bc")
    assert length_prefixed(b"") != length_prefixed()


async def test_a_key_file_unwraps_what_it_wrapped_for_the_same_purpose_only(tmp_path: Path) -> None:
    make_key_file(tmp_path / "keys.json")
    keys = KeyFile(tmp_path / "keys.json")
    wrapped = await keys.wrap(b"s" * 32, b"one scope")
    assert await KeyFile(tmp_path / "keys.json").unwrap(wrapped, b"one scope") == b"s" * 32
    with pytest.raises(KeyProviderError, match="not the one"):
        await keys.unwrap(wrapped, b"another scope")
    with pytest.raises(KeyProviderError, match="does not hold the key gone"):
        await keys.unwrap(WrappedKey("gone", wrapped.ciphertext), b"one scope")


async def test_a_key_of_the_same_name_with_other_bytes_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    make_key_file(path)
    wrapped = await KeyFile(path).wrap(b"s" * 32, b"scope")
    written = json.loads(path.read_text())
    path.unlink()
    make_key_file(path)
    other = json.loads(path.read_text())
    written["keys"] = {written["active"]: next(iter(other["keys"].values()))}
    path.write_text(json.dumps(written))
    with pytest.raises(KeyProviderError, match="not the one"):
        await KeyFile(path).unwrap(wrapped, b"scope")


def test_a_key_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"
    make_key_file(path)
    first = path.read_text()
    make_key_file(path)
    assert path.read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not a key file"),
        ("[]", "is not a key file"),
        ('{"active": "a", "keys": {}}', "names no active key"),
        ('{"active": "a", "keys": {"a": "c2hvcnQ="}}', "not 32 bytes"),
    ],
)
def test_a_bad_key_file_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "keys.json"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(KeyProviderError, match=complaint):
        KeyFile(path)


def test_a_missing_or_open_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(KeyProviderError, match="cannot read"):
        KeyFile(path)
    make_key_file(path)
    path.chmod(0o644)
    with pytest.raises(KeyProviderError, match="open to other users"):
        KeyFile(path)
