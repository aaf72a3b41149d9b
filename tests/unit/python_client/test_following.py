"""A watch of the Python client goes on through every cut, and says when there is no going on."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from grpc import StatusCode
from inglenook_client import Backoff, Conversation, InglenookError, Message, MessageChange
from inglenook_client.contract.feed.v1.feed_pb2 import Current, Heartbeat, Reset
from inglenook_client.contract.messages.v1.messages_pb2 import WatchMessagesResponse
from inglenook_client.live import follow

Step = WatchMessagesResponse | InglenookError | None
CUT = InglenookError(StatusCode.UNAVAILABLE, "cut")
STOPPING = InglenookError(StatusCode.UNAVAILABLE, "stopping", reason="SERVER_STOPPING")
EXPIRED = InglenookError(StatusCode.UNAUTHENTICATED, "expired", reason="TOKEN_EXPIRED")
FORGOTTEN = InglenookError(StatusCode.INVALID_ARGUMENT, "unknown", reason="RESUME_TOKEN_INVALID")
BUSY = InglenookError(StatusCode.RESOURCE_EXHAUSTED, "busy", retry_delay=20.0)
UNREADABLE = InglenookError(StatusCode.DATA_LOSS, "unreadable", reason="DATA_UNREADABLE")
GONE = InglenookError(StatusCode.NOT_FOUND, "gone", reason="SESSION_NOT_FOUND")
CURRENT = WatchMessagesResponse(current=Current(), resume_token="current")
ALIVE = WatchMessagesResponse(heartbeat=Heartbeat(), resume_token="alive")


def _said(sequence: int) -> WatchMessagesResponse:
    message = Message(message_id=str(sequence), sequence=sequence, content=f"message {sequence}")
    return WatchMessagesResponse(
        changes=[MessageChange(upserted=message)], resume_token=str(sequence)
    )


class Server:
    """Streams that bring what the test says, one after the other: the last one is refused."""

    def __init__(self, *streams: Sequence[Step]) -> None:
        self._streams = iter([*streams, [GONE]])
        self.resumed_after: list[str] = []

    async def open(self, resume_token: str) -> AsyncGenerator[WatchMessagesResponse, None]:
        self.resumed_after.append(resume_token)
        for step in next(self._streams):
            if step is None:
                await asyncio.Event().wait()
            elif isinstance(step, InglenookError):
                raise step
            else:
                yield step


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited each time, in seconds; nobody waits for it."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("inglenook_client.live.asyncio.sleep", sleep)
    return waits


async def _watch(
    server: Server, held: Conversation | None = None, silence: float = 60.0
) -> list[list[int]]:
    """What a watch gave until it was refused: the sequences of each conversation."""
    given: list[Conversation] = []
    backoff = Backoff(first=1.0, longest=8.0)
    following = follow(held or Conversation(), server.open, silence=silence, backoff=backoff)
    with pytest.raises(InglenookError) as refused:
        await _collect(following, given)
    assert refused.value is GONE
    return [[message.sequence for message in conversation.messages] for conversation in given]


async def _collect(
    following: AsyncGenerator[Conversation, None], given: list[Conversation]
) -> None:
    async with aclosing(following):
        # One by one: what came before it was refused is wanted, too.
        async for conversation in following:
            given += [conversation]


async def test_the_first_conversation_is_the_whole_snapshot_also_when_it_is_empty() -> None:
    assert await _watch(Server([_said(1), _said(2), CURRENT, GONE])) == [[1, 2]]
    assert await _watch(Server([CURRENT, ALIVE, _said(1), GONE])) == [[], [1]]


@pytest.mark.usefixtures("slept")
async def test_a_cut_watch_goes_on_where_it_was_and_nobody_notices() -> None:
    server = Server([_said(1), CURRENT, _said(2), CUT], [_said(3), CURRENT, ALIVE, CUT])
    assert await _watch(server) == [[1], [1, 2], [1, 2, 3]]
    assert server.resumed_after == ["", "2", "alive"]


@pytest.mark.usefixtures("slept")
async def test_a_cut_within_the_snapshot_is_not_seen_either() -> None:
    assert await _watch(Server([_said(1), CUT], [_said(2), CURRENT, GONE])) == [[1, 2]]


async def test_waits_grow_while_nothing_comes_and_begin_anew_after_a_frame(
    slept: list[float],
) -> None:
    await _watch(Server([CUT], [CUT], [CUT], [CUT], [CUT], [ALIVE, CUT]))
    bounds = [(0.5, 1), (1, 2), (2, 4), (4, 8), (4, 8), (0.5, 1)]
    assert len(slept) == len(bounds)
    assert all(low <= wait <= high for wait, (low, high) in zip(slept, bounds, strict=True))


@pytest.mark.parametrize("foreseen", [STOPPING, EXPIRED])
async def test_an_end_that_the_contract_foresees_is_taken_up_at_once_unless_it_goes_on(
    foreseen: InglenookError, slept: list[float]
) -> None:
    await _watch(Server([CURRENT, foreseen], [ALIVE, foreseen]))
    assert slept == []
    await _watch(Server([CURRENT, STOPPING], [STOPPING]))
    assert len(slept) == 1


async def test_the_server_may_ask_for_a_longer_wait(slept: list[float]) -> None:
    await _watch(Server([BUSY]))
    assert slept == [20.0]


async def test_a_stream_that_ends_without_a_word_was_cut(slept: list[float]) -> None:
    assert await _watch(Server([_said(1), CURRENT], [_said(2), GONE])) == [[1], [1, 2]]
    assert len(slept) == 1


@pytest.mark.usefixtures("slept")
async def test_a_stream_on_which_not_even_heartbeats_come_is_broken_off() -> None:
    server = Server([_said(1), CURRENT, None], [_said(2), GONE])
    assert await _watch(server, silence=0.01) == [[1], [1, 2]]


async def test_a_token_that_no_server_knows_any_more_makes_it_begin_anew(
    slept: list[float],
) -> None:
    server = Server([_said(1), CURRENT, FORGOTTEN], [_said(7), CURRENT, GONE])
    assert await _watch(server) == [[1], [7]]
    assert (server.resumed_after, slept) == (["", ""], [])


async def test_a_reset_shows_once_the_fresh_snapshot_is_there() -> None:
    reset = WatchMessagesResponse(reset=Reset(), resume_token="reset")
    server = Server([_said(1), _said(2), CURRENT, reset, _said(1), CURRENT, GONE])
    assert await _watch(server) == [[1, 2], [1]]


async def test_a_watch_since_a_conversation_tells_only_what_was_missed() -> None:
    held = Conversation().apply(_said(1)).apply(CURRENT)
    server = Server([CURRENT, _said(2), GONE])
    assert await _watch(server, held.settled()) == [[1, 2]]
    assert server.resumed_after == ["current"]


async def test_a_fresh_token_that_is_refused_too_ends_the_watch() -> None:
    with pytest.raises(InglenookError) as refused:
        await anext(follow(Conversation(), Server([EXPIRED]).open, silence=60, backoff=Backoff()))
    assert refused.value.reason == "TOKEN_EXPIRED"


async def test_what_waiting_does_not_mend_ends_the_watch(slept: list[float]) -> None:
    with pytest.raises(InglenookError) as refused:
        await _collect(
            follow(
                Conversation(), Server([CURRENT, UNREADABLE]).open, silence=60, backoff=Backoff()
            ),
            [],
        )
    assert (refused.value, slept) == (UNREADABLE, [])


def test_chance_keeps_clients_that_were_cut_together_from_coming_back_together() -> None:
    backoff = Backoff(first=1.0, longest=8.0)
    assert backoff.wait(1, lambda: 0.0) == 0.5
    assert backoff.wait(1, lambda: 1.0) == 1.0
    assert backoff.wait(100, lambda: 1.0) == 8.0
