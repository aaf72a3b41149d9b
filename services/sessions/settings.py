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
    retention_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    """After how many days without activity a session is deleted; 0 is never. Sessions may be given
    less, and no more."""
    retention_interval_seconds: Annotated[float, Field(ge=1)] = 3600.0
    """How often those that are due are looked for."""
