"""The method of RespondService."""

from uuid import UUID, uuid4

from inglenook.respond.v1.respond_pb2 import ReplyRequest, ReplyResponse

from examples.responder.recording import Place
from examples.responder.replies import Replies
from services.runtime.identity import person


class Responder:
    """Replies to people in their own sessions."""

    def __init__(self, replies: Replies) -> None:
        """Takes the replies that are under way."""
        self._replies = replies

    async def Reply(self, request: ReplyRequest, _context: object) -> ReplyResponse:
        """Replies to what the person said last in a session."""
        message_id = UUID(request.message_id) if request.message_id else uuid4()
        place = Place(person(), str(UUID(request.session_id)), str(message_id))
        await self._replies.begin(place)
        return ReplyResponse(message_id=place.message_id)
