"""Several processes of a service on one port: to its callers they are one, and they end as one."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import grpc
import psutil
import pytest

from local.stack import Stack, free_ports
from services.runtime.database import Database
from services.runtime.wakeups.postgres import PostgresCarrier
from services.runtime.wakeups.tree import Hub, TreeCarrier
from tests.integration.eventually import eventually, rows
from tests.integration.local.liveness import alive
from tests.integration.replicas import start_replica
from tests.integration.streams import Feed, current, feed_of

GUARD = 60.0
WORKERS = 2


class Tree:
    """A service of several workers."""

    def __init__(self, stack: Stack) -> None:
        self.port = free_ports().gateway
        ((self.began,),) = rows(stack, "SELECT clock_timestamp()")
        self.process = start_replica(stack, self.port, workers=str(WORKERS))
        eventually(lambda: self.having(psutil.CONN_LISTEN) == WORKERS)

    def workers(self) -> list[psutil.Process]:
        return alive(psutil.Process(self.process.pid).children())

    def having(self, status: str) -> int:
        """How many of them have a socket of this status on their port."""
        return sum(_has(worker, self.port, status) for worker in self.workers())

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stops all of it, as an operator does."""
        workers = self.workers()
        self.process.send_signal(number)
        assert self.process.wait(60) == 0
        assert alive(workers) == []


def _has(worker: psutil.Process, port: int, status: str) -> bool:
    try:
        connections = worker.net_connections("tcp")
    except psutil.NoSuchProcess:  # It ended meanwhile.
        return False
    return any(one.status == status and one.laddr.port == port for one in connections)


@pytest.fixture(scope="module")
def tree(stack: Stack) -> Iterator[Tree]:
    tree = Tree(stack)
    yield tree
    tree.end()


def test_one_listens_to_the_database_for_all_of_them(stack: Stack, tree: Tree) -> None:
    listening = (
        "SELECT application_name FROM pg_stat_activity"
        " WHERE backend_start > %s AND query LIKE 'LISTEN%%'"
    )
    eventually(lambda: rows(stack, listening, tree.began) == [("messages workers",)])


async def test_whichever_worker_a_watcher_has_it_hears_of_what_all_others_store(
    stack: Stack, tree: Tree
) -> None:
    feed = await feed_of(stack, "messages")
    async with asyncio.timeout(GUARD), AsyncExitStack() as open_watches:
        watches = []
        for _ in range(24):  # So many that no chance deals all of them to one worker.
            frames = await open_watches.enter_async_context(aclosing(feed.watch(port=tree.port)))
            await current(frames)
            watches.append(frames)
        assert tree.having(psutil.CONN_ESTABLISHED) > 1
        said = [f"text {number}" for number in range(5)]
        for text in said:
            await feed.change(text)
        heard = await asyncio.gather(*(_texts(feed, frames, len(said)) for frames in watches))
        assert heard == [said] * len(watches)


async def test_a_worker_that_dies_is_replaced_and_its_watchers_miss_nothing(
    stack: Stack, tree: Tree
) -> None:
    feed = await feed_of(stack, "messages")
    async with asyncio.timeout(GUARD):
        frames = feed.watch(port=tree.port)
        token = (await current(frames))[-1]["resumeToken"]
        before = {worker.pid for worker in tree.workers()}
        for worker in tree.workers():
            worker.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await anext(frames)
        await feed.change("meanwhile")
        await asyncio.to_thread(eventually, lambda: tree.having(psutil.CONN_LISTEN) == WORKERS)
        assert before.isdisjoint(worker.pid for worker in tree.workers())
        assert await _missed(feed, token, tree.port) == ["meanwhile"]


def test_told_to_stop_all_of_them_stop(stack: Stack) -> None:
    tree = Tree(stack)
    tree.end(signal.SIGINT)


def test_without_whoever_started_them_they_end_by_themselves(stack: Stack) -> None:
    tree = Tree(stack)
    workers = tree.workers()
    tree.process.kill()
    tree.process.wait()
    eventually(lambda: alive(workers) == [])


def test_a_port_that_is_taken_is_not_shared(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        spec = stack.service("messages")
        own = {"INGLENOOK_LISTEN": f"127.0.0.1:{port}", "INGLENOOK_METRICS_LISTEN": ""}
        done = subprocess.run(
            [*spec.command, "--workers", "2"],
            env={**spec.environment, **own},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use" in done.stderr


async def test_a_worker_that_reads_nothing_costs_the_root_little_and_is_told_to_look_later(
    stack: Stack,
) -> None:
    database = Database(stack.admin_url, pool_size=1, name="hub")
    payload = f"{'x' * 4_000}=1"
    async with asyncio.timeout(GUARD), Hub(PostgresCarrier(database, "hub")) as hub:
        (ours, its), (others, silent) = socket.socketpair(), socket.socketpair()
        links = [asyncio.create_task(hub.serve(end)) for end in (ours, others)]
        speaker = TreeCarrier(its.detach())
        for _ in range(1_000):
            await speaker.send(payload)
        await speaker.send("last=1")
        reader, writer = await asyncio.open_connection(sock=silent)
        told = 0
        while (line := await reader.readline()) != b"\n" or told == 0:
            told += len(line)
            await speaker.send("after=1")
        assert told < 2 << 20
        writer.close()
        await speaker.close()
        await asyncio.gather(*links)


async def _texts(
    feed: Feed, frames: AsyncGenerator[dict[str, object], None], count: int
) -> list[str]:
    texts: list[str] = []
    while len(texts) < count:
        texts += feed.texts(await anext(frames))
    return texts


async def _missed(feed: Feed, token: str, port: int) -> list[str]:
    """What a watcher missed, at whichever worker answers first."""
    while True:
        try:
            async with aclosing(feed.watch(port=port, resume_token=token)) as frames:
                return [text for frame in await current(frames) for text in feed.texts(frame)]
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - others are raised
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "told",
    [b"feed\n", b"feed=three\n", b"\xff=1\n", b"x" * (1 << 17), b"broken=1", b"bro"],
    ids=repr,
)
async def test_a_worker_that_tells_what_is_no_wake_up_loses_its_own_link_alone(
    stack: Stack, told: bytes
) -> None:
    database = Database(stack.admin_url, pool_size=1, name="hub")
    async with asyncio.timeout(GUARD), Hub(PostgresCarrier(database, "hub")) as hub:
        pairs = [socket.socketpair() for _ in range(3)]
        links = [asyncio.create_task(hub.serve(ours)) for ours, _ in pairs]
        (_, broken), (_, speaker), (hearing, hearer) = [
            await asyncio.open_connection(sock=its) for _, its in pairs
        ]
        broken.write(told)
        if not told.endswith(b"\n"):
            broken.write_eof()
        await links[0]
        speaker.write(b"whole=1\n")
        heard = []
        while b"whole=1\n" not in heard:
            heard.append(await hearing.readline())
        # An empty line is to look for what may have been lost.
        assert set(heard) <= {b"\n", b"whole=1\n"}
        for writer in (broken, speaker, hearer):
            writer.close()
        await asyncio.gather(*links)


def test_a_worker_that_cannot_be_started_is_started_once_it_can_be(
    stack: Stack, tmp_path: Path
) -> None:
    worker, started = tmp_path / "worker", tmp_path / "started"
    listen = f"127.0.0.1:{free_ports().gateway}"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.supervising", str(worker), listen],
        env=stack.service("messages").environment,
        stderr=subprocess.PIPE,
    ) as supervisor:
        try:
            assert supervisor.stderr is not None
            # Each failure is told.
            assert b"a worker ended" in supervisor.stderr.readline()
            made = tmp_path / "made"
            made.write_text(f"#!/bin/sh\ntouch {started}\nexec sleep 600\n")
            made.chmod(0o700)
            made.rename(worker)
            eventually(started.exists)
        finally:
            supervisor.terminate()
    assert supervisor.returncode == 0
