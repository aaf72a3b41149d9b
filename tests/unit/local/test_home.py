import base64
import stat
from pathlib import Path

from local.home import PROGRAMS, Home
from services import SERVICES


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_replaces_no_key_and_no_password(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    password = home.password("inglenook_users")
    before = _contents(home.secrets)
    home.prepare()
    assert _contents(home.secrets) == before
    assert home.password("inglenook_users") == password


def test_every_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    home.password("inglenook_users")
    private = [path for path in _contents(home.secrets) if path.name != "jwks.json"]
    assert len(private) == len(PROGRAMS) + 2 * len(SERVICES) + 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    folders = [home.secrets, *(path for path in home.secrets.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_no_two_secrets_are_the_same(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    keys = [home.token_key_file(name).read_text() for name in SERVICES]
    assert len({*keys, home.password("one"), home.password("another")}) == len(keys) + 2


def test_a_token_key_has_32_bytes(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    written = home.token_key_file("sessions").read_text().strip()
    assert len(base64.b64decode(written, validate=True)) == 32


def test_a_crash_while_a_secret_was_written_does_not_stop_the_next_run(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    (home.secrets / "database").mkdir()
    (home.secrets / "database" / "admin.draft").write_text("hal")
    assert len(base64.b64decode(home.password("admin"))) == 32
