"""A person's calls to the gateway while everything behind it breaks."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from google.protobuf import json_format
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

_AGAIN_SECONDS = 0.1
_DEADLINE_SECONDS = 10.0
# What a client is told while something is away. Nothing else may come of a fault: whatever went
# wrong inside must not be told as if the caller or the code were wrong.
_AWAY = {"DEPENDENCY_UNAVAILABLE", "SERVER_STOPPING"}
_BUSY = "SERVER_BUSY"


class UnansweredError(Exception):
    """No answer came: what was asked for was done, was not, or will be."""


@dataclass(frozen=True)
class Answer:
    """An answer: a body, or why the call was refused."""

    reason: str = ""
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def is_refusal(self) -> bool:
        return bool(self.reason)


class Caller:
    """One person's calls. Use as `async with`."""

    def __init__(self, url: str, token: str) -> None:
        self._headers = {"authorization": f"Bearer {token}"}
        self.http = httpx.AsyncClient(
            base_url=url, headers=self._headers, timeout=_DEADLINE_SECONDS, trust_env=False
        )

    async def __aenter__(self) -> "Caller":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.http.aclose()

    async def once(self, verb: str, path: str, body: object = None) -> Answer:
        """Calls once.

        Raises:
            UnansweredError: nothing came, or that something is away.
        """
        try:
            response = await self.http.request(verb, path, json=body)
        except httpx.TransportError as error:
            raise UnansweredError from error
        if response.status_code == httpx.codes.OK:
            return Answer(body=response.json())
        reason = reason_in(response)
        if reason in _AWAY:
            raise UnansweredError
        return Answer(reason=reason)

    async def until_answered(
        self,
        verb: str,
        path: str,
        body: object = None,
        unanswered: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Calls until an answer comes; `unanswered` is called whenever none did."""
        while True:
            try:
                answer = await self.once(verb, path, body)
            except UnansweredError:
                unanswered()
            else:
                if answer.reason != _BUSY:
                    return answer
            await asyncio.sleep(_AGAIN_SECONDS)


def reason_in(response: httpx.Response) -> str:
    """Why a call was refused."""
    assert response.headers["content-type"] == "application/json", response.text
    status = json_format.ParseDict(response.json(), Status())
    info = ErrorInfo()
    reasons = [info.reason for detail in status.details if detail.Unpack(info)]
    assert len(reasons) == 1, f"{response.status_code} without a reason: {response.text}"
    assert reasons[0] != "INTERNAL_FAULT", f"{response.request.url}: {response.text}"
    return reasons[0]
