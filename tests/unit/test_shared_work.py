"""Work for several calls: it has nothing of the one that happened to begin it, nor ends with it."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from inglenook.audit.v1.audit_pb2 import ActorKind
from psycopg import OperationalError

from services.messages.tables import ACCESS_LOG
from services.messages.writer import Writer
from services.runtime.audit.chain import Access
from services.runtime.audit.recorder import AccessRecorder
from services.runtime.database import Database
from services.runtime.encryption.single_flight import SingleFlight
from services.runtime.identity import Call, current_call
from tests.unit.appending import an_append


class Unreachable(Database):
    """A database that does not answer, and what asked it knew of a call."""

    def __init__(self) -> None:
        super().__init__("postgresql://nobody@127.0.0.1:1/none", pool_size=1, name="unreachable")
        self.calls: list[Call | None] = []

    def transaction(self) -> Any:  # noqa: ANN401 - as the base class's
        self.calls.append(current_call.get())
        raise OperationalError

    async def in_one_trip(self, *_steps: Any) -> Any:  # noqa: ANN401 - as the base class's
        self.calls.append(current_call.get())
        raise OperationalError


@pytest.fixture(autouse=True)
def call() -> Iterator[None]:
    """Each test is in a call."""
    before = current_call.set(Call(request_id="of the first", token="of the first"))
    yield
    current_call.reset(before)


async def test_the_writer_writes_for_nobody_in_particular() -> None:
    database = Unreachable()
    with pytest.raises(OperationalError):
        await Writer(database, lambda *_: None).append([an_append()])
    assert database.calls == [None]


async def test_the_access_log_is_written_for_nobody_in_particular() -> None:
    database = Unreachable()
    access = Access(
        user_id=uuid4(),
        time=datetime.now(UTC),
        actor_kind=ActorKind.ACTOR_KIND_SERVICE,
        actor="responder",
        action="Reply",
        request_id="of the first",
    )
    with pytest.raises(OperationalError):
        await AccessRecorder(database, ACCESS_LOG, b"key").record(access)
    assert database.calls == [None]


async def test_what_several_want_at_once_is_done_for_nobody_in_particular() -> None:
    async def work() -> Call | None:
        return current_call.get()

    assert await SingleFlight[str, Call | None]("work").run("key", work) is None
    assert current_call.get() is not None


async def test_who_asks_once_the_work_has_ended_has_it_done_anew() -> None:
    flight = SingleFlight[str, int]("work")
    done = 0
    late: list[asyncio.Task[int]] = []

    async def work() -> int:
        nonlocal done
        done += 1
        # Its turn comes right after this has ended, before anybody is told so.
        late.append(asyncio.create_task(flight.run("key", again)))
        return done

    async def again() -> int:
        return -1

    assert await flight.run("key", work) == 1
    assert await late[0] == -1


async def test_who_is_given_up_leaves_the_work_to_the_others() -> None:
    flight, may_end = SingleFlight[str, str]("work"), asyncio.Event()

    async def work() -> str:
        await may_end.wait()
        return "done"

    first, second = (asyncio.create_task(flight.run("key", work)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    may_end.set()
    assert first.cancelled()
    assert await second == "done"
