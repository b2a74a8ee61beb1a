"""A dry run foresees a run's bytes and seconds: those of a real play, from far fewer computations."""

from __future__ import annotations

import functools
import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from processes import ROUNDS, Board, Played, Wire, play, write_scenario
from timelines import merged

import run
from algorithms import ALGORITHMS
from algorithms.training import steps
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.objectives import Classification
from emulator.checks.health import check_health
from emulator.checks.invariants import conserved
from emulator.compute.counting import Costs, cost_key
from emulator.ledger.events import (
    Computed,
    Ended,
    Event,
    Lifecycle,
    Posted,
    Received,
    Reported,
    RoundEnded,
    Started,
)
from emulator.ledger.timeline import Timeline, only
from emulator.preflight.dilation import ProfilingResult
from emulator.preflight.dry_run import DryRunResult, RememberedCosts, dry_run
from emulator.profiles.reading import load_scenario
from emulator.profiles.scenario import Scenario
from emulator.testing.stage import Stage

CLIENTS = 4  # of both kinds of device
SETTINGS = {"rounds": 4, "stop_after_s": None}  # rounds 0 and 3 of FSL-SAGE are aligned
SAVED = 4  # a dry run carries out at most one in so many computations of the four clients
COMPARED = ["fedavg", "splitfed-v2", "fsl-sage"]


@functools.cache
def scenario() -> Scenario:
    return load_scenario("iot-4g", CLIENTS)


@functools.cache
def played(name: str) -> dict[str, list[Event]]:
    """The events of a real play in this process."""
    module = importlib.import_module(ALGORITHMS[name])
    config = msgspec.convert(SETTINGS, module.Config)
    with Stage(scenario(), *module.MESSAGES) as stage:
        roles = [module.client(stage.nodes[client.name], config) for client in scenario().clients]
        stage.play(*roles, module.server(stage.server, config))
    return stage.events


def foresee(module: str, settings: dict[str, Any]) -> tuple[DryRunResult, dict[str, list[Event]]]:
    """A dry run that knows no costs beforehand, and the events of its nodes."""
    events: dict[str, list[Event]] = {}
    foreseen = dry_run(
        module, settings, scenario(), 1, ProfilingResult(), lambda node: events.setdefault(node, []).append
    )
    return foreseen, events


@functools.cache
def foreseen(name: str) -> tuple[DryRunResult, dict[str, list[Event]]]:
    return foresee(ALGORITHMS[name], SETTINGS)


def weights(events: dict[str, list[Event]]) -> Counter[Any]:
    """How often each combination of round, kind, ends and sizes was posted."""
    return Counter(
        (e.round, e.kind, e.node, e.destination, e.payload_bytes, e.official_bytes, e.framed_bytes, e.wire_bytes)
        for e in only(merged(events), Posted)
    )


def timeline(events: list[Event]) -> list[Any]:
    """What takes place in emulated time at a node: nothing that only one of the two records, nothing of the host."""
    host = ("actual_ns", "host_ns", "cpu_ns", "host_late_ns")
    return [
        {key: value for key, value in msgspec.structs.asdict(event).items() if key not in host}
        for event in events
        if not isinstance(event, Started | Ended | Reported)
    ]


# --- against a real play ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
def test_bytes_of_each_round_kind_and_client_are_those_of_a_play(name: str) -> None:
    _, events = foreseen(name)
    assert weights(events) == weights(played(name))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_event_of_every_node_is_due_when_it_is_in_a_play(name: str) -> None:
    """Also the counted work of each computation, which the dry run found out by itself."""
    _, events = foreseen(name)
    for node, lines in played(name).items():
        assert timeline(events[node]) == timeline(lines)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_far_fewer_computations_are_carried_out_than_are_played(name: str) -> None:
    found, events = foreseen(name)
    assert found.computations == len(only(merged(played(name)), Computed))
    assert found.carried_out * SAVED <= found.computations
    assert found.elapsed_ns >= max(event.due_ns for event in only(merged(events), Computed))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_nothing_that_depends_on_values_is_recorded(name: str) -> None:
    _, events = foreseen(name)
    assert only(merged(played(name)), Reported) != []
    assert only(merged(events), Reported) == []


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_was_posted_was_received_and_all_have_ended(name: str) -> None:
    _, events = foreseen(name)
    assert conserved(merged(events), "finished") == ([], [])
    assert len(only(merged(events), Received)) == len(only(merged(events), Posted))
    lost = Timeline(event for event in merged(events) if not (isinstance(event, Received) and event.counter == 0))
    assert conserved(lost, "finished")[0] != []


def test_who_was_left_out_is_recorded_as_in_a_play() -> None:
    """The deadline is the time of a mean round until its last update: some rounds take longer."""
    ends = [event.due_ns for event in played("cse-fsl")["server"] if isinstance(event, Received)]
    settings = {**SETTINGS, "rounds": 2, "deadline_s": ends[-1] / SETTINGS["rounds"] / 1e9}
    module = importlib.import_module(ALGORITHMS["cse-fsl"])
    config = msgspec.convert(settings, module.Config)
    with Stage(scenario(), *module.MESSAGES) as stage:
        roles = [module.client(stage.nodes[client.name], config) for client in scenario().clients]
        stage.play(*roles, module.server(stage.server, config))
    _, events = foresee(ALGORITHMS["cse-fsl"], settings)
    reports = [
        [(e.round, e.values) for e in lines["server"] if isinstance(e, Reported)] for lines in (events, stage.events)
    ]
    assert reports[0] == reports[1] != []


def test_messages_that_nobody_waits_for_are_written_down_as_undelivered() -> None:
    _, events = foresee("players.parting", {})
    kinds = Counter(type(event).__name__ for event in events["network"])
    assert kinds == {"Started": 1, "Transmitted": 2 * CLIENTS, "Undelivered": CLIENTS, "Ended": 1}
    assert conserved(merged(events), "finished") == ([], [])


# --- remembered results -----------------------------------------------------------------------------------------------


def part() -> steps.Part:
    return steps.Part(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)),
        OptimizerSpec("adam", 0.1),
        objective=Classification(),
    )


def ask(costs: RememberedCosts, fn: Any, *args: Any) -> Any:
    return costs.count(cost_key(fn, args), fn, args)


def test_a_result_is_handed_out_again_with_the_same_values_and_a_gradient_of_its_own() -> None:
    costs, x, dz = RememberedCosts({}, {}, None), torch.ones(2, 1, 2, 2), torch.ones(2, 3)
    parts = [part() for _ in range(3)]
    first, *others = [ask(costs, steps.forward, each, x) for each in parts]
    assert first.grad_fn is not None
    for other in others:
        assert other.is_leaf and other.requires_grad and torch.equal(other, first)
        torch.autograd.backward(other, dz)
        assert torch.equal(other.grad, dz)
    assert (costs.asked, costs.carried_out) == (3, 1)


def test_the_work_of_a_backward_pass_is_that_of_the_whole_graph_whoever_comes_first() -> None:
    """Here the second client, whose z stands for one that was never computed."""
    x, dz = torch.ones(2, 1, 2, 2), torch.ones(2, 3)
    genuine, bare = Costs(), Costs()
    own, leaf = part(), torch.ones(2, 3, requires_grad=True)
    genuine.count("backward", steps.backward, (own, steps.forward(own, x), dz))
    bare.count("backward", steps.backward, (part(), leaf, dz))

    costs, parts = RememberedCosts({}, {}, None), [part(), part()]
    _, stand_in = [ask(costs, steps.forward, each, x) for each in parts]
    ask(costs, steps.backward, parts[1], stand_in, dz)
    found = costs.table[cost_key(steps.backward, (parts[1], stand_in, dz))]
    assert found == genuine.table["backward"]
    assert found.operations > bare.table["backward"].operations
    assert costs.carried_out == 3


def test_a_cost_that_is_known_beforehand_stays() -> None:
    x = torch.ones(2, 1, 2, 2)
    mine = part()
    key = cost_key(steps.forward, (mine, x))
    known = Costs()
    known.count(key, lambda: None, ())
    costs = RememberedCosts(known.table, {}, None)
    ask(costs, steps.forward, mine, x)
    assert costs.table == known.table


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def commands(runs: Path) -> tuple[Played, Played]:
    """The same flags with ``--dry-run`` and on the virtual clock, on jittery links."""
    path = write_scenario(runs / "dry", [(1, Board()), (1, Board(dense_gflops=5.0))], Wire(jitter_ms=3))
    flags = "--profile", path, "--algorithm", ",".join(COMPARED), "--rounds", ROUNDS, "--batch", 64
    flags += "--samples-per-client", 200
    dry = play(runs / "dry-run", *flags, "--dry-run")
    virtual = play(runs / "dry-virtual", *flags, "--clock", "virtual", "--force")
    assert (dry.status, dry.err, virtual.status, virtual.err) == (0, "", 0, "")
    return dry, virtual


@pytest.mark.parametrize("name", COMPARED)
def test_a_dry_run_says_what_the_virtual_clock_says(name: str, commands: tuple[Played, Played]) -> None:
    dry, virtual = (played.summary["algorithms"][name] for played in commands)
    for key in ("outcome", "rounds", "bytes", "initial_bytes", "official_bytes", "by_kind"):
        assert dry[key] == virtual[key]
    for foreseen, real in zip(dry["clients"], virtual["clients"], strict=True):
        assert (foreseen["bytes"], foreseen["by_kind"]) == (real["bytes"], real["by_kind"])
    ends, real_ends = ([row["actual_s"] for row in run["history"]] for run in (dry, virtual))
    assert len(ends) == ROUNDS
    assert ends == pytest.approx(real_ends, rel=1e-3)
    assert (dry["accuracy"], dry["loss"]) == (None, None)
    for foreseen, real in zip(dry["clients"], virtual["clients"], strict=True):
        # What oneDNN keeps beside the tensors depends on the CPU's kernels: with AVX2 alone up to 2.8 MiB more.
        assert abs(foreseen["needed_mib"] - real["peak_mib"]) < 0.15 * real["peak_mib"] + 2.5
        assert (foreseen["peak_mib"], foreseen["budget_mib"]) == (None, real["budget_mib"])
        assert (foreseen["outcome"], real["outcome"]) == ("would-fit", "fits")


def test_a_dry_run_says_what_it_is_and_claims_no_verdict(commands: tuple[Played, Played]) -> None:
    dry, virtual = commands
    assert dry.manifest.clock == dry.summary["clock"] == "dry-run"
    health = dry.summary["health"]
    assert (health["verdict"], health["reasons"], health["notes"]) == ("none", [], [])
    text = (dry.folder / "tables.md").read_text()
    assert "Dry run: nothing was trained. Payload and framed bytes are exact" in text
    assert "memory is foreseen" in text
    assert "Verdict" not in text
    assert "Verdict" in (virtual.folder / "tables.md").read_text()


def test_the_laws_of_the_ledger_hold_for_a_dry_run_too(commands: tuple[Played, Played]) -> None:
    dry, _ = commands
    events = dry.timeline("fedavg")
    assert len(only(events, RoundEnded)) == ROUNDS
    health = check_health(dry.manifest, {"fedavg": [event for event in events if not isinstance(event, Received)]})
    assert health.verdict == "none"
    assert any("neither received nor undelivered" in reason for reason in health.reasons)


def test_a_deadlock_that_no_profiling_shows_is_found(runs: Path) -> None:
    path = write_scenario(runs / "dry-three", [(3, Board())])
    found = play(runs / "dry-deadlock", "--profile", path, "--algorithm", "forgetful", "--dry-run")
    assert found.status == 1
    assert [event.outcome for event in found.events("forgetful", Lifecycle)] == ["", "failed"]
    assert "deadlock: " in found.out
    assert found.err == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--dry-run", "--dilation", "2"], ["--dilation 2", "leave it out"]),
        (["--dry-run", "--clock", "virtual"], ["--clock", "--dry-run"]),
        (["--clock", "virtual", "--dry-run"], ["--clock", "--dry-run"]),
    ],
)
def test_a_dry_run_has_no_clock(flags: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--profile", "iot-4g", *flags]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert [word for word in words if word not in err] == []


def test_a_dry_run_is_not_verified(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run.main(["verify", "--profile", "iot-4g", "--dry-run", "--out", str(tmp_path / "run")]) == 2
    assert "--dry-run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
