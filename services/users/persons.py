"""The commands about people whom operators decide about: `python -m services.users persons …`."""

import argparse
from collections.abc import AsyncIterator
from uuid import UUID

from services.runtime.audit.chain import Access
from services.runtime.audit.commands import add_operator, by_operator
from services.runtime.audit.recorder import record, record_within
from services.runtime.database import Database, fetch_all, fetch_one
from services.users.erasing import erase_again, erase_within
from services.users.locking import locked_people, unlock_within
from services.users.store import ACCESS_LOG, ERASED, LOCKED


class NotLockedError(Exception):
    """There is nothing to decide about this person; the text says so."""


def add_persons_commands(parser: argparse.ArgumentParser) -> None:
    """Adds the commands to the parser of `persons`."""
    commands = parser.add_subparsers(dest="persons_command", metavar="command", required=True)
    locked = commands.add_parser("locked", help="list the people who are locked until you decide")
    add_operator(locked)
    commands.add_parser(
        "erase-again", help="erase once more who ever was, after a backup was put back"
    )
    for name, what in (
        ("unlock", "let a locked person in again"),
        ("erase", "erase a locked person and everything of theirs, for good"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("person", type=UUID, metavar="ID", help="as `persons locked` shows it")
        add_operator(command)


async def persons_lines(
    database: Database, key: bytes, arguments: argparse.Namespace
) -> AsyncIterator[str]:
    """What one of the commands has to say; `key` is that of the access logs' chains.

    Raises:
        NotLockedError: the person whom it is about is not locked.
        HeldError: they cannot be erased, since a session of theirs is under a legal hold.
    """
    if arguments.persons_command == "locked":
        rows = await locked_people(database)
        listed = [by_operator(arguments, row.user_id, "persons locked") for row in rows]
        await record(database, ACCESS_LOG, key, listed)
        for row in rows:
            since = row.change_time.isoformat(timespec="seconds")
            yield f"{row.user_id}  since {since}{'' if row.has_profile else ', without a profile'}"
        if not rows:
            yield "Nobody is locked."
        return
    if arguments.persons_command == "erase-again":
        yield f"Erasing {await erase_again(database):,} once more, everywhere within moments."
        return
    person: UUID = arguments.person
    if arguments.persons_command == "unlock":
        await _unlock(database, key, by_operator(arguments, person, "persons unlock"))
        yield f"Unlocked {person}: within seconds, everywhere."
        return
    async with database.transaction() as connection:
        await fetch_all(connection, ERASED.take, {"person": person})
        lock = await fetch_one(connection, LOCKED.find, {"person": person})
        if lock is None or not lock.is_locked:
            raise NotLockedError(f"{person} is not locked")
        await erase_within(connection, person, operator=arguments.operator)
    yield f"Erased {person} here. `outbox status` shows what other services were not told yet."


async def _unlock(database: Database, key: bytes, access: Access) -> None:
    """Unlocks a person, who finds it in their access log.

    Raises:
        NotLockedError: they are not locked.
    """
    async with database.transaction() as connection:
        if not await unlock_within(connection, access.user_id):
            raise NotLockedError(f"{access.user_id} is not locked")
        await record_within(connection, ACCESS_LOG, key, access)
