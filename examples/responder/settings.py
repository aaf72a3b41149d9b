"""What the responder needs to run, from the environment."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.runtime.addresses import is_plaintext
from services.runtime.settings import PREFIX, PartAddress, ServerSettings, in_plaintext


class ResponderSettings(ServerSettings):
    """The responder's settings."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    messages_address: PartAddress
    """Where the messages service answers."""
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 15.0
    """How long replies under way may go on after the service was told to stop."""

    completion_base_url: Annotated[str, Field(pattern=r"^$|^https?://[^@]+$")] = ""
    """Where a language model answers as OpenAI's API does: `https://api.openai.com/v1`,
    `http://127.0.0.1:11434/v1`. Default: the built-in listener replies."""
    completion_model: Annotated[str, Field(max_length=100)] = ""
    """The model's name there."""
    completion_key_file: Path | None = None
    """A file with the key to use there, read for each reply, so that it may be renewed. Default:
    none is needed."""
    completion_prompt_file: Path | None = None
    """A file with the instructions that the model gets before the conversation. Default: short ones
    of ours, for a listener."""
    completion_timeout: Annotated[float, Field(gt=0, le=600)] = 60.0
    """How many seconds the model may be silent before a reply counts as failed."""
    context_characters: Annotated[int, Field(ge=1_000, le=1_000_000)] = 24_000
    """How many characters of the conversation's newest messages the model gets at most: about four
    to a token."""

    listener_words_per_second: Annotated[float, Field(gt=0, le=100_000)] = 6.0
    """How fast the built-in listener speaks."""

    replies_per_person: Annotated[int, Field(ge=1)] = 2
    """How many replies to one person may be under way at a process."""
    replies_at_once: Annotated[int, Field(ge=1)] = 32
    """How many replies a process generates at a time."""
    replies_waiting: Annotated[int, Field(ge=0)] = 128
    """How many more it lets begin, which wait for their turn."""

    @field_validator("completion_key_file", "completion_prompt_file", mode="before")
    @classmethod
    def _is_named(cls, value: object) -> object:
        return value or None

    @model_validator(mode="after")
    def _a_model_has_a_place_and_a_name(self) -> Self:
        if bool(self.completion_base_url) != bool(self.completion_model):
            raise ValueError(
                "INGLENOOK_COMPLETION_BASE_URL and INGLENOOK_COMPLETION_MODEL go together:"
                " set both, or neither for the built-in listener"
            )
        return self

    @model_validator(mode="after")
    def _the_model_is_near_or_reached_by_tls(self) -> Self:
        url = self.completion_base_url
        if url and not self.allow_plaintext and is_plaintext(url):
            raise in_plaintext("COMPLETION_BASE_URL", url, "use https")
        return self
