"""Everything that can happen to the programs of a stack and to the links between them."""

import asyncio
import os
import random
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import psycopg

from local.errors import ProcessDiedError
from services import SERVICES
from tests.faults.linked_stack import POSTGRES, PROGRAMS, LinkedStack
from tests.faults.proxy import Proxy

_PAUSE_SECONDS = (0.2, 1.2)
_DOWN_SECONDS = 1.0
_USUAL_SECONDS = 1.5
_LONGEST_SECONDS = 15.0
_LOOK_SECONDS = 0.2
_AT_ONCE = 3
_STILL_THERE = "shared memory block"
Fault = Callable[[], Coroutine[Any, Any, None]]


class Breaker:
    """Breaks a stack at random, a few things at a time, and mends it."""

    def __init__(self, stack: LinkedStack, chance: random.Random) -> None:
        self.done: list[str] = []
        """What was broken, in this order."""
        self.died: list[str] = []
        """What ended by itself, and how."""
        self._stack = stack
        self._chance = chance
        self._busy: set[object] = set()
        # Starting and stopping a process is one thing at a time.
        self._processes = asyncio.Lock()
        self._faults: list[tuple[int, Fault]] = [
            (4, self._kill_a_program),
            (4, self._freeze_a_program),
            (4, self._cut_a_link),
            (3, self._reset_a_link),
            (1, self._kill_the_database),
            (1, self._freeze_the_database),
            (1, self._kill_a_backend),
            (2, self._freeze_a_backend),
            (2, self._end_a_backend),
        ]

    async def break_things(self, count: int) -> None:
        """Breaks so many things, and gives back a stack that is whole."""
        weights, faults = zip(*self._faults, strict=True)
        at_once = asyncio.Semaphore(_AT_ONCE)
        supervising = asyncio.create_task(self._supervise_always())
        try:
            async with asyncio.TaskGroup() as breaking:
                for _ in range(count):
                    await asyncio.sleep(self._chance.uniform(*_PAUSE_SECONDS))
                    await at_once.acquire()
                    (fault,) = self._chance.choices(faults, weights)
                    task = breaking.create_task(fault())
                    task.add_done_callback(lambda _: at_once.release())
            await _to_its_end(self._stack.wait_until_ready)
        finally:
            supervising.cancel()
            with suppress(asyncio.CancelledError):
                await supervising

    async def _kill_a_program(self) -> None:
        name = self._chance.choice(PROGRAMS)
        if not self._takes(name):
            return
        self._note(f"kill {name}")
        async with self._processes:
            if name in self._stack.processes.pids():
                await _to_its_end(self._stack.kill, name)
        await asyncio.sleep(self._chance.uniform(0, _DOWN_SECONDS))
        await self._start(name)
        self._busy.discard(name)

    async def _freeze_a_program(self) -> None:
        name = self._chance.choice(PROGRAMS)
        pid = self._stack.processes.pids().get(name)
        if pid is None or not self._takes(name):
            return
        await self._freeze(name, pid)
        self._busy.discard(name)

    async def _freeze_the_database(self) -> None:
        pid = self._stack.processes.pids().get(POSTGRES)
        if pid is None or not self._takes(POSTGRES):
            return
        await self._freeze(POSTGRES, pid)
        self._busy.discard(POSTGRES)

    async def _kill_the_database(self) -> None:
        if not self._takes(POSTGRES):
            return
        self._note(f"kill {POSTGRES}")
        async with self._processes:
            if POSTGRES in self._stack.processes.pids():
                await _to_its_end(self._stack.kill, POSTGRES)
        await asyncio.sleep(self._chance.uniform(0, _DOWN_SECONDS))
        await self._start_the_database()
        self._busy.discard(POSTGRES)

    async def _kill_a_backend(self) -> None:
        """Makes the database start anew: it trusts nothing that a crashed backend may have left."""
        if (pid := await self._some_backend()) is not None:
            self._note("kill a backend")
            _send(pid, signal.SIGKILL)

    async def _end_a_backend(self) -> None:
        if (pid := await self._some_backend()) is not None:
            self._note("end a backend")
            _send(pid, signal.SIGTERM)

    async def _freeze_a_backend(self) -> None:
        pid = await self._some_backend()
        if pid is not None and self._takes(pid):
            await self._freeze("a backend", pid)
            self._busy.discard(pid)

    async def _cut_a_link(self) -> None:
        name, proxy = self._some_link()
        if not self._takes(proxy):
            return
        seconds = self._some_seconds()
        self._note(f"cut {name} for {seconds:.1f} s")
        proxy.cut()
        await asyncio.sleep(seconds)
        if self._chance.random() < 0.5:
            proxy.reset()
        proxy.heal()
        self._busy.discard(proxy)

    async def _reset_a_link(self) -> None:
        name, proxy = self._some_link()
        self._note(f"reset {name}")
        proxy.reset()

    async def _freeze(self, name: str, pid: int) -> None:
        seconds = self._some_seconds()
        self._note(f"freeze {name} for {seconds:.1f} s")
        _send(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            _send(pid, signal.SIGCONT)

    async def _supervise_always(self) -> None:
        """Starts what ended by itself, as whatever runs a system for real does."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            async with self._processes:
                self._find_dead()
            for name in (*PROGRAMS, POSTGRES):
                if name not in self._busy and name not in self._stack.processes.pids():
                    await (self._start_the_database() if name == POSTGRES else self._start(name))

    def _find_dead(self) -> None:
        try:
            self._stack.check()
        except ProcessDiedError as death:
            self.died.append(str(death))

    async def _start(self, name: str) -> None:
        async with self._processes:
            if name not in self._stack.processes.pids():
                self._stack.processes.start(self._stack.program(name))

    async def _start_the_database(self) -> None:
        postgres = self._stack.postgres
        assert postgres is not None
        async with self._processes:
            while POSTGRES not in self._stack.processes.pids():
                try:
                    await _to_its_end(postgres.start)
                except ProcessDiedError as death:
                    # It waits for what is left of the one before, which may be frozen.
                    if _STILL_THERE not in str(death):
                        self.died.append(str(death))

    async def _some_backend(self) -> int | None:
        """The process of one of the services' connections."""
        try:
            pids = await asyncio.to_thread(_backends, self._stack.admin_url)
        except psycopg.OperationalError:
            return None
        return self._chance.choice(pids) if pids else None

    def _some_link(self) -> tuple[str, Proxy]:
        links = self._stack.links.proxies
        caller, called = self._chance.choice(list(links))
        return f"{caller} - {called}", links[caller, called]

    def _some_seconds(self) -> float:
        return min(self._chance.expovariate(1 / _USUAL_SECONDS), _LONGEST_SECONDS)

    def _takes(self, what: object) -> bool:
        """Whether something can be broken now; then it is, until it is let go of."""
        if what in self._busy:
            return False
        self._busy.add(what)
        return True

    def _note(self, what: str) -> None:
        self.done.append(what)


async def _to_its_end(work: Callable[..., None], *arguments: str) -> None:
    """Does something in a thread, which cannot be stopped: whoever is cancelled waits for it."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


def _backends(url: str) -> list[int]:
    with psycopg.connect(url, autocommit=True, connect_timeout=2) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = ANY(%s) ORDER BY pid"
        return [pid for (pid,) in connection.execute(query, (list(SERVICES),)).fetchall()]


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
