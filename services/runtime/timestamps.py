"""Moments, as the contract has them."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_A_DAY = 86_400


def timestamp_of(moment: datetime) -> Timestamp:
    """A moment with its time zone, as a protobuf timestamp."""
    since = moment - _EPOCH
    seconds = since.days * _SECONDS_A_DAY + since.seconds
    return Timestamp(seconds=seconds, nanos=since.microseconds * 1000)
