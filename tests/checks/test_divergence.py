"""A training that diverges: with whom it began is named, and from then on it has no accuracy anywhere."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import as_json
from sweeps import result
from toy import ACCURACIES, MS, edit, make_manifest, make_timeline

from algorithms import ALGORITHMS, fedavg
from algorithms.commands.sweep import records as bench_records
from algorithms.workload.judging import judge
from algorithms.workload.loader import Shard
from algorithms.workload.task import Task
from emulator.analysis.metrics import figures
from emulator.analysis.summarize import summarize
from emulator.checks import divergence
from emulator.checks.health import check_health
from emulator.compute.finite import is_finite
from emulator.dashboard.progress import Progress
from emulator.dashboard.screen import ScreenState, make_screen
from emulator.errors import UserError
from emulator.ledger.criteria import ACCURACY, OLDER
from emulator.ledger.events import AnyEvent, Evaluated, Posted, Reported, RoundEnded
from emulator.ledger.timeline import Timeline
from emulator.plots import charts, data
from emulator.plots.style import doubts
from emulator.runtime.evaluator import evaluated_event
from emulator.tables import run as tables
from emulator.tables import sweep
from emulator.tables.headline import headline
from emulator.tables.sweep import figures_of
from emulator.tables.table import MARKED, NOTHING
from emulator.testing.recording import Recording, record
from emulator.transport.messages import Message, Parcel

TASK = Task(dataset="synthetic:1x8x8:4:48", clients=3, batch=8)
ROUNDS = 3
SPLIT = [name for name in ALGORITHMS if name != "fedavg"]  # those with a server half
NOT_A_NUMBER, INFINITE = float("nan"), float("inf")


# --- tensors ----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(width=16), max_size=9),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_a_tensor_is_finite_where_torch_says_so_of_each_element(values: list[float], dtype: torch.dtype) -> None:
    tensor = torch.tensor(values, dtype=dtype)
    assert is_finite(tensor) == bool(tensor.isfinite().all())


def test_large_numbers_that_add_up_to_infinity_are_numbers() -> None:
    assert is_finite(torch.tensor([3e38, 3e38]))
    assert is_finite(torch.full((200,), 6e4, dtype=torch.float16))
    assert not is_finite(torch.tensor([INFINITE, -INFINITE]))
    assert is_finite(torch.tensor([1, 2])) and is_finite(torch.tensor([])) and is_finite(torch.ones(2, 3).t())


class Both(Message, frozen=True, kw_only=True):
    z: torch.Tensor
    state: dict[str, torch.Tensor]


def test_a_parcel_names_the_fields_that_it_sends_no_numbers_in() -> None:
    z, state = torch.ones(2), {"a": torch.ones(2), "b": torch.tensor([1.0, NOT_A_NUMBER]), "c": torch.tensor(INFINITE)}
    assert Parcel(Both(round=0, z=z, state={}), 0).not_finite() == []
    parcel = Parcel(Both(round=0, z=z, state=state), 0)
    z[0] = NOT_A_NUMBER  # after the post: not sent
    assert parcel.not_finite() == ["state"]
    assert Parcel(Both(round=0, z=z, state=state), 0).not_finite() == ["z", "state"]


# --- with whom it began -----------------------------------------------------------------------------------------------


def merged(played: Recording) -> list[Any]:
    """What would be recorded of it, each round's model judged as the evaluator does."""
    lines: dict[str, list[Any]] = {
        node: [msgspec.structs.replace(event, node=node, seq=i) for i, event in enumerate(events)]
        for node, events in played.events.items()
    }
    ends = [event for event in lines["server"] if isinstance(event, RoundEnded)]
    lines["evaluator"] = [
        msgspec.structs.replace(
            evaluated_event(end.round, end.due_ns, end.actual_ns, parts, *judge(TASK, parts)),
            node="evaluator",
            seq=i,
        )
        for i, (end, parts) in enumerate(zip(ends, played.snapshots, strict=True))
    ]
    return Timeline(chain.from_iterable(lines.values()))


def play(name: str, **settings: Any) -> list[Any]:
    module = importlib.import_module(ALGORITHMS[name])
    own = {key: value for key, value in settings.items() if key in module.Config.__struct_fields__}
    return merged(record(module, module.Config(task=TASK, rounds=ROUNDS, stop_after_s=None, **own)))


def without_numbers(client: int, in_round: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """That client's images of that round are none."""
    batches = Shard.batches

    @functools.wraps(batches)
    def poisoned(shard: Shard, round: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for x, y in batches(shard, round):
            yield (x * NOT_A_NUMBER, y) if (shard._index, round) == (client, in_round) else (x, y)

    monkeypatch.setattr(Shard, "batches", poisoned)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_client_whose_values_are_no_numbers_first_is_named_with_its_round_and_the_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Client 1, in the second round: it is the first to send what is none, whatever the method sends."""
    without_numbers(1, 1, monkeypatch)
    events = play(name, q=2)
    found = divergence.find_non_finite(events)
    assert found is not None and found.first is not None
    assert (found.round, found.first.node, found.first.round, found.first.beside) == (1, "client-1", 1, 0)
    began = next(e.started_ns for e in events if isinstance(e, RoundEnded) and e.round == 1)
    own = [e for e in events if isinstance(e, Posted) and e.node == "client-1" and e.due_ns > began]
    assert found.first.at_s == min(e.due_ns for e in own if e.not_finite) / 1e9
    assert found.first.what == own[0].kind
    (said,) = divergence.remarks(events, ACCURACY)
    assert f"a message of client-1, {own[0].kind}, in round 2, after {found.first.at_s:.2f} s" in said
    assert "from round 2 on there is no accuracy" in said
    judged = [event for event in events if isinstance(event, Evaluated)]
    assert [event.accuracy is None for event in judged] == [False, True, True]


@pytest.mark.parametrize("name", SPLIT)
def test_where_the_server_half_is_the_first_to_have_no_numbers_the_server_is_named(name: str) -> None:
    """It learns at such a rate that it overflows at once; clients still send numbers."""
    found = divergence.find_non_finite(play(name, optimizer="sgd", server_lr=3e38, client_lr=1e-3))
    assert found is not None and found.first is not None
    assert (found.round, found.first.node) == (0, "server")


def test_a_rate_of_learning_far_too_large_is_a_divergence_from_the_first_round_on() -> None:
    events = play("fedavg", optimizer="sgd", client_lr=1e8)
    algorithm = summarize(make_manifest(), {"fedavg": events}).algorithms["fedavg"]
    assert algorithm.diverged.round == 0
    assert algorithm.diverged.first.node.startswith("client-")
    assert algorithm.diverged.first.what == "update"
    assert [row.accuracy for row in algorithm.history] == [None] * ROUNDS


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_rate_that_an_optimizer_cannot_take_is_refused(name: str) -> None:
    """torch says of 1e39 that it 'cannot be converted to type float without overflow', in the middle of a run."""
    module = importlib.import_module(ALGORITHMS[name])
    for key in {"client_lr", "server_lr", "aux_lr", "align_lr", "radius"} & {*module.Config.__struct_fields__}:
        module.Config(task=TASK, **{key: 1e30}).check()
        with pytest.raises(UserError, match=f"{key}: must be .* 1e\\+30, not 1e\\+39"):
            module.Config(task=TASK, **{key: 1e39}).check()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_training_of_numbers_has_not_diverged(name: str) -> None:
    events = play(name)
    assert divergence.find_non_finite(events) is None
    assert divergence.remarks(events, ACCURACY) == []


def one_step(weight_decay: float) -> list[Any]:
    """A round of FedAvg of one step, at a rate that makes weights infinite where the decay is large, else huge."""
    task = msgspec.structs.replace(TASK, batch=16)
    common = {"rounds": 1, "stop_after_s": None, "optimizer": "sgd", "client_lr": 3e38}
    return merged(record(fedavg, fedavg.Config(task=task, weight_decay=weight_decay, **common)))


def test_an_update_whose_loss_was_a_number_is_seen_all_the_same() -> None:
    """The last step of a round is in no loss that is reported: a loss is that of before its step."""
    events = one_step(1e3)
    assert [e.not_finite for e in events if isinstance(e, Reported)] == [[]] * TASK.clients
    found = divergence.find_non_finite(events)
    assert found is not None and found.first is not None
    assert (found.first.node[:7], found.first.what) == ("client-", "update")


def test_numbers_so_large_that_the_joined_model_has_no_loss_are_said_to_be_numbers() -> None:
    events = one_step(0.0)
    found = divergence.find_non_finite(events)
    assert found is not None and (found.round, found.first) == (0, None)
    (said,) = divergence.remarks(events, ACCURACY)
    assert (
        said
        == "the training has diverged, before values were infinite or no numbers: from round 1 on there is no accuracy;"
        " try a smaller client_lr or server_lr"
    )


def test_a_client_that_is_left_out_is_named_and_the_training_has_not_diverged() -> None:
    events = of_toy(lambda e: isinstance(e, Posted) and e.node == "client-1" and e.round == 1, not_finite=["client"])
    assert divergence.find_non_finite(events) is None
    (said,) = divergence.remarks(events, ACCURACY)
    assert said.startswith("a message of client-1, update, in round 2, after 0.15 s: values are infinite or no numbers")
    assert "the joined models stayed finite; try a smaller" in said
    assert summarize(make_manifest(), {"fedavg": events}).algorithms["fedavg"].outcome == "finished"


def test_nodes_that_are_no_numbers_at_one_moment_are_counted() -> None:
    events = of_toy(lambda e: isinstance(e, Posted) and e.kind == "update", not_finite=["client"])
    first = divergence.first_sign(events)
    assert first == divergence.NonFiniteValues(node="client-0", round=0, at_s=0.05, what="update", beside=1)
    assert divergence.described(first) == (
        "a message of client-0, update, in round 1, after 0.05 s, as of 1 other node at that moment"
    )


# --- what the evaluator says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "loss", "expected"),
    [
        (1.0, 0.5, (0.25, 0.5, 0.3, [])),
        (1.0, INFINITE, (None, None, None, [])),
        (1.0, NOT_A_NUMBER, (None, None, None, [])),
        (INFINITE, 0.5, (None, None, None, ["server"])),  # as of a statistic that divides
    ],
)
def test_a_model_or_a_loss_that_is_none_has_no_accuracy(weight: float, loss: float, expected: Any) -> None:
    parts = {"client": {"w": torch.ones(2)}, "server": {"w": torch.tensor([weight])}}
    found = evaluated_event(3, 5, 6, parts, {"accuracy": 0.25, "loss": loss, "balanced_accuracy": 0.3})
    assert (found.accuracy, found.loss, found.balanced, found.not_finite) == expected
    assert (found.round, found.due_ns, found.actual_ns) == (3, 5, 6)
    assert divergence.judged(found) == (expected[0] is not None)


# --- what everybody shows ---------------------------------------------------------------------------------------------


def of_toy(which: Any, **changes: Any) -> list[AnyEvent]:
    return edit(make_timeline(), which, lambda _event: changes)


def diverging(from_round: int = 2, **judged: Any) -> list[AnyEvent]:
    """The toy run, whose client 1 sends no numbers in ``from_round``, and so nothing is judged from then on."""
    judged = judged or {"accuracy": None, "loss": None}
    events = of_toy(lambda e: isinstance(e, Evaluated) and e.round >= from_round, **judged)
    poisoned = lambda e: isinstance(e, Posted) and (e.node, e.round) == ("client-1", from_round)  # noqa: E731
    return edit(events, poisoned, lambda _event: {"not_finite": ["client"]})


@pytest.mark.parametrize("judged", [{}, {"accuracy": 0.091, "loss": None}], ids=["new", "old"])
def test_a_summary_has_no_accuracy_after_the_divergence_and_none_to_compare(judged: dict[str, Any]) -> None:
    """Older records have the accuracy of an argmax of NaN beside a loss that is none. Costs are as ever."""
    whole = summarize(make_manifest(), {"fedavg": make_timeline()}).algorithms["fedavg"]
    found = summarize(make_manifest(), {"fedavg": diverging(**judged)}).algorithms["fedavg"]
    assert found.outcome == "diverged"
    assert [row.accuracy for row in found.history] == [*ACCURACIES[:2], None]
    assert (found.accuracy, found.balanced_accuracy, found.loss) == (None, None, None)
    assert whole.to_target[0.85] and set(found.to_target.values()) == {None}
    assert as_json(found.diverged) == {
        "round": 2,
        "at_s": 0.3,
        "first": {"node": "client-1", "round": 2, "at_s": 0.25, "what": "update", "beside": 0},
    }
    for key in ("seconds", "rounds", "bytes", "length_s", "round_latency_s", "official_bytes", "timeline_digest"):
        assert getattr(found, key) == getattr(whole, key)
    wanted = [key for key, figure in figures(OLDER).items() if figure.of(whole) is not None]
    lost = {key for key in wanted if figures(OLDER)[key].of(found) is None}
    assert lost == {"s_to_85", "s_to_90", "mb_to_85", "mb_to_90", "accuracy_percent"}


def test_a_later_judgement_that_is_one_again_does_not_count() -> None:
    back = edit(
        diverging(1), lambda e: isinstance(e, Evaluated) and e.round == 2, lambda _: {"accuracy": 0.99, "loss": 1}
    )
    found = summarize(make_manifest(), {"fedavg": back}).algorithms["fedavg"]
    assert [row.accuracy for row in found.history] == [ACCURACIES[0], None, None]


def two() -> dict[str, Any]:
    """A run with one that diverged and was ahead until then, and one that is slower."""
    slower = edit(
        make_timeline(), lambda e: isinstance(e, Evaluated), lambda e: {"accuracy": e.accuracy - 0.05 * (e.round < 2)}
    )
    timelines = {"sl": slower, "fedavg": diverging()}
    return summarize(make_manifest(algorithms=list(timelines)), timelines)


def test_tables_show_dashes_the_outcome_and_a_note_and_mark_no_best() -> None:
    summary = two()
    (latency, *_) = tables.run_tables(summary)
    row = next(row for row in latency.texts(MARKED) if row[0] == "fedavg")
    assert row[1] == "diverged"
    assert row[5:] == [NOTHING] * 3
    assert not any(
        "*" in cell
        for table in tables.run_tables(summary)
        for row in table.texts(MARKED)
        for cell in row
        if "fedavg" in row
    )
    notes = [line for line in tables.remarks(summary) if "diverged" in line]
    assert len(notes) == 1
    assert "fedavg: the training has diverged, which began with a message of client-1, update, in round 3, " in notes[0]
    assert check_health(make_manifest(), {"fedavg": diverging()}).verdict == "good"  # what it costs is as it was


def test_the_sentence_names_who_diverged_and_compares_the_others() -> None:
    said = headline(two())
    assert "only sl reached" in said or "sl reached 90 %" in said
    assert said.endswith("fedavg diverged.")
    alone = summarize(make_manifest(), {"fedavg": diverging()})
    assert headline(alone) == "What the numbers say: fedavg diverged."


def test_the_dashboard_keeps_no_older_loss_of_a_client_whose_loss_is_none() -> None:
    progress = Progress(make_manifest())
    progress.begin("fedavg")
    lost = edit(
        make_timeline(),
        lambda e: isinstance(e, Reported) and e.round == 2,
        lambda _: {"values": {}, "not_finite": ["loss"]},
    )
    progress.take(event for event in lost if event.due_ns < 250 * MS)
    assert progress.nodes["client-0"].loss == 0.5
    progress.take(event for event in lost if event.due_ns >= 250 * MS)
    assert progress.nodes["client-0"].loss is None


def test_a_bench_has_it_in_no_mean_and_with_no_best() -> None:
    """Nor is it played again: that it diverges is a result."""
    entry = two().algorithms["fedavg"]
    some = [result("a", 1, 2.0), result("a", 2, 4.0), result("b", 1, 1.0)]
    lost = msgspec.structs.replace(result("b", 2, None), outcome=entry.outcome, figures=figures_of(entry))
    latency = sweep.benchmark(sweep.Results([*some, lost], (1, 2)), "p")[0]
    rows = {row[0]: row for row in latency.texts(MARKED)}
    assert rows["b"][5] == "1.00\n(1 of 2)"
    assert not any("*" in cell for cell in rows["b"])
    assert latency.results == ["b: diverged with 1 of 2 seeds."]
    assert bench_records._doubt("fedavg", entry, two()) == ""


def test_a_plot_draws_it_until_then_and_ranks_it_last() -> None:
    summary = two()
    curves = {curve.algorithm: curve for curve in data.curves(summary)}
    assert [point.round for point in curves["fedavg"].points] == [1, 2]
    assert curves["fedavg"].diverged and not curves["sl"].diverged
    assert set(curves["fedavg"].reached.values()) == {None}
    goal = summary.criteria.of(ACCURACY)[-1]
    for against in charts.against([*curves.values()]):
        assert charts._winner(list(curves.values()), against, ACCURACY, goal).startswith("sl is first at 90 %")
        none = [without_targets(curve) for curve in curves.values()]
        assert "; sl ended at" in charts._winner(none, against, ACCURACY, goal)
        assert sorted(none, key=lambda curve: charts._rank(curve, against, ACCURACY, goal))[-1].algorithm == "fedavg"
    assert doubts(summary) == ("Diverged, so without accuracy: fedavg", "")


def without_targets(curve: data.Curve) -> data.Curve:
    """The same where nobody came to any target."""
    return curve._replace(reached=dict.fromkeys(curve.reached))


def test_the_dashboard_shows_no_accuracy_of_it() -> None:
    progress = Progress(make_manifest())
    progress.begin("fedavg")
    progress.take(diverging())
    assert progress.scores == list(ACCURACIES[:2])
    progress.end()
    (ended,) = progress.results
    assert (ended.outcome, ended.diverged) == ("diverged", True)
    screen = [line.plain for line in make_screen(progress, 100, 30, ScreenState(view="algorithms"))]
    assert any("accuracy – (diverged)" in line for line in screen)
    assert not any(f"{100 * ACCURACIES[1]:.2f} %" in line for line in screen)
    assert any("no accuracy: diverged" in text for text in progress.log)
