"""What the users service owes to others, and how it is delivered."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from inglenook.messages.v1 import messages_pb2
from inglenook.sessions.v1 import sessions_pb2

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

if TYPE_CHECKING:
    from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceAsyncStub
    from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceAsyncStub


def owed_by_users(
    database: Database,
    settings: ServiceSettings,
    sessions: "SessionsServiceAsyncStub",
    messages: "MessagesServiceAsyncStub",
) -> Relay:
    """The relay of the users service.

    Raises:
        FileNotFoundError: the service has no key to prove with who it is.
    """
    tokens = ServiceTokens.of(settings, "users")

    async def erase_sessions(person: UUID) -> None:
        request = sessions_pb2.EraseUserRequest(user_id=str(person))
        erased = await sessions.EraseUser(request, timeout=TIMEOUT, metadata=as_service(tokens))
        noted = {"count": erased.sessions, "key_ids": [UUID(key) for key in erased.key_ids]}
        await database.one(NOTE_SESSIONS, {"person": person, **noted})

    async def erase_messages(person: UUID) -> None:
        request = messages_pb2.EraseUserRequest(user_id=str(person))
        erased = await messages.EraseUser(request, timeout=TIMEOUT, metadata=as_service(tokens))
        noted = {"count": erased.messages, "key_ids": [UUID(key) for key in erased.key_ids]}
        await database.one(NOTE_MESSAGES, {"person": person, **noted})

    async def lock_sessions(lock: LockRow) -> None:
        request = sessions_pb2.LockUserRequest(
            user_id=str(lock.user_id), locked=lock.is_locked, revision=lock.revision
        )
        await sessions.LockUser(request, timeout=TIMEOUT, metadata=as_service(tokens))

    async def lock_messages(lock: LockRow) -> None:
        request = messages_pb2.LockUserRequest(
            user_id=str(lock.user_id), locked=lock.is_locked, revision=lock.revision
        )
        await messages.LockUser(request, timeout=TIMEOUT, metadata=as_service(tokens))

    deliveries = {
        ERASE_SESSIONS: _erasure_delivery(database, ERASE_SESSIONS, erase_sessions),
        ERASE_MESSAGES: _erasure_delivery(database, ERASE_MESSAGES, erase_messages),
        LOCK_SESSIONS: lock_delivery(database, LOCK_SESSIONS, lock_sessions),
        LOCK_MESSAGES: lock_delivery(database, LOCK_MESSAGES, lock_messages),
    }
    return Relay(database, OUTBOX, deliveries, maximum_tries=settings.outbox_tries)


def _erasure_delivery(
    database: Database, kind: str, tell: Callable[[UUID], Awaitable[None]]
) -> Delivery:
    async def deliver(scopes: Sequence[Scope]) -> None:
        for (person,) in scopes:
            await tell(person)
            await database.all(OUTBOX.settle, OUTBOX.parameters(kind, [(person,)]))

    return Delivery(deliver)
