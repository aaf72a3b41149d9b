"""The demo person's example conversation: what the web app shows when it is opened first."""

from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

import httpx

from local.stack import Stack

PERSON = "demo"
# The first calls of a system are its slowest ones.
_SECONDS = 30.0
_TITLE = "An example: after a long day"
_SAID = (
    ("ROLE_USER", "I am tired tonight, and I do not know why. Nothing bad happened."),
    (
        "ROLE_ASSISTANT",
        (
            "Being tired does not need a bad thing to cause it. If you go through the day once"
            " more, was there a moment at which you noticed it first?"
        ),
    ),
    ("ROLE_USER", "On the way home, I think. The train was late and I was relieved about it."),
    (
        "ROLE_ASSISTANT",
        (
            "Relieved that it was late: as if you had been given a few minutes that belonged to"
            " nobody. What would you have liked to do with them?"
        ),
    ),
    ("ROLE_USER", "Nothing at all. Just sit there. 🌒"),
)


def tell_example(stack: Stack) -> None:
    """Gives the demo person the example, the first time that a system runs.

    Raises:
        httpx.HTTPError: the system does not take it.
    """
    told = stack.home.folder / "example-told"
    if told.exists():
        return
    session = str(uuid5(NAMESPACE_URL, "inglenook:example"))
    begun = datetime.now(UTC) - timedelta(days=1)
    messages = [
        {
            "sessionId": session,
            "messageId": str(uuid5(NAMESPACE_URL, f"inglenook:example:{number}")),
            "role": role,
            "content": content,
            "createTime": (begun + timedelta(minutes=number)).isoformat(),
        }
        for number, (role, content) in enumerate(_SAID)
    ]
    headers = {"authorization": f"Bearer {stack.token(PERSON)}"}
    # Not through a proxy that the environment names.
    with httpx.Client(
        base_url=stack.url, headers=headers, timeout=_SECONDS, trust_env=False
    ) as client:
        for path, body in (
            ("/v1/sessions", {"sessionId": session, "title": _TITLE}),
            ("/v1/messages:import", [{"messages": messages}]),
        ):
            client.post(path, json=body).raise_for_status()
    told.touch()
