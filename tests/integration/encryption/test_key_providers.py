"""What every keeper of key-encryption keys promises, and what is one keeper's own."""

import dataclasses
from pathlib import Path

import pytest
from botocore.stub import Stubber

from services.runtime.encryption.aws_kms import AwsKms
from services.runtime.encryption.google_kms import GoogleKms
from services.runtime.encryption.key_provider import (
    KeyProviderError,
    KeyProviderUnavailableError,
    WrappedKey,
    WrappedKeyError,
)
from services.runtime.encryption.vault_transit import VaultTransit
from tests.integration.encryption import google_kms_server, vault_server
from tests.integration.encryption.keepers import KEEPERS, Keeper

SECRET = bytes(range(32))
BOUND = b"\x00\x04this\x00\x05scope"


async def test_what_was_wrapped_unwraps_also_after_a_restart(keeper: Keeper) -> None:
    wrapped = await keeper.provider.wrap(SECRET, BOUND)
    assert wrapped.kek_id == await keeper.provider.active()
    assert SECRET not in wrapped.ciphertext
    assert await keeper.provider.unwrap(wrapped, BOUND) == SECRET
    assert await keeper.restarted().unwrap(wrapped, BOUND) == SECRET


async def test_equal_keys_are_wrapped_differently(keeper: Keeper) -> None:
    first, second = [await keeper.provider.wrap(SECRET, BOUND) for _ in range(2)]
    assert first.ciphertext != second.ciphertext


@pytest.mark.parametrize("elsewhere", [b"", b"\x00\x04this\x00\x05scopf", BOUND + b"\x00"])
async def test_it_unwraps_for_the_same_purpose_only(keeper: Keeper, elsewhere: bytes) -> None:
    wrapped = await keeper.provider.wrap(SECRET, BOUND)
    with pytest.raises(WrappedKeyError):
        await keeper.provider.unwrap(wrapped, elsewhere)


async def test_an_altered_or_truncated_wrapped_key_does_not_unwrap(keeper: Keeper) -> None:
    wrapped = await keeper.provider.wrap(SECRET, BOUND)
    whole = wrapped.ciphertext
    # From the end: what comes first is each keeper's own header.
    damaged = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(-32, -2, 5)]
    for ciphertext in (*damaged, whole[:-1], whole[: len(whole) // 2], b"x", whole + b"AAAA"):
        with pytest.raises(WrappedKeyError):
            await keeper.provider.unwrap(WrappedKey(wrapped.kek_id, ciphertext), BOUND)


async def test_a_key_that_the_keeper_never_had_is_named(keeper: Keeper) -> None:
    wrapped = await keeper.provider.wrap(SECRET, BOUND)
    with pytest.raises(KeyProviderError) as refused:
        await keeper.provider.unwrap(dataclasses.replace(wrapped, kek_id=keeper.gone), BOUND)
    assert not isinstance(refused.value, KeyProviderUnavailableError)


async def test_after_a_rotation_the_new_key_wraps_and_the_old_one_unwraps(keeper: Keeper) -> None:
    before = await keeper.provider.wrap(SECRET, BOUND)
    kek_id = await keeper.add()
    assert await keeper.provider.newest() == kek_id
    await keeper.restarted().activate(kek_id)
    assert await keeper.provider.active() == kek_id
    after = await keeper.provider.wrap(SECRET, BOUND)
    assert after.kek_id == kek_id != before.kek_id
    for wrapped in (before, after):
        assert await keeper.provider.unwrap(wrapped, BOUND) == SECRET


async def test_a_wrapped_key_does_not_unwrap_under_another_keys_name(keeper: Keeper) -> None:
    before = await keeper.provider.wrap(SECRET, BOUND)
    kek_id = await keeper.add()
    if kek_id.startswith("gcp-kms:"):
        # Google takes the version from the ciphertext: a wrong name does no more than mislead.
        assert await keeper.provider.unwrap(dataclasses.replace(before, kek_id=kek_id), BOUND)
        return
    with pytest.raises(KeyProviderError) as refused:
        await keeper.provider.unwrap(dataclasses.replace(before, kek_id=kek_id), BOUND)
    assert not isinstance(refused.value, KeyProviderUnavailableError)


@pytest.mark.parametrize("keeper", [name for name in KEEPERS if name != "file"], indirect=True)
async def test_a_keeper_that_does_not_answer_is_told_apart(keeper: Keeper) -> None:
    wrapped = await keeper.provider.wrap(SECRET, BOUND)
    assert keeper.stop is not None
    keeper.stop()
    for call in (
        keeper.provider.active(),
        keeper.provider.wrap(SECRET, BOUND),
        keeper.provider.unwrap(wrapped, BOUND),
    ):
        with pytest.raises(KeyProviderUnavailableError):
            await call


async def test_a_sealed_vault_is_unavailable_and_a_wrong_token_is_not(tmp_path: Path) -> None:
    server = vault_server.VaultServer()
    token = tmp_path / "token"
    provider = VaultTransit(server.url, token, vault_server.KEY)
    with pytest.raises(KeyProviderError, match="cannot read the Vault token"):
        await provider.active()
    token.write_text("s.of-somebody-else")
    with pytest.raises(KeyProviderError, match="permission denied") as refused:
        await provider.active()
    assert "s.of-somebody-else" not in str(refused.value)
    token.write_text(vault_server.TOKEN)
    assert await provider.active() == "vault:transit/inglenook:v1"
    server.sealed = True
    with pytest.raises(KeyProviderUnavailableError, match="sealed"):
        await provider.active()
    server.close()


async def test_a_vault_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    server = vault_server.VaultServer()
    token = tmp_path / "token"
    token.write_text(vault_server.TOKEN)
    with pytest.raises(KeyProviderError, match="transit/misspelt"):
        await VaultTransit(server.url, token, "misspelt").wrap(SECRET, BOUND)
    server.close()


async def test_a_ciphertext_that_changed_on_the_way_from_google_is_not_stored() -> None:
    server = google_kms_server.GoogleKmsServer()
    provider = GoogleKms(google_kms_server.KEY, server.client)
    server.garble = lambda ciphertext: ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
    with pytest.raises(KeyProviderUnavailableError, match="checksum"):
        await provider.wrap(SECRET, BOUND)
    server.close()


async def test_an_aws_key_of_another_account_is_never_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    # Nothing listens there: a call would be unavailable rather than refused.
    provider = AwsKms("arn:aws:kms:eu-central-1:111111111111:key/1", endpoint="http://127.0.0.1:9")
    theirs = WrappedKey("aws-kms:arn:aws:kms:eu-central-1:222222222222:key/1", b"chosen by them")
    with pytest.raises(KeyProviderError, match="not a key in the account"):
        await provider.unwrap(theirs, BOUND)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("InvalidCiphertextException", 400, WrappedKeyError),
        ("IncorrectKeyException", 400, WrappedKeyError),
        ("ThrottlingException", 400, KeyProviderUnavailableError),
        ("KMSInternalException", 500, KeyProviderUnavailableError),
        ("SomethingNewOfTheirs", 503, KeyProviderUnavailableError),
        ("AccessDeniedException", 400, KeyProviderError),
        ("DisabledException", 409, KeyProviderError),
    ],
)
async def test_each_refusal_of_aws_has_its_meaning(
    monkeypatch: pytest.MonkeyPatch, code: str, status: int, kind: type[KeyProviderError]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    arn = "arn:aws:kms:eu-central-1:111111111111:key/1"
    provider = AwsKms(arn)
    with Stubber(provider._client) as stub:
        stub.add_client_error("decrypt", service_error_code=code, http_status_code=status)
        with pytest.raises(KeyProviderError) as refused:
            await provider.unwrap(WrappedKey(f"aws-kms:{arn}", b"sealed"), BOUND)
    assert type(refused.value) is kind


async def test_what_is_no_arn_is_refused_at_once() -> None:
    with pytest.raises(KeyProviderError, match="not the ARN"):
        AwsKms("alias/inglenook")
