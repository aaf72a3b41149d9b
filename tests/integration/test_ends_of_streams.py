"""A stream ends with its bearer's token, however fast it is sent and however slowly it is read."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from grpc import aio
from inglenook.users.v1 import users_pb2
from inglenook.users.v1.users_pb2 import WatchMeRequest, WatchMeResponse

from contract.methods import methods_of
from services.runtime.audit.calls import RecordedCalls
from services.runtime.interceptor import CallInterceptor, GuardedMethod
from services.runtime.jwks import read_signing_key, write_signing_key
from services.runtime.settings import TrustedIssuer
from services.runtime.tokens import TokenVerifier
from tests.integration.calls import Refused, refusal_over_grpc

GUARD = 60.0
EXPIRED = Refused("UNAUTHENTICATED", "TOKEN_EXPIRED")
# Who does not read gets no more than this ahead.
WINDOW = [("grpc.http2.lookahead_bytes", 1 << 16), ("grpc.http2.bdp_probe", 0)]
LARGE = WatchMeResponse(resume_token="x" * (1 << 20)).SerializeToString()
SMALL = WatchMeResponse(resume_token="x").SerializeToString()
_SERVICE = users_pb2.DESCRIPTOR.services_by_name["UsersService"]
_METHOD = next(method for method in methods_of(_SERVICE) if method.name == "WatchMe")


class Endless(grpc.GenericRpcHandler):
    """A method whose frames are always ready, and have no end."""

    def __init__(self, frame: bytes) -> None:
        self.closed = asyncio.Event()
        self._frame = frame

    def service(self, _details: object) -> Any:  # noqa: ANN401 - a handler
        return grpc.unary_stream_rpc_method_handler(self._frames)

    async def _frames(self, _request: object, _context: object) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield self._frame
        finally:
            self.closed.set()


@asynccontextmanager
async def watched(handler: Endless, keys: Path) -> AsyncIterator[Any]:
    """A call of a guarded server's, whose token ends within four seconds."""
    write_signing_key(keys, "key", ed25519.Ed25519PrivateKey.generate())
    issuer = TrustedIssuer(issuer="tests", jwks_file=keys / "jwks.json", audiences=("tests",))
    async with httpx.AsyncClient() as client, asyncio.timeout(GUARD):
        guarded = GuardedMethod(_METHOD, WatchMeRequest)
        verifier = TokenVerifier((issuer,), client, leeway=0)
        interceptor = CallInterceptor(
            [guarded], verifier, frozenset(), RecordedCalls(None), is_certified=False
        )
        server = aio.server(interceptors=[interceptor])
        server.add_generic_rpc_handlers([handler])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with aio.insecure_channel(f"127.0.0.1:{port}", options=WINDOW) as channel:
            method: Any = channel.unary_stream(_METHOD.path)
            request = WatchMeRequest().SerializeToString()
            # The time of the token runs for the call alone, and not while all this gets ready.
            await channel.channel_ready()
            claims = {"iss": "tests", "aud": "tests", "sub": "ann", "exp": int(time.time()) + 4}
            token = jwt.encode(claims, read_signing_key(keys)[1], "EdDSA", headers={"kid": "key"})
            yield method(request, metadata=(("authorization", f"Bearer {token}"),))
        await server.stop(None)


async def _read_on(call: Any) -> Refused:  # noqa: ANN401 - a call
    """Reads until the call is refused."""
    with pytest.raises(aio.AioRpcError) as ended:  # noqa: PT012 - the loop is the call
        while await call.read() is not aio.EOF:
            pass
    return refusal_over_grpc(ended.value)


async def test_a_stream_of_what_is_ready_at_once_ends_with_the_token(tmp_path: Path) -> None:
    handler = Endless(SMALL)
    async with watched(handler, tmp_path) as call:
        assert await _read_on(call) == EXPIRED
        await handler.closed.wait()


async def test_readers_who_have_stopped_hold_nothing_open_when_the_token_ends(
    tmp_path: Path,
) -> None:
    async def stops_after(read: int) -> None:
        handler = Endless(LARGE)
        keys = tmp_path / f"{read}"
        keys.mkdir()
        async with watched(handler, keys) as call:
            for _ in range(read):
                await call.read()
            await handler.closed.wait()
            assert await _read_on(call) == EXPIRED

    # All at once, since each waits for the end of its token.
    async with asyncio.TaskGroup() as readers:
        for read in (0, 1, 3):
            readers.create_task(stops_after(read))
