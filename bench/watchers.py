"""Watchers in a process of their own, so that they take nothing of whoever measures.

`python -m bench.watchers` reads commands, each a line of JSON, and answers each with a line:
`watching.py` speaks with it. Its times are of the monotonic clock, which all processes of a machine
share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from base64 import b64decode
from collections import defaultdict
from contextlib import suppress
from typing import Any

import grpc
import uvloop
from grpc import aio
from inglenook.messages.v1.messages_pb2 import WatchMessagesRequest, WatchMessagesResponse

STREAMS_OF_A_CONNECTION = 100
_PATIENCE_SECONDS = 120.0
_SETTLING_SECONDS = 1.0
# Each channel a connection of its own: they would share one to the same address.
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)

Answer = dict[str, Any]


class _Arrivals:
    """What has come to all watchers together."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.frames = 0
        self.bytes = 0
        self.changes = 0
        self.first = 0.0
        self.last = 0.0
        self.by_message: defaultdict[str, list[float]] = defaultdict(list)

    def take(self, now: float, raw: bytes, response: WatchMessagesResponse) -> None:
        if not response.changes:
            return
        self.first = self.first or now
        self.last = now
        self.frames += 1
        self.bytes += len(raw)
        self.changes += len(response.changes)
        for change in response.changes:
            self.by_message[change.upserted.message_id].append(now)


class _Watcher:
    """One stream, and where it stands."""

    def __init__(self, path: str, request: bytes, authorization: str) -> None:
        self._path = path
        self._request = request
        self._metadata = (("authorization", authorization),)
        self._token = ""
        self._reading: asyncio.Task[None] | None = None
        self.current = asyncio.Event()

    def open(self, channel: aio.Channel, arrivals: _Arrivals) -> None:
        """Begins to watch; or goes on after the last frame."""
        request = self._request
        if self._token:
            resumed = WatchMessagesRequest.FromString(request)
            resumed.resume_token = self._token
            request = resumed.SerializeToString()
        self.current.clear()
        method: aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(self._path)
        call = method(request, metadata=self._metadata)
        self._reading = asyncio.create_task(self._read(call, arrivals))

    async def close(self) -> None:
        """Ends the stream."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError, aio.AioRpcError):
                await self._reading

    def check(self) -> None:
        """Raises what ended the stream, if anything did."""
        if self._reading is not None and self._reading.done():
            self._reading.result()
            raise EOFError("a stream ended")

    async def _read(self, call: aio.UnaryStreamCall[bytes, bytes], arrivals: _Arrivals) -> None:
        async for raw in call:
            now = time.monotonic()
            response = WatchMessagesResponse.FromString(raw)
            arrivals.take(now, raw, response)
            self._token = response.resume_token
            if response.HasField("current"):
                self.current.set()


class _Watchers:
    """All streams of the process."""

    def __init__(self) -> None:
        self._address = ""
        self._watchers: list[_Watcher] = []
        self._channels: list[aio.Channel] = []
        self._arrivals = _Arrivals()

    async def open(self, command: Answer) -> Answer:
        """Opens streams, some at once and then the next, until all are current."""
        self._address = command["address"]
        watchers = [
            _Watcher(command["path"], b64decode(request), authorization)
            for request, authorization in command["watches"]
        ]
        at_once = command["at_once"]
        self._watchers += watchers
        started = time.monotonic()
        for first in range(0, len(watchers), at_once):
            await self._open(watchers[first : first + at_once])
        return {"seconds": time.monotonic() - started}

    async def resume(self, _command: Answer) -> Answer:
        """Closes all streams and their connections, and opens them where they stood, at once."""
        await self._end()
        await asyncio.sleep(_SETTLING_SECONDS)
        started = time.monotonic()
        await self._open(self._watchers)
        return {"seconds": time.monotonic() - started}

    async def report(self, command: Answer) -> Answer:
        """What has come since it was last forgotten; each message's arrivals if asked for."""
        for watcher in self._watchers:
            watcher.check()
        arrivals = self._arrivals
        names = ("frames", "bytes", "changes", "first", "last")
        answer: Answer = {name: getattr(arrivals, name) for name in names}
        if command["by_message"]:
            answer["by_message"] = arrivals.by_message
        return answer

    async def forget(self, _command: Answer) -> Answer:
        """Forgets what has come."""
        self._arrivals.forget()
        return {}

    async def close(self, _command: Answer) -> Answer:
        """Closes all streams and their connections, and forgets them."""
        await self._end()
        self._watchers.clear()
        return {}

    async def _end(self) -> None:
        await asyncio.gather(*(watcher.close() for watcher in self._watchers))
        await asyncio.gather(*(channel.close() for channel in self._channels))
        self._channels.clear()

    async def _open(self, watchers: list[_Watcher]) -> None:
        for number, watcher in enumerate(watchers):
            if number % STREAMS_OF_A_CONNECTION == 0:
                channel = aio.insecure_channel(self._address, options=_OPTIONS)
                self._channels.append(channel)
            watcher.open(channel, self._arrivals)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            for watcher in watchers:
                await self._until_current(watcher)

    async def _until_current(self, watcher: _Watcher) -> None:
        while not watcher.current.is_set():
            watcher.check()
            with suppress(TimeoutError):
                async with asyncio.timeout(_SETTLING_SECONDS):
                    await watcher.current.wait()


async def _serve() -> None:
    watchers = _Watchers()
    commands = {
        do.__name__: do
        for do in (watchers.open, watchers.resume, watchers.report, watchers.forget, watchers.close)
    }
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        try:
            answer = await commands[command["do"]](command)
        except (grpc.RpcError, TimeoutError, EOFError) as error:
            answer = {"error": f"{type(error).__name__} {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    await watchers.close({})


if __name__ == "__main__":
    uvloop.run(_serve())
