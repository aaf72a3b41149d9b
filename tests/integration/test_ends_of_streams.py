"""A stream ends with its bearer's token, and when they are locked, however it is sent and read."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from grpc import aio
from inglenook.access.v1.access_pb2 import Access
from inglenook.messages.v1 import messages_pb2
from inglenook.messages.v1.messages_pb2 import ImportMessagesRequest, ImportMessagesResponse
from inglenook.users.v1 import users_pb2
from inglenook.users.v1.users_pb2 import WatchMeRequest, WatchMeResponse

from contract.methods import methods_of
from services.runtime.audit.calls import RecordedCalls
from services.runtime.identity import user_id_of
from services.runtime.interceptor import CallInterceptor, GuardedMethod
from services.runtime.jwks import read_signing_key, write_signing_key
from services.runtime.locking import LockedNow
from services.runtime.settings import TrustedIssuer
from services.runtime.tokens import TokenVerifier
from tests.integration.calls import Refused, refusal_over_grpc

GUARD = 60.0
ANN = user_id_of("tests", "ann")
EXPIRED = Refused("UNAUTHENTICATED", "TOKEN_EXPIRED")
LOCKED = Refused("PERMISSION_DENIED", "PERSON_LOCKED")
SOON, LATE = 4, 3_600
# Who does not read gets no more than this ahead.
WINDOW = [("grpc.http2.lookahead_bytes", 1 << 16), ("grpc.http2.bdp_probe", 0)]
LARGE = WatchMeResponse(resume_token="x" * (1 << 20)).SerializeToString()
SMALL = WatchMeResponse(resume_token="x").SerializeToString()
_USERS = users_pb2.DESCRIPTOR.services_by_name["UsersService"]
_MESSAGES = messages_pb2.DESCRIPTOR.services_by_name["MessagesService"]
_WATCH = next(method for method in methods_of(_USERS) if method.name == "WatchMe")
_IMPORT = replace(
    next(method for method in methods_of(_MESSAGES) if method.name == "ImportMessages"),
    # By services as well, it would be recorded for its person.
    allow=frozenset({Access.ACCESS_USER}),
)


class Streams(grpc.GenericRpcHandler):
    """A method with a stream, and how it stands with its handler."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()


class Endless(Streams):
    """A method whose frames are always ready, and have no end."""

    def __init__(self, frame: bytes) -> None:
        super().__init__()
        self._frame = frame

    def service(self, _details: object) -> Any:  # noqa: ANN401 - a handler
        return grpc.unary_stream_rpc_method_handler(self._frames)

    async def _frames(self, _request: object, _context: object) -> AsyncGenerator[bytes, None]:
        self.begun.set()
        try:
            while True:
                yield self._frame
        finally:
            self.closed.set()


class Quiet(Streams):
    """A method that has no frame to give, for ever."""

    def service(self, _details: object) -> Any:  # noqa: ANN401 - a handler
        return grpc.unary_stream_rpc_method_handler(self._frames)

    async def _frames(self, _request: object, _context: object) -> AsyncGenerator[bytes, None]:
        self.begun.set()
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            self.closed.set()


class Taking(Streams):
    """A method that takes what comes, to its end."""

    def service(self, _details: object) -> Any:  # noqa: ANN401 - a handler
        return grpc.stream_unary_rpc_method_handler(self._taken)

    async def _taken(self, requests: AsyncIterator[Any], _context: object) -> bytes:
        try:
            async for _ in requests:
                self.begun.set()
        finally:
            self.closed.set()
        return ImportMessagesResponse().SerializeToString()


@asynccontextmanager
async def called(
    handler: Streams, keys: Path, locked: LockedNow, *, seconds: int
) -> AsyncIterator[Any]:
    """A call of a guarded server's, whose token ends within so many seconds."""
    write_signing_key(keys, "key", ed25519.Ed25519PrivateKey.generate())
    issuer = TrustedIssuer(issuer="tests", jwks_file=keys / "jwks.json", audiences=("tests",))
    async with httpx.AsyncClient() as client, asyncio.timeout(GUARD):
        guarded = [
            GuardedMethod(_WATCH, WatchMeRequest),
            GuardedMethod(_IMPORT, ImportMessagesRequest),
        ]
        verifier = TokenVerifier((issuer,), client, leeway=0)
        interceptor = CallInterceptor(
            guarded, verifier, locked, RecordedCalls(None), is_certified=False
        )
        server = aio.server(interceptors=[interceptor])
        server.add_generic_rpc_handlers([handler])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with aio.insecure_channel(f"127.0.0.1:{port}", options=WINDOW) as channel:
            # The time of the token runs for the call alone, and not while all this gets ready.
            await channel.channel_ready()
            claims = {
                "iss": "tests",
                "aud": "tests",
                "sub": "ann",
                "exp": int(time.time()) + seconds,
            }
            token = jwt.encode(claims, read_signing_key(keys)[1], "EdDSA", headers={"kid": "key"})
            metadata = (("authorization", f"Bearer {token}"),)
            if isinstance(handler, Taking):
                upload: Any = channel.stream_unary(_IMPORT.path)
                yield upload(metadata=metadata)
            else:
                watch: Any = channel.unary_stream(_WATCH.path)
                yield watch(WatchMeRequest().SerializeToString(), metadata=metadata)
        await server.stop(None)


async def _read_on(call: Any) -> Refused:  # noqa: ANN401 - a call
    """Reads until the call is refused."""
    with pytest.raises(aio.AioRpcError) as ended:  # noqa: PT012 - the loop is the call
        while await call.read() is not aio.EOF:
            pass
    return refusal_over_grpc(ended.value)


async def test_a_stream_of_what_is_ready_at_once_ends_with_the_token(tmp_path: Path) -> None:
    handler = Endless(SMALL)
    async with called(handler, tmp_path, LockedNow(), seconds=SOON) as call:
        assert await _read_on(call) == EXPIRED
        await handler.closed.wait()


async def test_readers_who_have_stopped_hold_nothing_open_when_the_token_ends(
    tmp_path: Path,
) -> None:
    async def stops_after(read: int) -> None:
        handler = Endless(LARGE)
        keys = tmp_path / f"{read}"
        keys.mkdir()
        async with called(handler, keys, LockedNow(), seconds=SOON) as call:
            for _ in range(read):
                await call.read()
            await handler.closed.wait()
            assert await _read_on(call) == EXPIRED

    # All at once, since each waits for the end of its token.
    async with asyncio.TaskGroup() as readers:
        for read in (0, 1, 3):
            readers.create_task(stops_after(read))


@pytest.mark.parametrize("read", [0, 1, 3])
async def test_readers_who_have_stopped_hold_nothing_open_when_they_are_locked(
    tmp_path: Path, read: int
) -> None:
    handler, locked = Endless(LARGE), LockedNow()
    async with called(handler, tmp_path, locked, seconds=LATE) as call:
        for _ in range(read):
            await call.read()
        await handler.begun.wait()
        locked.be([ANN])
        await handler.closed.wait()
        assert await _read_on(call) == LOCKED


async def test_a_stream_on_which_nothing_comes_ends_when_its_reader_is_locked(
    tmp_path: Path,
) -> None:
    handler, locked = Quiet(), LockedNow([uuid4()])
    async with called(handler, tmp_path, locked, seconds=LATE) as call:
        await handler.begun.wait()
        # Of others it hears nothing.
        locked.be([uuid4()])
        assert not handler.closed.is_set()
        locked.be([ANN])
        await handler.closed.wait()
        assert await _read_on(call) == LOCKED


async def test_a_stream_on_which_nothing_is_sent_ends_when_its_writer_is_locked(
    tmp_path: Path,
) -> None:
    handler, locked = Taking(), LockedNow()
    async with called(handler, tmp_path, locked, seconds=LATE) as call:
        await call.write(ImportMessagesRequest().SerializeToString())
        await handler.begun.wait()
        locked.be([ANN])
        await handler.closed.wait()
        with pytest.raises(aio.AioRpcError) as refused:
            await call
        assert refusal_over_grpc(refused.value) == LOCKED
