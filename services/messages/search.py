"""SearchMessages: reads a person's messages, the newest first, and tells which hold the words.

There is no index of what was said, so a search costs what reading costs. It is bounded in three
ways: a call ends after its budget, with a token to go on from; a person has few searches under way;
and in a process one of them reads at a time, page by page in turn, so that a long one does not keep
others waiting. While a client is slow to take what was found, nothing is read for it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from inglenook.messages.v1.messages_pb2 import (
    Message,
    Role,
    SearchHit,
    SearchMessagesRequest,
    SearchMessagesResponse,
)

from services.messages.conversations import Conversations
from services.messages.matching import Excerpt, Query
from services.messages.metrics import SEARCHES
from services.messages.reading import Walk, body_unless_gone
from services.messages.scans import (
    LAST_SEQUENCE,
    THE_END,
    MessageScans,
    Moment,
    Numbers,
    ScannedRow,
)
from services.messages.slices import Slices
from services.messages.tables import Conversation
from services.runtime.cursors import Cursors
from services.runtime.errors import FieldViolation, request_invalid, server_busy
from services.runtime.identity import person
from services.runtime.pages import page_limit, page_place
from services.runtime.timestamps import timestamp_of

UNDER_WAY_FOR_A_PERSON = 3
"""How many searches of a person may be under way in a process: one for each letter typed at speed
while those before it are being cancelled, and no more than a person can look at."""
_RETRY_SECONDS = 1.0
# The contract's own rule for white space knows that of ASCII only.
_NO_WORD = FieldViolation("query", "must hold a word to look for", "query.word")
# How much is read, without a hit, before a frame says that the search goes on.
_MESSAGES_BETWEEN_FRAMES = 2_000
_BYTES_BETWEEN_FRAMES = 4 << 20


@dataclass(frozen=True, slots=True)
class SearchBudget:
    """What one call may cost."""

    messages: int = 50_000
    """Messages read: the whole of what most people have said."""
    bytes: int = 64 << 20
    """Bytes decrypted."""
    cpu_seconds: float = 2.0
    """Processor time: about what reading so many messages takes."""


@dataclass(slots=True)
class _Progress:
    """How far a call has got."""

    place: Numbers
    messages: int = 0
    bytes: int = 0
    found: int = 0
    slices: Slices = field(default_factory=Slices)
    hits: list[SearchHit] = field(default_factory=list)
    """Those that no frame has brought yet."""


class Searches:
    """The searches of a process."""

    def __init__(
        self,
        scans: MessageScans,
        conversations: Conversations,
        cursors: Cursors,
        *,
        turn: asyncio.Lock,
        budget: SearchBudget,
    ) -> None:
        """Takes what reads rows, what opens them, and what makes page tokens.

        `turn` is held while a page is read: whoever reads much in this process takes it. `budget`
        is each call's.
        """
        self._scans = scans
        self._conversations = conversations
        self._cursors = cursors
        self._budget = budget
        self._turn = turn
        self._under_way: Counter[UUID] = Counter()
        self._stopping = False

    def stop(self) -> None:
        """Ends every search after the page it reads: the token goes on at another process."""
        self._stopping = True

    async def frames(
        self, request: SearchMessagesRequest
    ) -> AsyncGenerator[SearchMessagesResponse, None]:
        """What a search finds, as it finds it.

        Raises:
            Refusal: SESSION_NOT_FOUND, PAGE_TOKEN_INVALID, REQUEST_INVALID when the query holds no
                word, or SERVER_BUSY while the person has too many searches under way.
            UnreadableError: a message does not open.
        """
        walk = self._walk(request)
        place = page_place(self._cursors, walk.purpose, request.page_token) or walk.start
        with self._one_more_of(person()):
            if request.session_id:
                await self._conversations.revision(Conversation(UUID(request.session_id), person()))
            query = Query(request.query)
            if query.is_empty:
                raise request_invalid([_NO_WORD])
            progress = _Progress(place)
            most = page_limit(request.page_size)
            async for is_last in self._pages(walk, query, progress, most):
                token = "" if is_last else self._cursors.make(walk.purpose, *progress.place)
                yield SearchMessagesResponse(
                    hits=progress.hits, messages_read=progress.messages, next_page_token=token
                )
                progress.hits = []

    async def _pages(
        self, walk: Walk, query: Query, progress: _Progress, most: int
    ) -> AsyncGenerator[bool, None]:
        """Reads page by page; gives, when there is something to tell, whether all was read."""
        told_messages = told_bytes = 0
        while True:
            async with self._turn:
                rows = await walk.page(progress.place)
                with progress.slices:
                    await self._read(walk, rows, query, progress, most)
            ends = progress.found >= most or self._is_spent(progress) or self._stopping
            if (
                not rows
                or ends
                or progress.hits
                or progress.messages - told_messages >= _MESSAGES_BETWEEN_FRAMES
                or progress.bytes - told_bytes >= _BYTES_BETWEEN_FRAMES
            ):
                told_messages, told_bytes = progress.messages, progress.bytes
                yield not rows
            if not rows or ends:
                return

    async def _read(
        self,
        walk: Walk,
        rows: Sequence[ScannedRow],
        query: Query,
        progress: _Progress,
        most: int,
    ) -> None:
        for row in rows:
            conversation = Conversation(row.session_id, person())
            body = await body_unless_gone(self._conversations, conversation, row)
            progress.place = walk.place(row)
            progress.messages += 1
            if body is not None:
                progress.bytes += len(body)
                excerpt = query.first_match(Message.FromString(body).content)
                if excerpt is not None:
                    progress.found += 1
                    progress.hits.append(_hit(row, excerpt))
            await progress.slices.pause_if_due()
            if progress.found >= most or self._is_spent(progress):
                return

    def _is_spent(self, progress: _Progress) -> bool:
        return (
            progress.messages >= self._budget.messages
            or progress.bytes >= self._budget.bytes
            or progress.slices.cpu_seconds >= self._budget.cpu_seconds
        )

    @contextmanager
    def _one_more_of(self, searching: UUID) -> Iterator[None]:
        """Counts a person's search as under way.

        Raises:
            Refusal: SERVER_BUSY, as many as may be are.
        """
        if self._under_way[searching] >= UNDER_WAY_FOR_A_PERSON:
            raise server_busy(_RETRY_SECONDS)
        self._under_way[searching] += 1
        try:
            with SEARCHES.track_inprogress():
                yield
        finally:
            self._under_way[searching] -= 1
            if not self._under_way[searching]:
                del self._under_way[searching]

    def _walk(self, request: SearchMessagesRequest) -> Walk:
        searching = person()
        if not request.session_id:
            return Walk(
                purpose=("messages.search", str(searching), request.query),
                start=THE_END.numbers,
                page=lambda numbers: self._scans.earlier(searching, Moment.of(numbers)),
                place=lambda row: row.moment.numbers,
            )
        conversation = Conversation(UUID(request.session_id), searching)
        return Walk(
            purpose=("messages.search", conversation.feed, request.query),
            start=(LAST_SEQUENCE,),
            page=lambda numbers: self._scans.earlier_in(conversation, numbers[0]),
            place=lambda row: (row.sequence,),
        )


def _hit(row: ScannedRow, excerpt: Excerpt) -> SearchHit:
    return SearchHit(
        session_id=str(row.session_id),
        message_id=str(row.message_id),
        sequence=row.sequence,
        role=Role.ValueType(row.role),
        create_time=timestamp_of(row.create_time),
        before=excerpt.before,
        match=excerpt.match,
        after=excerpt.after,
    )
