"""The commands that prove an access log: `python -m services.<name> audit …`."""

import argparse
import getpass
import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from inglenook.audit.v1.audit_pb2 import ActorKind

from services.runtime.audit.chain import Access, Walk, chain_key
from services.runtime.audit.log import AccessLog
from services.runtime.cursors import read_token_key
from services.runtime.database import Database
from services.runtime.settings import DatabaseSettings

_PEOPLE_AT_ONCE = 200
_ENTRIES_AT_ONCE = 1_000


class AuditSettings(DatabaseSettings):
    """What is needed to prove an access log, or to add to it."""

    token_key_file: Path
    """The service's token key, from which that of its chains is derived."""


class BrokenLogError(Exception):
    """Logs are not what was recorded; the text says how many."""


def add_audit_commands(parser: argparse.ArgumentParser) -> None:
    """Adds the commands to the parser of `audit`."""
    commands = parser.add_subparsers(dest="audit_command", metavar="command", required=True)
    verify = commands.add_parser("verify", help="go through every access log, and report breaks")
    verify.add_argument(
        "--former-key",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a token key that the service had before; may be given several times",
    )


def add_operator(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says who runs a command about a person."""
    parser.add_argument(
        "--operator",
        default=account(),
        metavar="NAME",
        help="who you are, as the person will read it (the name of your account here)",
    )


def account() -> str:
    """Who runs this, by name; or by number where the machine has none, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def by_operator(
    arguments: argparse.Namespace,
    person: UUID,
    command: str,
    *,
    session: UUID | None = None,
    reference: str = "",
) -> Access:
    """That a command of an operator's is about a person, or about one of their sessions."""
    kind = ActorKind.ACTOR_KIND_OPERATOR
    now = datetime.now(UTC)
    return Access(person, now, kind, arguments.operator, command, session, reference)


async def audit_lines(
    database: Database, log: AccessLog, settings: AuditSettings, arguments: argparse.Namespace
) -> AsyncIterator[str]:
    """What `audit verify` finds: a line for each break, and how much was looked at.

    Raises:
        BrokenLogError: there are breaks.
        OSError, ValueError: a key cannot be read.
    """
    files = [settings.token_key_file, *arguments.former_key]
    keys = [chain_key(read_token_key(file), log.service) for file in files]
    people = broken = 0
    after = UUID(int=0)
    while True:
        page = await database.all(log.people, {"after": after, "limit": _PEOPLE_AT_ONCE})
        for row in page:
            # Whoever seems broken may have been erased meanwhile: they are looked at once more.
            breaks = await _breaks(database, log, keys, row.user_id) and await _breaks(
                database, log, keys, row.user_id
            )
            broken += bool(breaks)
            for found in breaks:
                yield f"{row.user_id}: {found}"
        people += len(page)
        if len(page) < _PEOPLE_AT_ONCE:
            break
        after = page[-1].user_id
    if broken:
        raise BrokenLogError(f"the access logs of {broken:,} of {people:,} people are broken")
    yield f"The access logs of {people:,} people are whole."


async def _breaks(
    database: Database, log: AccessLog, keys: Sequence[bytes], person: UUID
) -> list[str]:
    """Where a person's log is not what was recorded, up to where it was at the beginning."""
    head = await database.one(log.head, {"person": person})
    last = 0 if head is None else head.sequence
    walk, breaks, after = Walk(keys), list[str](), 0
    while True:
        some = {"person": person, "after": after, "last": last, "limit": _ENTRIES_AT_ONCE}
        entries = await database.all(log.oldest, some)
        breaks += [found for entry in entries for found in walk.past(entry)]
        if len(entries) < _ENTRIES_AT_ONCE:
            break
        after = entries[-1].sequence
    if head is not None:
        breaks += walk.to_the_end(head)
    beyond = await database.one(log.beyond, {"person": person})
    if beyond is not None and beyond.count:
        where = "without a head" if head is None else "beyond the head"
        breaks.append(f"entries {where}: {beyond.count:,}")
    return breaks
