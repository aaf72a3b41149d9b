"""The messages service as a program: `python -m services.messages [migrate | keys …]`."""

import asyncio
import sys
from functools import partial

from inglenook.messages.v1 import messages_pb2
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub

from services.messages.appender import Appender
from services.messages.checks import CHECKS
from services.messages.comparisons import compared_by_messages
from services.messages.conversations import Conversations
from services.messages.deliveries import owed_by_messages
from services.messages.ending import Ending
from services.messages.erasing import Erasing
from services.messages.export import Exports
from services.messages.growth import GrowthStore
from services.messages.holds import LegalHolds
from services.messages.interruption import Interruption
from services.messages.lease_store import LeaseStore
from services.messages.leases import Leases
from services.messages.live import Announcer, conversation_feeds
from services.messages.opening import Opener
from services.messages.quota import Quota
from services.messages.scans import MessageScans
from services.messages.search import Searches
from services.messages.service import Messages
from services.messages.settings import MessagesSettings
from services.messages.standing import standings
from services.messages.stopping import Stopping
from services.messages.store import MessageStore
from services.messages.streaming import GrowingMessages
from services.messages.tables import ACCESS_LOG, DATA_KEYS, ERASED, LOCKED, OUTBOX
from services.messages.usage import UsageStore
from services.messages.writer import Writer
from services.runtime.audit.chain import chain_key
from services.runtime.audit.listing import AccessListing
from services.runtime.audit.recorder import AccessRecorder
from services.runtime.cursors import Cursors, read_token_key
from services.runtime.database import Database
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.encryption.providers import key_provider
from services.runtime.locking import Locks
from services.runtime.peers import channel_to
from services.runtime.program import Program, commands_of
from services.runtime.server import Implementation, serve

_SERVICE = messages_pb2.DESCRIPTOR.services_by_name["MessagesService"]


async def run(settings: MessagesSettings) -> None:
    """Serves messages until told to stop."""
    provider = key_provider(settings)
    token_key = read_token_key(settings.token_key_file)
    cursors = Cursors(token_key)
    async with (
        Database(
            settings.database_url, pool_size=settings.database_pool, name="messages"
        ) as database,
        Locks(database, LOCKED, ERASED) as locks,
        channel_to("sessions", settings.sessions_address, settings) as sessions,
        conversation_feeds(database, settings, cursors) as feeds,
        owed_by_messages(database, settings, sessions) as relay,
    ):
        keys = DataKeys(database, DATA_KEYS, provider)
        await database.for_a_start(keys.prepare)
        recorder = AccessRecorder(database, ACCESS_LOG, chain_key(token_key, "messages"))
        store, growth = MessageStore(database), GrowthStore(database)
        quota = Quota(UsageStore(database), settings.bytes_per_person)
        announcer = Announcer(feeds, relay)
        conversations = Conversations(
            store,
            keys,
            SessionsServiceStub(sessions),
            Opener(keys, growth),
            announcer.changed,
        )
        ending = Ending(conversations, keys, growth)
        writer = Writer(database, announcer.stored)
        appender = Appender(conversations, quota, store, writer)
        leases = Leases(LeaseStore(database))
        feeds.listeners.append(leases.learn)
        growing = GrowingMessages(conversations, store, growth, writer, leases, quota=quota)
        scans = MessageScans(database)
        turn = asyncio.Lock()
        budget = settings.search_budget
        searches = Searches(scans, conversations, cursors, turn=turn, budget=budget)
        exports = Exports(scans, conversations, cursors, turn=turn)
        messages = Messages(
            conversations=conversations,
            appender=appender,
            growing=growing,
            quota=quota,
            stopping=Stopping(conversations, ending),
            searches=searches,
            exports=exports,
            erasing=Erasing(database, keys, announcer.erased),
            watches=feeds.watches,
            streams=feeds.streams,
            locks=locks,
            standings=partial(standings, database),
            holds=LegalHolds(database),
            cursors=cursors,
            access_listing=AccessListing(database, ACCESS_LOG),
        )

        def stop() -> None:
            for streams in (feeds.feeds, searches, exports, growing):
                streams.stop()

        implementation = Implementation(_SERVICE, messages, locks, recorder, stop)
        async with leases, Interruption(growth, ending):
            await serve(settings, implementation, database)


def main() -> None:
    """Runs the command that the program was started with."""
    parser, _ = commands_of("messages")
    Program(
        "messages",
        MessagesSettings,
        run,
        DATA_KEYS,
        OUTBOX,
        CHECKS,
        ACCESS_LOG,
        compared_by_messages,
    ).main(parser, sys.argv[1:])


if __name__ == "__main__":
    main()
