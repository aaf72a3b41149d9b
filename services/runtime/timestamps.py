"""Moments, as the contract has them."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp_of(moment: datetime) -> Timestamp:
    """A moment with its time zone, as a protobuf timestamp."""
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
