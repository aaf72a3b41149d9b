"""The writer, when something fails that is not the database's to fail of."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from services.messages.appends import AppendedRow
from services.messages.writer import Writer
from services.runtime.database import Database
from tests.unit.appending import an_append

GUARD = 30.0
NOW = datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Stored(AppendedRow):
    place: int = 1


_STORED = _Stored(1, 1, NOW, NOW, None)


class _Answering(Database):
    """A database that stores one append at a time, each as it is told to."""

    def __init__(self, *answers: Callable[[], _Stored]) -> None:
        super().__init__("postgresql://nobody@127.0.0.1:1/none", pool_size=1, name="answering")
        self._answers = list(answers)
        self.may_answer = asyncio.Event()
        self.is_asked = asyncio.Event()

    async def in_one_trip(self, *_steps: Any) -> Any:  # noqa: ANN401 - as the base class's
        # Who asks first has the first answer, also where another batch is begun beside a slow one.
        answer = self._answers.pop(0)
        self.is_asked.set()
        await self.may_answer.wait()
        return [], [answer()]


def _fault() -> _Stored:
    raise RuntimeError("a fault")


async def _two_one_after_the_other(
    database: _Answering, committed: Callable[..., None]
) -> list[object]:
    """What becomes of an append, and of one that waits while it is written."""
    writer = Writer(database, committed)
    first = asyncio.create_task(writer.append([an_append()]))
    await database.is_asked.wait()
    second = asyncio.create_task(writer.append([an_append()]))
    await asyncio.sleep(0)
    database.may_answer.set()
    async with asyncio.timeout(GUARD):
        await asyncio.wait([first, second])
    return [one.exception() or one.result() for one in (first, second)]


async def test_a_fault_is_told_to_whoever_wrote_and_holds_up_nobody() -> None:
    database = _Answering(_fault, lambda: _STORED)
    first, second = await _two_one_after_the_other(database, lambda *_: None)
    assert isinstance(first, RuntimeError)
    assert second == [_STORED]


async def test_what_is_stored_is_stored_though_nobody_can_be_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = _Answering(lambda: _STORED, lambda: _STORED)

    def committed(*_: object) -> None:
        raise RuntimeError("a fault")

    assert await _two_one_after_the_other(database, committed) == [[_STORED], [_STORED]]
    assert caplog.text.count("watchers were not told") == 2
