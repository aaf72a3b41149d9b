"""A proxy that can be told to break what goes through it."""

import asyncio
import socket
import struct
from contextlib import suppress
from pathlib import Path

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CHUNK = 65_536
_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Passes connections on to a port or a Unix socket. Use as `async with`.

    Of several targets each connection goes to the next one that takes it. It takes each of them
    `delay` seconds to get there.
    """

    def __init__(self, *targets: int | Path, delay: float = 0.0) -> None:
        self._targets = list(targets)
        self._delay = delay
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._passes = asyncio.Event()
        self._passes.set()
        self._refuses = False
        self._count = 0
        self._came = asyncio.Event()
        self.port = 0

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self.heal()
        self.reset()
        await asyncio.gather(*self._tasks)

    def reset(self) -> None:
        """Resets every connection (RST), as a router that lost its state does."""
        for writer in list(self._writers):
            connection = writer.get_extra_info("socket")
            if connection is not None and not writer.is_closing():
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    async def more_came(self, count: int) -> None:
        """Waits until so many more connections came."""
        expected = self._count + count
        while self._count < expected:
            self._came.clear()
            await self._came.wait()

    async def ended(self) -> None:
        """Waits until every connection has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cut(self) -> None:
        """Lets nothing through, and tells nobody, as a cable that was pulled."""
        self._passes.clear()

    def refuse(self) -> None:
        """Ends every connection, and each that comes, as if nobody were there."""
        self._refuses = True
        self.reset()

    def heal(self) -> None:
        """Lets everything through again, first what was held back."""
        self._refuses = False
        self._passes.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        self._count += 1
        self._came.set()
        try:
            if self._refuses:
                return
            with suppress(OSError):
                await asyncio.sleep(self._delay)
                await self._passes.wait()
                onward_reader, onward = await self._open_onward()
                self._writers.add(onward)
                try:
                    await asyncio.gather(
                        self._pass(reader, onward), self._pass(onward_reader, writer)
                    )
                finally:
                    self._writers.discard(onward)
                    onward.close()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _open_onward(self) -> _Stream:
        for _ in self._targets[1:]:
            with suppress(OSError):
                return await self._open_next()
        return await self._open_next()

    async def _open_next(self) -> _Stream:
        target = self._targets.pop(0)
        self._targets.append(target)
        if isinstance(target, Path):
            return await asyncio.open_unix_connection(target)
        return await asyncio.open_connection("127.0.0.1", target)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await self._passes.wait()
                writer.write(chunk)
                await writer.drain()
        writer.close()
