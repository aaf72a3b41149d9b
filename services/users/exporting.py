"""ExportMe: everything of a person's, from all services, on the person's own behalf."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from grpc import aio
from inglenook.messages.v1.messages_pb2 import ExportMessagesRequest
from inglenook.sessions.v1.sessions_pb2 import ListSessionsRequest
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
        token = ""
        while True:
            asked = ListSessionsRequest(page_size=_PAGE, page_token=token)
            page = await answer_of(
                self._sessions.ListSessions(asked, timeout=TIMEOUT, metadata=on_behalf_of_caller())
            )
            if page.sessions:
                end.sessions += len(page.sessions)
                yield ExportMeResponse(sessions=page.sessions)
            token = page.next_page_token
            if not token:
                break
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
