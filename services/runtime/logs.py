"""Logs: one JSON object a line, with the request id of the call that is being served.

What a person wrote must never get here. Messages are constants with ids and figures beside them,
and of an exception only its type and where it came from are written: the text of an exception may
quote what it failed on.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from services.runtime.identity import current_call

_ENCODE = json.JSONEncoder(default=str).encode
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Writes a record as JSON: time, severity, logger, message, request id, extras, traceback."""

    def __init__(self, service: str) -> None:
        """Takes the name that tells one program's lines from another's."""
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        call = current_call.get()
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if call is not None:
            line["request_id"] = call.request_id
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _without_text(record.exc_info[1])
        return _ENCODE(line)


class CallLog:
    """The lines of served calls, as `logging` would write them.

    Every call has one, and `logging` takes a tenth of a call's time for it: it looks for the
    caller, the thread and the process, and asks who else wants to know.
    """

    def __init__(self) -> None:
        self._rest = ""

    def begin(self, service: str) -> None:
        """Takes the name that tells one program's lines from another's."""
        self._rest = f'"severity": "INFO", "service": {_ENCODE(service)}, "message": "call"'

    def note(self, method: str, code: str, milliseconds: float, reason: str = "") -> None:
        """Writes a line: the method's path, the status by name, the duration, and the reason."""
        if not self._rest:
            return  # Nobody asked for logs.
        call = current_call.get()
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        # Only the request id is anybody else's text.
        request_id = _ENCODE("" if call is None else call.request_id)
        because = f', "reason": "{reason}"' if reason else ""
        sys.stdout.write(
            f'{{"time": "{time}", {self._rest}, "request_id": {request_id}, "method": "{method}",'
            f' "code": "{code}", "duration_ms": {milliseconds:.2f}{because}}}\n'
        )
        sys.stdout.flush()


call_log = CallLog()
"""The process's own."""


def write_logs(service: str, *, level: int = logging.INFO) -> None:
    """Sends every log of this process to standard output, in JSON."""
    call_log.begin(service)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # These log each request with its URL, or each migration step: noise at this level.
    for noisy in ("httpx", "httpcore", "alembic.runtime.migration"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _without_text(error: BaseException) -> list[str]:
    """An exception's chain of types, each with the places it passed, and none of their texts."""
    chain: list[str] = []
    current: BaseException | None = error
    while current is not None and len(chain) < 200:  # noqa: PLR2004 - a bound, no meaning
        chain.append(f"{type(current).__module__}.{type(current).__qualname__}")
        chain += [
            f"  {frame.filename}:{frame.lineno} in {frame.name}"
            for frame in traceback.extract_tb(current.__traceback__)
        ]
        current = current.__cause__ or current.__context__
    return chain
