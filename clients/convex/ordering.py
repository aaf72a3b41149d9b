"""Messages in the order in which they were said, session by session, whatever order they stand in.

An export need not be sorted, may be larger than memory, and must not be written anywhere else. So
only where each message stands and what orders it is kept, 32 bytes for each; those are sorted, and
then the messages are read again, as many at a time as fit in memory, each time in one way through
the file from its front to its back.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from clients.convex.snapshot import Document, Snapshot, document_of

BATCH_BYTES = 16 << 20
"""How many bytes of lines are held at a time."""

# Big-endian and without signs, so that sorting the bytes sorts the numbers.
_ENTRY = struct.Struct(">IQQQI")
_MICROSECONDS = 1_000


@dataclass(frozen=True, slots=True)
class _Entry:
    session: int
    said: int
    stored: int
    offset: int
    length: int


class MessageOrder:
    """Where the messages of a table stand, by session and time."""

    def __init__(self) -> None:
        self._entries: list[bytes] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, session: int, times: tuple[float, float], offset: int, length: int) -> None:
        """Notes a message of the session of this number; its times are in milliseconds."""
        said, stored = (round(time * _MICROSECONDS) for time in times)
        self._entries.append(_ENTRY.pack(session, said, stored, offset, length))

    def read(self, snapshot: Snapshot, table: str) -> Iterator[tuple[int, Document]]:
        """Each message's session number and document, in order.

        Raises:
            SnapshotError: the file was changed since it was read first.
        """
        self._entries.sort()
        for batch in self._batches():
            lines: dict[int, bytes] = {}
            with snapshot.open(table) as file:
                for entry in sorted(batch, key=lambda entry: entry.offset):
                    file.seek(entry.offset)
                    lines[entry.offset] = file.read(entry.length)
            for entry in batch:
                where = f"what stands at byte {entry.offset} of {table}"
                yield entry.session, document_of(lines.pop(entry.offset), where)

    def _batches(self) -> Iterator[list[_Entry]]:
        batch: list[_Entry] = []
        size = 0
        for packed in self._entries:
            entry = _Entry(*_ENTRY.unpack(packed))
            if batch and size + entry.length > BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(entry)
            size += entry.length
        if batch:
            yield batch
