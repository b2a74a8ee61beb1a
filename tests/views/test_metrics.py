"""Laws of what a task is judged by: direction, unit and targets in every view; records that do not say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from sweeps import result
from toy import ACCURACIES, edit, make_manifest, make_timeline

from algorithms.workload.census import metrics_of
from algorithms.workload.objectives import KINDS, objective_of
from emulator.analysis.metrics import figures, keys
from emulator.analysis.summarize import summarize
from emulator.analysis.summary import Summary, read_summary, to_json
from emulator.checks import divergence
from emulator.dashboard.progress import Progress
from emulator.dashboard.screen import ScreenState, make_screen, shares
from emulator.errors import UserError
from emulator.ledger.criteria import OLDER, Criteria, Goal, Metric
from emulator.ledger.events import Evaluated
from emulator.report import figures_csv
from emulator.report.compare import comparison_tables
from emulator.tables import overview, sweep
from emulator.tables import run as tables
from emulator.tables.headline import headline, one_seed, target_of
from emulator.tables.table import number

ERROR = Metric("mean_squared_error", "lower", percent=False, targets=(3.0, 2.5))
PERPLEXITY = Metric("perplexity", "lower", percent=False)
SCORES = {"fast": (4.0, 2.5, 2.4), "slow": (4.0, 3.5, 2.9)}  # by method and round


def manifest_of(criteria: Criteria, methods: list[str]) -> Any:
    """The toy's manifest, whose data say that a run is judged so."""
    first, *others = criteria.metrics
    judged = {"task": "any", "metric": first.name, **msgspec.to_builtins(first), "others": msgspec.to_builtins(others)}
    del judged["name"]
    judged |= {"naive": criteria.naive, "naive_score": criteria.naive_score}
    part = {"samples": 4, "classes": {}}
    data = {"dataset": "mine", "shape": [2], "names": [], "partition": "iid", "remarks": []}
    return make_manifest(
        algorithms=methods, data=data | {"train": part, "test": part, "clients": [part], "judged": judged}
    )


def summary_of(criteria: Criteria, scores: dict[str, tuple[float, ...]], *others: str, sign: float = 1.0) -> Summary:
    """The toy run in which each method's model has these values of the first metric (and of ``others``)."""
    names = [criteria.metric.name, *others]
    timelines = {
        method: edit(
            make_timeline(),
            lambda e: isinstance(e, Evaluated),
            lambda e, of=of: {"accuracy": None, "scores": dict.fromkeys(names, sign * of[e.round])},
        )
        for method, of in scores.items()
    }
    return summarize(manifest_of(criteria, [*scores]), timelines)


def column(table: Any, head: str) -> list[str]:
    index = [each.replace("\n", " ") for each in table.headers].index(head)
    return [row[index] for row in table.texts("{}*")]


def test_where_less_is_better_the_first_round_at_or_below_a_target_counts() -> None:
    summary = summary_of(Criteria((ERROR,)), SCORES)
    rounds = {name: {t: r and r.round for t, r in each.to_target.items()} for name, each in summary.algorithms.items()}
    assert rounds == {"fast": {3.0: 1, 2.5: 1}, "slow": {3.0: 2, 2.5: None}}


def test_stars_go_by_the_value_and_the_direction() -> None:
    latency = tables.run_tables(summary_of(Criteria((ERROR,)), SCORES))[0]
    assert column(latency, "mean squared error") == ["2.40*", "2.90"]
    assert column(latency, "s to 3") == ["0.20*", "0.30"]
    assert "a mean squared error of 3 or 2.5 on the test set; mean squared error after" in latency.caption
    upwards = summary_of(Criteria((Metric("gain", percent=False),)), SCORES)
    assert column(tables.run_tables(upwards)[0], "gain") == ["2.40", "2.90*"]


def test_a_metric_negated_with_its_direction_turned_gives_the_same_order() -> None:
    turned = Metric("mean_squared_error", "higher", percent=False, targets=(-3.0, -2.5))
    one = summary_of(Criteria((ERROR,)), SCORES)
    other = summary_of(Criteria((turned,)), SCORES, sign=-1)
    for name, algorithm in one.algorithms.items():
        assert [*algorithm.to_target.values()] == [*other.algorithms[name].to_target.values()]
    ours, theirs = (tables.run_tables(each)[0].best_cells() for each in (one, other))
    assert ours == theirs != set()
    assert "only fast reached a mean squared error of 2.5, after" in headline(one)
    assert "fast ended with the lowest mean squared error (2.4 after" in headline(one)
    assert "fast ended with the highest mean squared error (-2.4 after" in headline(other)
    assert (target_of(one), target_of(other)) == (Goal(ERROR, 2.5), Goal(turned, -2.5))


def test_a_target_of_another_metric_has_columns_of_its_own() -> None:
    criteria = Criteria((Metric("token_accuracy"), msgspec.structs.replace(PERPLEXITY, targets=(2.6,))))
    summary = summary_of(criteria, SCORES, "perplexity")
    assert summary.algorithms["fast"].to_target == {}
    assert summary.algorithms["fast"].to_other_targets["perplexity"][2.6].round == 1
    latency = tables.run_tables(summary)[0]
    assert column(latency, "s to perplexity 2.6") == ["0.20", "–"]
    assert column(latency, "perplexity") == ["2.40*", "2.90"]
    assert "only fast reached a perplexity of 2.6, after" in headline(summary)
    head = figures_csv.to_csv(summary).splitlines()[0].split(",")
    assert {"token_accuracy", "perplexity", "to_perplexity_2.6_s", "to_perplexity_2.6_bytes"} <= {*head}
    assert "accuracy" not in head
    assert keys(criteria).mb_to == ["mb_to_perplexity_2.6"]


def test_what_is_printed_fits_its_columns_whatever_the_metric() -> None:
    for table in overview.both(summary_of(Criteria((ERROR,)), SCORES)):
        assert all(len(line) <= overview.WIDTH for _, line in overview.drawn(table))
    latency = overview.drawn(overview.latency(summary_of(Criteria((ERROR,)), SCORES)))
    assert latency[0][1] == "Latency, s: a mean round by cause, and until a mean squared error of 2.5"


def test_a_record_that_does_not_say_is_judged_by_accuracy() -> None:
    summary = summarize(make_manifest(), {"fedavg": make_timeline()})
    assert summary.criteria == OLDER
    assert list(figures(OLDER))[:3] == ["s_per_round", "s_to_85", "s_to_90"]
    assert list(figures(OLDER))[-5:] == ["mb_to_85", "mb_to_90", "accuracy_percent", "peak_mib", "needed_mib"]
    assert summary.algorithms["fedavg"].scores == {"accuracy": ACCURACIES[-1]}
    assert [r and r.round for r in summary.algorithms["fedavg"].to_target.values()] == [1, 2]


def test_an_older_summary_is_read_with_its_metrics_by_name(tmp_path: Any) -> None:
    written = msgspec.json.decode(to_json(summarize(make_manifest(), {"fedavg": make_timeline()})))
    for row in (written["algorithms"]["fedavg"], *written["algorithms"]["fedavg"]["history"]):
        del row["scores"]
    path = tmp_path / "summary.json"
    path.write_bytes(msgspec.json.encode(written))
    assert figures(OLDER)["accuracy_percent"].of(read_summary(path).algorithms["fedavg"]) == 100 * ACCURACIES[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tasks_own_targets_are_there_until_others_are_said(kind: str) -> None:
    own = objective_of(kind).metrics
    assert metrics_of("", own) == [*own]
    said = metrics_of(f"0.5, {own[-1].name}:0.25", own)
    assert {metric.name: metric.targets for metric in said if metric.targets} == (
        {own[0].name: (0.5,), own[-1].name: (0.25,)} if len(own) > 1 else {own[0].name: (0.5, 0.25)}
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("high", "high is no number: say 0.8,0.9"),
        ("0.8,", "nothing is no number"),
        ("nan", "nan is no number"),
        ("85", "accuracy is a share: say 0 to 1, such as 0.9, not 85"),
        ("macro_f2:0.5", "did you mean macro_f1"),
    ],
)
def test_a_target_that_cannot_be_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(UserError, match=r"^--target ") as found:
        metrics_of(text, objective_of("classification").metrics)
    assert words in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("kind", "text", "least", "words"),
    [
        ("regression", "0.9,-1", "0", "mean squared error is at least 0, and never -1"),
        (
            "per-position",
            "perplexity:0.5",
            "perplexity:1",
            "perplexity is at least 1, and never 0.5",
        ),
    ],
)
def test_a_target_below_what_its_metric_can_be_is_refused(kind: str, text: str, least: str, words: str) -> None:
    metrics = objective_of(kind).metrics
    with pytest.raises(UserError) as found:
        metrics_of(text, metrics)
    assert str(found.value) == f"--target {text}: {words}"
    assert metrics_of(least, metrics)


@pytest.mark.parametrize(
    ("last", "naive_score", "said"),
    [
        (1.1, 1.0, "its mean squared error is 1.1, no better than the mean (1)"),
        (0.9, 1.0, ""),
        (2.0, None, "no better than the model after round 1 (2)"),
        (1.9, None, ""),
    ],
)
def test_a_training_that_came_to_nothing_is_noted_by_the_tasks_metric(
    last: float, naive_score: float | None, said: str
) -> None:
    criteria = Criteria((ERROR,), "the mean", naive_score)

    def events(rounds: int) -> Any:
        scores = [2.0, *[1.5] * (rounds - 2), last]
        judged = lambda e: {"accuracy": None, "scores": {ERROR.name: scores[e.round]}}  # noqa: E731
        return edit(make_timeline(rounds), lambda e: isinstance(e, Evaluated), judged)

    (*found,) = divergence.vain(events(divergence.LONG_ENOUGH), criteria)
    assert bool(found) == bool(said)
    assert said in "".join(found)
    assert divergence.vain(events(divergence.LONG_ENOUGH - 1), criteria) == []


def test_the_dashboard_tells_the_metric() -> None:
    progress = Progress(manifest_of(Criteria((ERROR,)), ["fedavg"]))
    progress.begin("fedavg")
    score = {"accuracy": None, "scores": {ERROR.name: 0.25}}
    progress.take(edit(make_timeline(1), lambda e: isinstance(e, Evaluated), lambda _: score))
    assert progress.result().scores == [0.25]
    assert any("mean squared error 0.25, test loss 0.300" in line for line in progress.log)
    assert shares([4.0, 1.0], ERROR) == [1.0, 0.25]
    assert shares([0.5], OLDER.metric) == [0.5]


@pytest.mark.parametrize("metric", [ERROR, OLDER.metric, Metric("mean_absolute_err")], ids=str)
def test_the_dashboard_shows_a_metrics_whole_name_in_eighty_columns(metric: Metric) -> None:
    progress = Progress(manifest_of(Criteria((metric,)), ["fedavg"]))
    progress.begin("fedavg")
    head = make_screen(progress, 80, 24, ScreenState(view="algorithms"))[5].plain
    assert head.split("rounds")[1].split()[: 1 + len(metric.words.split())] == ["s", *metric.words.split()]
    assert head.rstrip().endswith("MB peak MiB")


def test_runs_are_compared_by_their_own_metric() -> None:
    class Run:
        summary = summary_of(Criteria((ERROR,)), SCORES)

    (fast, _) = comparison_tables([Run, Run], ["a", "b"])  # type: ignore[list-item]
    rows = {row[0]: row[1:] for row in fast.texts()}
    assert rows["mean squared error"] == ["2.40", "2.40", "0.00"]
    assert not any("accuracy" in head for head in rows)


def test_a_bench_ranks_by_the_metrics_direction() -> None:
    judged = manifest_of(Criteria((ERROR,)), ["a"]).data.judged
    some = [
        msgspec.structs.replace(
            result(name, seed, None), judged=judged, figures={ERROR.key: value + seed / 1000, "s_per_round": 1.0}
        )
        for name, value in (("a", 0.5), ("b", 0.004))
        for seed in (1, 2, 3)
    ]
    latency = sweep.benchmark(sweep.Results(some, (1, 2, 3)), "p")[0]
    assert latency.title == "p: latency and mean squared error"
    assert column(latency, "mean squared error") == ["0.502 ± 0.001", "0.006 ± 0.001*"]
    assert f"mean squared error of {number(3.0)[0]} or 2.5" in latency.caption


def test_one_seed_is_said_to_be_no_ranking_where_methods_are_compared() -> None:
    two = summary_of(Criteria((ERROR,)), SCORES)
    assert "--seeds 5" in one_seed(two)
    assert one_seed(summary_of(Criteria((ERROR,)), {"fast": SCORES["fast"]})) == ""
