"""The responder as a program: `python -m examples.responder`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop
from inglenook.messages.v1.messages_pb2_grpc import MessagesServiceStub
from inglenook.respond.v1 import respond_pb2

from examples.responder.listening import Listening
from examples.responder.replies import Replies
from examples.responder.service import Responder
from examples.responder.settings import ResponderSettings
from examples.responder.voices import Voice
from services.runtime.locking import LockedNow
from services.runtime.logs import write_logs
from services.runtime.peers import channel_to
from services.runtime.server import Implementation, serve
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import TracingSettings, load
from services.runtime.telemetry.traces import traces

_NAME = "responder"
_SERVICE = respond_pb2.DESCRIPTOR.services_by_name["RespondService"]


@asynccontextmanager
async def voice_of(settings: ResponderSettings) -> AsyncIterator[Voice]:
    """Who replies, as the settings say: a language model when there is one, else the listener."""
    if not settings.completion_base_url:
        yield Listening(words_per_second=settings.listener_words_per_second)
        return
    try:
        from examples.responder.completion import Completion  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        sys.exit(f"the package {error.name} is not installed: install inglenook[responder]")
    async with Completion(settings) as completion:
        yield completion


async def run(settings: ResponderSettings) -> None:
    """Replies until told to stop."""
    tokens = ServiceTokens.of(settings, _NAME)
    async with (
        voice_of(settings) as voice,
        channel_to("messages", settings.messages_address, settings) as channel,
        Replies(settings, voice, MessagesServiceStub(channel), tokens) as replies,
    ):
        # Whoever is locked is refused by the messages service, without which nothing is done here.
        nobody = LockedNow()
        await serve(
            settings, Implementation(_SERVICE, Responder(replies), nobody, on_stop=replies.stop)
        )


def main() -> None:
    """Runs the program."""
    settings = load(ResponderSettings)
    write_logs(_NAME)
    traces.begin(_NAME, load(TracingSettings))
    try:
        uvloop.run(run(settings))
    except OSError as error:
        sys.exit(f"{_NAME} does not start: {error}")
    finally:
        traces.end()


if __name__ == "__main__":
    main()
