"""What helps after a call that failed: the one place where reasons are told apart by it."""

from collections.abc import Mapping
from typing import Literal

from grpc import StatusCode

from inglenook_client.contract.reasons import Reason

Remedy = Literal["time", "token", "change", "unknown"]
"""What has to come before the same call can succeed: `time` alone; a fresh `token`; a `change` that
somebody makes, to the call, to what it is about or to the system; after a fault it is `unknown`.
"""

BY_REASON: Mapping[Reason, Remedy] = {
    "TOKEN_MISSING": "token",
    "TOKEN_INVALID": "token",
    "TOKEN_EXPIRED": "token",
    "TOKEN_NOT_FRESH": "token",
    "DEPENDENCY_UNAVAILABLE": "time",
    "SERVER_STOPPING": "time",
    "SERVER_BUSY": "time",
    "TOO_MANY_STREAMS": "time",
    "TOO_MANY_REPLIES": "time",
    "RATE_LIMITED": "time",
    "INTERNAL_FAULT": "unknown",
    "ACCESS_DENIED": "change",
    "ROLE_DENIED": "change",
    "REQUEST_INVALID": "change",
    "REQUEST_MALFORMED": "change",
    "REQUEST_TOO_LARGE": "change",
    "PAGE_TOKEN_INVALID": "change",
    "RESUME_TOKEN_INVALID": "change",
    "ROUTE_NOT_FOUND": "change",
    "SESSION_NOT_FOUND": "change",
    "MESSAGE_NOT_FOUND": "change",
    "ID_REUSED": "change",
    "ETAG_STALE": "change",
    "SESSION_STATE_WRONG": "change",
    "DATA_UNREADABLE": "change",
    "OFFSET_WRONG": "change",
    "WRITER_REPLACED": "change",
    # They end by themselves, but not soon: whoever waits follows the message.
    "MESSAGE_GROWING": "change",
    "REPLY_UNDER_WAY": "change",
    "MESSAGE_STOPPED": "change",
    "NOTHING_TO_ANSWER": "change",
    "MORE_WAS_SAID": "change",
    "PERSON_ERASED": "change",
    "PERSON_LOCKED": "change",
    "WEBHOOK_INVALID": "change",
    "WEBHOOKS_OFF": "change",
    "QUOTA_EXCEEDED": "change",
    "LEGAL_HOLD": "change",
    "EXPORT_INCOMPLETE": "change",
}
_BY_STATUS: Mapping[StatusCode, Remedy] = {
    StatusCode.UNAUTHENTICATED: "token",
    StatusCode.UNAVAILABLE: "time",
    StatusCode.DEADLINE_EXCEEDED: "time",
    StatusCode.CANCELLED: "unknown",
    StatusCode.UNKNOWN: "unknown",
    StatusCode.INTERNAL: "unknown",
}


def remedy_of(status: StatusCode, reason: Reason | None, retry_delay: float | None) -> Remedy:
    """What helps. A reason that is not known here, and is None, says no more than its status."""
    if reason is not None:
        return BY_REASON[reason]
    if status is StatusCode.RESOURCE_EXHAUSTED:
        # With a delay it is said that it helps to wait. Without one, somebody on the way is busy,
        # or what was sent is too large for them.
        return "unknown" if retry_delay is None else "time"
    return _BY_STATUS.get(status, "change")
