"""Rounds and time limit are each method's own, wherever they are read."""

from __future__ import annotations

from typing import Any

import pytest
from toy import MS, make_manifest, make_timeline

from emulator.analysis.summarize import summarize
from emulator.checks.health import check_health
from emulator.checks.round_limits import RoundLimits, round_limits, unequal_limits
from emulator.dashboard.progress import Progress
from emulator.dashboard.screen import ScreenState, make_screen
from emulator.ledger.events import AnyEvent, Lifecycle
from emulator.ledger.manifest import Manifest
from emulator.profiles.reading import load_scenario
from emulator.runtime import run_manifest
from emulator.tables.run import remarks

OWN = {"fedavg": {"rounds": 12, "stop_after_s": 15.0}, "sl": {"rounds": 2, "stop_after_s": None}}
ROUND_MS = 100


def manifest(settings: dict[str, Any] = OWN, **changes: Any) -> Manifest:
    return make_manifest(algorithms=list(settings), settings=settings, **{"rounds": None, **changes})


def begun(progress: Progress, algorithm: str) -> str:
    """The dashboard after the first round of that algorithm."""
    progress.begin(algorithm)
    progress.take(event for event in make_timeline() if event.due_ns <= ROUND_MS * MS)
    return "\n".join(line.plain for line in make_screen(progress, 100, 30, ScreenState()))


def ended(progress: Progress, algorithm: str, wall_s: float) -> None:
    progress.begin(algorithm)
    over: list[AnyEvent] = [Lifecycle(due_ns=0, actual_ns=0, outcome="finished", wall_s=wall_s)]
    progress.take(over)
    progress.end()


def test_a_manifest_has_them_in_each_methods_settings_and_nowhere_else() -> None:
    made = run_manifest.make_manifest(load_scenario("lan", 2), OWN, argv=[], clock="virtual", seed=1, dilation=None)
    assert {name: round_limits(made, name) for name in OWN} == {
        "fedavg": RoundLimits(12, 15.0),
        "sl": RoundLimits(2, None),
    }
    assert (made.rounds, made.stop_after_s) == (None, None)


def test_an_older_manifest_has_the_first_methods_for_all_that_have_none_of_their_own() -> None:
    old = manifest({"sl": OWN["sl"]}, rounds=12, stop_after_s=15.0)
    assert round_limits(old, "sl") == RoundLimits(2, None)
    assert round_limits(old, "fedavg") == RoundLimits(12, 15.0)
    assert round_limits(make_manifest(), "fedavg") == RoundLimits(3, None)
    assert round_limits(make_manifest(rounds=None), "fedavg") == RoundLimits(None, None)


def test_the_dashboard_counts_to_the_rounds_of_the_method_that_is_played() -> None:
    progress = Progress(manifest())
    first, second = begun(progress, "fedavg"), begun(progress, "sl")
    assert "round 2 of 12 (none starts after 15 s)" in first
    assert "round 2 of 2, " in second and "none starts" not in second
    assert progress.left_ns() == ROUND_MS * MS  # one round more, as its own limit says


def test_time_left_of_a_method_is_that_of_its_own_limit() -> None:
    progress = Progress(
        manifest({"fedavg": {"rounds": 2, "stop_after_s": None}, "sl": {"rounds": 9, "stop_after_s": 0.35}})
    )
    begun(progress, "fedavg")
    assert progress.left_ns() == ROUND_MS * MS
    begun(progress, "sl")
    assert progress.left_ns() == 3 * ROUND_MS * MS  # the fourth begins at 0.3 s


def rounds(**each: int) -> dict[str, Any]:
    return {name: {"rounds": count, "stop_after_s": None} for name, count in each.items()}


@pytest.mark.parametrize(
    ("settings", "both_s", "last_s"),
    [
        (rounds(a=10, b=10, c=10), 200.0, 100.0),
        (rounds(a=10, b=2, c=30), 20.0 + 300.0, 300.0),  # by rounds
        ({"a": OWN["fedavg"], "b": OWN["fedavg"], "c": OWN["sl"]}, 200.0, 100.0),  # where time limits, as long as each
    ],
)
def test_the_wall_time_of_methods_to_come_follows_their_own_rounds(
    settings: dict[str, Any], both_s: float, last_s: float
) -> None:
    progress = Progress(manifest(settings))
    ended(progress, "a", 100.0)
    assert progress.others_wall_s() == pytest.approx(both_s)
    progress.begin("b")
    assert progress.others_wall_s() == pytest.approx(last_s)


def test_nothing_is_said_of_methods_to_come_before_one_has_ended() -> None:
    progress = Progress(manifest())
    begun(progress, "fedavg")
    assert progress.others_wall_s() is None


def test_methods_that_may_not_play_alike_are_noted() -> None:
    unequal = manifest()
    said = "methods may not play alike (compare them at a target): fedavg 12 rounds, none after 15 s; sl 2 rounds"
    assert unequal_limits(unequal) == [said]
    timelines = {"fedavg": make_timeline(), "sl": make_timeline()}
    assert said in check_health(unequal, timelines).notes
    assert f"Note: {said}" in remarks(summarize(unequal, timelines))
    alike = manifest(dict.fromkeys(OWN, OWN["sl"]))
    assert unequal_limits(alike) == []
    assert not any("alike" in note for note in check_health(alike, timelines).notes)
