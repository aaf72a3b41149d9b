"""How the writer lets writes gather: callers who were answered together come back one by one."""

import asyncio
from typing import Any

from services.messages.writer import Writer
from services.runtime.database import Database
from tests.unit.appending import an_append

CALLERS = 8
ROUNDS = 20


class Counting(Database):
    """A database that stores nothing, and how many writes came in each trip."""

    def __init__(self) -> None:
        super().__init__("postgresql://nobody@127.0.0.1:1/none", pool_size=1, name="counting")
        self.writes: list[int] = []

    async def in_one_trip(self, *steps: Any) -> Any:  # noqa: ANN401 - as the base class's
        _, (_, columns) = steps
        self.writes.append(len(columns["messages"]))
        await asyncio.sleep(0)
        return [[], []]


def _append(writer: Writer) -> "asyncio.Task[Any]":
    return asyncio.create_task(writer.append([an_append()]))


async def test_callers_who_come_back_one_by_one_are_written_together() -> None:
    database = Counting()
    writer = Writer(database, lambda *_: None)
    await asyncio.gather(*(_append(writer) for _ in range(CALLERS)))
    for _ in range(ROUNDS):
        coming = []
        for _ in range(CALLERS):
            coming.append(_append(writer))
            await asyncio.sleep(0)
        await asyncio.gather(*coming)
    # The machine may do something else for as long as writes gather: in one round it does not.
    assert CALLERS in database.writes[1:]
