"""A language model behind OpenAI's chat completions API, or one that speaks the same protocol."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType

from inglenook.messages.v1.messages_pb2 import Message, Role
from openai import AsyncOpenAI, OpenAIError
from openai.types.chat import ChatCompletionMessageParam

from examples.responder.conversation import within
from examples.responder.settings import ResponderSettings
from examples.responder.voices import VoiceError

_INSTRUCTIONS = """\
You listen to a person who writes about what is on their mind. Reply briefly, warmly and plainly, in
their language. Reflect what you understood and ask one open question at most. You are a computer
program and say so when asked; you are no therapist, and you diagnose nothing. When the person may
be in danger or speaks of suicide or of harming themselves, say that you take it seriously and point
them to the emergency number of their country and to people who can be with them now."""
_WHOLE = "stop"
_NO_KEY = "none"


class Completion:
    """A model that replies. Use as `async with`."""

    def __init__(self, settings: ResponderSettings) -> None:
        """Takes where the model is, and how much of a conversation it gets.

        Raises:
            OSError: a file that the settings name cannot be read.
        """
        # The client would write whole requests to the log of whoever sets OPENAI_LOG.
        logging.getLogger("openai").setLevel(logging.WARNING)
        self.model = settings.completion_model
        self._characters = settings.context_characters
        self._key_file = settings.completion_key_file
        self._instructions = _read(settings.completion_prompt_file) or _INSTRUCTIONS
        self._client = AsyncOpenAI(
            api_key=self._key,
            base_url=settings.completion_base_url,
            timeout=settings.completion_timeout,
        )

    async def __aenter__(self) -> "Completion":
        await self._key()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()

    @asynccontextmanager
    async def reply(self, conversation: Sequence[Message]) -> AsyncIterator[AsyncIterator[str]]:
        """The model's reply, as it is generated.

        Raises:
            VoiceError: the model does not answer, or not to the end.
        """
        async with aclosing(self._pieces(conversation)) as pieces:
            yield pieces

    async def _pieces(self, conversation: Sequence[Message]) -> AsyncGenerator[str, None]:
        ended_by: str | None = None
        try:
            stream = await self._client.chat.completions.create(
                model=self.model, messages=self._messages(conversation), stream=True
            )
            async with stream:
                async for chunk in stream:
                    for choice in chunk.choices:
                        ended_by = choice.finish_reason or ended_by
                        if choice.delta.content:
                            yield choice.delta.content
        except (OpenAIError, OSError, ValueError) as error:
            # What the model's server says may quote what it was sent: only the kind is told.
            raise VoiceError(f"the model failed: {type(error).__name__}") from None
        if ended_by != _WHOLE:
            # Of the model's own names for how it ended, none has a word of the conversation.
            raise VoiceError("the model broke off")

    def _messages(self, conversation: Sequence[Message]) -> list[ChatCompletionMessageParam]:
        said = within(conversation, self._characters)
        return [
            {"role": "system", "content": self._instructions},
            *(_as_parameter(message) for message in said),
        ]

    async def _key(self) -> str:
        return _read(self._key_file) or _NO_KEY


def _as_parameter(message: Message) -> ChatCompletionMessageParam:
    match message.role:
        case Role.ROLE_ASSISTANT:
            return {"role": "assistant", "content": message.content}
        case Role.ROLE_SYSTEM:
            return {"role": "system", "content": message.content}
        case _:
            return {"role": "user", "content": message.content}


def _read(path: Path | None) -> str:
    return "" if path is None else path.read_text().strip()
