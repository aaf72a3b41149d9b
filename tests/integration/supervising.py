"""A supervisor as a program, given where its workers' program is, and where they listen."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.runtime.settings import ServiceSettings
from services.runtime.workers import Supervisor


class _Silence:
    """A carrier that brings no wake-ups."""

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[str]]:
        yield self._nothing()

    async def _nothing(self) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    async def send(self, payload: str) -> None:
        pass

    async def close(self) -> None:
        pass


def main() -> None:
    worker, listen = sys.argv[1:]
    sys.executable = worker
    settings = ServiceSettings.model_construct(
        listen=listen, workers=1, lame_duck_seconds=0.0, drain_seconds=1.0
    )
    asyncio.run(Supervisor("worker", settings, _Silence()).run())


if __name__ == "__main__":
    main()
