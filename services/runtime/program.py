"""The one way to start a service: `python -m services.<name>`, and its commands."""

import argparse
import inspect
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import uvloop

from services.runtime.encryption.key_provider import KeyProviderError
from services.runtime.logs import write_logs
from services.runtime.migration import migrate
from services.runtime.settings import MigrationSettings, ServiceSettings, load

Settings = TypeVar("Settings", bound=ServiceSettings)


@dataclass(frozen=True, slots=True)
class Program(Generic[Settings]):
    """A service as a program."""

    name: str
    """Its name, which is also its schema's."""
    settings: type[Settings]
    run: Callable[[Settings], Coroutine[Any, Any, None]]
    """Serves until told to stop."""

    def main(self, commands: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
        """Serves, or migrates; gives back the arguments of any other command."""
        parsed = commands.parse_args(arguments)
        match parsed.command:
            case None:
                self._serve()
            case "migrate":
                write_logs(self.name)
                migrations = Path(inspect.getfile(self.run)).parent / "migrations"
                migrate(load(MigrationSettings), self.name, migrations)
        return parsed

    def _serve(self) -> None:
        settings = load(self.settings)
        write_logs(self.name)
        try:
            uvloop.run(self.run(settings))
        except KeyProviderError as error:
            sys.exit(f"{self.name} does not start: {error}")


def commands_of(name: str) -> tuple[argparse.ArgumentParser, Any]:
    """A parser with what every service understands, and where to add a service's own commands."""
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{name}", description=f"Serves {name}, unless a command is given."
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("migrate", help="bring the role, the schema and the tables up to date")
    return parser, commands
