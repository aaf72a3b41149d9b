"""A log is a JSON object a line, whatever a caller puts into a request id."""

import json

import pytest

from services.runtime.identity import Call, current_call
from services.runtime.logs import CallLog


def test_a_call_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    calls = CallLog()
    calls.begin("messages")
    spoof = '", "service": "other'
    token = current_call.set(Call(request_id=spoof))
    calls.note("/a.B/C", "NOT_FOUND", 1.256, "SESSION_NOT_FOUND")
    current_call.reset(token)
    calls.note("/a.B/C", "OK", 3)
    refused, well = map(json.loads, capsys.readouterr().out.splitlines())
    assert refused.pop("time") <= well.pop("time")
    assert refused == {
        "severity": "INFO",
        "service": "messages",
        "message": "call",
        "request_id": spoof,
        "method": "/a.B/C",
        "code": "NOT_FOUND",
        "duration_ms": 1.26,
        "reason": "SESSION_NOT_FOUND",
    }
    assert (well["code"], well["duration_ms"], well["request_id"]) == ("OK", 3.0, "")


def test_nothing_is_written_before_somebody_asks_for_logs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    CallLog().note("/a.B/C", "OK", 1)
    assert capsys.readouterr().out == ""
