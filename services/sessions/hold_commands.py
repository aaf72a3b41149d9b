"""The commands of legal holds: `python -m services.sessions hold | release | holds`."""

import argparse
import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from services.runtime.audit.commands import add_operator, by_operator
from services.runtime.audit.recorder import record
from services.runtime.database import Database
from services.sessions.holds import (
    NothingToHoldError,
    change_hold,
    find_hold,
    held_sessions,
    not_told,
)
from services.sessions.store import ACCESS_LOG

HOLD_COMMANDS = ("hold", "release", "holds")

_WAIT_SECONDS = 10.0
_LOOK_SECONDS = 0.2
_REFERENCE_CHARACTERS = 200


class HoldError(Exception):
    """A hold is not as the command would have it, or not everywhere yet; the text says so."""


def add_hold_commands(commands: Any) -> None:  # noqa: ANN401 - argparse names no type for it
    """Adds the commands to those of the service."""
    add_operator(commands.add_parser("holds", help="list the sessions under a legal hold"))
    for name, what in (
        ("hold", "put a session under a legal hold: nothing of it is deleted or changed"),
        ("release", "lift the legal hold on a session"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("person", type=UUID, metavar="PERSON", help="whose session it is")
        command.add_argument("session", type=UUID, metavar="SESSION", help="the session's id")
        add_operator(command)
        command.add_argument(
            "--reference",
            type=_reference,
            default="",
            metavar="TEXT",
            help="what it is for, as the person will read it: a number of your own files",
        )


async def hold_lines(
    database: Database, key: bytes, arguments: argparse.Namespace
) -> AsyncIterator[str]:
    """What one of the commands has to say; `key` is that of the access logs' chains.

    Raises:
        HoldError: the session cannot be held or released, or is not everywhere yet.
    """
    if arguments.command == "holds":
        rows = await held_sessions(database)
        listed = [
            by_operator(arguments, row.user_id, "holds", session=row.session_id) for row in rows
        ]
        await record(database, ACCESS_LOG, key, listed)
        for row in rows:
            since = row.hold_change_time.isoformat(timespec="seconds")
            noted = f"  {row.hold_reference}" if row.hold_reference else ""
            yield f"{row.user_id} {row.session_id}  since {since}{noted}"
        if not rows:
            yield "No session is under a legal hold."
        return
    person: UUID = arguments.person
    session: UUID = arguments.session
    held = arguments.command == "hold"
    access = by_operator(
        arguments, person, arguments.command, session=session, reference=arguments.reference
    )
    try:
        changed = await change_hold(database, key, access, session, held=held)
    except NothingToHoldError:
        what = "session" if held else "session that was ever under a legal hold:"
        raise HoldError(f"{person} has no {what} {session}") from None
    if not changed:
        yield f"{session} was {'under a' if held else 'under no'} legal hold already."
    waiting = await _heard_of(database, person, session)
    if held and await find_hold(database, person, session) is None:
        raise HoldError(f"{person} was erased, and {session} with them")
    if waiting:
        raise HoldError(
            f"{session} is {'held' if held else 'released'} here. {' and '.join(waiting)} did not"
            " hear of it yet, and will be told: repeat this to see"
        )
    yield (
        f"{session} is under a legal hold everywhere."
        if held
        else f"{session} is under no legal hold any more, anywhere."
    )


async def _heard_of(database: Database, person: UUID, session: UUID) -> list[str]:
    """Waits a while until the others have heard of a hold; gives those that have not."""
    deadline = asyncio.get_running_loop().time() + _WAIT_SECONDS
    while waiting := await not_told(database, person, session):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    return waiting


def _reference(text: str) -> str:
    if len(text) > _REFERENCE_CHARACTERS:
        raise argparse.ArgumentTypeError(f"has more than {_REFERENCE_CHARACTERS} characters")
    return text
