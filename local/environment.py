"""What a process gets of the launcher's own environment."""

import os

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH")


def inherited_environment() -> dict[str, str]:
    """No more than a process needs to run: no secret that lies in a shell's environment."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}
