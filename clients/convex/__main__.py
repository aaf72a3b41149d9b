r"""`python -m clients.convex SNAPSHOT …`: brings an app's conversations from Convex to Inglenook.

As one person, with their token in a file, what is theirs:

    python -m clients.convex snapshot.zip --gateway localhost:8080 --token-file token

As a service that Inglenook trusts, everybody's, straight to the services:

    python -m clients.convex snapshot/ --sessions localhost:50052 --messages localhost:50053 \
        --service-key keys/importer --service-issuer inglenook-services \
        --people-issuer https://clerk.example.com

The dump must be decrypted. It can be repeated: what is there already stays as it is. Nothing of
what people wrote is printed; counts are, and the Convex ids of what was left out. The exit code is
0 when all is there, 3 when something was left out, 1 when it did not come to its end.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from clients.convex.documents import NotDecryptedError
from clients.convex.importing import Counts, Plan, planned, send
from clients.convex.inglenook import (
    Caller,
    CallerError,
    RefusedError,
    connected,
    one_person,
    service,
)
from clients.convex.mapping import Mapping, MappingError, read_mapping
from clients.convex.snapshot import Snapshot, SnapshotError
from services.runtime.service_tokens import ServiceTokens

_SOMETHING_LEFT_OUT = 3
_FAILURES = (SnapshotError, NotDecryptedError, MappingError, CallerError, RefusedError)


def main() -> None:
    """Imports what the command line names."""
    arguments = _arguments()
    try:
        caller = _caller(arguments)
        mapping = read_mapping(arguments.mapping) if arguments.mapping else Mapping()
        plan = planned(
            Snapshot(arguments.snapshot),
            mapping,
            subject=caller.subject,
            texts=frozenset(arguments.is_text),
            report=_report,
        )
        counts = plan.counts
        print(
            f"{counts.messages} messages in {counts.sessions} sessions of {counts.people} people;"
            f" {counts.left_out} reports of what is left out; {counts.of_others} of other people"
        )
        if not arguments.check_only:
            asyncio.run(_send(plan, caller, arguments))
    except _FAILURES as error:
        sys.exit(f"The import has not come to its end. {error}")
    sys.exit(_SOMETHING_LEFT_OUT if counts.left_out or counts.conflicting else 0)


async def _send(plan: Plan, caller: Caller, arguments: argparse.Namespace) -> None:
    sessions, messages = arguments.sessions, arguments.messages
    async with connected(sessions, messages, caller, tls=arguments.tls) as inglenook:
        async for counts in send(plan, inglenook, report=_report):
            print(_progress(counts), flush=True)
    print(f"Done: {_progress(plan.counts)}")


def _progress(counts: Counts) -> str:
    done = counts.imported + counts.present + counts.conflicting
    return (
        f"{counts.opened} of {counts.sessions} sessions,"
        f" {done} of {counts.messages} messages: {counts.imported} imported,"
        f" {counts.present} there already, {counts.conflicting} there with other content"
    )


def _report(convex_id: str, why: str) -> None:
    print(f"{convex_id}: {why}", file=sys.stderr)


def _caller(arguments: argparse.Namespace) -> Caller:
    if arguments.token_file is not None:
        return one_person(arguments.token_file)
    try:
        tokens = ServiceTokens(
            arguments.service_key,
            issuer=arguments.service_issuer,
            audience=arguments.audience,
            service=arguments.service,
        )
    except (OSError, ValueError) as error:
        raise CallerError(f"{arguments.service_key} holds no key of a service: {error}") from None
    return service(tokens, arguments.people_issuer)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m clients.convex",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("snapshot", type=Path, help="the export: a ZIP file, or its folder")
    parser.add_argument("--gateway", metavar="HOST:PORT", help="where the gateway answers")
    parser.add_argument("--sessions", metavar="HOST:PORT", help="or: the sessions service")
    parser.add_argument("--messages", metavar="HOST:PORT", help="and the messages service")
    parser.add_argument("--tls", action="store_true", help="call by TLS")
    parser.add_argument("--token-file", type=Path, help="a file with a person's token")
    parser.add_argument("--service-key", type=Path, help="or: the folder of a service's key")
    parser.add_argument("--service", default="importer", help="its name, as its key's: %(default)s")
    parser.add_argument("--service-issuer", help="the issuer that the services' tokens state")
    parser.add_argument("--audience", default="inglenook", help="the audience: %(default)s")
    parser.add_argument("--people-issuer", help="who signs the people in: the claim iss")
    parser.add_argument("--mapping", type=Path, help="a JSON file with the app's own field names")
    parser.add_argument(
        "--is-text",
        action="append",
        default=[],
        metavar="ID",
        help="the Convex id of a text that looks like ciphertext and is what somebody wrote",
    )
    parser.add_argument("--check-only", action="store_true", help="read and report, send nothing")
    arguments = parser.parse_args()
    if arguments.gateway is not None:
        arguments.sessions = arguments.messages = arguments.gateway
    if not arguments.check_only and not (arguments.sessions and arguments.messages):
        parser.error("say where Inglenook is: --gateway, or --sessions and --messages")
    by_service = (arguments.service_key, arguments.service_issuer, arguments.people_issuer)
    if (arguments.token_file is None) == (None in by_service):
        parser.error(
            "say who calls: --token-file, or --service-key, --service-issuer and --people-issuer"
        )
    return arguments


if __name__ == "__main__":
    main()
