"""What requests are made of, from Python's own values."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TypeAlias
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

Json: TypeAlias = "bool | float | str | Sequence[Json] | Mapping[str, Json] | None"


def new_id() -> str:
    """An id for something that is made here, so that making it can be repeated."""
    return str(uuid4())


def struct(value: Mapping[str, Json] | None) -> Struct | None:
    """A JSON object."""
    if value is None:
        return None
    made = Struct()
    made.update(dict(value))
    return made


def duration(value: timedelta | None) -> Duration | None:
    """A span of time."""
    if value is None:
        return None
    made = Duration()
    made.FromTimedelta(value)
    return made


def field_mask(paths: Sequence[str] | None) -> FieldMask | None:
    """Which fields to change."""
    return None if paths is None else FieldMask(paths=paths)
