"""An import, from the snapshot to Inglenook: first all is read and checked, then all is sent."""

from collections.abc import AsyncIterator, Callable, Container, Iterator
from dataclasses import dataclass, field

from inglenook.messages.v1.messages_pb2 import Message

from clients.convex.documents import Documents, Session
from clients.convex.inglenook import Inglenook
from clients.convex.mapping import Mapping
from clients.convex.ordering import MessageOrder
from clients.convex.snapshot import Snapshot, SnapshotError

_Note = Callable[[str, str], None]
# One call of ImportMessages: seconds, where a token may live for a minute.
_CALL_BYTES = 1 << 20
_CALL_MESSAGES = 2_000
_SESSIONS_BETWEEN_COUNTS = 500


@dataclass(slots=True)
class Counts:
    """What became of what the snapshot holds."""

    people: int = 0
    sessions: int = 0
    messages: int = 0
    """How many are to be brought over."""
    of_others: int = 0
    """Sessions and messages of people whom the import is not about."""
    left_out: int = 0
    """What was reported."""
    opened: int = 0
    """Sessions that are there now."""
    imported: int = 0
    present: int = 0
    conflicting: int = 0


@dataclass(frozen=True, slots=True)
class _Owned:
    session: Session
    subject: str


@dataclass(slots=True)
class Plan:
    """What is to be brought over: the sessions, and where their messages stand."""

    snapshot: Snapshot
    mapping: Mapping
    texts: Container[str]
    sessions: list[_Owned] = field(default_factory=list)
    order: MessageOrder = field(default_factory=MessageOrder)
    counts: Counts = field(default_factory=Counts)

    def messages(self) -> Iterator[tuple[_Owned, str, Message]]:
        """Each message's session, Convex id and message, session by session in their order."""
        documents = Documents(self.mapping, texts=self.texts, report=lambda _id, _why: None)
        for number, document in self.order.read(self.snapshot, self.mapping.messages.table):
            owned = self.sessions[number]
            message = documents.message(document, owned.session.session_id)
            if message is not None:
                yield owned, str(document["_id"]), message


def planned(
    snapshot: Snapshot,
    mapping: Mapping,
    *,
    subject: str | None,
    texts: Container[str],
    report: Callable[[str, str], None],
) -> Plan:
    """Reads the whole snapshot once: what of it is to be brought over, for one person or for all.

    `texts` are the Convex ids of texts that only look sealed; `report` is told of each thing that
    is left out, by its Convex id.

    Raises:
        SnapshotError: the snapshot cannot be read, or the person is not in it.
        NotDecryptedError: it holds the app's ciphertext.
    """
    plan = Plan(snapshot, mapping, texts)
    counts = plan.counts

    def note(convex_id: str, why: str) -> None:
        counts.left_out += 1
        report(convex_id, why)

    documents = Documents(mapping, texts=texts, report=note)
    subjects = _subjects(snapshot, mapping, note)
    if subject is not None and subject not in subjects:
        raise SnapshotError(f"nobody in the table {mapping.users.table} is the token's person")
    others = _add_sessions(plan, documents, subjects, subject, note)
    _add_messages(plan, documents, others, note)
    counts.of_others += len(others)
    counts.people = len({owned.subject for owned in plan.sessions})
    counts.sessions, counts.messages = len(plan.sessions), len(plan.order)
    return plan


def _add_sessions(
    plan: Plan, documents: Documents, subjects: dict[str, str], subject: str | None, note: _Note
) -> set[str]:
    """Plans the sessions of a person, or of all; gives the Convex ids of other people's."""
    others = set()
    for line in plan.snapshot.documents(plan.mapping.sessions.table):
        session = documents.session(line.document)
        if session is None:
            continue
        owner = subjects.get(session.person)
        if owner is None:
            note(session.convex_id, "the session is of nobody in the snapshot and is left out")
        elif subject not in (None, owner):
            others.add(session.convex_id)
        else:
            plan.sessions.append(_Owned(session, owner))
    plan.sessions.sort(key=lambda owned: (owned.subject, owned.session.time))
    return others


def _add_messages(plan: Plan, documents: Documents, others: set[str], note: _Note) -> None:
    """Plans the messages of the sessions that are planned."""
    numbers = {owned.session.convex_id: at for at, owned in enumerate(plan.sessions)}
    for line in plan.snapshot.documents(plan.mapping.messages.table):
        of_session = str(line.document.get(plan.mapping.messages.session))
        number = numbers.get(of_session)
        if number is not None:
            session_id = plan.sessions[number].session.session_id
            if documents.message(line.document, session_id) is not None:
                times = documents.order_of(line.document)
                plan.order.add(number, times, line.offset, line.length)
        elif of_session in others:
            plan.counts.of_others += 1
        else:
            note(str(line.document["_id"]), "the message is of no session that is brought over")


def _subjects(snapshot: Snapshot, mapping: Mapping, note: _Note) -> dict[str, str]:
    """Each person's subject, by the id of their document and by itself."""
    subjects: dict[str, str] = {}
    for line in snapshot.documents(mapping.users.table):
        convex_id = str(line.document["_id"])
        subject = line.document.get(mapping.users.subject)
        if isinstance(subject, str) and subject:
            subjects[convex_id] = subjects[subject] = subject
        else:
            note(convex_id, "the person has no subject and is left out with all that is theirs")
    return subjects


async def send(
    plan: Plan, inglenook: Inglenook, *, report: Callable[[str, str], None]
) -> AsyncIterator[Counts]:
    """Sends what was planned; gives the counts after each call.

    Raises:
        RefusedError: Inglenook refuses a call. What was sent is kept; the import can be repeated.
    """
    counts = plan.counts
    for owned in plan.sessions:
        await inglenook.open_session(owned.subject, owned.session)
        counts.opened += 1
        if counts.opened % _SESSIONS_BETWEEN_COUNTS == 0:
            yield counts
    for subject, names, messages in _calls(plan):
        became = await inglenook.bring_in(subject, messages)
        counts.imported += became.imported
        counts.present += became.present
        counts.conflicting += became.conflicting
        for message_id in became.conflicting_message_ids:
            report(names[message_id], "the message is there with other content, and stays so")
        yield counts


def _calls(plan: Plan) -> Iterator[tuple[str, dict[str, str], list[Message]]]:
    """The messages of each call: whose they are, their Convex ids by their own, and they."""
    subject, size = "", 0
    names: dict[str, str] = {}
    messages: list[Message] = []
    for owned, convex_id, message in plan.messages():
        full = len(messages) == _CALL_MESSAGES or size >= _CALL_BYTES
        if messages and (full or owned.subject != subject):
            yield subject, names, messages
            names, messages, size = {}, [], 0
        subject = owned.subject
        names[message.message_id] = convex_id
        messages.append(message)
        size += message.ByteSize()
    if messages:
        yield subject, names, messages
