"""Random secrets in files: made once, whole or not at all, for their owner's eyes alone."""

import base64
import os
import secrets
from pathlib import Path

_BYTES = 32


def make_secret_file(path: Path) -> str:
    """The secret in a file: 32 random bytes in base64, made unless the file exists."""
    if not path.exists():
        write_secret_file(path, base64.b64encode(secrets.token_bytes(_BYTES)).decode())
    return path.read_text().strip()


def write_secret_file(path: Path, secret: str) -> None:
    """Writes a secret, so that a crash leaves all of it or nothing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{secret}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
