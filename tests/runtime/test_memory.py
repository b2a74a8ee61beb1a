"""Not fitting in memory is a result that names client, phase and budget; what fits is measured, and repeats."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from processes import NARROW_MIB, ROOT, Played

from emulator.compute.memory import LOOK_EVERY, TIGHT_ROUNDS
from emulator.ledger.events import Ended, Reported, Started

MIB = 2**20
NARROW, ROOMY = "client-1", "client-0"

# What the narrow client was to hold, and where it has to fail. Up to the limit (budget x 1.10 + 36 MiB) the measured
# peak decides; what would go beyond is refused as it is asked for.
UNFIT = {
    "over-model": ("build the model", None),
    "over-budget": ("fill", None),
    "over-limit": ("fill", 200),
    "message": ("receive blob", None),
    "large-message": ("receive blob", 90),
    "struck": ("fall", None),  # within the budget by less than its account may be off
    "aborted": ("fall", None),
}
FITTING = ("fits", "fits-again")
HELD_MIB = 8 + 3 * 6


def client_of(played: Played, algorithm: str, name: str) -> dict[str, Any]:
    clients = played.summary["algorithms"][algorithm]["clients"]
    return next(client for client in clients if client["name"] == name)


@pytest.mark.parametrize("algorithm", UNFIT)
def test_a_client_that_does_not_fit_is_a_result_with_client_phase_and_budget(algorithm: str, memory: Played) -> None:
    phase, asked_mib = UNFIT[algorithm]
    result = memory.summary["algorithms"][algorithm]
    assert result["outcome"] == "does-not-fit"
    unfit = result["does_not_fit"]
    assert (unfit["client"], unfit["clients"], unfit["budget_mib"]) == (NARROW, [NARROW], NARROW_MIB)
    assert (unfit["phase"], unfit["asked_mib"]) == (phase, asked_mib)
    assert f"{NARROW}: does not fit in memory: {phase}" in result["detail"]


@pytest.mark.parametrize("algorithm", UNFIT)
def test_the_last_words_of_a_client_that_does_not_fit_are_written(algorithm: str, memory: Played) -> None:
    (ended,) = memory.events(algorithm, Ended, NARROW)
    assert (ended.outcome, ended.phase) == ("does-not-fit", UNFIT[algorithm][0])


def test_after_one_that_does_not_fit_the_next_algorithm_is_played_and_the_command_succeeds(memory: Played) -> None:
    assert memory.status == 0
    outcomes = {name: result["outcome"] for name, result in memory.summary["algorithms"].items()}
    assert outcomes == dict.fromkeys(UNFIT, "does-not-fit") | dict.fromkeys(FITTING, "finished")


@pytest.mark.parametrize("client", [ROOMY, NARROW])
@pytest.mark.parametrize("algorithm", FITTING)
def test_the_peak_is_what_a_client_holds_and_little_more(algorithm: str, client: str, memory: Played) -> None:
    (report,) = memory.events(algorithm, Reported, client)
    assert report.values["held_bytes"] == HELD_MIB * MIB
    measured = client_of(memory, algorithm, client)
    assert measured["outcome"] == "fits"
    assert HELD_MIB <= measured["peak_mib"] <= HELD_MIB * 1.10 + 8


@pytest.mark.parametrize("client", [ROOMY, NARROW])
def test_the_peak_repeats(client: str, memory: Played) -> None:
    first, second = (client_of(memory, algorithm, client)["peak_mib"] for algorithm in FITTING)
    assert abs(first - second) <= max(0.02 * first, 0.5)


def test_baseline_and_limit_are_recorded_before_the_model_exists(memory: Played) -> None:
    for algorithm in (*UNFIT, *FITTING):
        (started,) = memory.events(algorithm, Started, NARROW)
        assert (started.budget_bytes, started.limit_bytes) == (
            NARROW_MIB * MIB,
            int(NARROW_MIB * MIB * 1.10) + 36 * MIB,
        )
        assert started.baseline_bytes > 0
    (server,) = memory.events("fits", Started, "server")
    assert (server.budget_bytes, server.limit_bytes) == (None, None)


LIFTED = """
import json
from emulator.compute.memory import MIB, MemoryCap, is_out_of_memory

def fits(mib):
    try:
        return len(bytearray(mib * MIB)) > 0
    except MemoryError as error:
        assert is_out_of_memory(error)
        return False

found = [fits(200)]
cap = MemoryCap(20 * MIB)  # limit: 58 MiB
found += [fits(40), fits(200), fits(40)]
cap.lift()
print(json.dumps([*found, fits(200), cap.growth_bytes()[1] / MIB]))
"""


def test_a_cap_stops_what_goes_beyond_its_limit_until_it_is_lifted() -> None:
    done = subprocess.run([sys.executable, "-c", LIFTED], cwd=ROOT, capture_output=True, text=True, check=True)
    *found, peak_mib = json.loads(done.stdout)
    assert found == [True, True, False, True, True]
    assert peak_mib == pytest.approx(200, abs=1)


ALLOCATORS = """
import json, sys
from emulator.compute.memory import LOOK_EVERY, MALLOC, MIB, TIGHT_ROUNDS, ClientMemoryCap, MemoryCap, tune_malloc

tune_malloc(MALLOC)
cap = {"tight": MemoryCap, "both": ClientMemoryCap}[sys.argv[1]](None)
kept, found, allocators = [], [], []

def compute(what, mib):
    cap.expect(what)
    allocators.append(cap.allocator)
    pieces = []
    for i in range(mib):
        pieces.append(b"x" * MIB)
        if len(allocators) == 6 * TIGHT_ROUNDS + 1 and i % 4 == 3:  # the first under the roomy one
            kept.append(b"x" * 200_000)  # leaves holes of 4 MiB
    del pieces
    if what == "larger":
        large = [b"x" * (16 * MIB) for _ in range(6)]  # which fit into no hole
    cap.growth_bytes()

for round in range(TIGHT_ROUNDS + 2):
    cap.expect("weights", round=round)
    for step in range(6):
        compute("step", 64)
    found.append(cap.growth_bytes()[1] / MIB)
compute("larger", 64)
compute("step", 64)
found.append(cap.growth_bytes()[1] / MIB)
for _ in range(3 * LOOK_EVERY):
    compute("step", 64)
    kept.append(b"x" * MIB)
found.append(cap.growth_bytes()[1] / MIB)
print(json.dumps([found, allocators]))
"""


def test_a_peak_under_two_allocators_is_that_of_the_tight_one_and_sees_what_is_new_and_what_grows() -> None:
    (tight, _), (both, allocators) = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", ALLOCATORS, regime], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout
        )
        for regime in ("tight", "both")
    )
    steps = 6 * TIGHT_ROUNDS
    assert allocators[:steps] == ["tight"] * steps
    assert allocators[steps : 2 * steps] == ["roomy"] * steps
    assert allocators[2 * steps] == "tight"  # the larger one
    assert [both[1], both[-2]] == pytest.approx([tight[1], tight[-2]], rel=0.02)
    assert tight[-2] == pytest.approx(96, abs=4)
    assert tight[-1] == pytest.approx(64 + 3 * LOOK_EVERY, abs=5)
    assert both[-1] >= 64 + LOOK_EVERY  # at the latest look
