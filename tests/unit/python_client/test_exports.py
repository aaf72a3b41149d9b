"""An export that the client gives is whole: what breaks off goes on, and what lacks fails."""

from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

import pytest
from grpc import StatusCode
from inglenook_client import Backoff, InglenookError
from inglenook_client.contract.messages.v1.messages_pb2 import (
    ExportEnd,
    ExportMessagesResponse,
    Message,
)
from inglenook_client.contract.sessions.v1.sessions_pb2 import Session
from inglenook_client.contract.users.v1.users_pb2 import ExportMeEnd, ExportMeResponse
from inglenook_client.exports import whole, whole_messages

Frame = TypeVar("Frame")
AT_ONCE = Backoff(first=0.0, longest=0.0)
CUT = InglenookError(StatusCode.UNAVAILABLE, "cut")


def said(message_id: str) -> ExportMessagesResponse:
    """A frame with a message, after which the export goes on with the message's token."""
    return ExportMessagesResponse(
        messages=[Message(message_id=message_id)], resume_token=message_id
    )


def end(messages: int) -> ExportMessagesResponse:
    return ExportMessagesResponse(end=ExportEnd(messages=messages))


async def stream(*frames: Frame | InglenookError) -> AsyncGenerator[Frame, None]:
    for frame in frames:
        if isinstance(frame, InglenookError):
            raise frame
        yield frame


class Exporting:
    """An export that is opened so often, and gives these frames each time."""

    def __init__(self, *calls: Sequence[ExportMessagesResponse | InglenookError]) -> None:
        self._calls = list(calls)
        self.tokens: list[str] = []

    def open(self, resume_token: str) -> AsyncGenerator[ExportMessagesResponse, None]:
        self.tokens.append(resume_token)
        return stream(*self._calls.pop(0)) if self._calls else stream(CUT)

    async def frames(self) -> list[ExportMessagesResponse]:
        return [frame async for frame in whole_messages(self.open, AT_ONCE)]


async def test_an_export_that_was_cut_goes_on_where_it_was_also_where_it_looks_like_its_end() -> (
    None
):
    exporting = Exporting([said("a"), CUT], [said("b")], [said("c"), end(3)])
    frames = await exporting.frames()
    assert [message.message_id for frame in frames for message in frame.messages] == [*"abc"]
    assert exporting.tokens == ["", "a", "b"]


async def test_an_export_that_never_ends_fails_and_so_does_one_that_was_refused() -> None:
    with pytest.raises(InglenookError, match=r"broke off|cut"):
        await Exporting([said("a")], []).frames()
    refused = Exporting([InglenookError(StatusCode.NOT_FOUND, "none")])
    with pytest.raises(InglenookError, match="none"):
        await refused.frames()
    assert refused.tokens == [""]


async def test_an_export_that_lacks_what_its_end_counts_fails() -> None:
    with pytest.raises(InglenookError, match="lacks"):
        await Exporting([said("a"), end(2)]).frames()


async def test_an_export_of_everything_is_whole_or_fails() -> None:
    frame = ExportMeResponse(sessions=[Session()], messages=[Message(), Message()])

    def counted(sessions: int, messages: int) -> ExportMeResponse:
        return ExportMeResponse(end=ExportMeEnd(sessions=sessions, messages=messages))

    assert len([came async for came in whole(stream(frame, counted(1, 2)))]) == 2
    for bad in ([frame], [frame, counted(2, 2)], [frame, counted(1, 3)]):
        with pytest.raises(InglenookError):
            [came async for came in whole(stream(*bad))]
