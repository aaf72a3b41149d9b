"""Long work beside short calls: in slices, with pauses between them.

What reads thousands of messages for one person must not keep everybody else's messages waiting. It
gets half of the event loop's time at most. Threads would not do better: the work is Python's, which
runs in one thread at a time, and another thread gives the interpreter back only every five
milliseconds, when it is asked to.
"""

import asyncio
import time
from types import TracebackType

SLICE_SECONDS = 0.001
"""How long the event loop is held at a time, and how long it is others' then. Measured beside one
search: an append takes twice as long as without; six times, if only what is ready gets its turn."""


class Slices:
    """A piece of long work, and what it has cost: `with slices:` around what is to be counted."""

    def __init__(self) -> None:
        self.cpu_seconds = 0.0
        """The processor time of the finished blocks and slices."""
        self._began = 0.0

    def __enter__(self) -> "Slices":
        self._began = time.thread_time()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.cpu_seconds += time.thread_time() - self._began

    async def pause_if_due(self) -> None:
        """Lets others run, once the slice is used up."""
        used = time.thread_time() - self._began
        if used >= SLICE_SECONDS:
            self.cpu_seconds += used
            await asyncio.sleep(SLICE_SECONDS)
            self._began = time.thread_time()
