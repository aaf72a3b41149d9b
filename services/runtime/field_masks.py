"""Which fields an update changes (AIP-134)."""

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message


def changed_text(request: Message, mask: FieldMask, field: str) -> str | None:
    """The new value of an optional text field, or None when the update leaves it as it is.

    A mask names what changes, and a named field that is not set is cleared; without a mask, what is
    set changes.
    """
    named = field in mask.paths if mask.paths else request.HasField(field)
    return str(getattr(request, field)) if named else None
