"""The three Watch methods, each over every way in: gRPC, JSON lines and gRPC-Web."""

import base64
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
import httpx
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from inglenook.messages.v1 import messages_pb2
from inglenook.messages.v1.messages_pb2 import WatchMessagesRequest, WatchMessagesResponse
from inglenook.sessions.v1 import sessions_pb2
from inglenook.sessions.v1.sessions_pb2 import WatchSessionsRequest, WatchSessionsResponse
from inglenook.users.v1 import users_pb2
from inglenook.users.v1.users_pb2 import WatchMeRequest, WatchMeResponse

from local.stack import Stack
from tests.integration.calls import Refused, grpc_code

Frame = dict[str, Any]
"""A response as JSON."""
WAYS = ["grpc", "json", "grpc-web"]
FEEDS = ["messages", "sessions", "me"]
_TRAILERS = 0x80


class RefusedError(Exception):
    """A stream was refused, or ended with a refusal."""

    def __init__(self, status: Status) -> None:
        super().__init__(str(status))
        info, retry = ErrorInfo(), RetryInfo()
        for detail in status.details:
            detail.Unpack(info)
            detail.Unpack(retry)
        self.refused = Refused(grpc_code(status.code), info.reason)
        self.retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()


@dataclass(frozen=True)
class Caller:
    """A person's calls, over HTTP."""

    stack: Stack
    name: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.stack.token(self.name)}"}

    async def call(self, verb: str, path: str, body: object = None) -> Frame:
        async with httpx.AsyncClient(base_url=self.stack.url, timeout=30) as client:
            answer = await client.request(verb, path, json=body, headers=self.headers)
        assert answer.status_code == 200, answer.text
        found: Frame = answer.json()
        return found


@dataclass(frozen=True)
class Feed:
    """A feed of a person's, how it is changed, and what its frames tell."""

    caller: Caller
    service: str
    method: str
    path: str
    request: Message
    response: type[Message]
    change: Callable[[str], Awaitable[Frame]]
    """Changes something, to a text that its frame has."""
    told: Callable[[Frame], str]
    """The text of a change."""

    def texts(self, frame: Frame) -> list[str]:
        return [self.told(change) for change in frame.get("changes", [])]

    async def watch(
        self,
        way: str = "grpc",
        *,
        resume_token: str = "",
        heartbeat: int = 0,
        bearer: str | None = None,
        port: int | None = None,
    ) -> AsyncGenerator[Frame, None]:
        """The frames.

        Raises:
            RefusedError: the stream was refused, or ended so.
        """
        request = type(self.request)()
        request.CopyFrom(self.request)
        json_format.ParseDict({"resumeToken": resume_token, "heartbeatSeconds": heartbeat}, request)
        bearer = bearer or self.caller.stack.token(self.caller.name)
        over = {"grpc": self._over_grpc, "json": self._over_json, "grpc-web": self._over_grpc_web}
        async with aclosing(over[way](request, bearer, port)) as frames:
            async for frame in frames:
                yield frame

    async def _over_grpc(
        self, request: Message, bearer: str, port: int | None
    ) -> AsyncGenerator[Frame, None]:
        metadata = (("authorization", f"Bearer {bearer}"),)
        address = f"127.0.0.1:{port}" if port else self.caller.stack.ports.address(self.service)
        # A connection of its own, as other clients have.
        own = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, options=own) as channel:
            watch: Any = channel.unary_stream(
                self.method,
                request_serializer=type(request).SerializeToString,
                response_deserializer=self.response.FromString,
            )
            try:
                async for frame in watch(request, metadata=metadata):
                    yield json_format.MessageToDict(frame)
            except grpc.aio.AioRpcError as error:
                trailers: dict[str, Any] = dict(error.trailing_metadata())
                if "grpc-status-details-bin" not in trailers:
                    raise
                raise RefusedError(Status.FromString(trailers["grpc-status-details-bin"])) from None

    async def _over_json(
        self, request: Message, bearer: str, port: int | None
    ) -> AsyncGenerator[Frame, None]:
        query = {
            field.name: str(value)
            for field, value in request.ListFields()
            if field.name != "session_id"
        }
        headers = {"authorization": f"Bearer {bearer}"}
        async with (
            httpx.AsyncClient(base_url=self._url(port), timeout=60) as client,
            client.stream("GET", self.path, params=query, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                raise RefusedError(json_format.Parse(await answer.aread(), Status()))
            async for line in answer.aiter_lines():
                yield json.loads(line)

    async def _over_grpc_web(
        self, request: Message, bearer: str, port: int | None
    ) -> AsyncGenerator[Frame, None]:
        body = request.SerializeToString()
        headers = {
            "authorization": f"Bearer {bearer}",
            "content-type": "application/grpc-web+proto",
        }
        async with (
            httpx.AsyncClient(base_url=self._url(port), timeout=60) as client,
            client.stream(
                "POST",
                self.method,
                content=b"\0" + len(body).to_bytes(4, "big") + body,
                headers=headers,
            ) as answer,
        ):
            if "grpc-status" in answer.headers:
                raise RefusedError(_status_of(answer.headers["grpc-status-details-bin"]))
            waiting = b""
            async for chunk in answer.aiter_raw():
                waiting += chunk
                while len(waiting) >= 5 and len(waiting) >= 5 + _length(waiting):
                    kind, message = waiting[0], waiting[5 : 5 + _length(waiting)]
                    waiting = waiting[5 + len(message) :]
                    if kind & _TRAILERS:
                        raise RefusedError(_status_of(_trailer(message, "grpc-status-details-bin")))
                    yield json_format.MessageToDict(self.response.FromString(message))

    def _url(self, port: int | None) -> str:
        return f"http://127.0.0.1:{port}" if port else self.caller.stack.url


async def feed_of(stack: Stack, kind: str, name: str | None = None) -> Feed:
    """A feed of a person of its own, unless one is named."""
    caller = Caller(stack, name or f"watcher-{uuid4()}")
    match kind:
        case "messages":
            session = (await caller.call("POST", "/v1/sessions", {}))["session"]["sessionId"]
            path = f"/v1/sessions/{session}/messages"

            async def say(text: str) -> Frame:
                return await caller.call("POST", path, {"content": text})

            return Feed(
                caller,
                "messages",
                _method(messages_pb2, "MessagesService", "WatchMessages"),
                f"{path}:watch",
                WatchMessagesRequest(session_id=session),
                WatchMessagesResponse,
                say,
                lambda change: str(change["upserted"]["content"]),
            )
        case "sessions":

            async def open_one(text: str) -> Frame:
                return await caller.call("POST", "/v1/sessions", {"title": text})

            return Feed(
                caller,
                "sessions",
                _method(sessions_pb2, "SessionsService", "WatchSessions"),
                "/v1/sessions:watch",
                WatchSessionsRequest(),
                WatchSessionsResponse,
                open_one,
                lambda change: str(change["upserted"]["title"]),
            )

    async def rename(text: str) -> Frame:
        return await caller.call("PATCH", "/v1/me", {"name": text})

    return Feed(
        caller,
        "users",
        _method(users_pb2, "UsersService", "WatchMe"),
        "/v1/me:watch",
        WatchMeRequest(),
        WatchMeResponse,
        rename,
        lambda change: str(change["user"]["name"]),
    )


async def current(frames: AsyncGenerator[Frame, None]) -> list[Frame]:
    """The frames up to `current`, and with it."""
    found: list[Frame] = []
    async for frame in frames:
        found.append(frame)
        if "current" in frame:
            return found
    raise AssertionError(f"the stream ended after {found}")


def _method(module: Any, service: str, method: str) -> str:  # noqa: ANN401 - a generated module
    return f"/{module.DESCRIPTOR.services_by_name[service].full_name}/{method}"


def _length(frame: bytes) -> int:
    return int.from_bytes(frame[1:5], "big")


def _trailer(block: bytes, name: str) -> str:
    trailers = dict(line.split(":", 1) for line in block.decode().split("\r\n") if line)
    return trailers[name].strip()


def _status_of(details: str) -> Status:
    return Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
