"""Who runs a command is known by a name, or by a number where there is none."""

import os
import pwd

import pytest

from services.runtime.audit.commands import account


def test_where_the_account_has_no_name_its_number_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(_user: int) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert account() == str(os.getuid())
