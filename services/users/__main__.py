"""The users service as a program: `python -m services.users [migrate | persons … | token …]`."""

import os
import sys
from pathlib import Path

from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub
from inglenook.users.v1 import users_pb2

from services.runtime.audit.chain import chain_key
from services.runtime.audit.commands import AuditSettings
from services.runtime.audit.listing import AccessListing
from services.runtime.audit.recorder import AccessRecorder
from services.runtime.cursors import Cursors, read_token_key
from services.runtime.database import Database
from services.runtime.development_issuer import development_token
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.encryption.providers import key_provider
from services.runtime.locking import Locks
from services.runtime.peers import channel_to
from services.runtime.program import Program, commands_of
from services.runtime.server import Implementation, serve
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import load
from services.users.access_log import AccessLogs
from services.users.checks import CHECKS
from services.users.comparisons import compared_by_users
from services.users.deliveries import owed_by_users
from services.users.erasing import Erasing
from services.users.exporting import Exporting
from services.users.holds import HeldError, LegalHolds
from services.users.live import user_feeds
from services.users.locking import Locking
from services.users.persons import NotLockedError, add_persons_commands, persons_lines
from services.users.profiles import Profiles
from services.users.provisioning import Provisioning
from services.users.service import Users
from services.users.settings import UsersSettings
from services.users.store import ACCESS_LOG, DATA_KEYS, ERASED, LOCKED, OUTBOX, UserStore
from services.users.webhooks import Deliveries

_SERVICE = users_pb2.DESCRIPTOR.services_by_name["UsersService"]


async def run(settings: UsersSettings) -> None:
    """Serves users until told to stop."""
    provider = key_provider(settings)
    token_key = read_token_key(settings.token_key_file)
    cursors = Cursors(token_key)
    async with (
        Database(settings.database_url, pool_size=settings.database_pool, name="users") as database,
        channel_to("sessions", settings.sessions_address, settings) as sessions,
        channel_to("messages", settings.messages_address, settings) as messages,
        user_feeds(database, settings, cursors) as feeds,
        Locks(database, LOCKED, ERASED) as locks,
        owed_by_users(database, settings, sessions, messages) as relay,
    ):
        keys = DataKeys(database, DATA_KEYS, provider)
        await database.for_a_start(keys.prepare)
        log_key = chain_key(token_key, "users")
        recorder = AccessRecorder(database, ACCESS_LOG, log_key)
        profiles, erasing = Profiles(keys), Erasing(database, relay)
        users = Users(
            store=UserStore(database),
            profiles=profiles,
            sessions=SessionsServiceStub(sessions),
            exporting=Exporting(SessionsServiceStub(sessions), MessagesServiceStub(messages)),
            erasing=erasing,
            holds=LegalHolds(database),
            deliveries=Deliveries(settings.webhook_secrets_file, settings.issuer_of_events),
            provisioning=Provisioning(
                database,
                profiles,
                erasing,
                Locking(relay, locks),
                settings.on_identity_deletion,
                issuer=settings.issuer_of_events,
                log_key=log_key,
            ),
            feeds=feeds,
            access_logs=AccessLogs(
                AccessListing(database, ACCESS_LOG),
                SessionsServiceStub(sessions),
                MessagesServiceStub(messages),
                ServiceTokens.of(settings, "users"),
            ),
            cursors=cursors,
        )
        stop = feeds.feeds.stop
        implementation = Implementation(_SERVICE, users, locks, recorder, stop)
        await serve(settings, implementation, database)


def _print_token(person: str, hours: float) -> None:
    home = Path(os.environ.get("INGLENOOK_HOME", ".inglenook"))
    issuer = Path(
        os.environ.get("INGLENOOK_DEVELOPMENT_ISSUER", home / "secrets" / "development-issuer")
    )
    try:
        print(development_token(issuer, person, lifetime=hours * 3600))
    except FileNotFoundError:
        sys.exit(f"There is no development issuer in {issuer}: `make run` makes one.")


def main() -> None:
    """Runs the command that the program was started with."""
    parser, commands = commands_of("users")
    token = commands.add_parser("token", help="print a development token")
    token.add_argument("--as", dest="person", required=True, help="whom it signs in: a name")
    token.add_argument("--hours", type=float, default=24.0, help="how long it is good (24)")
    add_persons_commands(
        commands.add_parser("persons", help="decide about people who were deleted elsewhere")
    )
    program = Program(
        "users", UsersSettings, run, DATA_KEYS, OUTBOX, CHECKS, ACCESS_LOG, compared_by_users
    )
    arguments = program.main(parser, sys.argv[1:])
    match arguments.command:
        case "token":
            _print_token(arguments.person, arguments.hours)
        case "persons":
            settings = load(AuditSettings)
            key = chain_key(read_token_key(settings.token_key_file), "users")
            try:
                program.print_lines(
                    settings, lambda database: persons_lines(database, key, arguments)
                )
            except NotLockedError as error:
                sys.exit(f"users: {error}")
            except HeldError:
                sys.exit(
                    "users: a session of theirs is under a legal hold; `python -m services.sessions"
                    " release` lifts it"
                )


if __name__ == "__main__":
    main()
