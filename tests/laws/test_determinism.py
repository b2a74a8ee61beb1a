"""The same seed is the same run: whatever the host does, the virtual clock plays one timeline and computes one result.

Every run here is a whole command with processes of its own; what is compared are the digests of its summary.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import HANG_S, ROOT, Board, Played, Wire, play, write_scenario

REVERSED = "SPLITBED_TEST_REVERSED"  # tests/support/command.py looks for it
ALGORITHMS = ("splitfed-v2", "cse-fsl", "fsl-sage")

Digests = dict[str, tuple[str | None, str]]


def digests(summary: dict[str, Any]) -> Digests:
    found = {
        name: (algorithm["timeline_digest"], algorithm["numerics_digest"])
        for name, algorithm in summary["algorithms"].items()
    }
    assert tuple(found) == ALGORITHMS
    assert all(timeline is not None for timeline, _ in found.values())
    return found


@pytest.fixture(scope="module")
def jittery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of devices, links with jitter."""
    boards = [(2, Board()), (1, Board(dense_gflops=60.0, dispatch_us=30))]
    return write_scenario(tmp_path_factory.mktemp("jittery"), boards, Wire(jitter_ms=4))


def arguments(scenario: Path, seed: int = 1) -> list[object]:
    names = ",".join(ALGORITHMS)
    clock = "--clock", "virtual", "--seed", seed, "--force"  # its profiling is no part of a timeline
    small = "--rounds", 2, "--batch", 64, "--samples-per-client", 200
    return ["--profile", scenario, "--algorithm", names, *small, *clock]


def run(folder: Path, scenario: Path, seed: int = 1, **how: Any) -> Played:
    played = play(folder, *arguments(scenario, seed), **how)
    assert (played.status, played.err) == (0, ""), played.out
    assert played.summary["health"]["verdict"] == "good"
    return played


@pytest.fixture(scope="module")
def first(jittery: Path, tmp_path_factory: pytest.TempPathFactory) -> Digests:
    played = run(tmp_path_factory.mktemp("runs") / "first", jittery, PYTHONHASHSEED="0")
    return digests(played.summary)


@contextmanager
def burners(count: int) -> Iterator[None]:
    """Processes that never rest."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


HOSTS: dict[str, Callable[[Path, Path], Played]] = {
    "again, with other hashes": lambda folder, scenario: run(folder, scenario, PYTHONHASHSEED="12345"),
    "processes started in reverse": lambda folder, scenario: run(folder, scenario, **{REVERSED: "1"}),
    "on one core": lambda folder, scenario: run(folder, scenario, prefix=("taskset", "-c", "0")),
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_the_host_changes_nothing(
    host: Callable[[Path, Path], Played], first: Digests, jittery: Path, tmp_path: Path
) -> None:
    assert digests(host(tmp_path / "run", jittery).summary) == first


def test_a_busy_host_changes_nothing(first: Digests, jittery: Path, tmp_path: Path) -> None:
    with burners(2):
        played = run(tmp_path / "run", jittery, warm=True)
    assert digests(played.summary) == first


def test_the_dashboard_changes_nothing(first: Digests, jittery: Path, tmp_path: Path) -> None:
    """In a terminal of its own, where the command draws its dashboard."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def drain() -> None:
        while True:
            try:
                shown.append(os.read(ours, 65536))
            except OSError:  # the terminal is closed
                return

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    folder = tmp_path / "run"
    words = [str(word) for word in arguments(jittery)]
    command = [sys.executable, str(ROOT / "run.py"), *words, "--out", str(folder)]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    try:
        ended = subprocess.run(
            command, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment, timeout=HANG_S, check=False
        )
    finally:
        os.close(theirs)
        reader.join(HANG_S)
        os.close(ours)
    assert ended.returncode == 0
    assert b"client-2" in b"".join(shown)
    assert digests(Played(0, "", "", folder).summary) == first


def test_another_seed_is_another_run_and_with_jitter_another_timeline(
    first: Digests, jittery: Path, tmp_path: Path
) -> None:
    other = digests(run(tmp_path / "run", jittery, seed=2, warm=True).summary)
    for name in ALGORITHMS:
        assert other[name][0] != first[name][0]
        assert other[name][1] != first[name][1]


def test_without_jitter_another_seed_has_the_same_timeline(tmp_path: Path) -> None:
    still = write_scenario(tmp_path / "still", [(3, Board())])
    one, other = (digests(run(tmp_path / f"run-{seed}", still, seed=seed, warm=True).summary) for seed in (1, 2))
    for name in ALGORITHMS:
        assert one[name][0] == other[name][0]
        assert one[name][1] != other[name][1]
