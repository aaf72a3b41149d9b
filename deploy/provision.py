"""`python -m deploy.provision FOLDER`: makes every secret of a deployment, once.

Each part gets a folder of its own, to be mounted as its `/run/secrets` and nobody else's: passwords
of the database's roles, key-encryption keys, the keys of page and resume tokens, the keys by which
the services know each other, and a certificate of its own name. What is there already stays, so
that it can run at each start; certificates are renewed before they end. A database that is named
is named in all URLs, also in those that are there, whose roles and passwords stay.
"""

import argparse
from pathlib import Path
from urllib.parse import quote, urlsplit

from deploy.certificates import make_certificates
from services import SERVICES
from services.runtime.encryption.key_file import make_key_file
from services.runtime.secret_file import make_secret_file, write_secret_file
from services.runtime.service_tokens import make_service_keys

CALLERS = (*SERVICES, "responder")
"""All that call services in their own name."""
_ADMIN = "inglenook_admin"
_DATABASE = "postgres:5432/inglenook"
"""The one of docker-compose.yml."""


def provision(folder: Path, database: str | None = None) -> None:
    """Makes the secrets of all parts.

    `database` is host, port and name, as in a URL. Default: what the URLs say that are there, and
    the one of docker-compose.yml in those that are not.
    """
    make_certificates(folder)
    public = make_service_keys({name: folder / name / "service-key" for name in CALLERS})
    for name in CALLERS:
        (folder / name / "services.jwks.json").write_text(public)
    admin = make_secret_file(folder / "postgres" / "password")
    for name in SERVICES:
        own = folder / name
        make_key_file(own / "keys" / "keys.json")
        make_secret_file(own / "token-key")
        role, password = f"inglenook_{name}", make_secret_file(own / "database-password")
        migration = folder / "migrations" / name
        for home in (own, migration):
            _make_url(home / "inglenook_database_url", role, password, database)
        _make_url(migration / "inglenook_admin_database_url", _ADMIN, admin, database)


def _make_url(path: Path, role: str, password: str, database: str | None) -> None:
    """Writes a database's URL, unless there is one that names the database which is asked for."""
    if not path.exists():
        who = f"{role}:{quote(password, safe='')}"
        write_secret_file(path, f"postgresql://{who}@{database or _DATABASE}")
    elif database is not None:
        there = urlsplit(path.read_text().strip())
        who = there.netloc.rpartition("@")[0]
        write_secret_file(path, f"{there.scheme}://{who}@{database}")


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.provision", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the secrets are, or shall be")
    parser.add_argument(
        "--database",
        help="host, port and name of the database, also for URLs that are there"
        f" (of those that are not: {_DATABASE})",
    )
    arguments = parser.parse_args()
    provision(arguments.folder, arguments.database)


if __name__ == "__main__":
    main()
