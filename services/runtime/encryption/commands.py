"""The commands that look after a service's keys: `python -m services.<name> keys …`."""

import argparse
from collections.abc import AsyncIterator

from services.runtime.database import Database
from services.runtime.encryption.data_key_table import DataKeyTable, KekUseRow
from services.runtime.encryption.key_encryption_keys import KeyEncryptionKeys
from services.runtime.encryption.key_provider import KeyAdministration, KeyProviderError
from services.runtime.encryption.rotation import Rotation


def add_keys_commands(parser: argparse.ArgumentParser) -> None:
    """Adds the commands to the parser of `keys`."""
    commands = parser.add_subparsers(dest="keys_command", metavar="command", required=True)
    commands.add_parser("status", help="list the key-encryption keys and what they wrap")
    commands.add_parser("add", help="make a new key-encryption key, not in use yet")
    commands.add_parser("rotate", help="use the newest one, and re-wrap every data key with it")
    retire = commands.add_parser("retire", help="give up one that wraps nothing any more")
    retire.add_argument("kek", metavar="KEK", help="its id, as `keys status` shows it")


class KeysCommand:
    """Runs one of the commands, a line of text at a time."""

    def __init__(
        self, database: Database, table: DataKeyTable, provider: KeyAdministration
    ) -> None:
        """Takes where a service's data keys are, and what wraps them."""
        self._database = database
        self._table = table
        self._provider = provider
        self._key_encryption_keys = KeyEncryptionKeys(database, table)

    def run(self, arguments: argparse.Namespace) -> AsyncIterator[str]:
        """What the command has to say, while it does it.

        Raises:
            KeyProviderError: it cannot be done; the text says why and what to do.
        """
        match arguments.keys_command:
            case "status":
                return self._status()
            case "add":
                return self._add()
            case "rotate":
                return self._rotate()
            case _:
                return self._retire(str(arguments.kek))

    async def _status(self) -> AsyncIterator[str]:
        active = await self._provider.active()
        rows = list(await self._key_encryption_keys.all())
        if active not in {row.kek_id for row in rows}:
            rows.append(KekUseRow(active, None, None, 0))
        width = max(len("key-encryption key"), *(len(row.kek_id) for row in rows))
        yield f"{'key-encryption key':<{width}}  state    data keys"
        for row in rows:
            yield f"{row.kek_id:<{width}}  {_state(row, active):<7}  {row.data_keys:>9,}"

    async def _add(self) -> AsyncIterator[str]:
        kek_id = await self._provider.add()
        await self._key_encryption_keys.register(kek_id)
        yield f"Added {kek_id}."
        if await self._provider.active() == kek_id:
            yield "New data keys are wrapped with it already; `keys rotate` re-wraps the others."
        else:
            yield "Make sure that every replica and your backup have it; then run `keys rotate`."

    async def _rotate(self) -> AsyncIterator[str]:
        kek_id = await self._provider.newest()
        # On the books first, so that a service that sees it active can store under it.
        await self._key_encryption_keys.register(kek_id)
        if await self._provider.active() != kek_id:
            await self._provider.activate(kek_id)
            yield f"{kek_id} is the active key now."
        rotation = Rotation(self._database, self._table, self._provider, kek_id)
        async for step in rotation.run():
            yield f"Re-wrapped {step.rewrapped:,} of {step.to_do:,} data keys."
        if rotation.damaged:
            ids = ", ".join(sorted(map(str, rotation.damaged)))
            raise KeyProviderError(
                "these data keys do not unwrap and stay as they are; restore their rows of the"
                f" table data_keys from a backup, and run `keys rotate` again: {ids}"
            )
        left = await rotation.left()
        if left:
            are = "data key is" if left == 1 else "data keys are"
            raise KeyProviderError(f"{left:,} {are} left: run `keys rotate` again")
        yield f"Every data key is wrapped by {kek_id}."

    async def _retire(self, kek_id: str) -> AsyncIterator[str]:
        if kek_id == await self._provider.active():
            raise KeyProviderError(
                f"{kek_id} is the active key: run `keys add` and `keys rotate` first"
            )
        await self._key_encryption_keys.retire(kek_id)
        yield f"Retired {kek_id}: no service can wrap a data key with it any more."
        yield await self._provider.remove(kek_id)


def _state(row: KekUseRow, active: str) -> str:
    if row.retire_time is not None:
        return "retired"
    if row.kek_id == active:
        return "active"
    return "in use" if row.data_keys else "unused"
