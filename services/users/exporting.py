"""ExportMe: everything of a person's, from all services, on the person's own behalf."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from grpc import aio
from inglenook.messages.v1.messages_pb2 import ExportMessagesRequest
from inglenook.sessions.v1.sessions_pb2 import (
    ListSessionsRequest,
    ListSessionsResponse,
    Session,
)
from inglenook.users.v1.users_pb2 import ExportMeEnd, ExportMeResponse, User

from services.runtime.peers import TIMEOUT, answer_of, on_behalf_of_caller, refusal_of_peer

if TYPE_CHECKING:
    from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceAsyncStub
    from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceAsyncStub

_PAGE = 200


class Exporting:
    """Gathers what the services have of the caller."""

    def __init__(
        self, sessions: "SessionsServiceAsyncStub", messages: "MessagesServiceAsyncStub"
    ) -> None:
        """Takes whom to ask."""
        self._sessions = sessions
        self._messages = messages

    async def frames(self, profile: User) -> AsyncGenerator[ExportMeResponse, None]:
        """The profile, the sessions, what was said, and the end; a page of one of them is held.

        Raises:
            Refusal: what another service refuses, or DEPENDENCY_UNAVAILABLE.
        """
        yield ExportMeResponse(user=profile)
        end = ExportMeEnd()
        async with aclosing(self._all_sessions()) as pages:
            async for sessions in pages:
                end.sessions += len(sessions)
                yield ExportMeResponse(sessions=sessions)
        said = self._messages.ExportMessages(
            ExportMessagesRequest(), metadata=on_behalf_of_caller()
        )
        try:
            async for frame in said:
                if frame.messages:
                    end.messages += len(frame.messages)
                    yield ExportMeResponse(messages=frame.messages)
        except aio.AioRpcError as error:
            raise refusal_of_peer(error) from None
        finally:
            said.cancel()
        yield ExportMeResponse(end=end)

    async def _all_sessions(self) -> AsyncGenerator[list[Session], None]:
        """The sessions, each once.

        They are listed by their latest activity, and what is active meanwhile goes from where the
        list was not read yet to where it was: so it is read until nothing new is found.
        """
        given: set[str] = set()
        before = -1
        while before < len(given):
            before = len(given)
            token = ""
            while True:
                page = await self._page(token)
                new = [session for session in page.sessions if session.session_id not in given]
                given.update(session.session_id for session in new)
                if new:
                    yield new
                token = page.next_page_token
                if not token:
                    break

    async def _page(self, token: str) -> ListSessionsResponse:
        asked = ListSessionsRequest(page_size=_PAGE, page_token=token)
        metadata = on_behalf_of_caller()
        return await answer_of(
            self._sessions.ListSessions(asked, timeout=TIMEOUT, metadata=metadata)
        )
