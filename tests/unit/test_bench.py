"""What the benchmark makes of what it measured. How fast anything is decides no test."""

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.explanations import explained
from bench.figures import Figure, Results
from bench.load import grpc_frame, parsed_report
from bench.report import Run, document, figures_table, write
from bench.series import Series, in_turn, percentile, series_of
from bench.shares import GRPC, shares_of

REPORT = """
finished in 3.01s, 1466.33 req/s, 698.21KB/s
requests: 4399 total, 4463 started, 4399 done, 4399 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 4398 2xx, 0 3xx, 1 4xx, 0 5xx
traffic: 2.05MB (2144911) total, 17.58KB (17997) headers (space 94.95%), 1.78MB (1867212) data
"""
ENTRY = "main (services/messages/__main__.py:70);Program._serve (services/runtime/program.py:47)"
LOOP = f"{ENTRY};run (uvloop/__init__.py:92)"


def test_a_load_is_read_from_what_h2load_prints() -> None:
    outcome = parsed_report(REPORT, 3)
    assert (outcome.started, outcome.done, outcome.ok) == (4463, 4399, 4398)
    assert outcome.data_bytes == 1867212
    assert outcome.rate == pytest.approx(4399 / 3)


def test_what_is_no_report_is_said_to_be_none() -> None:
    with pytest.raises(BenchError, match="something unexpected"):
        parsed_report("cannot connect", 3)


def test_a_grpc_frame_is_a_flag_a_length_and_the_message() -> None:
    assert grpc_frame(b"x" * 300) == b"\x00\x00\x00\x01\x2c" + b"x" * 300


def test_a_ratio_is_of_neighbours_and_its_median_counts() -> None:
    ratio = Series((1.0, 4.0, 9.0)).against(Series((2.0, 4.0, 3.0)))
    assert ratio.values == (0.5, 1.0, 3.0)
    assert (ratio.median, ratio.lowest, ratio.highest) == (1.0, 0.5, 3.0)


def test_nothing_measured_is_no_series() -> None:
    with pytest.raises(ValueError, match="nothing"):
        series_of([])


def test_things_are_measured_in_turn_forwards_and_backwards() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    measured = in_turn({"a": lambda: measure("a"), "b": lambda: measure("b")}, 3)
    assert "".join(order) == "abbaab"
    assert measured["a"].values == (1.0, 4.0, 5.0)


def test_a_percentile_is_the_value_that_so_many_do_not_exceed() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1)) == (
        50,
        99,
        100,
    )
    assert percentile([7.0], 0.99) == 7.0


def test_a_sample_counts_for_the_innermost_work_it_is_in() -> None:
    writer = "Writer._write_batch (services/messages/writer.py:7)"
    database = "Database.in_one_trip (services/runtime/database.py:9);wait (psycopg/waiting.py:2)"
    note = "CallInterceptor.intercept (services/runtime/interceptor.py:9);_note (services/runtime"
    stacks = [
        f"{LOOP} 50",
        f"{LOOP};Messages.AppendMessage (services/messages/service.py:57);uuid4 (uuid.py:1) 10",
        f"{LOOP};{writer};{database} 20",
        f"{LOOP};{note}/interceptor.py:99);info (logging/__init__.py:3);dumps (json/x.py:1) 15",
        f"{LOOP};CallInterceptor._admit (services/runtime/interceptor.py:9) 5",
        "Thread.run (threading.py:982) 1000",
    ]
    shares = shares_of("\n".join(stacks))
    assert shares == {
        GRPC: 0.5,
        "SQL": 0.2,
        "JSON logging": 0.15,
        "the handler: rows and protobuf": 0.1,
        "auth": 0.05,
    }


def test_a_profile_without_the_main_thread_is_none() -> None:
    with pytest.raises(BenchError):
        shares_of("Thread.run (threading.py:982) 1000\n")


def _figure(ratio: float) -> Figure:
    return Figure(
        what="AppendMessage, 300 B, 64 callers",
        load="4 h2load -c 16",
        unit="/s",
        measured=Series((1999.0, 2000.0, 2001.0)),
        against="echo, 4,000/s",
        ratio=Series((ratio,)),
        at_least=0.6,
    )


@pytest.mark.parametrize(("ratio", "met"), [(0.6, True), (0.59, False)])
def test_a_budget_is_met_from_its_bound_on(ratio: float, met: bool) -> None:
    assert _figure(ratio).met is met
    assert ("missed" in figures_table([_figure(ratio)])) is not met


def _memory(ratio: float) -> Figure:
    one = Series((30.0,))
    return Figure("memory", "idle", "KiB", one, "bare", Series((1.0, ratio, 9.0)), at_most=1.6)


@pytest.mark.parametrize(("ratio", "met"), [(1.6, True), (1.61, False)])
def test_where_less_is_better_a_budget_is_met_up_to_its_bound(ratio: float, met: bool) -> None:
    assert _memory(ratio).met is met
    assert "| at most 1.6 |" in figures_table([_memory(ratio)])


@pytest.mark.parametrize(("latency", "met"), [(49.9, True), (50.0, False)])
def test_a_budget_may_bound_what_was_measured_itself(latency: float, met: bool) -> None:
    figure = Figure("p99", "20/s", "ms", Series((latency,)), under=50)
    assert figure.met is met
    assert "| under 50 ms |" in figures_table([figure])


def test_what_is_too_much_is_explained_as_what_is_too_little() -> None:
    late = Figure("p99", "20/s", "ms", Series((40.0, 60.0, 80.0)), under=50)
    told = explained(Results(figures=[_memory(2.0), late]))
    assert [paragraph.partition(". Its")[0] for paragraph in told] == [
        "**memory**: 2.00 of bare, where at most 1.6 is the target",
        "**p99**: 60.00 ms, where under 50 ms is the target",
    ]
    assert told[0].endswith("Its repeats were between 1.00 and 9.00; 1 of 3 met the target.")
    assert told[1].endswith("Its repeats were between 40.00 and 80.00; 1 of 3 met the target.")


def test_a_figure_without_a_bound_is_neither_met_nor_missed() -> None:
    figure = Figure("memory", "resident", "MiB", Series((120.4,)))
    assert figure.met is None
    assert figures_table([figure]).splitlines()[-1].split("|")[3].strip() == "120 MiB"


def test_a_missed_target_is_explained_by_the_numbers_of_the_run(tmp_path: Path) -> None:
    results = Results(figures=[_figure(0.5)], shares={GRPC: 0.6, "SQL": 0.4}, profiled="4 s")
    results.not_measured["profile"] = "no py-spy"
    (told,) = explained(results)
    assert "0.50 of echo, 4,000/s, where at least 0.6 is the target" in told
    run = Run("2026-01-01 00:00 UTC", "full", 5, 3, {"CPU": "one"})
    page = tmp_path / "docs" / "benchmarks.md"
    write(run, results, folder=tmp_path / "results", page=page)
    assert page.read_text() == document(run, results)
    for said in (told, "Not measured: profile. no py-spy", "| CPU", "60.0%"):
        assert said in page.read_text()
    assert len(list((tmp_path / "results").glob("*.json"))) == 1
