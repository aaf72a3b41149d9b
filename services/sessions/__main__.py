"""The sessions service as a program: `python -m services.sessions [migrate | hold … | keys …]`."""

import sys
from functools import partial

from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1 import sessions_pb2

from services.runtime.audit.chain import chain_key
from services.runtime.audit.commands import AuditSettings
from services.runtime.audit.listing import AccessListing
from services.runtime.audit.recorder import AccessRecorder
from services.runtime.cursors import Cursors, read_token_key
from services.runtime.database import Database
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.encryption.providers import key_provider
from services.runtime.locking import Locks
from services.runtime.peers import as_service, channel_to
from services.runtime.program import Program, commands_of
from services.runtime.server import Implementation, serve
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import load
from services.sessions.activity import Activities
from services.sessions.checks import CHECKS
from services.sessions.comparisons import compared_by_sessions
from services.sessions.deletion import Deletions
from services.sessions.deliveries import owed_by_sessions
from services.sessions.hold_commands import (
    HOLD_COMMANDS,
    HoldError,
    add_hold_commands,
    hold_lines,
)
from services.sessions.live import session_feeds
from services.sessions.retention import Retention
from services.sessions.service import Sessions
from services.sessions.settings import SessionsSettings
from services.sessions.standing import standings
from services.sessions.store import ACCESS_LOG, DATA_KEYS, ERASED, LOCKED, OUTBOX, SessionStore
from services.sessions.sweeping import Sweeper

_SERVICE = sessions_pb2.DESCRIPTOR.services_by_name["SessionsService"]


async def run(settings: SessionsSettings) -> None:
    """Serves sessions until told to stop."""
    provider = key_provider(settings)
    token_key = read_token_key(settings.token_key_file)
    cursors = Cursors(token_key)
    async with (
        Database(
            settings.database_url, pool_size=settings.database_pool, name="sessions"
        ) as database,
        Locks(database, LOCKED, ERASED) as locks,
        channel_to("messages", settings.messages_address, settings) as messages,
        channel_to("users", settings.users_address, settings) as users,
        session_feeds(database, settings, cursors) as feeds,
        owed_by_sessions(database, settings, messages, users) as relay,
    ):
        keys = DataKeys(database, DATA_KEYS, provider)
        await database.for_a_start(keys.prepare)
        log_key = chain_key(token_key, "sessions")
        recorder = AccessRecorder(database, ACCESS_LOG, log_key)
        retention = Retention(database, log_key, settings.retention_days)
        sessions = Sessions(
            store=SessionStore(database),
            activities=Activities(database),
            deletions=Deletions(database),
            relay=relay,
            keys=keys,
            cursors=cursors,
            feeds=feeds,
            locks=locks,
            standings=partial(standings, database),
            sessions_per_person=settings.sessions_per_person,
            retention=retention,
            access_listing=AccessListing(database, ACCESS_LOG),
        )
        tokens = ServiceTokens.of(settings, "sessions")
        sweeper = Sweeper(
            database,
            retention,
            MessagesServiceStub(messages),
            lambda: as_service(tokens),
            sessions.tell_deleted,
            interval=settings.retention_interval_seconds,
        )
        stop = feeds.feeds.stop
        implementation = Implementation(_SERVICE, sessions, locks, recorder, stop)
        async with sweeper:
            await serve(settings, implementation, database)


def main() -> None:
    """Runs the command that the program was started with."""
    parser, commands = commands_of("sessions")
    add_hold_commands(commands)
    program = Program(
        "sessions",
        SessionsSettings,
        run,
        DATA_KEYS,
        OUTBOX,
        CHECKS,
        ACCESS_LOG,
        compared_by_sessions,
    )
    arguments = program.main(parser, sys.argv[1:])
    if arguments.command in HOLD_COMMANDS:
        settings = load(AuditSettings)
        key = chain_key(read_token_key(settings.token_key_file), "sessions")
        try:
            program.print_lines(settings, lambda database: hold_lines(database, key, arguments))
        except HoldError as error:
            sys.exit(f"sessions: {error}")


if __name__ == "__main__":
    main()
