import asyncio
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from services.runtime.errors import Refusal
from services.runtime.jwks import key_set
from services.runtime.key_sets import KeySet


class _Issuer:
    """An issuer that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = asyncio.Event()
        self.text = key_set({"one": ed25519.Ed25519PrivateKey.generate()})

    async def read(self) -> str:
        self.asked += 1
        await self.answers.wait()
        return self.text


async def test_calls_that_come_while_the_first_reads_the_keys_wait_for_them() -> None:
    issuer = _Issuer()
    keys = KeySet(issuer.read, cooldown=60, maximum_age=60)
    calls = [asyncio.create_task(keys.find("one")) for _ in range(3)]
    for _ in range(3):
        await asyncio.sleep(0)
    late = asyncio.create_task(keys.find("one"))
    await asyncio.sleep(0)
    issuer.answers.set()
    assert None not in await asyncio.gather(*calls, late)
    assert issuer.asked == 1


async def test_a_call_that_is_given_up_takes_nobody_elses_keys_along() -> None:
    issuer = _Issuer()
    issuer.answers.set()
    keys = KeySet(issuer.read, cooldown=0, maximum_age=60)
    await keys.find("one")
    issuer.answers.clear()
    issuer.text = key_set({"two": ed25519.Ed25519PrivateKey.generate()})
    first, second = (asyncio.create_task(keys.find("two")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    issuer.answers.set()
    assert await second is not None
    assert issuer.asked == 2


async def test_made_up_keys_are_not_asked_for_again_and_again() -> None:
    issuer = _Issuer()
    issuer.answers.set()
    keys = KeySet(issuer.read, cooldown=60, maximum_age=60)
    found = await asyncio.gather(*(keys.find(f"made-up-{number}") for number in range(5)))
    assert found == [None] * 5
    assert issuer.asked == 1


async def test_who_has_a_key_does_not_wait_while_the_set_is_read_again() -> None:
    issuer = _Issuer()
    issuer.answers.set()
    keys = KeySet(issuer.read, cooldown=0, maximum_age=60)
    await keys.find("one")
    issuer.answers.clear()
    slow = asyncio.create_task(keys.find("made-up"))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(keys.find("one"), 10) is not None
    issuer.answers.set()
    assert await slow is None


async def test_keys_that_were_never_read_are_told_apart_from_keys_that_are_not_there() -> None:
    async def fail() -> str:
        raise OSError

    with pytest.raises(Refusal) as refused:
        await KeySet(fail, cooldown=60, maximum_age=60).find("one")
    assert refused.value.reason_name == "DEPENDENCY_UNAVAILABLE"


@pytest.mark.parametrize(
    "other",
    [
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43, "alg": "ECDH-ES"},
        {"kty": "RSA", "n": "AQAB", "e": "Aw", "alg": "RSA-OAEP"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "RSA", "n": "AQAB", "e": "Aw", "alg": ["RS256"]},
        {"kty": "oct"},
        {"kty": "tomorrow's"},
        {},
        "no object",
        None,
    ],
)
async def test_a_key_that_is_of_no_use_here_takes_none_of_the_others_along(other: object) -> None:
    issuer = _Issuer()
    issuer.answers.set()
    listed = json.loads(issuer.text)["keys"]
    named = {**other, "kid": "other"} if isinstance(other, dict) else other
    issuer.text = json.dumps({"keys": [named, *listed]})
    keys = KeySet(issuer.read, cooldown=60, maximum_age=60)
    assert await keys.find("one") is not None
    assert await keys.find("other") is None


@pytest.mark.parametrize("named", [["one"], 1, {}])
async def test_a_key_whose_id_is_no_text_is_left_out(named: object) -> None:
    issuer = _Issuer()
    issuer.answers.set()
    [listed] = json.loads(issuer.text)["keys"]
    issuer.text = json.dumps({"keys": [{**listed, "kid": named}, listed]})
    assert await KeySet(issuer.read, cooldown=60, maximum_age=60).find("one") is not None


@pytest.mark.parametrize(
    "answer", ["{}", "[]", "null", "", '{"keys": {}}', '{"keys": null}', "[" * 100_000]
)
async def test_an_answer_that_is_no_key_set_takes_no_known_key_away(answer: str) -> None:
    issuer = _Issuer()
    issuer.answers.set()
    keys = KeySet(issuer.read, cooldown=0, maximum_age=60)
    await keys.find("one")
    issuer.text = answer
    assert await keys.find("made-up") is None
    assert issuer.asked == 2
    assert await keys.find("one") is not None
