"""What the sessions service is told by its environment."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from services.runtime.settings import ServiceSettings


class SessionsSettings(ServiceSettings):
    """What the sessions service needs to run."""

    token_key_file: Path
    """The key of page and resume tokens: 32 bytes in base64, the same for all replicas."""
    messages_address: Annotated[str, Field(min_length=1)]
    """Where the messages service answers."""
    users_address: Annotated[str, Field(min_length=1)]
    """Where the users service answers."""
