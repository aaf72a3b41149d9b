"""Whose calls they are: no refused token is sent again, and a fresh one is asked for once."""

import asyncio

import pytest
from grpc import StatusCode
from inglenook_client import InglenookError
from inglenook_client.tokens import Tokens


class Provider:
    """Gives the first token until a fresh one is asked for; each fresh one is another."""

    def __init__(self) -> None:
        self.fresh = 0

    async def __call__(self, *, fresh: bool) -> str:
        await asyncio.sleep(0)
        self.fresh += fresh
        return f"token {self.fresh}"


async def test_a_provider_is_asked_before_each_call_and_need_not_be_asynchronous() -> None:
    given = iter(["one", "two"])
    tokens = Tokens(lambda *, fresh: next(given))
    assert [await tokens.get(), await tokens.get()] == ["one", "two"]


async def test_a_refused_token_is_replaced_once_for_all_who_wait() -> None:
    provider = Provider()
    tokens = Tokens(provider)
    tokens.refuse(await tokens.get())
    assert set(await asyncio.gather(*(tokens.get() for _ in range(20)))) == {"token 1"}
    assert provider.fresh == 1


async def test_a_token_that_is_replaced_is_not_sent_again() -> None:
    provider = Provider()
    tokens = Tokens(provider)
    before = await tokens.get()
    await tokens.replace()
    assert (before, await tokens.get(), await tokens.get()) == ("token 0", "token 1", "token 1")
    assert provider.fresh == 1


async def test_a_caller_that_gives_up_takes_the_token_from_nobody() -> None:
    tokens = Tokens(Provider())
    tokens.refuse("token 0")
    impatient, patient = asyncio.create_task(tokens.get()), asyncio.create_task(tokens.get())
    for _ in range(3):
        await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == "token 1"


async def test_nobody_signed_in_is_a_refusal() -> None:
    with pytest.raises(InglenookError) as refused:
        await Tokens(lambda *, fresh: None).get()
    assert refused.value.reason == "TOKEN_MISSING"
    assert not refused.value.passing


async def test_a_provider_that_fails_counts_as_a_server_that_does_not_answer() -> None:
    async def failing(*, fresh: bool) -> str:
        raise ConnectionError(f"https://signin.example {fresh}")

    with pytest.raises(InglenookError) as failed:
        await Tokens(failing).get()
    assert failed.value.status is StatusCode.UNAVAILABLE
    assert failed.value.passing
    assert "signin.example" not in str(failed.value)
    assert isinstance(failed.value.__cause__, ConnectionError)


async def test_a_token_that_was_given_as_such_is_sent_as_it_is() -> None:
    tokens = Tokens("a token")
    tokens.refuse("a token")
    assert await tokens.get() == "a token"
