"""Which fields an update changes (AIP-134)."""

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message


def is_changed(request: Message, mask: FieldMask, field: str) -> bool:
    """Whether an update changes a field.

    A mask names what changes, and a named field that is not set is cleared; without a mask, what is
    set changes.
    """
    return field in mask.paths if mask.paths else request.HasField(field)


def changed_text(request: Message, mask: FieldMask, field: str) -> str | None:
    """The new value of an optional text field, or None when the update leaves it as it is."""
    return str(getattr(request, field)) if is_changed(request, mask, field) else None
