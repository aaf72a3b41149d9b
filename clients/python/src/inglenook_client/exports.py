"""Exports that are whole, or fail."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from grpc import StatusCode

from inglenook_client.backoff import Backoff
from inglenook_client.contract.messages.v1.messages_pb2 import ExportMessagesResponse
from inglenook_client.contract.users.v1.users_pb2 import ExportMeResponse
from inglenook_client.errors import InglenookError

_TRIES = 5


async def whole_messages(
    open_export: Callable[[str], AsyncGenerator[ExportMessagesResponse, None]], backoff: Backoff
) -> AsyncGenerator[ExportMessagesResponse, None]:
    """The frames of an export of messages, the end among them.

    `open_export` begins it at a resume token; after a cut it goes on where it was.

    Raises:
        InglenookError: it was refused, or goes on breaking off, or lacks something.
    """
    resume_token = ""
    came = 0
    failures = 0
    while True:
        try:
            async with aclosing(open_export(resume_token)) as frames:
                async for frame in frames:
                    came += len(frame.messages)
                    if frame.HasField("end") and frame.end.messages != came:
                        raise _lacking()
                    yield frame
                    if frame.HasField("end"):
                        return
                    resume_token = frame.resume_token
                    failures = 0
            raise _broken_off()
        except InglenookError as error:
            failures += 1
            if not _goes_on(error) or failures == _TRIES:
                raise
            wait = max(backoff.wait(failures), error.retry_delay or 0.0)
        await asyncio.sleep(wait)


async def whole(
    frames: AsyncGenerator[ExportMeResponse, None],
) -> AsyncGenerator[ExportMeResponse, None]:
    """The frames of an export of everything, the end among them.

    Raises:
        InglenookError: it was refused, broke off, or lacks something.
    """
    sessions = messages = 0
    async with aclosing(frames):
        async for frame in frames:
            sessions += len(frame.sessions)
            messages += len(frame.messages)
            counts = (frame.end.sessions, frame.end.messages)
            if frame.HasField("end") and counts != (sessions, messages):
                raise _lacking()
            yield frame
            if frame.HasField("end"):
                return
    raise _broken_off()


def _goes_on(error: InglenookError) -> bool:
    return error.passing or error.reason == "TOKEN_EXPIRED"


def _broken_off() -> InglenookError:
    return InglenookError(StatusCode.UNAVAILABLE, "The export broke off before its end. Try again.")


def _lacking() -> InglenookError:
    return InglenookError(
        StatusCode.DATA_LOSS, "The export lacks some of what it counts. Export again."
    )
