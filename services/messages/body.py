"""A message's body: what a person or a model said, as it is sealed.

The plaintext is a `Message` of the contract with only its content, model and metadata set. It is
serialised deterministically, so equal bodies have equal bytes.
"""

import hashlib
import json
import math
from uuid import UUID

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct, Value
from inglenook.messages.v1.messages_pb2 import (
    AppendMessageRequest,
    Message,
    MessageState,
    Role,
    StreamMessageHeader,
)

from services.messages.tables import Conversation, MessageRow
from services.runtime.encryption.envelope import Place
from services.runtime.errors import FieldViolation, request_invalid
from services.runtime.etags import etag_of
from services.runtime.timestamps import timestamp_of

_METADATA_BYTES = 16_384
# JSON takes at most so many times the bytes of a Struct: a control character is one, or \\u0001.
_JSON_GROWTH = 6


def body_of(said: AppendMessageRequest | Message | StreamMessageHeader) -> bytes:
    """The body of the message that a request adds or begins, or of one that is imported.

    Raises:
        Refusal: REQUEST_INVALID, the metadata is too large or is no JSON.
    """
    body = Message(model=said.model)
    if not isinstance(said, StreamMessageHeader):
        body.content = said.content
    if said.metadata.fields:
        check_metadata(said.metadata)
        body.metadata.CopyFrom(said.metadata)
    return sealable(body)


def sealable(body: Message) -> bytes:
    """A body's bytes: equal bodies have equal ones."""
    return body.SerializeToString(deterministic=True)


def body_alone(message: Message) -> Message:
    """A message with nothing but its body."""
    body = Message(content=message.content, model=message.model)
    if message.HasField("metadata"):
        body.metadata.CopyFrom(message.metadata)
    return body


def digest_of(body: bytes) -> bytes:
    """What is kept of the body that was first stored (SHA-256): enough to know it again."""
    return hashlib.sha256(body).digest()


def message_of(conversation: Conversation, row: MessageRow, body: bytes) -> Message:
    """A stored message, with its body opened, as the contract has it."""
    message = Message.FromString(body)
    message.session_id = str(conversation.session_id)
    message.message_id = str(row.message_id)
    message.sequence = row.sequence
    message.state = MessageState.ValueType(row.state)
    message.role = Role.ValueType(row.role)
    message.create_time.CopyFrom(timestamp_of(row.create_time))
    message.update_time.CopyFrom(timestamp_of(row.update_time))
    message.etag = etag_of(row.revision)
    if row.import_time is not None:
        message.import_time.CopyFrom(timestamp_of(row.import_time))
    return message


def place_of(
    conversation: Conversation, message_id: UUID, field: str = "body", *, part: int | None = None
) -> Place:
    """Where a message's body is stored, or another of its sealed fields.

    `part` names one of a growing message by how many characters stand before it.
    """
    row = (conversation.session_id, message_id)
    if part is None:
        return Place(table="messages", field=field, owner=conversation.user_id, row=row)
    row_of_part = (*row, UUID(int=part))
    return Place(table="message_parts", field="body", owner=conversation.user_id, row=row_of_part)


def check_metadata(metadata: Struct) -> None:
    """Makes sure that metadata is what the contract allows.

    Raises:
        Refusal: REQUEST_INVALID, it is too large or is no JSON.
    """
    if not all(_is_json(value) for value in metadata.fields.values()) or _has_nul(metadata):
        raise _metadata_refused("must hold no NUL and only numbers that JSON has", "json")
    if metadata.ByteSize() * _JSON_GROWTH <= _METADATA_BYTES:
        return
    compact = json.dumps(MessageToDict(metadata), ensure_ascii=False, separators=(",", ":"))
    if len(compact.encode()) > _METADATA_BYTES:
        raise _metadata_refused(f"must be at most {_METADATA_BYTES} bytes as JSON", "max_bytes")


def _is_json(value: Value) -> bool:
    match value.WhichOneof("kind"):
        case "number_value":
            return math.isfinite(value.number_value)
        case "struct_value":
            return all(_is_json(inner) for inner in value.struct_value.fields.values())
        case "list_value":
            return all(_is_json(inner) for inner in value.list_value.values)
        case None:
            return False
        case _:
            return True


def _has_nul(metadata: Struct) -> bool:
    pending: list[Value] = [Value(struct_value=metadata)]
    while pending:
        value = pending.pop()
        if "\0" in value.string_value or any("\0" in key for key in value.struct_value.fields):
            return True
        pending += value.struct_value.fields.values()
        pending += value.list_value.values
    return False


def _metadata_refused(description: str, rule: str) -> Exception:
    return request_invalid([FieldViolation("metadata", description, f"metadata.{rule}")])
