"""How large a record will be is said before it is made, and refused where there is no room for it."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import msgspec
import pytest

from algorithms import ALGORITHMS
from algorithms.workload.task import Task, prepare
from emulator.errors import UserError
from emulator.host import cgroups
from emulator.ledger.events import Event
from emulator.preflight import record_size
from emulator.preflight.dilation import ProfilingResult
from emulator.preflight.dry_run import dry_run
from emulator.preflight.estimate import _events, estimate_algorithm
from emulator.profiles.reading import load_scenario
from emulator.testing.stage import SECOND

MILLION = 10**6
Disk = namedtuple("Disk", "total used free")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What a host has: bytes of disk and of memory."""
    found = {"disk": 10**12, "memory": 10**12}
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Disk(10**13, 0, found["disk"]))
    monkeypatch.setattr(cgroups, "memory_limit", lambda _proc: cgroups.MemoryLimit(10**13, found["memory"], "the host"))
    return found


def test_a_small_record_is_not_spoken_of_and_a_large_one_is_by_its_bytes(room: dict[str, int]) -> None:
    assert record_size.warning(MILLION - 1, Path("runs/x")) == ""
    said = record_size.warning(20 * MILLION, Path("runs/x"))
    assert said.startswith("record: about 20 million events, which take 11.2 GB under runs/x and 16.0 GB of memory")
    room["disk"] = 20 * MILLION * record_size.DISK_BYTES
    room["memory"] = 20 * MILLION * record_size.READING_BYTES
    assert record_size.warning(20 * MILLION, Path("runs/x")) == said


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("disk", r"--out runs/x: .* will take 11\.2 GB, and 11\.2 GB are free there; take fewer --rounds, or name"),
        ("memory", r"--rounds: .* will need 16\.0 GB of memory .*, and the host leaves 16\.0 GB; take fewer rounds"),
    ],
)
def test_a_record_that_there_is_no_room_for_is_refused(room: dict[str, int], lacks: str, said: str) -> None:
    each = {"disk": record_size.DISK_BYTES, "memory": record_size.READING_BYTES}[lacks]
    room[lacks] = 20 * MILLION * each - 1
    with pytest.raises(UserError, match=said):
        record_size.warning(20 * MILLION, Path("runs/x"))


@pytest.mark.parametrize("name", ["fedavg", "sl", "fsl-sage"])
def test_the_events_that_are_foreseen_are_those_that_are_recorded(name: str, tmp_path: Path) -> None:
    """Within a fifth, of many clients and rounds, by profiling of one client."""
    task = prepare(Task(dataset="synthetic:1x8x8:10:400", clients=6, samples_per_client=48, batch=16), tmp_path)
    settings: dict[str, Any] = {"task": msgspec.to_builtins(task), "rounds": 6}
    scenario = load_scenario("lan", 6)
    recorded: list[Event] = []
    dry_run(ALGORITHMS[name], settings, scenario, 1, ProfilingResult(), lambda _node: recorded.append)
    assert estimate_algorithm(ALGORITHMS[name], settings, scenario, 1).events == pytest.approx(len(recorded), rel=0.2)


def test_a_time_limit_counts_the_rounds_of_all_clients_and_not_of_those_that_are_profiled(tmp_path: Path) -> None:
    """SL's clients take turns: many have fewer rounds than those that are profiled in the time."""
    task = prepare(Task(dataset="synthetic:1x8x8:10:400", clients=12, samples_per_client=16, batch=16), tmp_path)
    settings = {"task": msgspec.to_builtins(task), "rounds": 1000, "stop_after_s": 80.0}
    scenario = load_scenario("iot-4g", 12)
    recorded: list[Event] = []
    dry_run(ALGORITHMS["sl"], settings, scenario, 1, ProfilingResult(), lambda _node: recorded.append)
    assert estimate_algorithm(ALGORITHMS["sl"], settings, scenario, 1).events == pytest.approx(len(recorded), rel=0.2)


def test_time_ends_a_run_before_its_rounds_do_and_profiling_without_a_round_counts_for_one() -> None:
    scenario = load_scenario("lan", 6)
    profiled = ProfilingResult(clients={"board": 2}, elapsed_ns=20 * SECOND, rounds=4, events=100)
    assert _events(profiled, {"rounds": 1000}, scenario) == 100 // 4 * 3 * 1000
    assert _events(profiled, {"rounds": 1000, "stop_after_s": 49.0}, scenario) == 100 // 4 * 3 * 10
    early = msgspec.structs.replace(profiled, rounds=0)
    assert _events(early, {"rounds": 10, "stop_after_s": 49.0}, scenario) == 100 * 3 * 10
