"""`--workers N`: a service as several processes on one port, which share its connections.

The kernel deals new connections out to the workers (SO_REUSEPORT). The process that was started
serves nothing itself: it starts the workers, starts another for one that died, listens to wake-ups
for all of them (`wakeups/tree.py`), and ends them when it is told to. If it is killed, they notice
and end by themselves.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field

from services.runtime.settings import PREFIX, ServiceSettings
from services.runtime.wakeups import Carrier
from services.runtime.wakeups.tree import Hub

_log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
# A worker that dies at its start dies again: after so many deaths in a minute, all end.
_DEATHS = 5
_DEATHS_SECONDS = 60.0
_ENDING_SECONDS = 5.0


class WorkersError(Exception):
    """The workers cannot run; the text says why."""


@dataclass(slots=True)
class _Running:
    """The processes of a supervisor."""

    processes: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    deaths: list[float] = field(default_factory=list)
    is_stopping: bool = False


class Supervisor:
    """Keeps the workers of a service running."""

    def __init__(self, module: str, settings: ServiceSettings, carrier: Carrier) -> None:
        """Takes the program that each worker is, and what brings the service's wake-ups."""
        self._module = module
        self._settings = settings
        self._hub = Hub(carrier)
        self._running = _Running()

    async def run(self) -> None:
        """Runs the workers until SIGTERM or SIGINT, and then until they have ended.

        Raises:
            WorkersError: the address is in use, or the workers die again and again.
        """
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with AsyncExitStack() as stack:
            stack.enter_context(_reserved(self._settings.listen))
            await stack.enter_async_context(self._hub)
            keeping = [
                asyncio.create_task(self._keep(number), name=f"worker {number}")
                for number in range(self._settings.workers)
            ]
            told = asyncio.create_task(stop.wait(), name="told to stop")
            try:
                await asyncio.wait([told, *keeping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                told.cancel()
                await self._end()
                await asyncio.gather(*keeping)

    async def _keep(self, number: int) -> None:
        """Keeps one worker running.

        Raises:
            WorkersError: they die again and again.
        """
        pause = _FIRST_PAUSE
        while not self._running.is_stopping:
            started = time.monotonic()
            try:
                code: int | str = await self._run_one(number)
            except OSError as error:
                # No room for one more process, most often, which passes: the others serve on.
                code = os.strerror(error.errno) if error.errno else type(error).__name__
            if self._running.is_stopping:
                return
            _log.error("a worker ended; starting another", extra={"worker": number, "code": code})
            now = time.monotonic()
            recent = [death for death in self._running.deaths if death > now - _DEATHS_SECONDS]
            self._running.deaths = [*recent, now]
            if len(self._running.deaths) > _DEATHS * self._settings.workers:
                raise WorkersError(f"the workers end again and again, the last one with {code}")
            lived = now - started > _DEATHS_SECONDS
            pause = _FIRST_PAUSE if lived else min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _run_one(self, number: int) -> int:
        """Runs a worker to its end, and gives its exit code.

        Raises:
            OSError: it cannot be started.
        """
        ours, its = socket.socketpair()
        with its, ExitStack() as failing:
            failing.callback(ours.close)
            environment = os.environ | {
                f"{PREFIX}WORKER": str(number),
                f"{PREFIX}WORKER_SOCKET": str(its.fileno()),
            }
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module), env=environment, pass_fds=[its.fileno()]
            )
            failing.pop_all()
        self._running.processes[number] = process
        if self._running.is_stopping:
            process.terminate()  # It began while the others were told.
        link = asyncio.create_task(self._hub.serve(ours), name=f"link to worker {number}")
        try:
            return await process.wait()
        finally:
            await link

    async def _end(self) -> None:
        """Tells every worker to stop, and kills those that do not."""
        self._running.is_stopping = True
        processes = [
            process for process in self._running.processes.values() if process.returncode is None
        ]
        for process in processes:
            process.terminate()
        patience = self._settings.lame_duck_seconds + self._settings.drain_seconds
        try:
            async with asyncio.timeout(patience + _ENDING_SECONDS):
                for process in processes:
                    await process.wait()
        except TimeoutError:
            for process in processes:
                if process.returncode is None:
                    process.kill()


@contextmanager
def _reserved(listen: str) -> Iterator[None]:
    """Holds an address for the workers, and for nobody who does not share it on purpose.

    Raises:
        WorkersError: somebody else listens there.
    """
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = (host.strip("[]"), int(port))
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise WorkersError(f"{listen} cannot be listened on: {error.strerror}") from None
    with socket.socket(family) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
        yield
