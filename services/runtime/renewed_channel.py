"""A channel that calls with the certificate that there is at the moment.

What gRPC for Python calls with it takes once and keeps (grpc/grpc #41779). So there is a channel
for each certificate: new calls go by the newest, and calls under way end on the one that they began
on, which is closed then.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import grpc
from grpc import aio

from services.runtime.certificate_files import Certificate, CertificateFiles

_LONGEST_SECONDS = 3_600.0
"""How long a call may go on after the certificate that it began with was renewed."""


@dataclass(slots=True, eq=False)
class _Opened:
    """A channel, and the calls that began on it."""

    channel: aio.Channel
    calls: "WeakSet[aio.Call]" = field(default_factory=WeakSet)


class RenewedChannel(aio.Channel):
    """A channel to wherever `open_channel` leads, by the certificate in the files."""

    def __init__(
        self, files: CertificateFiles, open_channel: Callable[[Certificate], aio.Channel]
    ) -> None:
        """Opens the first."""
        self._files = files
        self._open = open_channel
        self._newest = _Opened(open_channel(files.first))
        self._ending: dict[asyncio.Task[None], _Opened] = {}

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the base class's
        """As `aio.Channel` has it."""
        return self._of_newest(lambda channel: channel.unary_unary(*arguments, **named))

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        """As `aio.Channel` has it."""
        return self._of_newest(lambda channel: channel.unary_stream(*arguments, **named))

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        """As `aio.Channel` has it."""
        return self._of_newest(lambda channel: channel.stream_unary(*arguments, **named))

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        """As `aio.Channel` has it."""
        return self._of_newest(lambda channel: channel.stream_stream(*arguments, **named))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """That of the newest channel."""
        return self._current().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Of the newest channel."""
        await self._current().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Of the newest channel."""
        await self._current().channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Closes all of them; calls under way may go on for so many seconds."""
        closing = asyncio.create_task(self._newest.channel.close(grace))
        ending = dict(self._ending)
        if ending and grace:
            await asyncio.wait(ending, timeout=grace)
        # A channel that is being closed cannot be told to be quicker: its calls can.
        for opened in ending.values():
            for call in opened.calls:
                call.cancel()
        await asyncio.gather(closing, *ending)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _of_newest(self, make: Callable[[aio.Channel], Callable[..., Any]]) -> Callable[..., Any]:
        """What calls a method: made once for each channel."""
        opened = self._newest
        method = make(opened.channel)

        def call_newest(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - each method's own
            nonlocal opened, method
            newest = self._current()
            if newest is not opened:
                opened, method = newest, make(newest.channel)
            call = method(*arguments, **named)
            opened.calls.add(call)
            return call

        return call_newest

    def _current(self) -> _Opened:
        renewed = self._files.renewed()
        if renewed is not None:
            former, self._newest = self._newest, _Opened(self._open(renewed))
            closing = former.channel.close(_LONGEST_SECONDS)
            task = asyncio.create_task(closing, name="former certificate")
            self._ending[task] = former
            task.add_done_callback(self._ending.pop)
        return self._newest
