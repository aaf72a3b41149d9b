"""What the messages service owes to others, and how it is delivered."""

from grpc import aio
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from services.messages.activity import ACTIVITY, BATCH, Activity
from services.messages.erasing import PURGE, Purge
from services.messages.tables import OUTBOX
from services.runtime.database import Database
from services.runtime.peers import as_service
from services.runtime.relay import Delivery, Relay
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import ServiceSettings


def owed_by_messages(database: Database, settings: ServiceSettings, sessions: aio.Channel) -> Relay:
    """The relay of the messages service, which tells the sessions service.

    Raises:
        FileNotFoundError: the service has no key to prove with who it is.
    """
    tokens = ServiceTokens.of(settings, "messages")
    activity = Activity(database, SessionsServiceStub(sessions), lambda: as_service(tokens))
    deliveries = {
        ACTIVITY: Delivery(activity.deliver, BATCH, receiver=sessions),
        PURGE: Delivery(Purge(database).deliver),
    }
    return Relay(database, OUTBOX, deliveries, maximum_tries=settings.outbox_tries)
