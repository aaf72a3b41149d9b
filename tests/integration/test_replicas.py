"""Several processes of each service behind one gateway: they come and go, and nobody sees it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Event
from uuid import uuid4

import grpc
import httpx
import pytest

from local.stack import Stack, free_ports
from services import SERVICES
from services.runtime.patience import AWAY_SECONDS, BUDGET_SECONDS, RECONNECT_SECONDS, TRIES
from tests.integration.eventually import eventually
from tests.integration.gateways import Gateway, served, started_gateway, trusting_as
from tests.integration.replicas import start_replica
from tests.integration.streams import WAYS, Feed, RefusedError, feed_of

PROTO_SERVICES = {
    "users": "inglenook.users.v1.UsersService",
    "sessions": "inglenook.sessions.v1.SessionsService",
    "messages": "inglenook.messages.v1.MessagesService",
}
HOSTS = 2
READERS = 8
END = "the end"
_PAUSE_SECONDS = 0.02
_PATIENCE_SECONDS = 240
LONG = "300"
"""Seconds that a process would wait for others to notice that it stops: until it is told again."""


class Replicas:
    """Processes of each service, as on several hosts, and a gateway before them."""

    def __init__(self, stack: Stack, folder: Path, cleanup: ExitStack) -> None:
        self._stack = stack
        ports = [free_ports() for _ in range(HOSTS)]
        self.addresses = {
            service: [f"127.0.0.1:{getattr(one, service)}" for one in ports] for service in SERVICES
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        cleanup.callback(self._stop)
        self._start([address for one in self.addresses.values() for address in one])
        upstreams = {PROTO_SERVICES[name]: found for name, found in self.addresses.items()}
        self.gateway: Gateway = cleanup.enter_context(
            started_gateway(folder, upstreams, **trusting_as(stack))
        )
        eventually(lambda: self.gateway.answers("/readyz") == httpx.codes.OK)
        self._until_well(self._processes)

    def restart_host(self, number: int) -> None:
        """Has each service's process on a host end as a deployment would, and starts it again."""
        leaving = [addresses[number] for addresses in self.addresses.values()]
        for address in leaving:
            self._processes[address].terminate()
        for address in leaving:
            # Health comes first: it still takes calls, and none come any more.
            eventually(partial(self.gateway.ill, address))
            self._processes[address].terminate()
        for address in leaving:
            assert _ended(self._processes[address]) == 0
        self._start(leaving)
        self._until_well(leaving)

    def kill(self, address: str) -> None:
        """Ends a process as a crash would."""
        self._processes[address].kill()
        self._processes[address].wait()

    def start_again(self, address: str) -> None:
        """Starts one that was killed."""
        self._start([address])
        self._until_well([address])

    def _start(self, addresses: list[str]) -> None:
        with ThreadPoolExecutor(len(addresses)) as at_once:
            self._processes |= dict(
                zip(addresses, at_once.map(self._start_one, addresses), strict=True)
            )

    def _start_one(self, address: str) -> "subprocess.Popen[bytes]":
        (service,) = (name for name, found in self.addresses.items() if address in found)
        return start_replica(
            self._stack,
            int(address.rpartition(":")[2]),
            service,
            lame_duck_seconds=LONG,
            sessions_address=f"ipv4:{','.join(self.addresses['sessions'])}",
            messages_address=f"ipv4:{','.join(self.addresses['messages'])}",
        )

    def _until_well(self, addresses: Iterable[str]) -> None:
        eventually(lambda: all(self.gateway.well(address) for address in addresses))

    def _stop(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


def _ended(process: "subprocess.Popen[bytes]") -> int:
    """The exit code of a process that was told twice to stop, which it may have heard as once."""
    try:
        return process.wait(_PATIENCE_SECONDS / 4)
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.wait(_PATIENCE_SECONDS / 4)


class Calls:
    """What people do all the while, through the gateway. No call is made twice by its caller."""

    def __init__(self, feed: Feed, gateway: Gateway) -> None:
        headers = feed.caller.headers
        self._http = httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60)
        self._messages = feed.path.removesuffix(":watch")
        self.said: list[str] = []
        """What was said, in order."""
        self.over = asyncio.Event()

    async def say(self, text: str) -> None:
        body = {"messageId": str(uuid4()), "content": text}
        await self._call("POST", self._messages, body)
        self.said.append(text)

    async def keep_reading(self, *paths: str) -> None:
        """Reads, without a pause, until it is over."""
        while not self.over.is_set():
            for path in paths or (self._messages,):
                await self._call("GET", path)

    async def keep_saying(self) -> None:
        while not self.over.is_set():
            await self.say(str(len(self.said)))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def close(self) -> None:
        await self._http.aclose()

    async def _call(self, verb: str, path: str, body: object = None) -> None:
        answer = await self._http.request(verb, path, json=body)
        assert answer.status_code == httpx.codes.OK, answer.text


class Watcher:
    """Follows a feed through the gateway, from cut to cut, to the text `END`."""

    def __init__(self, feed: Feed, way: str, gateway: Gateway) -> None:
        self._feed = feed
        self._way = way
        self._port = gateway.port
        self._token = ""
        self.texts: list[str] = []
        self.cuts = 0

    async def follow(self) -> None:
        while END not in self.texts:
            try:
                await self._until_cut()
            except RefusedError as error:
                if error.refused.code != "UNAVAILABLE":
                    raise
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            except httpx.RemoteProtocolError:
                # Over HTTP a stream that is cut has no other end.
                continue
            finally:
                self.cuts += END not in self.texts

    async def _until_cut(self) -> None:
        watch = self._feed.watch(self._way, resume_token=self._token, port=self._port)
        async with aclosing(watch) as frames:
            async for frame in frames:
                self._token = frame.get("resumeToken", self._token)
                self.texts += self._feed.texts(frame)
                if END in self.texts:
                    return


@pytest.fixture(scope="module")
def replicas(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with ExitStack() as cleanup:
        yield Replicas(stack, tmp_path_factory.mktemp("gateway"), cleanup)


@asynccontextmanager
async def calls_of(feed: Feed, gateway: Gateway) -> AsyncIterator[Calls]:
    calls = Calls(feed, gateway)
    try:
        yield calls
    finally:
        calls.over.set()
        await calls.close()


async def test_a_rolling_restart_fails_no_call_and_costs_no_watcher_anything(
    stack: Stack, replicas: Replicas
) -> None:
    feed = await feed_of(stack, "messages")
    watchers = [Watcher(feed, way, replicas.gateway) for way in WAYS]
    async with (
        calls_of(feed, replicas.gateway) as calls,
        asyncio.timeout(_PATIENCE_SECONDS),
        asyncio.TaskGroup() as doing,
    ):
        for watcher in watchers:
            doing.create_task(watcher.follow())
        doing.create_task(calls.keep_reading())
        doing.create_task(calls.keep_reading("/v1/me", "/v1/sessions", "/v1/me/currentSession"))
        saying = doing.create_task(calls.keep_saying())
        for host in range(HOSTS):
            await asyncio.to_thread(replicas.restart_host, host)
        calls.over.set()
        await saying
        await calls.say(END)
    for watcher in watchers:
        assert watcher.texts == calls.said
        assert watcher.cuts


async def test_who_reads_does_not_see_a_process_crash(stack: Stack, replicas: Replicas) -> None:
    feed = await feed_of(stack, "messages")
    killed = replicas.addresses["messages"][0]
    async with (
        calls_of(feed, replicas.gateway) as calls,
        asyncio.timeout(_PATIENCE_SECONDS),
        asyncio.TaskGroup() as doing,
    ):
        await calls.say("before")
        for _ in range(READERS):
            doing.create_task(calls.keep_reading())
        await asyncio.to_thread(replicas.kill, killed)
        await asyncio.to_thread(eventually, partial(replicas.gateway.ill, killed))
        calls.over.set()
    replicas.start_again(killed)


@pytest.mark.parametrize(
    ("verb", "method", "times"), [("GET", "GetMe", 2), ("PATCH", "UpdateMe", 1)]
)
def test_what_may_be_done_twice_is_tried_at_another_process_and_nothing_else(
    stack: Stack, tmp_path: Path, verb: str, method: str, times: int
) -> None:
    asked: list[int] = []

    def handler_of(process: int) -> "grpc.RpcMethodHandler[bytes, bytes]":
        def answer(_request: bytes, context: grpc.ServicerContext) -> bytes:
            asked.append(process)
            if len(asked) == 1:
                context.abort(
                    grpc.StatusCode.UNAVAILABLE, "after it was done, or before: who knows"
                )
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)

    service = PROTO_SERVICES["users"]
    with (
        served(service, {method: handler_of(0)}) as first,
        served(service, {method: handler_of(1)}) as second,
        started_gateway(
            tmp_path,
            # By its name as well as by its number.
            {service: [first, second.replace("127.0.0.1", "localhost")]},
            **trusting_as(stack),
        ) as gateway,
    ):
        headers = {"authorization": f"Bearer {stack.token('alice')}"}
        answer = httpx.request(verb, f"{gateway.url}/v1/me", json={}, headers=headers, timeout=60)
    assert len(asked) == len(set(asked)) == times
    assert answer.is_success == (times > 1)


def test_a_call_is_tried_so_often_that_all_the_waiting_stays_within_its_budget(
    stack: Stack, tmp_path: Path
) -> None:
    tried = 0

    def away(_request: bytes, context: grpc.ServicerContext) -> bytes:
        nonlocal tried
        tried += 1
        context.abort(grpc.StatusCode.UNAVAILABLE, "the database is away")

    service = PROTO_SERVICES["users"]
    with (
        served(service, {"GetMe": grpc.unary_unary_rpc_method_handler(away)}) as address,
        started_gateway(tmp_path, {service: address}, **trusting_as(stack)) as gateway,
    ):
        headers = {"authorization": f"Bearer {stack.token('alice')}"}
        answer = httpx.get(f"{gateway.url}/v1/me", headers=headers, timeout=60)
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert tried == TRIES
    # Whoever comes first also waits until it is noticed.
    assert RECONNECT_SECONDS + TRIES * AWAY_SECONDS < BUDGET_SECONDS


def test_a_gateway_that_stops_says_so_and_lets_calls_under_way_finish(
    stack: Stack, tmp_path: Path
) -> None:
    begun, may_end = Event(), Event()

    def hold(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        begun.set()
        assert may_end.wait(_PATIENCE_SECONDS)
        return b""

    service = PROTO_SERVICES["users"]
    settings = {**trusting_as(stack), "lame_duck_seconds": LONG, "drain_seconds": LONG}
    with (
        served(service, {"GetMe": grpc.unary_unary_rpc_method_handler(hold)}) as address,
        started_gateway(tmp_path, {service: address}, **settings) as gateway,
        ThreadPoolExecutor() as at_once,
    ):
        headers = {"authorization": f"Bearer {stack.token('alice')}"}
        call = at_once.submit(httpx.get, f"{gateway.url}/v1/me", headers=headers, timeout=None)
        assert begun.wait(_PATIENCE_SECONDS)
        gateway.tell_to_stop()
        # Told again before it has heard the first, it would have been told once.
        eventually(gateway.has_announced_its_end)
        assert gateway.answers("/readyz") == httpx.codes.SERVICE_UNAVAILABLE
        gateway.tell_to_stop()
        eventually(lambda: gateway.answers("/readyz") is None)
        may_end.set()
        assert call.result().status_code == httpx.codes.OK
        assert gateway.process.wait(_PATIENCE_SECONDS) == 0
