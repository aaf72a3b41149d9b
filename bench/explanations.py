"""Why a target was missed, in the numbers of the run."""

from bench.figures import Figure, Results
from bench.shares import GRPC

_LARGEST = 4


def explained(results: Results) -> list[str]:
    """A paragraph for each target that was missed."""
    return [
        f"**{figure.what}**: {_missed(figure)} is the target.{_because(figure, results)}"
        for figure in results.figures
        if figure.met is False
    ]


def _missed(figure: Figure) -> str:
    if figure.under is None and figure.ratio is not None:
        return f"{figure.ratio.median:.2f} of {figure.against}, where {figure.target}"
    return f"{figure.measured.median:.2f} {figure.unit}, where {figure.target}"


def _because(figure: Figure, results: Results) -> str:
    """What the run knows of the cause, or how far apart its repeats were."""
    if figure.what.startswith("AppendMessage"):
        return f" {_where_it_goes(results)}"
    if figure.what.startswith("append through the gateway"):
        envoy = _figure(results, figure.what.replace("append", "processor time in Envoy, append"))
        taken = "" if envoy is None else f" Envoy takes {envoy.measured.median:,.0f} us for each."
        return f"{taken}{_spread(figure)}"
    return _spread(figure)


def _spread(figure: Figure) -> str:
    bounded = figure.ratio if figure.under is None else figure.measured
    if bounded is None:
        return ""
    kept, repeats = figure.kept
    return (
        f" Its repeats were between {bounded.lowest:.2f} and {bounded.highest:.2f};"
        f" {kept} of {repeats} met the target."
    )


def _where_it_goes(results: Results) -> str:
    in_messages = _figure(results, "its processor time in messages, 64 callers")
    in_postgres = _figure(results, "its processor time in PostgreSQL, 64 callers")
    if in_messages is None or in_postgres is None:
        return ""
    told = (
        f"An append takes {in_messages.measured.median:,.0f} us of the messages process and"
        f" {in_postgres.measured.median:,.0f} us of PostgreSQL; a call of the echo takes"
        f" {in_messages.against.removeprefix('echo, ')}."
    )
    largest = sorted(
        (item for item in results.shares.items() if item[0] != GRPC), key=lambda item: -item[1]
    )[:_LARGEST]
    if not largest:
        return told
    named = ", ".join(f"{kind} {share:.0%}" for kind, share in largest)
    return f"{told} Of the former, {GRPC} is {results.shares.get(GRPC, 0):.0%}, {named}."


def _figure(results: Results, what: str) -> Figure | None:
    return next((figure for figure in results.figures if figure.what == what), None)
