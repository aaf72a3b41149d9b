"""Envelopes open in their own place only, and key files say what is wrong with them."""

import asyncio
import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.encryption.envelope import DataKey, Place, UnreadableError, length_prefixed
from services.runtime.encryption.key_file import KeyFile, _is_private, make_key_file
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


def _ids() -> st.SearchStrategy[tuple[UUID, ...]]:
    # From a few, so that places are often nearly the same.
    return st.lists(st.sampled_from([UUID(int=number) for number in range(4)]), max_size=3).map(
        tuple
    )


def _places() -> st.SearchStrategy[Place]:
    names = st.text(alphabet="ab", max_size=3)
    return st.builds(Place, table=names, field=names, owner=st.uuids(), row=_ids())


@given(st.lists(_places(), min_size=2, max_size=6), st.binary(max_size=40))
def test_of_all_places_an_envelope_opens_in_its_own_only(
    places: list[Place], plaintext: bytes
) -> None:
    key = _key()
    owner = places[0].owner
    # The same person's, so that nothing but the place differs.
    home, *others = [replace(place, owner=owner) for place in places]
    envelope = key.seal(plaintext, home)
    for place in others:
        if place == home:
            assert key.open(envelope, place) == plaintext
        else:
            with pytest.raises(UnreadableError):
                key.open(envelope, place)


@given(st.binary(max_size=60))
def test_an_envelope_that_was_cut_anywhere_does_not_open(plaintext: bytes) -> None:
    key = _key()
    envelope = key.seal(plaintext, PLACE)
    for length in range(len(envelope)):
        for cut in (envelope[:length], envelope[len(envelope) - length :]):
            _refuses(key, cut, plaintext)


@given(st.binary(max_size=30))
def test_an_envelope_with_any_bit_flipped_does_not_open(plaintext: bytes) -> None:
    key = _key()
    envelope = key.seal(plaintext, PLACE)
    for at in range(len(envelope)):
        for bit in range(8):
            flipped = bytes([envelope[at] ^ 1 << bit])
            _refuses(key, envelope[:at] + flipped + envelope[at + 1 :], plaintext)


@given(st.binary(max_size=30), st.binary(min_size=1, max_size=30))
def test_an_envelope_with_more_behind_or_before_does_not_open(
    plaintext: bytes, more: bytes
) -> None:
    key = _key()
    envelope = key.seal(plaintext, PLACE)
    for longer in (envelope + more, more + envelope):
        _refuses(key, longer, plaintext)


@given(st.binary(max_size=200))
def test_what_is_no_envelope_is_never_taken_for_plaintext(stored: bytes) -> None:
    _refuses(_key(), stored, stored)


def _refuses(key: DataKey, envelope: bytes, plaintext: bytes) -> None:
    """Never opens it; says where it is stored, and not what was in it."""
    with pytest.raises(UnreadableError) as refused:
        key.open(envelope, PLACE)
    text = str(refused.value)
    assert text == f"messages.body of row {PLACE.row[0]}/{PLACE.row[1]}"
    assert refused.value.args == (text,)
    assert plaintext not in vars(refused.value).values()
    assert refused.value.__cause__ is None


@given(st.binary(min_size=1, max_size=30))
def test_two_envelopes_share_no_nonce(plaintext: bytes) -> None:
    key = _key()
    first, second = key.seal(plaintext, PLACE), key.seal(plaintext, PLACE)
    assert first[17:29] != second[17:29]
    assert first[29:] != second[29:]
    # The ciphertext of one with the nonce of the other is neither.
    _refuses(key, first[:29] + second[29:], plaintext)


def test_a_key_of_another_length_is_no_data_key() -> None:
    for length in (0, 16, 24, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            DataKey(uuid4(), os.urandom(length))


def test_a_secret_is_not_in_the_text_of_what_holds_it(tmp_path: Path) -> None:
    secret = os.urandom(32)
    assert repr(secret)[2:-1] not in repr(DataKey(uuid4(), secret))
    path = tmp_path / "keys.json"
    make_key_file(path)
    (encoded,) = json.loads(path.read_text())["keys"].values()
    keys = KeyFile(path)
    assert repr(base64.b64decode(encoded))[2:-1] not in repr(vars(keys))


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
        ('{"active": "a"}', "is not a key file"),
        ('{"active": [], "keys": {}}', "is not a key file"),
        ('{"active": "a", "keys": {"a": "not base64"}}', "is not a key file"),
        ('{"active": "a", "keys": {"a": 1}}', "is not a key file"),
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


@pytest.mark.parametrize(
    ("mode", "owner", "private"),
    [
        (0o600, "us", True),
        (0o640, "us", False),
        (0o604, "us", False),
        (0o440, "root", True),
        (0o460, "root", False),
        (0o444, "root", False),
    ],
)
def test_a_key_file_of_another_owner_may_be_read_by_a_group_and_by_no_others(
    mode: int, owner: str, private: bool
) -> None:
    user = 10001
    status = os.stat_result((mode, 0, 0, 1, user if owner == "us" else 0, user, 0, 0, 0, 0))
    assert _is_private(status, user) is private


def test_a_missing_or_open_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(KeyProviderError, match="cannot read"):
        KeyFile(path)
    make_key_file(path)
    path.chmod(0o644)
    with pytest.raises(KeyProviderError, match="open to other users"):
        KeyFile(path)


async def test_a_key_that_was_added_waits_until_it_is_made_active(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    make_key_file(path)
    keys = KeyFile(path)
    first = await keys.active()
    added = await keys.add()
    assert [await keys.active(), await keys.newest()] == [first, added]
    assert (await keys.wrap(b"s" * 32, b"scope")).kek_id == first
    await keys.activate(added)
    assert (await keys.wrap(b"s" * 32, b"scope")).kek_id == added


async def test_a_changed_file_is_noticed_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    make_key_file(path)
    running, operator = KeyFile(path), KeyFile(path)
    old = await running.wrap(b"s" * 32, b"scope")
    await operator.activate(await operator.add())
    elsewhere = await operator.wrap(b"t" * 32, b"scope")
    # Unwrapping a key that was not in the file; then wrapping with it.
    assert await running.unwrap(elsewhere, b"scope") == b"t" * 32
    assert (await running.wrap(b"s" * 32, b"scope")).kek_id == elsewhere.kek_id
    await operator.remove(old.kek_id)
    await running.wrap(b"s" * 32, b"scope")
    with pytest.raises(KeyProviderError, match=f"does not hold the key {old.kek_id}"):
        await running.unwrap(old, b"scope")


async def test_the_active_key_cannot_be_taken_out_and_an_absent_one_not_made_active(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys.json"
    make_key_file(path)
    before = path.read_text()
    keys = KeyFile(path)
    with pytest.raises(KeyProviderError, match="is the active key"):
        await keys.remove(await keys.active())
    with pytest.raises(KeyProviderError, match="does not hold the key gone"):
        await keys.activate("gone")
    assert path.read_text() == before


async def test_edits_at_once_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    make_key_file(path)

    def add() -> str:
        return asyncio.run(KeyFile(path).add())

    with ThreadPoolExecutor(8) as threads:
        added = list(threads.map(lambda _: add(), range(40)))
    assert set(added) < set(json.loads(path.read_text())["keys"])


async def test_an_edit_keeps_the_files_mode_link_and_other_keys(tmp_path: Path) -> None:
    path, link = tmp_path / "deep" / "keys.json", tmp_path / "link.json"
    make_key_file(path)
    link.symlink_to(path)
    before = json.loads(path.read_text())
    # What a crash left of an earlier edit, open to others.
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o644)
    added = await KeyFile(link).add()
    written = json.loads(path.read_text())
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(written["keys"]) == [before["active"], added]
    assert not draft.exists()


async def test_a_file_that_cannot_be_replaced_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    make_key_file(path)
    before = path.read_text()
    path.with_suffix(".draft").mkdir()
    with pytest.raises(KeyProviderError, match="cannot write the key file"):
        await KeyFile(path).add()
    assert path.read_text() == before
