"""What an update makes of a message's body."""

import re

from google.protobuf.struct_pb2 import Struct
from inglenook.messages.v1.messages_pb2 import Message, UpdateMessageRequest

from services.messages.body import check_metadata, sealable
from services.runtime.errors import FieldViolation, Refusal, request_invalid

_METADATA = "metadata"
# A key of a map in a field mask (AIP-161): as it is, or between backticks.
_KEY = re.compile(r"`([^`]+)`|([^`.]+)")


def changed_body(body: bytes, request: UpdateMessageRequest) -> bytes:
    """The body after an update.

    A mask names what changes, and a named field that is not set is cleared; without a mask, what is
    set changes (AIP-134).

    Raises:
        Refusal: REQUEST_INVALID, the mask or the metadata that would result.
    """
    message = Message.FromString(body)
    paths = request.update_mask.paths or [field.name for field, _ in request.ListFields()]
    for path in paths:
        if path == "content":
            if not request.HasField("content"):
                raise _mask_refused("names content, which is not set and cannot be cleared")
            message.content = request.content
        elif path == "model":
            message.model = request.model
        elif path == _METADATA:
            message.metadata.CopyFrom(request.metadata)
        elif path.startswith(f"{_METADATA}."):
            _set_key(message.metadata, request.metadata, _keys(path.removeprefix(_METADATA)))
    if not message.metadata.fields:
        message.ClearField("metadata")
    else:
        check_metadata(message.metadata)
    return sealable(message)


def _set_key(held: Struct, given: Struct, keys: list[str]) -> None:
    """Makes what is under a path of keys in `held` what it is in `given`, or removes it."""
    key, *inner = keys
    if not inner:
        if key in given.fields:
            held.fields[key].CopyFrom(given.fields[key])
        else:
            held.fields.pop(key, None)
    elif key in given.fields:
        _set_key(held.fields[key].struct_value, given.fields[key].struct_value, inner)
    elif key in held.fields and held.fields[key].HasField("struct_value"):
        _set_key(held.fields[key].struct_value, Struct(), inner)


def _keys(path: str) -> list[str]:
    """The keys of a path such as ".mood" or ".`a.b`.c".

    Raises:
        Refusal: REQUEST_INVALID.
    """
    keys: list[str] = []
    position = 0
    while position < len(path):
        found = _KEY.match(path, position + 1) if path[position] == "." else None
        if found is None:
            raise _mask_refused("has a path that cannot be read: metadata.key, metadata.`a key`")
        keys.append(found[1] or found[2])
        position = found.end()
    return keys


def _mask_refused(description: str) -> Refusal:
    return request_invalid([FieldViolation("update_mask", description, "update_mask.paths")])
