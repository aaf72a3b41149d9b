"""The users service as a program: `python -m services.users [migrate | keys … | token …]`."""

import os
import sys
from pathlib import Path
from typing import Annotated

from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.sessions.v1.sessions_pb2_grpc import SessionsServiceStub
from inglenook.users.v1 import users_pb2
from pydantic import Field

from services.runtime.cursors import Cursors, read_token_key
from services.runtime.database import Database
from services.runtime.development_issuer import development_token
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.encryption.providers import key_provider
from services.runtime.peers import channel_to
from services.runtime.program import Program, commands_of
from services.runtime.server import Implementation, serve
from services.runtime.settings import ServiceSettings
from services.users.checks import CHECKS
from services.users.erasing import Erasing, owed_by_users
from services.users.exporting import Exporting
from services.users.live import user_feeds
from services.users.service import Users
from services.users.store import DATA_KEYS, OUTBOX, UserStore

_SERVICE = users_pb2.DESCRIPTOR.services_by_name["UsersService"]


class UsersSettings(ServiceSettings):
    """What the users service needs to run."""

    token_key_file: Path
    """The key of resume tokens: 32 bytes in base64, the same for all replicas."""
    sessions_address: Annotated[str, Field(min_length=1)]
    """Where the sessions service answers."""
    messages_address: Annotated[str, Field(min_length=1)]
    """Where the messages service answers."""


async def run(settings: UsersSettings) -> None:
    """Serves users until told to stop."""
    provider = key_provider(settings)
    cursors = Cursors(read_token_key(settings.token_key_file))
    async with (
        Database(settings.database_url, pool_size=settings.database_pool, name="users") as database,
        channel_to(settings.sessions_address) as sessions,
        channel_to(settings.messages_address) as messages,
        user_feeds(database, settings, cursors) as feeds,
        owed_by_users(
            database,
            settings,
            SessionsServiceStub(sessions),
            MessagesServiceStub(messages),
        ) as relay,
    ):
        keys = DataKeys(database, DATA_KEYS, provider)
        await keys.prepare()
        users = Users(
            store=UserStore(database),
            keys=keys,
            sessions=SessionsServiceStub(sessions),
            exporting=Exporting(SessionsServiceStub(sessions), MessagesServiceStub(messages)),
            erasing=Erasing(database, relay),
            feeds=feeds,
        )
        await serve(settings, Implementation(_SERVICE, users, feeds.feeds.stop))


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
    arguments = Program("users", UsersSettings, run, DATA_KEYS, OUTBOX, CHECKS).main(
        parser, sys.argv[1:]
    )
    if arguments.command == "token":
        _print_token(arguments.person, arguments.hours)


if __name__ == "__main__":
    main()
