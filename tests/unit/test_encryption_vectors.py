"""docs/encryption-vectors.json, by this project's code and by docs/encryption.md alone."""

import base64
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contract.folders import ROOT
from services.runtime.encryption.data_keys import bound_to
from services.runtime.encryption.envelope import DataKey, Place, UnreadableError, associated_data
from services.runtime.encryption.key_file import KeyFile
from services.runtime.encryption.key_provider import WrappedKey, WrappedKeyError

Vector = dict[str, Any]
VECTORS = json.loads((ROOT / "docs" / "encryption-vectors.json").read_text())


def _each(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", VECTORS[kind], ids=lambda vector: vector["name"])


def _place(vector: Vector) -> Place:
    row = tuple(UUID(part) for part in vector["row"])
    return Place(vector["table"], vector["field"], owner=UUID(vector["owner"]), row=row)


def _data_key(vector: Vector) -> DataKey:
    return DataKey(UUID(vector["key_id"]), bytes.fromhex(vector["data_key"]))


def _key_file(vector: Vector, folder: Path) -> KeyFile:
    path = folder / "keys.json"
    path.touch(mode=0o600)
    kek = base64.b64encode(bytes.fromhex(vector["kek"])).decode()
    path.write_text(json.dumps({"active": vector["kek_id"], "keys": {vector["kek_id"]: kek}}))
    return KeyFile(path)


def _bound_to(vector: Vector) -> bytes:
    return bound_to(tuple(UUID(part) for part in vector["scope"]), UUID(vector["key_id"]))


def _random_bytes_are(nonce: bytes) -> Callable[[int], bytes]:
    def bytes_of_length(length: int) -> bytes:
        assert length == len(nonce)
        return nonce

    return bytes_of_length


@_each("envelopes")
def test_our_code_opens_and_seals_each_envelope(
    monkeypatch: pytest.MonkeyPatch, vector: Vector
) -> None:
    key, place = _data_key(vector), _place(vector)
    plaintext, envelope = bytes.fromhex(vector["plaintext"]), bytes.fromhex(vector["envelope"])
    assert associated_data(key.key_id, place).hex() == vector["associated_data"]
    assert key.open(envelope, place) == plaintext
    nonce = bytes.fromhex(vector["nonce"])
    monkeypatch.setattr(os, "urandom", _random_bytes_are(nonce))
    assert key.seal(plaintext, place) == envelope


@_each("envelopes_that_do_not_open")
def test_our_code_opens_none_of_the_others(vector: Vector) -> None:
    with pytest.raises(UnreadableError):
        _data_key(vector).open(bytes.fromhex(vector["envelope"]), _place(vector))


@_each("wrapped_data_keys")
async def test_our_code_unwraps_and_wraps_each_data_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vector: Vector
) -> None:
    keys = _key_file(vector, tmp_path)
    secret, ciphertext = bytes.fromhex(vector["data_key"]), bytes.fromhex(vector["wrapped"])
    wrapped = WrappedKey(vector["kek_id"], ciphertext)
    assert _bound_to(vector).hex() == vector["bound_to"]
    assert await keys.unwrap(wrapped, _bound_to(vector)) == secret
    nonce = bytes.fromhex(vector["nonce"])
    monkeypatch.setattr(os, "urandom", _random_bytes_are(nonce))
    assert await keys.wrap(secret, _bound_to(vector)) == wrapped


@_each("wrapped_data_keys_that_do_not_unwrap")
async def test_our_code_unwraps_none_of_the_others(tmp_path: Path, vector: Vector) -> None:
    wrapped = WrappedKey(vector["kek_id"], bytes.fromhex(vector["wrapped"]))
    with pytest.raises(WrappedKeyError):
        await _key_file(vector, tmp_path).unwrap(wrapped, _bound_to(vector))


# From here on, the page's rules and nothing of this project.


class NotAnEnvelopeError(Exception):
    """It has another shape than the page says."""


def _parts(*parts: bytes) -> bytes:
    return b"".join(struct.pack(f">H{len(part)}s", len(part), part) for part in parts)


def _uuid(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


def _open_by_the_page(vector: Vector) -> bytes:
    envelope = bytes.fromhex(vector["envelope"])
    if len(envelope) < 45 or envelope[0] != 1:
        raise NotAnEnvelopeError
    version, key_id, nonce, sealed = struct.unpack(f">c16s12s{len(envelope) - 29}s", envelope)
    if key_id != _uuid(vector["key_id"]):
        # No such data key: the page says that an envelope names the one that opens it.
        raise NotAnEnvelopeError
    bound = _parts(
        version,
        key_id,
        vector["table"].encode(),
        vector["field"].encode(),
        _uuid(vector["owner"]),
        *map(_uuid, vector["row"]),
    )
    return AESGCM(bytes.fromhex(vector["data_key"])).decrypt(nonce, sealed, bound)


def _unwrap_by_the_page(vector: Vector) -> bytes:
    wrapped = bytes.fromhex(vector["wrapped"])
    if len(wrapped) != 60:
        raise NotAnEnvelopeError
    purpose = _parts(b"data_keys", *map(_uuid, vector["scope"]), _uuid(vector["key_id"]))
    bound = _parts(vector["kek_id"].encode(), purpose)
    return AESGCM(bytes.fromhex(vector["kek"])).decrypt(wrapped[:12], wrapped[12:], bound)


@_each("envelopes")
def test_the_page_alone_opens_each_envelope(vector: Vector) -> None:
    assert _open_by_the_page(vector).hex() == vector["plaintext"]


@_each("wrapped_data_keys")
def test_the_page_alone_unwraps_each_data_key(vector: Vector) -> None:
    assert _unwrap_by_the_page(vector).hex() == vector["data_key"]


@_each("envelopes_that_do_not_open")
def test_the_page_alone_opens_none_of_the_others(vector: Vector) -> None:
    with pytest.raises((InvalidTag, NotAnEnvelopeError)):
        _open_by_the_page(vector)


@_each("wrapped_data_keys_that_do_not_unwrap")
def test_the_page_alone_unwraps_none_of_the_others(vector: Vector) -> None:
    with pytest.raises((InvalidTag, NotAnEnvelopeError)):
        _unwrap_by_the_page(vector)


def test_the_page_alone_opens_what_our_code_seals() -> None:
    key_id, owner, row = UUID(int=1), UUID(int=2), UUID(int=3)
    secret = bytes(range(32))
    sealed = DataKey(key_id, secret).seal(b"words", Place("t", "f", owner=owner, row=(row,)))
    vector = {
        "envelope": sealed.hex(),
        "data_key": secret.hex(),
        "key_id": str(key_id),
        "table": "t",
        "field": "f",
        "owner": str(owner),
        "row": [str(row)],
    }
    assert _open_by_the_page(vector) == b"words"
