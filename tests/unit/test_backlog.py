"""The order in which appends are written, against a model as simple as the promise."""

import asyncio
from collections import defaultdict
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.messages.appends import Append
from services.messages.backlog import Backlog, BacklogFullError, Write
from services.messages.tables import Conversation

PERSON = UUID(int=1)
BATCH = {"writes": 4, "size": 100}


def append(conversation: int, message: int, size: int = 1) -> Append:
    return Append(
        conversation=Conversation(UUID(int=conversation), PERSON),
        message_id=UUID(int=message),
        role=1,
        body=bytes(size),
        plaintext=b"",
        stored=asyncio.get_running_loop().create_future(),
    )


def backlog(appends: int = 1000, size: int = 10_000) -> Backlog:
    return Backlog(maximum_writes=appends, maximum_bytes=size)


class Writing:
    """A backlog, and all that must be true of what is taken from it."""

    def __init__(self) -> None:
        self.backlog = backlog()
        self.added: list[Append] = []
        self.given_up: set[Append] = set()
        self.under_way: list[list[Write]] = []
        self.taken: defaultdict[Conversation, list[Write]] = defaultdict(list)

    def add(self, conversation: int, message: int, size: int) -> None:
        self.added.append(append(conversation, message, size))
        self.backlog.add(self.added[-1:])

    def give_up(self, which: int) -> None:
        for one in self.added[which : which + 1]:
            one.stored.cancel()
            if one not in self.taken[one.conversation]:
                self.given_up.add(one)

    def take(self) -> None:
        resting = {one.conversation for other in self.under_way for one in other}
        batch = self.backlog.take(**BATCH)
        assert not resting & {one.conversation for one in batch}
        named = [(one.conversation, one.message_id) for one in batch]
        assert len(named) == len(set(named))
        assert len(batch) <= BATCH["writes"]
        assert sum(len(one.body) for one in batch[:-1]) < BATCH["size"]
        for one in batch:
            self.taken[one.conversation].append(one)
        if batch:
            self.under_way.append(batch)

    def written(self, which: int) -> None:
        for batch in self.under_way[which : which + 1]:
            self.under_way.remove(batch)
            self.backlog.written(batch)

    def finish(self) -> None:
        self.take()
        while self.under_way:
            self.written(0)
            self.take()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(Writing.add), st.integers(0, 3), st.integers(0, 5), st.integers(1, 60)),
        st.tuples(st.just(Writing.give_up), st.integers(0, 50)),
        st.tuples(st.just(Writing.take)),
        st.tuples(st.just(Writing.written), st.integers(0, 3)),
    ),
    max_size=60,
)


@given(STEPS)
async def test_each_conversations_appends_are_written_once_in_order_and_by_one_batch_at_a_time(
    steps: list[tuple[Any, ...]],
) -> None:
    writing = Writing()
    for step, *arguments in steps:
        step(writing, *arguments)
    writing.finish()
    expected: defaultdict[Conversation, list[Append]] = defaultdict(list)
    for one in writing.added:
        if one not in writing.given_up:
            expected[one.conversation].append(one)
    assert {name: taken for name, taken in writing.taken.items() if taken} == expected
    assert len(writing.backlog) == 0
    assert not writing.backlog.ready


async def test_a_backlog_takes_all_of_a_call_or_nothing() -> None:
    waits = backlog(appends=3)
    waits.add([append(1, 1), append(1, 2)])
    with pytest.raises(BacklogFullError):
        waits.add([append(2, 3), append(2, 4)])
    assert len(waits) == 2
    waits.add([append(2, 5)])
    assert len(waits) == 3


async def test_a_backlog_is_bounded_in_bytes_too() -> None:
    waits = backlog(size=100)
    waits.add([append(1, 1, 60)])
    with pytest.raises(BacklogFullError):
        waits.add([append(1, 2, 60)])
    waits.written(waits.take(**BATCH))
    waits.add([append(1, 2, 60)])


async def test_a_call_larger_than_the_bound_is_taken_when_nothing_waits() -> None:
    waits = backlog(appends=1)
    waits.add([append(1, 1), append(1, 2)])
    with pytest.raises(BacklogFullError):
        waits.add([append(1, 3)])


async def test_a_conversation_with_much_to_say_takes_its_turn() -> None:
    waits = backlog()
    waits.add([append(1, number) for number in range(10)])
    waits.add([append(2, 1)])
    first = waits.take(**BATCH)
    assert {one.conversation.session_id.int for one in first} == {1}
    waits.written(first)
    second = waits.take(**BATCH)
    assert second[0].conversation.session_id.int == 2
