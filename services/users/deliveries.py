"""What the users service owes to others, and how it is delivered."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from grpc import aio
from inglenook.messages.v1 import messages_pb2
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1 import sessions_pb2
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from services.runtime.database import Database
from services.runtime.locking import LockRow
from services.runtime.outbox import Scope
from services.runtime.peers import TIMEOUT, as_service
from services.runtime.relay import Delivery, Relay
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import ServiceSettings
from services.users.erasing import ERASE_MESSAGES, ERASE_SESSIONS, NOTE_MESSAGES, NOTE_SESSIONS
from services.users.locking import LOCK_MESSAGES, LOCK_SESSIONS, lock_delivery
from services.users.store import OUTBOX


def owed_by_users(
    database: Database,
    settings: ServiceSettings,
    sessions: aio.Channel,
    messages: aio.Channel,
) -> Relay:
    """The relay of the users service, which tells the two others.

    Raises:
        FileNotFoundError: the service has no key to prove with who it is.
    """
    tokens = ServiceTokens.of(settings, "users")
    to_sessions, to_messages = SessionsServiceStub(sessions), MessagesServiceStub(messages)

    async def erase_sessions(person: UUID) -> None:
        request = sessions_pb2.EraseUserRequest(user_id=str(person))
        erased = await to_sessions.EraseUser(request, timeout=TIMEOUT, metadata=as_service(tokens))
        noted = {
            "count": erased.sessions,
            "key_ids": [UUID(key) for key in erased.key_ids],
            "access_log_entries": erased.access_log_entries,
        }
        await database.one(NOTE_SESSIONS, {"person": person, **noted})

    async def erase_messages(person: UUID) -> None:
        request = messages_pb2.EraseUserRequest(user_id=str(person))
        erased = await to_messages.EraseUser(request, timeout=TIMEOUT, metadata=as_service(tokens))
        noted = {
            "count": erased.messages,
            "key_ids": [UUID(key) for key in erased.key_ids],
            "access_log_entries": erased.access_log_entries,
        }
        await database.one(NOTE_MESSAGES, {"person": person, **noted})

    async def lock_sessions(lock: LockRow) -> None:
        request = sessions_pb2.LockUserRequest(
            user_id=str(lock.user_id), locked=lock.is_locked, revision=lock.revision
        )
        await to_sessions.LockUser(request, timeout=TIMEOUT, metadata=as_service(tokens))

    async def lock_messages(lock: LockRow) -> None:
        request = messages_pb2.LockUserRequest(
            user_id=str(lock.user_id), locked=lock.is_locked, revision=lock.revision
        )
        await to_messages.LockUser(request, timeout=TIMEOUT, metadata=as_service(tokens))

    deliveries = {
        ERASE_SESSIONS: _erasure_delivery(database, ERASE_SESSIONS, sessions, erase_sessions),
        ERASE_MESSAGES: _erasure_delivery(database, ERASE_MESSAGES, messages, erase_messages),
        LOCK_SESSIONS: lock_delivery(database, LOCK_SESSIONS, sessions, lock_sessions),
        LOCK_MESSAGES: lock_delivery(database, LOCK_MESSAGES, messages, lock_messages),
    }
    return Relay(database, OUTBOX, deliveries, maximum_tries=settings.outbox_tries)


def _erasure_delivery(
    database: Database,
    kind: str,
    receiver: aio.Channel,
    tell: Callable[[UUID], Awaitable[None]],
) -> Delivery:
    async def deliver(scopes: Sequence[Scope]) -> None:
        for (person,) in scopes:
            await tell(person)
            await database.all(OUTBOX.settle, OUTBOX.parameters(kind, [(person,)]))

    return Delivery(deliver, receiver=receiver)
