"""What waits to be written, and what of it is written next.

Each conversation's writes are written in the order in which they came, and never by two batches at
once: so batches of one process don't wait for each other's row locks, and a conversation with a lot
to say takes its turn like any other. This is bookkeeping alone; `writer.py` does the writing.
"""

from collections import deque
from collections.abc import Collection, Sequence
from uuid import UUID

from services.messages.appends import Append
from services.messages.parts import Growth
from services.messages.tables import Conversation

Write = Append | Growth
"""What a conversation can get."""


class BacklogFullError(Exception):
    """More waits than may wait."""


class Backlog:
    """Writes that wait, bounded in number and in bytes."""

    def __init__(self, *, maximum_writes: int, maximum_bytes: int) -> None:
        """Takes how many may wait, and how many bytes their bodies may have together."""
        self._maximum_writes = maximum_writes
        self._maximum_bytes = maximum_bytes
        self._waiting: dict[Conversation, deque[Write]] = {}
        # Those of which something waits and nothing is being written, in the order of their turn.
        self._ready: dict[Conversation, None] = {}
        self._being_written: set[Conversation] = set()
        self._writes = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._writes

    @property
    def size(self) -> int:
        """How many bytes the bodies of the waiting writes have."""
        return self._bytes

    @property
    def ready(self) -> bool:
        """Whether something waits that can be written now."""
        return bool(self._ready)

    def add(self, writes: Sequence[Write]) -> None:
        """Lets writes wait, all of them or none.

        Raises:
            BacklogFullError: too many wait already. One call's are always taken when none wait.
        """
        size = sum(len(write.body) for write in writes)
        too_many = self._writes + len(writes) > self._maximum_writes
        if self._writes and (too_many or self._bytes + size > self._maximum_bytes):
            raise BacklogFullError
        self._writes += len(writes)
        self._bytes += size
        for write in writes:
            self._waiting.setdefault(write.conversation, deque()).append(write)
            if write.conversation not in self._being_written:
                self._ready[write.conversation] = None

    def take(self, *, writes: int, size: int) -> list[Write]:
        """The next batch: at most so many writes, and no more bytes once it has `size` of them.

        Their conversations rest until `written` says that the batch was written. An empty list
        means that nothing can be written now. No two of a batch have the same message id in the
        same conversation: the second of them must see what became of the first.
        """
        batch: list[Write] = []
        taken_bytes = 0
        while self._ready and len(batch) < writes and taken_bytes < size:
            conversation = next(iter(self._ready))
            del self._ready[conversation]
            waiting = self._waiting[conversation]
            ids: set[UUID] = set()
            while waiting and len(batch) < writes and taken_bytes < size:
                if waiting[0].message_id in ids:
                    break
                write = waiting.popleft()
                self._writes -= 1
                self._bytes -= len(write.body)
                if write.stored.done():
                    continue
                ids.add(write.message_id)
                batch.append(write)
                taken_bytes += len(write.body)
            if ids:
                self._being_written.add(conversation)
            if not waiting:
                del self._waiting[conversation]
            elif not ids:
                self._ready[conversation] = None
        return batch

    def written(self, batch: Collection[Write]) -> None:
        """Gives the conversations of a batch their turn again."""
        for conversation in {write.conversation: None for write in batch}:
            self._being_written.discard(conversation)
            if conversation in self._waiting:
                self._ready[conversation] = None
