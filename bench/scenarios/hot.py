"""One hot conversation against many: what is said in one place is no slower."""

from bench.bench import Bench
from bench.figures import Figure, Results
from bench.series import in_turn

_CALLERS = 64


def measure(bench: Bench, results: Results) -> None:
    """64 callers in one conversation, and each in another's."""
    one = bench.person("hot")
    hot = [bench.append_load(one, 1) for _ in range(_CALLERS)]
    many = [bench.append_load(bench.person(f"cool{n}"), 1) for n in range(_CALLERS)]
    measured = in_turn(
        {
            "hot": lambda: bench.run_appends(hot).rate,
            "many": lambda: bench.run_appends(many).rate,
        },
        bench.effort.repeats,
    )
    results.figures.append(
        Figure(
            what="one hot conversation, 64 callers",
            load="64 h2load processes of 1 caller; all in one conversation, or each in another's",
            unit="/s",
            measured=measured["hot"],
            against=f"64 conversations, {measured['many'].median:,.0f}/s",
            ratio=measured["hot"].against(measured["many"]),
            at_least=0.9,
        )
    )
