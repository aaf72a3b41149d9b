"""Envoy as a process of ours: told to stop, Envoy by itself would cut every call under way."""

import asyncio
import ctypes
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx

from gateway.admin import Admin
from gateway.settings import GatewaySettings

_LOOK_SECONDS = 0.05
_SET_PARENT_DEATH_SIGNAL = 1


async def run(envoy: Path, settings: GatewaySettings) -> int:
    """Runs Envoy until it ends or this process gets SIGTERM or SIGINT; gives its exit code."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    process = await asyncio.create_subprocess_exec(
        envoy,
        *("--config-path", str(settings.bootstrap_file)),
        *("--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"),
        # Each answer asks its caller to reconnect from the first moment on, and not now and then.
        *("--drain-strategy", "immediate"),
        # Ctrl-C is for this process, which lets calls finish.
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )
    ended = asyncio.create_task(process.wait())
    stopped = asyncio.create_task(told.wait())
    await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        told.clear()
        # Envoy that does not answer has nothing under way.
        with suppress(httpx.HTTPError):
            await _drain(settings, told, ended)
        with suppress(ProcessLookupError):
            process.terminate()
    stopped.cancel()
    return await ended


async def _drain(
    settings: GatewaySettings, told_again: asyncio.Event, ended: "asyncio.Task[int]"
) -> None:
    """Lets others notice, and then calls under way finish; told again, it waits no longer."""
    async with Admin(settings) as admin:
        await admin.announce_end()
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.lame_duck_seconds):
                await told_again.wait()
        told_again.clear()
        await admin.refuse_connections()
        deadline = time.monotonic() + settings.drain_seconds
        while await admin.active_requests() and time.monotonic() < deadline:
            if told_again.is_set() or ended.done():
                return
            await asyncio.sleep(_LOOK_SECONDS)


def _end_with_parent() -> None:
    """Asks Linux to end Envoy when this process is killed; other systems have nothing like it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
