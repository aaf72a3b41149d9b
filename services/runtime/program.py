"""The one way to start a service: `python -m services.<name>`, and its commands."""

import argparse
import asyncio
import inspect
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import uvloop
from grpc import aio
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from services.runtime.audit.commands import (
    AuditSettings,
    BrokenLogError,
    add_audit_commands,
    audit_lines,
)
from services.runtime.audit.log import AccessLog
from services.runtime.checks import Check, Comparison, DifferencesError, check_lines
from services.runtime.database import Database
from services.runtime.encryption.commands import KeysCommand, add_keys_commands
from services.runtime.encryption.data_key_table import DataKeyTable
from services.runtime.encryption.key_provider import KeyProviderError
from services.runtime.encryption.providers import key_provider
from services.runtime.logs import write_logs
from services.runtime.outbox import OutboxTable
from services.runtime.outbox_commands import add_outbox_commands, outbox_lines
from services.runtime.settings import (
    PREFIX,
    DatabaseSettings,
    KeySettings,
    MigrationSettings,
    ServiceSettings,
    TracingSettings,
    load,
)
from services.runtime.telemetry.traces import traces
from services.runtime.wakeups.carriers import carrier_of
from services.runtime.workers import Supervisor, WorkersError

Settings = TypeVar("Settings", bound=ServiceSettings)


class _KeysCommandSettings(DatabaseSettings, KeySettings):
    """What the `keys` commands need."""


@dataclass(frozen=True, slots=True)
class Program(Generic[Settings]):
    """A service as a program."""

    name: str
    """Its name, which is also its schema's."""
    settings: type[Settings]
    run: Callable[[Settings], Coroutine[Any, Any, None]]
    """Serves until told to stop."""
    data_keys: DataKeyTable
    """Where its data keys are stored."""
    outbox: OutboxTable
    """Where what it owes to other services is stored."""
    checks: Sequence[Check]
    """What is always so of what it stores."""
    access_log: AccessLog
    """Where it records who else than a person had to do with what is theirs."""
    compare: Callable[[Settings, Database], AbstractAsyncContextManager[Sequence[Comparison]]]
    """What is always so between it and other services, for as long as they can be asked."""

    def main(self, commands: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
        """Serves, migrates, or looks after keys; gives back the arguments of any other command."""
        parsed = commands.parse_args(arguments)
        match parsed.command:
            case None:
                self._serve(parsed.workers)
            case "migrate":
                # Alembic would take a seventh of the start of everything else.
                from services.runtime.migration import migrate  # noqa: PLC0415

                write_logs(self.name)
                migrations = Path(inspect.getfile(self.run)).parent / "migrations"
                migrate(load(MigrationSettings), self.name, migrations)
            case "keys":
                self._look_after_keys(parsed)
            case "audit":
                self._audit(parsed)
            case "check":
                self._check()
            case "outbox":
                settings = load(DatabaseSettings)
                self.print_lines(
                    settings, lambda database: outbox_lines(database, self.outbox, parsed)
                )
        return parsed

    def _audit(self, arguments: argparse.Namespace) -> None:
        settings = load(AuditSettings)
        try:
            self.print_lines(
                settings,
                lambda database: audit_lines(database, self.access_log, settings, arguments),
            )
        except (BrokenLogError, OSError, ValueError) as error:
            sys.exit(f"{self.name}: {error}")

    def _check(self) -> None:
        settings = load(self.settings)

        async def lines(database: Database) -> AsyncIterator[str]:
            async with self.compare(settings, database) as comparisons:
                async for line in check_lines(database, self.checks, comparisons):
                    yield line

        try:
            self.print_lines(settings, lines)
        except DifferencesError as error:
            sys.exit(f"{self.name}: {error}")
        except aio.AioRpcError as error:
            sys.exit(f"{self.name}: another service does not answer: {error.code().name}")

    def _serve(self, workers: int | None) -> None:
        if workers is not None:
            os.environ[f"{PREFIX}WORKERS"] = str(workers)
        settings = load(self.settings)
        write_logs(self.name)
        if settings.workers > 1 and settings.worker_socket is None:
            self._supervise(settings)
            return
        traces.begin(self.name, load(TracingSettings))
        try:
            uvloop.run(self.run(settings))
        except KeyProviderError as error:
            sys.exit(f"{self.name} does not start: {error}")
        finally:
            traces.end()

    def _supervise(self, settings: Settings) -> None:
        name = f"{self.name} workers"
        database = Database(settings.database_url, pool_size=1, name=name)
        carrier = carrier_of(settings, database, self.name)
        try:
            asyncio.run(Supervisor(f"services.{self.name}", settings, carrier).run())
        except WorkersError as error:
            sys.exit(f"{self.name}: {error}")

    def _look_after_keys(self, arguments: argparse.Namespace) -> None:
        settings = load(_KeysCommandSettings)

        def lines(database: Database) -> AsyncIterator[str]:
            provider = key_provider(settings)
            return KeysCommand(database, self.data_keys, provider).run(arguments)

        try:
            self.print_lines(settings, lines)
        except KeyProviderError as error:
            sys.exit(f"{self.name}: {error}")

    def print_lines(
        self, settings: DatabaseSettings, lines: Callable[[Database], AsyncIterator[str]]
    ) -> None:
        """Prints what a command has to say, while it does it.

        Raises:
            SystemExit: the database does not answer.
        """

        async def run() -> None:
            database = Database(
                settings.database_url,
                pool_size=1,
                name=f"{self.name} command",
                transaction_seconds=None,
            )
            # Fails at once, where the pool would try for half a minute.
            await (await database.connect()).close()
            async with database:
                async for line in lines(database):
                    sys.stdout.write(f"{line}\n")
                    sys.stdout.flush()

        try:
            asyncio.run(run())
        except (OperationalError, PoolTimeout):
            sys.exit(f"{self.name}: the database does not answer")


def commands_of(name: str) -> tuple[argparse.ArgumentParser, Any]:
    """A parser with what every service understands, and where to add a service's own commands."""
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{name}", description=f"Serves {name}, unless a command is given."
    )
    parser.add_argument("--workers", type=int, metavar="N", help="be N processes on one port (1)")
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("migrate", help="bring the role, the schema and the tables up to date")
    commands.add_parser("check", help="compute counts and pointers anew, and report differences")
    add_outbox_commands(
        commands.add_parser("outbox", help="look after what other services are owed")
    )
    add_audit_commands(commands.add_parser("audit", help="prove that the access logs are whole"))
    add_keys_commands(commands.add_parser("keys", help="look after the key-encryption keys"))
    return parser, commands
