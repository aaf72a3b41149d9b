"""What the sessions service owes to others, and how it is delivered."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from grpc import aio
from inglenook.messages.v1 import messages_pb2
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.users.v1 import users_pb2
from inglenook.users.v1.users_pb2_grpc import UsersServiceStub

from services.runtime.database import Database
from services.runtime.outbox import Scope
from services.runtime.peers import TIMEOUT, as_service
from services.runtime.relay import Delivery, Relay
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import ServiceSettings
from services.runtime.timestamps import timestamp_of
from services.sessions.deletion import DELETION, POINTER
from services.sessions.holds import HOLD_MESSAGES, HOLD_USERS, HoldRow, hold_delivery
from services.sessions.store import OUTBOX


def owed_by_sessions(
    database: Database,
    settings: ServiceSettings,
    messages: aio.Channel,
    users: aio.Channel,
) -> Relay:
    """The relay of the sessions service, which tells the two others.

    Raises:
        FileNotFoundError: the service has no key to prove with who it is.
    """
    tokens = ServiceTokens.of(settings, "sessions")
    to_messages, to_users = MessagesServiceStub(messages), UsersServiceStub(users)

    async def delete_messages(person: UUID, session: UUID) -> None:
        request = messages_pb2.DeleteSessionMessagesRequest(
            user_id=str(person), session_id=str(session)
        )
        metadata = as_service(tokens)
        await to_messages.DeleteSessionMessages(request, timeout=TIMEOUT, metadata=metadata)

    async def clear_pointer(person: UUID, session: UUID) -> None:
        request = users_pb2.ForgetSessionRequest(user_id=str(person), session_id=str(session))
        await to_users.ForgetSession(request, timeout=TIMEOUT, metadata=as_service(tokens))

    async def hold_messages(hold: HoldRow) -> bool:
        request = messages_pb2.HoldSessionRequest(
            user_id=str(hold.user_id),
            session_id=str(hold.session_id),
            held=hold.is_held,
            change_time=timestamp_of(hold.hold_change_time),
        )
        await to_messages.HoldSession(request, timeout=TIMEOUT, metadata=as_service(tokens))
        return True

    async def hold_users(hold: HoldRow) -> bool:
        request = users_pb2.HoldSessionRequest(
            user_id=str(hold.user_id),
            session_id=str(hold.session_id),
            held=hold.is_held,
            change_time=timestamp_of(hold.hold_change_time),
        )
        metadata = as_service(tokens)
        answer = await to_users.HoldSession(request, timeout=TIMEOUT, metadata=metadata)
        return not answer.erased

    deliveries = {
        DELETION: _delivery(database, DELETION, messages, delete_messages),
        POINTER: _delivery(database, POINTER, users, clear_pointer),
        HOLD_MESSAGES: hold_delivery(database, HOLD_MESSAGES, messages, hold_messages),
        HOLD_USERS: hold_delivery(database, HOLD_USERS, users, hold_users),
    }
    return Relay(database, OUTBOX, deliveries, maximum_tries=settings.outbox_tries)


def _delivery(
    database: Database,
    kind: str,
    receiver: aio.Channel,
    tell: Callable[[UUID, UUID], Awaitable[None]],
) -> Delivery:
    async def deliver(scopes: Sequence[Scope]) -> None:
        for person, session in scopes:
            await tell(person, session)
            await database.all(OUTBOX.settle, OUTBOX.parameters(kind, [(person, session)]))

    return Delivery(deliver, receiver=receiver)
