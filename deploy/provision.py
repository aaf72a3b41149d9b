"""`python -m deploy.provision FOLDER`: makes every secret of a deployment, once.

Each part gets a folder of its own, to be mounted as its `/run/secrets` and nobody else's: passwords
of the database's roles, key-encryption keys, the keys of page and resume tokens, the keys by which
the services know each other, and a certificate of its own name. What is there already stays, so
that it can run at each start; certificates are renewed before they end.
"""

import argparse
from pathlib import Path
from urllib.parse import quote

from deploy.certificates import make_certificates
from services import SERVICES
from services.runtime.encryption.key_file import make_key_file
from services.runtime.secret_file import make_secret_file, write_secret_file
from services.runtime.service_tokens import make_service_keys

CALLERS = (*SERVICES, "responder")
"""All that call services in their own name."""
_ADMIN = "inglenook_admin"


def provision(folder: Path, database: str) -> None:
    """Makes the secrets of all parts: `database` is host, port and name, as in a URL."""
    make_certificates(folder)
    public = make_service_keys({name: folder / name / "service-key" for name in CALLERS})
    for name in CALLERS:
        (folder / name / "services.jwks.json").write_text(public)
    admin = make_secret_file(folder / "postgres" / "password")
    admin_url = _url(_ADMIN, admin, database)
    for name in SERVICES:
        own = folder / name
        make_key_file(own / "keys" / "keys.json")
        make_secret_file(own / "token-key")
        role_url = _url(f"inglenook_{name}", make_secret_file(own / "database-password"), database)
        migration = folder / "migrations" / name
        write_secret_file(own / "inglenook_database_url", role_url)
        write_secret_file(migration / "inglenook_database_url", role_url)
        write_secret_file(migration / "inglenook_admin_database_url", admin_url)


def _url(role: str, password: str, database: str) -> str:
    return f"postgresql://{role}:{quote(password, safe='')}@{database}"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.provision", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the secrets are, or shall be")
    parser.add_argument(
        "--database",
        default="postgres:5432/inglenook",
        help="host, port and name of the database (postgres:5432/inglenook)",
    )
    arguments = parser.parse_args()
    provision(arguments.folder, arguments.database)


if __name__ == "__main__":
    main()
