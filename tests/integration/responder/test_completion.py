"""Replies of a language model: whatever speaks the protocol, and however it breaks off."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.integration.eventually import eventually
from tests.integration.replying import COMPLETE, GROWING, INTERRUPTED
from tests.integration.responder.conftest import Answering, StartResponder
from tests.integration.responder.model_server import BREAK, HANG, ModelServer

KEY = "sk-of-the-test"
STOP = {"finish_reason": "stop"}
BREAKS = {
    "cut": (["Half of ", BREAK], "Half of "),
    "error": (["Half of ", {"error": {"message": "overloaded"}}], "Half of "),
    "length": (["Half of ", {"finish_reason": "length"}], "Half of "),
    "no end": (["Half of "], "Half of "),
    "no text": ([STOP], ""),
    "too long": (["x" * 30_000, "x" * 30_000, STOP], "x" * 30_000),
    "refused": (400, ""),
}
"""Ways to break off, and all that can be stored of the reply then."""


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "key"
    path.write_text(f"{KEY}\n")
    return path


@pytest.fixture(scope="module")
def prompt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "prompt"
    path.write_text("Listen.\n")
    return path


@pytest.fixture
def answering_anew(
    start_responder: StartResponder, model: ModelServer, key_file: Path, prompt_file: Path
) -> Callable[[], Answering]:
    """Gives a new person each time, whom the model answers."""
    return lambda: start_responder(
        completion_base_url=model.url,
        completion_model="small-model",
        completion_key_file=str(key_file),
        completion_prompt_file=str(prompt_file),
        context_characters="1000",
    )


@pytest.fixture
async def answering(answering_anew: Callable[[], Answering]) -> Answering:
    return answering_anew()


async def test_a_reply_is_stored_as_the_model_generates_it(
    answering: Answering, model: ModelServer
) -> None:
    model.will("I was tired.", "You were ", HANG, "tired\0.")
    answering.say("I was tired.")
    message_id = await answering.reply()
    asked = model.asked("I was tired.")
    so_far = await answering.replying.get_when(message_id, length=9)
    assert (so_far.content, so_far.state, so_far.model) == ("You were ", GROWING, "small-model")
    asked.go_on.set()
    message = await answering.replying.get_when(message_id, state=COMPLETE)
    assert message.content == "You were tired."
    assert (asked.key, asked.body["model"], asked.body["stream"]) == (KEY, "small-model", True)
    assert asked.body["messages"][0] == {"role": "system", "content": "Listen."}


async def test_the_model_gets_the_newest_of_the_conversation_that_fits(
    answering: Answering, model: ModelServer
) -> None:
    first, second, third = "a" * 500, "c" * 550, "f" * 2000
    for said, replied in ((first, "b" * 400), (second, "d" * 10), (third, "e")):
        model.will(said, replied)
        await answering.answer_to(said)
    assert model.asked(first).said == [("user", first)]
    assert model.asked(second).said == [("assistant", "b" * 400), ("user", second)]
    assert model.asked(third).said == [("user", third)]


async def test_a_key_that_was_renewed_is_used(
    answering: Answering, model: ModelServer, key_file: Path
) -> None:
    for said, key in (("one", KEY), ("two", "sk-renewed")):
        await asyncio.to_thread(key_file.write_text, key)
        model.will(said, "Yes.")
        await answering.answer_to(said)
        assert model.asked(said).key == key
    await asyncio.to_thread(key_file.write_text, KEY)


async def test_a_model_that_breaks_off_leaves_what_it_said_interrupted_and_is_asked_again(
    answering_anew: Callable[[], Answering], model: ModelServer
) -> None:
    async def break_off(one: Answering, script: object, so_far: str) -> None:
        canary = f"canary-{uuid4().hex}"
        model.breaks_off(canary, script)
        one.say(canary)
        message_id = await one.reply()
        message = await one.replying.get_when(message_id, state=INTERRUPTED)
        assert so_far.startswith(message.content)
        model.asked(canary)
        model.will(canary, "All of it.")
        again = await one.replying.get_when(await one.reply(), state=COMPLETE)
        assert again.content == "All of it."
        # What was cut off is not what the model is to go on from.
        assert model.asked(canary).said == [("user", canary)]
        log = one.replying.stack.home.logs / "responder.log"
        eventually(lambda: message_id in log.read_text())
        assert canary not in log.read_text()
        assert KEY not in log.read_text()

    await asyncio.gather(*(break_off(answering_anew(), *how) for how in BREAKS.values()))


async def test_a_model_whose_reply_is_stopped_is_left(
    answering: Answering, model: ModelServer
) -> None:
    model.will("Tell me a story.", "Once upon ", HANG)
    answering.say("Tell me a story.")
    message_id = await answering.reply()
    asked = model.asked("Tell me a story.")
    await answering.replying.get_when(message_id, length=10)
    stopped = await answering.replying.stop(message_id)
    assert stopped.content == "Once upon "
    eventually(asked.left.is_set)
