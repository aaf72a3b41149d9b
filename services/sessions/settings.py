"""What the sessions service is told by its environment."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from services.runtime.settings import PartAddress, ServiceSettings


class SessionsSettings(ServiceSettings):
    """What the sessions service needs to run."""

    token_key_file: Path
    """The key of page and resume tokens: 32 bytes in base64, the same for all replicas."""
    messages_address: PartAddress
    """Where the messages service answers."""
    users_address: PartAddress
    """Where the users service answers."""
    sessions_per_person: Annotated[int, Field(ge=0)] = 10_000
    """How many sessions a person may have, deleted ones not counted; 0 is any number."""
