"""The commands that look after an outbox: `python -m services.<name> outbox …`."""

import argparse
from collections.abc import AsyncIterator

from services.runtime.database import Database
from services.runtime.outbox import OutboxTable, TroubledRow

_LISTED = 200


def add_outbox_commands(parser: argparse.ArgumentParser) -> None:
    """Adds the commands to the parser of `outbox`."""
    commands = parser.add_subparsers(dest="outbox_command", metavar="command", required=True)
    commands.add_parser("status", help="count what waits to be told to other services")
    commands.add_parser("list", help="list what could not be told so far, and what was set aside")
    commands.add_parser("retry", help="try again what was set aside")


async def outbox_lines(
    database: Database, outbox: OutboxTable, arguments: argparse.Namespace
) -> AsyncIterator[str]:
    """What one of the commands has to say."""
    match arguments.outbox_command:
        case "status":
            async for line in _status(database, outbox):
                yield line
        case "list":
            rows = await database.all(outbox.troubled, {"limit": _LISTED})
            for row in rows:
                yield _told(row)
            if not rows:
                yield "Nothing failed."
            if len(rows) == _LISTED:
                yield f"These are the {_LISTED} oldest."
        case _:
            rows_again = await database.all(outbox.retry, {})
            yield f"Trying {len(rows_again):,} again."


async def _status(database: Database, outbox: OutboxTable) -> AsyncIterator[str]:
    rows = await database.all(outbox.status, {})
    if not rows:
        yield "Nothing is owed."
        return
    yield f"{'kind':<16}  {'waiting':>9}  {'failing':>9}  {'set aside':>9}  oldest waiting"
    for row in rows:
        oldest = "" if row.oldest is None else row.oldest.isoformat(timespec="seconds")
        yield (
            f"{row.kind:<16}  {row.waiting:>9,}  {row.failing:>9,}  {row.set_aside:>9,}  {oldest}"
        )


def _told(row: TroubledRow) -> str:
    state = "failing" if row.set_aside_time is None else "set aside"
    about = "/".join(map(str, row.scope))
    since = row.create_time.isoformat(timespec="seconds")
    return f"{state:<9}  {row.kind}  {about}  since {since}, tries {row.tries}: {row.failure}"
