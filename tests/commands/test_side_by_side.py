"""Runs of a bench side by side: cores of their own, and the same figures as one after another."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from algorithms.commands import main as run
from algorithms.commands.sweep.places import jobs_for, places

CORES = frozenset(os.sched_getaffinity(0))


@pytest.mark.parametrize("jobs", range(1, len(CORES) + 1))
def test_runs_share_no_core_and_leave_none(jobs: int) -> None:
    found = places(jobs)
    assert len(found) == jobs
    assert all(found)
    assert sum(map(len, found)) == len(CORES)
    assert frozenset().union(*found) == CORES


def test_runs_that_need_more_memory_than_there_is_are_played_one_at_a_time() -> None:
    assert jobs_for(10**6) == 1
    assert 1 <= jobs_for(2) <= len(CORES)


def figures(folder: Path) -> dict[str, Any]:
    """What the runs of a bench found, by run: digests of events and numbers."""
    paths = sorted((folder / "runs").glob("*/summary.json"))
    found = {path.parent.name: json.loads(path.read_text())["algorithms"]["cse-fsl"] for path in paths}
    return {name: (each["timeline_digest"], each["numerics_digest"]) for name, each in found.items()}


@pytest.mark.skipif(len(CORES) < 2, reason="two runs at a time need two cores")
def test_runs_side_by_side_have_the_figures_of_runs_one_after_another(tmp_path: Path) -> None:
    words = ["bench", "--profiles", "iot-4g", "--algorithm", "cse-fsl", "--seeds", "2", "--rounds", "1"]
    words += ["--clients", "2", "--samples-per-client", "32"]
    for jobs in ("1", "2"):
        assert run.main([*words, "--jobs", jobs, "--out", str(tmp_path / jobs)]) == 0
    one, two = (figures(tmp_path / jobs) for jobs in ("1", "2"))
    assert one == two
    assert len(set(one.values())) == 2
    assert not list((tmp_path / "2" / "runs").glob("*.log"))


@pytest.mark.parametrize("jobs", ["0", "9999"])
def test_more_runs_than_cores_are_refused(jobs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["bench", "--profiles", "iot-4g", "--jobs", jobs, "--out", str(tmp_path / "b")]) == 2
    assert f"--jobs {jobs}: each run needs a core of its own" in capsys.readouterr().err
