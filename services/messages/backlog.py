"""The appends that wait to be written, and which of them are written next.

Each conversation's appends are written in the order in which they came, and never by two batches at
once: so batches of one process don't wait for each other's row locks, and a conversation with a lot
to say takes its turn like any other. This is bookkeeping alone; `writer.py` does the writing.
"""

from collections import deque
from collections.abc import Collection, Sequence
from uuid import UUID

from services.messages.appends import Append
from services.messages.tables import Conversation


class BacklogFullError(Exception):
    """More waits than may wait."""


class Backlog:
    """Appends that wait, bounded in number and in bytes."""

    def __init__(self, *, maximum_appends: int, maximum_bytes: int) -> None:
        """Takes how many may wait, and how many bytes their bodies may have together."""
        self._maximum_appends = maximum_appends
        self._maximum_bytes = maximum_bytes
        self._waiting: dict[Conversation, deque[Append]] = {}
        # Those of which something waits and nothing is being written, in the order of their turn.
        self._ready: dict[Conversation, None] = {}
        self._being_written: set[Conversation] = set()
        self._appends = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._appends

    @property
    def ready(self) -> bool:
        """Whether something waits that can be written now."""
        return bool(self._ready)

    def add(self, appends: Sequence[Append]) -> None:
        """Lets appends wait, all of them or none.

        Raises:
            BacklogFullError: too many wait already. One call's are always taken when none wait.
        """
        size = sum(len(append.body) for append in appends)
        too_many = self._appends + len(appends) > self._maximum_appends
        if self._appends and (too_many or self._bytes + size > self._maximum_bytes):
            raise BacklogFullError
        self._appends += len(appends)
        self._bytes += size
        for append in appends:
            self._waiting.setdefault(append.conversation, deque()).append(append)
            if append.conversation not in self._being_written:
                self._ready[append.conversation] = None

    def take(self, *, appends: int, size: int) -> list[Append]:
        """The next batch: at most so many appends, and no more bytes once it has `size` of them.

        Their conversations rest until `written` says that the batch was written. An empty list
        means that nothing can be written now. No two of a batch have the same message id in the
        same conversation: the second of them must see what became of the first.
        """
        batch: list[Append] = []
        taken_bytes = 0
        while self._ready and len(batch) < appends and taken_bytes < size:
            conversation = next(iter(self._ready))
            del self._ready[conversation]
            waiting = self._waiting[conversation]
            ids: set[UUID] = set()
            while waiting and len(batch) < appends and taken_bytes < size:
                if waiting[0].message_id in ids:
                    break
                append = waiting.popleft()
                self._appends -= 1
                self._bytes -= len(append.body)
                if append.stored.done():
                    continue
                ids.add(append.message_id)
                batch.append(append)
                taken_bytes += len(append.body)
            if ids:
                self._being_written.add(conversation)
            if not waiting:
                del self._waiting[conversation]
            elif not ids:
                self._ready[conversation] = None
        return batch

    def written(self, batch: Collection[Append]) -> None:
        """Gives the conversations of a batch their turn again."""
        for conversation in {append.conversation: None for append in batch}:
            self._being_written.discard(conversation)
            if conversation in self._waiting:
                self._ready[conversation] = None
