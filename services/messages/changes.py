"""What an update makes of a message's body."""

from collections.abc import Iterator

from google.protobuf.struct_pb2 import Struct
from inglenook.messages.v1.messages_pb2 import Message, UpdateMessageRequest

from services.messages.body import check_metadata, sealable
from services.runtime.errors import FieldViolation, Refusal, request_invalid


def changed_body(body: bytes, request: UpdateMessageRequest) -> bytes:
    """The body after an update.

    A mask names what changes, and a named field that is not set is cleared; without a mask, what is
    set changes (AIP-134).

    Raises:
        Refusal: REQUEST_INVALID, the mask or the metadata that would result.
    """
    message = Message.FromString(body)
    for field in request.update_mask.paths or _fields_set(request):
        match field:
            case "content":
                if not request.content:
                    raise _mask_refused("names content, which is not set and cannot be cleared")
                message.content = request.content
            case "model":
                message.model = request.model
            case "metadata":
                _change_metadata(message, request)
            case _:
                raise _mask_refused("names a key of the metadata: use metadata_patch")
    return sealable(message)


def _fields_set(request: UpdateMessageRequest) -> Iterator[str]:
    for field in ("content", "model"):
        if request.HasField(field):
            yield field
    if request.HasField("metadata") or request.HasField("metadata_patch"):
        yield "metadata"


def _change_metadata(message: Message, request: UpdateMessageRequest) -> None:
    if request.HasField("metadata_patch"):
        _patch(message.metadata, request.metadata_patch)
    else:
        message.metadata.CopyFrom(request.metadata)
    if message.metadata.fields:
        check_metadata(message.metadata)
    else:
        message.ClearField("metadata")


def _patch(held: Struct, patch: Struct) -> None:
    """Merges a JSON Merge Patch (RFC 7396) into an object."""
    for key, value in patch.fields.items():
        match value.WhichOneof("kind"):
            case "null_value":
                held.fields.pop(key, None)
            case "struct_value":
                inner = held.fields[key].struct_value
                inner.SetInParent()  # An empty object is one, too.
                _patch(inner, value.struct_value)
            case _:
                held.fields[key].CopyFrom(value)


def _mask_refused(description: str) -> Refusal:
    return request_invalid([FieldViolation("update_mask", description, "update_mask.paths")])
