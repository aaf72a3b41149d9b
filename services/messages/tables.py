"""The tables of messages, and what is read from them.

A conversation has one row that counts: its lock is what puts a conversation's writes in order, so
sequences and revisions are dense and in commit order. The person is part of every key: there is no
statement that could reach another person's rows.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from inglenook.messages.v1.messages_pb2 import MessageState
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    literal,
    literal_column,
    select,
    text,
)

from services.runtime.audit.log import AccessLog
from services.runtime.encryption.data_key_table import Alive, DataKeyTable
from services.runtime.erasure import ErasedPeople
from services.runtime.locking import LockedPeople
from services.runtime.outbox import OutboxTable

METADATA = MetaData(schema="messages")

ERASED = ErasedPeople(METADATA)
LOCKED = LockedPeople(METADATA, ERASED)
ACCESS_LOG = AccessLog(METADATA, ERASED)
OUTBOX = OutboxTable(METADATA, scope=("session_id", "user_id"))

CONVERSATIONS = Table(
    "conversations",
    METADATA,
    Column("session_id", Uuid, primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
    Column("message_count", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    # When something was last said in it; null until something was.
    Column("activity_time", DateTime(timezone=True)),
    Column("delete_time", DateTime(timezone=True)),
    # As the sessions service told last of a legal hold, and when that was set or lifted.
    Column("is_held", Boolean, nullable=False, server_default=text("false")),
    Column("hold_change_time", DateTime(timezone=True)),
    # How many bytes of envelopes its messages take: right as of `counted_revision`, so right now
    # when that is its revision. Who counts raises both by as much. Who does not count raises the
    # revision alone, as the release before these columns does: then it is counted when needed.
    Column("bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("counted_revision", BigInteger, nullable=False, server_default=text("0")),
    Index("conversations_by_person", "user_id", "session_id", unique=True),
)

# A data key is made only for a conversation that is not erased. The lock keeps it so until the key
# is stored: who erases the conversation later sees the key, and erases it too.
_ALIVE = (
    select(literal(1))
    .select_from(CONVERSATIONS)
    .where(
        CONVERSATIONS.c.session_id == bindparam("session_id", type_=Uuid),
        CONVERSATIONS.c.user_id == bindparam("user_id", type_=Uuid),
        CONVERSATIONS.c.delete_time.is_(None),
    )
    .with_for_update(read=True)
    .exists()
)
DATA_KEYS = DataKeyTable(METADATA, scope=("session_id", "user_id"), alive=Alive(_ALIVE))

MESSAGES = Table(
    "messages",
    METADATA,
    Column("session_id", Uuid, primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    Column("message_id", Uuid, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("role", SmallInteger, nullable=False),
    # An envelope. Null in the tombstone that a deleted message leaves.
    Column("body", LargeBinary),
    # An envelope of the digest of the body that was first stored, once the message was changed: by
    # it a late repetition of the append is known.
    Column("original", LargeBinary),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    Column("import_time", DateTime(timezone=True)),
    Column("state", SmallInteger, nullable=False, server_default=text("1")),
    # Of a growing message, and of an interrupted one that may still be taken up: how many
    # characters it has, and which service writes it.
    Column("length", Integer),
    Column("writer_service", Text),
    # Of a growing message: since which revision its watchers have it, and get what it grows by; the
    # call that writes it, and until when that counts as alive.
    Column("begun_revision", BigInteger),
    Column("writer", Uuid),
    Column("writer_deadline", DateTime(timezone=True)),
    # Each is for the queries that state its condition, and for no others. All three indexes begin
    # with the conversation: to a planner that expects few messages in one they are equally good,
    # and finding a message by its id through another than the key would read the conversation.
    Index(
        "messages_by_sequence",
        "session_id",
        "user_id",
        "sequence",
        unique=True,
        postgresql_where=text("body IS NOT NULL"),
    ),
    Index(
        "messages_by_revision",
        "session_id",
        "user_id",
        "revision",
        unique=True,
        postgresql_where=text("revision > 0"),
    ),
    Index("messages_growing", "writer_deadline", postgresql_where=text("state = 2")),
    Index(
        "messages_by_person",
        "user_id",
        "create_time",
        "session_id",
        "sequence",
        postgresql_where=text("body IS NOT NULL"),
    ),
)

PARTS = Table(
    "message_parts",
    METADATA,
    Column("session_id", Uuid, primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    Column("message_id", Uuid, primary_key=True),
    # How many characters stand before it.
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    # An envelope.
    Column("body", LargeBinary, nullable=False),
)

SESSION = bindparam("session", type_=Uuid)
PERSON = bindparam("person", type_=Uuid)
THIS_CONVERSATION = and_(CONVERSATIONS.c.session_id == SESSION, CONVERSATIONS.c.user_id == PERSON)
# Of a conversation that was deleted, nothing is read any more, its rows purged or not.
IN_CONVERSATION = and_(
    MESSAGES.c.session_id == SESSION,
    MESSAGES.c.user_id == PERSON,
    select(literal(1))
    .select_from(CONVERSATIONS)
    .where(THIS_CONVERSATION, CONVERSATIONS.c.delete_time.is_(None))
    .exists(),
)

# Spelled out, as the index of growing messages states it.
GROWS = MESSAGES.c.state == literal_column(str(int(MessageState.MESSAGE_STATE_GROWING)))


@dataclass(frozen=True, slots=True)
class Conversation:
    """Names a person's conversation: the scope of its rows, its data keys and its feed."""

    session_id: UUID
    user_id: UUID

    @property
    def scope(self) -> tuple[UUID, UUID]:
        """The ids, in the order of the tables' keys."""
        return self.session_id, self.user_id

    @property
    def feed(self) -> str:
        """The name of its feed."""
        return f"{self.session_id}/{self.user_id}"

    @property
    def parameters(self) -> dict[str, object]:
        """What `SESSION` and `PERSON` stand for."""
        return {"session": self.session_id, "person": self.user_id}


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """How far a conversation has got."""

    revision: int
    delete_time: datetime | None
    is_held: bool


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message as stored."""

    message_id: UUID
    sequence: int
    revision: int
    role: int
    body: bytes | None
    """An envelope, or None when the message was deleted."""
    original: bytes | None
    create_time: datetime
    update_time: datetime
    import_time: datetime | None
    state: int
    length: int | None
    """How many characters a message has that grows, or that may still be taken up."""
    begun_revision: int | None
    """Since which revision a growing message's watchers have it."""
    writer_service: str | None
    """The service that writes it, or that may still take it up."""

    @property
    def grows(self) -> bool:
        """Whether somebody is writing it."""
        return self.state == MessageState.MESSAGE_STATE_GROWING


MESSAGE_COLUMNS = tuple(MESSAGES.c[field.name] for field in fields(MessageRow))
