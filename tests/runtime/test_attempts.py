"""A dilation that the host shows to be too small: what it needs in closed form, and an attempt that is abandoned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy import at, make_manifest, make_nodes, write_run

from algorithms import interface
from emulator.dashboard.follow import Follower
from emulator.dashboard.progress import Progress
from emulator.ledger.events import Clamped, Event, RoundEnded
from emulator.ledger.files import Ledger
from emulator.preflight.host_schedule import CORE_SHARE, LATE_NS, Job, least_dilation, worst_late_ns
from emulator.runtime import attempts
from emulator.runtime.attempts import LatenessWatch
from emulator.testing.stage import MS


def together(clients: int, host_ns: int) -> list[Job]:
    return [Job(f"client-{i}", 0, 10 * MS, host_ns) for i in range(clients)]


@pytest.mark.parametrize(("dilation", "late_ms"), [(1, 15), (2, 2.5), (5, -5)])
def test_computations_that_begin_together_queue_for_the_cores(dilation: int, late_ms: float) -> None:
    """Ten of 5 ms on two cores end after 25 ms, whatever their mean load over a long run is."""
    assert worst_late_ns(together(10, 5 * MS), dilation, 2) == late_ms * MS


def test_a_node_computes_one_after_another_and_half_a_core_takes_twice_as_long() -> None:
    jobs = [Job("a", 0, 10 * MS, 8 * MS), Job("a", 5 * MS, 15 * MS, 8 * MS)]
    assert worst_late_ns(jobs, 1, 4) == MS
    assert worst_late_ns(jobs, 1, 0.5) == 17 * MS


@pytest.mark.parametrize("clients", [1, 10, 30, 100])
def test_the_least_dilation_lets_the_worst_be_as_late_as_a_round_may(clients: int) -> None:
    """n x 3.6 ms on 2 x 0.9 cores end within 10 ms + 5 ms, times the dilation; one core takes one of them at a time."""
    needs_ns = -(-clients // 2) * 3.6 * MS / CORE_SHARE
    assert least_dilation(together(clients, 3_600_000), 0, 2) == max(-(-needs_ns // (10 * MS + LATE_NS)), 1)
    assert least_dilation(together(clients, 3_600_000), 0, 2, at_least=90) == 90


class Plan:
    """What a watch is told of a timeline."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.ledger_folder, self.settings = str(folder), {"rounds": rounds}
        self.scenario = type("Scenario", (), {"server": type("Server", (), {"name": "server"})})


def ended(round: int, off_ns: int) -> RoundEnded:
    due_ns = (round + 1) * 100 * MS
    return RoundEnded(due_ns=due_ns, actual_ns=due_ns + off_ns, round=round, started_ns=round * 100 * MS)


def clamped(by_ns: int) -> Clamped:
    return Clamped(**at(0), by_ns=by_ns, what="post")


@pytest.mark.parametrize(
    ("rounds", "seen", "why"),
    [
        (3, [ended(0, 6 * MS)], ""),  # 1 % + 5 ms: as late as any may be
        (3, [ended(0, 6 * MS + 1)], "round 1 ended 6.0 ms off its due time"),
        (40, [ended(0, 6 * MS + 1), ended(1, 7 * MS)], ""),  # two of forty may
        (40, [ended(0, 7 * MS), ended(1, 8 * MS), ended(2, 7 * MS)], "round 2 ended 8.0 ms off its due time"),
        (100, [ended(0, 55 * MS + 1)], "round 1 ended 55.0 ms off its due time"),  # 5 % + 50 ms: none may
        (3, [clamped(3 * MS), ended(0, 0)], ""),  # 1 % of the whole run's 300 ms
        (3, [clamped(3 * MS + 1), ended(0, 0)], "clamps of server moved events by 3.0 ms in 1 rounds"),
    ],
)
def test_an_attempt_is_abandoned_where_its_run_is_bound_to_be_bad(
    rounds: int, seen: list[Event], why: str, tmp_path: Path
) -> None:
    watch = LatenessWatch(Plan(tmp_path, rounds), clients=2)  # type: ignore[arg-type]
    with Ledger(tmp_path, "server") as ledger:
        for event in seen:
            ledger.write(event)
    assert watch.look({}) == why


def test_a_view_begins_again_where_another_attempt_takes_the_place_of_one(tmp_path: Path) -> None:
    manifest = make_manifest(algorithms=["toy"])
    write_run(tmp_path, "toy", {"server": make_nodes(2)["server"][:-1]})
    follower, progress = Follower(tmp_path, manifest), Progress(manifest)
    follower.advance(progress)
    assert progress.ended
    (tmp_path / "ledger" / "toy").rename(tmp_path / "abandoned")
    (tmp_path / "ledger" / "toy").mkdir()
    follower.advance(progress)
    assert not progress.ended


@pytest.mark.any_load
def test_nothing_of_an_abandoned_attempt_is_in_the_record_but_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = iter(["planted"])
    monkeypatch.setattr(LatenessWatch, "look", lambda _watch, _processes: next(planted, ""))
    monkeypatch.setattr(LatenessWatch, "next_dilation", lambda _watch, _dilation, _processes, _cores: 3)
    flags = {"clients": 2, "samples_per_client": 32, "rounds": 1, "out": str(tmp_path / "run")}
    run = interface.play("iot-4g", "cse-fsl", **flags)
    found = run.summary.algorithms["cse-fsl"]
    assert (found.outcome, found.dilation, found.rounds) == ("finished", 3, 1)
    [said] = found.abandoned
    assert said.endswith(" planted")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["abandoned"] == {"cse-fsl": [said]}
    text = (tmp_path / "run" / "ledger" / "cse-fsl" / "supervisor.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["seq"] for line in lines] == [*range(len(lines))]
    assert [line["dilation"] for line in lines if line["event"] == "timeline"] == [3, 3]
    assert [path.name[:16] for path in (tmp_path / "run" / attempts.ABANDONED).iterdir()] == ["cse-fsl-dilation"]
