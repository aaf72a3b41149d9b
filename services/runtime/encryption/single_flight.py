"""Work that several callers want at once is done once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from services.runtime.background import begun_apart
from services.runtime.telemetry.traces import traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span

Key = TypeVar("Key")
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
    """Runs one piece of work for each key at a time; whoever asks meanwhile gets its outcome."""

    def __init__(self, name: str) -> None:
        """Takes what the work is called, also in the trace of whoever asks first."""
        self._name = name
        self._under_way: dict[Key, asyncio.Task[Value]] = {}

    async def run(self, key: Key, work: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """The outcome of the work for this key: of what is under way, or else of `work`.

        A caller who is cancelled leaves the work to the others.
        """
        task = self._under_way.get(key)
        # One that has ended is forgotten a turn of the event loop later. Its outcome is that of
        # before: who found it too old, and asked again and again, would never let that turn come.
        if task is None or task.done():
            task = begun_apart(self._traced(work, traces.here()), self._name)
            self._under_way[key] = task
            task.add_done_callback(lambda ended: self._forget(key, ended))
        return await asyncio.shield(task)

    def _forget(self, key: Key, task: "asyncio.Task[Value]") -> None:
        if self._under_way.get(key) is task:
            del self._under_way[key]

    async def _traced(
        self, work: Callable[[], Coroutine[Any, Any, Value]], caller: "Span | None"
    ) -> Value:
        with traces.batch(self._name, lambda: [caller]):
            return await work()
