"""What a document of the app is in Inglenook, and what of it cannot be brought over.

The contract's limits are the contract's own rules, asked of its messages. Whatever breaks one is
reported and left out, never cut. Ids are UUIDs made of Convex's, so that an import can be repeated.
"""

import base64
import json
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from uuid import UUID, uuid5

import protovalidate
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.struct_pb2 import Struct
from inglenook.messages.v1.messages_pb2 import Message, Role
from inglenook.sessions.v1.sessions_pb2 import CreateSessionRequest

from clients.convex.mapping import Mapping
from clients.convex.snapshot import Document

NAMESPACE = UUID("6f0c1f5e-6f2b-5d0c-9d53-3a6a2f0a7c11")
"""Fixed for ever: with another, a repeated import would bring everything once more."""

Report = Callable[[str, str], None]
"""Is told of something that is left out: the Convex id, and what and why in a sentence."""

_ROLES = {
    "user": Role.ROLE_USER,
    "assistant": Role.ROLE_ASSISTANT,
    "system": Role.ROLE_SYSTEM,
}
_MICROSECONDS = 1_000
# The last moment that a protobuf timestamp holds, in milliseconds.
_LAST_TIME = 253_402_300_799_999
# How the app seals a text: salt, nonce, tag and at least a byte, in base64 and nothing else.
_SEALED_BYTES = 32 + 16 + 16 + 1
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
# What the app shows, and a careless dump holds, where a text did not open.
_UNAVAILABLE = frozenset({"[Message content unavailable]", "[Report content unavailable]"})


_METADATA_BYTES = 16_384
_NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class NotDecryptedError(Exception):
    """A document holds the app's ciphertext instead of a text; the text names its Convex id."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session of the app."""

    convex_id: str
    person: str
    """The id of its person's document, or the person's subject."""
    title: str
    completed: bool
    time: float
    """When something last happened in it, in milliseconds since 1970."""

    @property
    def session_id(self) -> str:
        """Its id in Inglenook."""
        return inglenook_id(self.convex_id)


class Documents:
    """Reads the app's documents as what they are in Inglenook."""

    def __init__(self, mapping: Mapping, *, texts: Container[str], report: Report) -> None:
        """Takes where what is; the Convex ids of texts that only look sealed; and who is told."""
        self._mapping = mapping
        self._texts = texts
        self._report = report
        self._validator = protovalidate.Validator()

    def session(self, document: Document) -> Session | None:
        """A session; None when it cannot be brought over.

        Raises:
            NotDecryptedError: its title is sealed.
        """
        fields, convex_id = self._mapping.sessions, str(document["_id"])
        person = document.get(fields.person)
        if not isinstance(person, str):
            self._report(convex_id, "the session names no person and is left out")
            return None
        title = document.get(fields.title) or ""
        self._require_open(convex_id, title)
        if not (isinstance(title, str) and _is_unicode(title) and self._is_title(title)):
            self._report(convex_id, "the session is opened without its title, which is no title")
            title = ""
        return Session(
            convex_id=convex_id,
            person=person,
            title=title,
            completed=document.get(fields.status) in fields.completed,
            time=_time_of(document, fields.time) or 0,
        )

    def message(self, document: Document, session_id: str) -> Message | None:
        """A message of a session of Inglenook; None when it cannot be brought over.

        Raises:
            NotDecryptedError: its content is sealed.
        """
        fields, convex_id = self._mapping.messages, str(document["_id"])
        content = document.get(fields.content)
        self._require_open(convex_id, content)
        message = Message(session_id=session_id, message_id=inglenook_id(convex_id))
        why_not = self._say(
            message, content, document.get(fields.role), _time_of(document, fields.time)
        )
        if why_not:
            self._report(convex_id, f"the message is left out: {why_not}")
            return None
        self._add_model(message, convex_id, document.get(fields.model))
        self._add_metadata(message, convex_id, document.get(fields.metadata))
        return message

    def order_of(self, document: Document) -> tuple[float, float]:
        """What messages of a session are ordered by: when they were said, then stored."""
        said = _time_of(document, self._mapping.messages.time)
        return said or 0, _time_of(document, "_creationTime") or 0

    def _is_title(self, title: str) -> bool:
        return not self._broken_rules(CreateSessionRequest(title=title))

    def _say(self, message: Message, content: object, role: object, time: float | None) -> str:
        """Gives a message what it cannot be without; what is wrong with that, or nothing."""
        roles = self._mapping.messages.roles
        if not isinstance(content, str) or not _is_unicode(content):
            return "it has no content"
        if not isinstance(role, str) or role not in roles:
            return "its role is not known"
        if time is None:
            return "it has no time"
        message.content = content
        message.role = _ROLES[roles[role]]
        message.create_time.FromMicroseconds(round(time * _MICROSECONDS))
        message.update_time.CopyFrom(message.create_time)
        return self._broken_rules(message)

    def _add_model(self, message: Message, convex_id: str, model: object) -> None:
        if isinstance(model, str) and _is_unicode(model):
            message.model = model
            if not self._broken_rules(message):
                return
            message.ClearField("model")
        if model is not None:
            self._report(convex_id, "the message comes without its model, which is no name of one")

    def _add_metadata(self, message: Message, convex_id: str, metadata: object) -> None:
        if metadata is None:
            return
        # A value that is no object is kept in one, under a name of its own.
        named = metadata if isinstance(metadata, dict) else {"value": metadata}
        try:
            ParseDict(named, message.metadata)
            fits = _fits(message.metadata)
        except (ParseError, ValueError, RecursionError):
            fits = False
        if not fits:
            message.ClearField("metadata")
            self._report(convex_id, "the message comes without its metadata, which does not fit")

    def _broken_rules(self, message: Message | CreateSessionRequest) -> str:
        """The contract's rules that a message breaks, as a sentence; empty when it keeps them."""
        return "; ".join(
            f"its {_path_of(violation)} {violation.proto.message}"
            for violation in self._validator.collect_violations(message)
        )

    def _require_open(self, convex_id: str, text: object) -> None:
        if isinstance(text, str) and convex_id not in self._texts and looks_sealed(text):
            raise NotDecryptedError(
                f"{convex_id} looks like the app's ciphertext, not like a text. Nothing was sent:"
                " decrypt the dump with the app's own key first. If it is what somebody wrote,"
                f" say so: --is-text {convex_id}"
            )


def inglenook_id(convex_id: str) -> str:
    """The id that a document has in Inglenook."""
    return str(uuid5(NAMESPACE, convex_id))


def looks_sealed(text: str) -> bool:
    """Whether a text is what the app stores, or shows where that did not open."""
    if text in _UNAVAILABLE:
        return True
    # Random bytes hold letters of both cases; a long word or a row of one letter does not.
    mixed = not text.islower() and not text.isupper()
    if len(text) % 4 or not mixed or not _BASE64.fullmatch(text):
        return False
    return len(base64.b64decode(text)) >= _SEALED_BYTES


def _path_of(violation: protovalidate.Violation) -> str:
    field = violation.proto.field
    return ".".join(step.field_name for step in field.elements) if field is not None else ""


def _is_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which JSON can spell and no text holds."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fits(metadata: Struct) -> bool:
    """Whether metadata keeps the rules that the contract has in words only."""
    compact = json.dumps(MessageToDict(metadata), ensure_ascii=False, separators=(",", ":"))
    return len(compact.encode()) <= _METADATA_BYTES and not _NUL_IN_JSON.search(compact)


def _time_of(document: Document, field: str) -> float | None:
    """A time in milliseconds since 1970: the field's, or else that of the document's creation."""
    for time in (document.get(field), document.get("_creationTime")):
        if isinstance(time, int | float) and not isinstance(time, bool) and 0 <= time <= _LAST_TIME:
            return float(time)
    return None
