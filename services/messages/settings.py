"""What the messages service is told by its environment."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from services.messages.search import SearchBudget
from services.runtime.settings import PartAddress, ServiceSettings

_SEARCH_BUDGET = SearchBudget()


class MessagesSettings(ServiceSettings):
    """What the messages service needs to run."""

    token_key_file: Path
    """The key of page and resume tokens: 32 bytes in base64, the same for all replicas."""
    sessions_address: PartAddress
    """Where the sessions service answers."""
    bytes_per_person: Annotated[int, Field(ge=0)] = 1 << 30
    """How many bytes of encrypted messages a person may keep; 0 is any number."""
    search_messages: Annotated[int, Field(ge=1)] = _SEARCH_BUDGET.messages
    """How many messages a search reads before it ends, with a token to go on from."""
    search_bytes: Annotated[int, Field(ge=1)] = _SEARCH_BUDGET.bytes
    """How many bytes it decrypts at most."""
    search_cpu_seconds: Annotated[float, Field(gt=0)] = _SEARCH_BUDGET.cpu_seconds
    """How much processor time it takes at most."""

    @property
    def search_budget(self) -> SearchBudget:
        """What one search may cost."""
        return SearchBudget(self.search_messages, self.search_bytes, self.search_cpu_seconds)
