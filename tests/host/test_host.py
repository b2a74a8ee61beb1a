"""What a run asks of its host: a dilation that is too small is refused, auto says why, CPU time gives durations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from processes import ROOT, Board, Wire, write_scenario

from emulator.ledger.events import Computed
from emulator.ledger.files import read_timeline
from emulator.profiles.reading import load_device

TINY = ["--samples-per-client", "32", "--rounds", "1", "--algorithm", "cse-fsl", "--no-dashboard"]
# A board faster than any host: whatever is computed takes longer than it should.
FAST = Board(dense_gflops=10**6, depthwise_gflops=10**6, memory_gbps=10**6, dispatch_us=1)
QUICK = Wire(up_mbps=10_000, down_mbps=10_000, up_one_way_ms=1, down_one_way_ms=1)


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    output: str
    errors: str


def run_command(*flags: str) -> Done:
    done = subprocess.run([sys.executable, "run.py", *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


@pytest.mark.processes
def test_a_dilation_that_this_host_is_too_slow_for_is_refused_with_one_that_would_do(tmp_path: Path) -> None:
    scenario = str(write_scenario(tmp_path / "fast", [(2, FAST)], QUICK))
    done = run_command("--profile", scenario, *TINY, "--dilation", "1", "--out", str(tmp_path / "run"))
    assert done.status == 2
    (line,) = done.errors.splitlines()
    assert line.startswith("run.py: --dilation 1: too small for cse-fsl on this host: ")
    assert "decides; say --dilation " in line
    assert "--force" in line
    assert not (tmp_path / "run").exists()
    forced = run_command("--profile", scenario, *TINY, "--dilation", "1", "--force", "--out", str(tmp_path / "run"))
    assert forced.status == 0
    played = summary(tmp_path / "run")["algorithms"]["cse-fsl"]
    assert played["dilation"] == 1
    assert "cores" in played["dilation_why"]


@pytest.mark.processes
def test_auto_says_why(tmp_path: Path) -> None:
    scenario = str(write_scenario(tmp_path / "fast", [(2, FAST)], QUICK))
    done = run_command("--profile", scenario, *TINY, "--out", str(tmp_path / "run"))
    assert done.status == 0
    played = summary(tmp_path / "run")["algorithms"]["cse-fsl"]
    assert played["dilation"] > 1
    text = " ".join((tmp_path / "run" / "tables.md").read_text().split())
    assert f"Dilation {played['dilation']} (cse-fsl): the tightest computation, " in text
    assert played["dilation_why"].endswith(" decides")


def test_measured_durations_are_the_hosts_cpu_times_by_the_ratio_of_speeds(tmp_path: Path) -> None:
    """On a board like the host they are profiling's CPU times; on one half as fast, twice those."""
    host = Board(dense_gflops=50, depthwise_gflops=2, memory_gbps=10, dispatch_us=10)
    half = Board(dense_gflops=25, depthwise_gflops=1, memory_gbps=5, dispatch_us=20)
    scenario = write_scenario(tmp_path / "boards", [(1, host), (1, half)])
    device = str(scenario.parent / "board-0.toml")
    flags = ["--clock", "virtual", "--compute", "measured", "--host-device", device, "--out", str(tmp_path / "run")]
    done = run_command("--profile", str(scenario), *TINY, *flags)
    assert done.status == 0, done.errors
    events = read_timeline(tmp_path / "run" / "ledger" / "cse-fsl")
    spans: dict[str, dict[str, set[int]]] = {"client-0": {}, "client-1": {}}
    for event in events:
        if isinstance(event, Computed) and event.node in spans:
            spans[event.node].setdefault(event.function, set()).add(event.due_ns - event.start_ns)
    assert spans["client-0"].keys() == spans["client-1"].keys() >= {"local_step", "load_weights"}
    for function, lengths in spans["client-0"].items():
        assert sorted(spans["client-1"][function]) == pytest.approx([2 * ns for ns in sorted(lengths)], rel=1e-3)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["compute"].startswith("measured")
    assert any(name.endswith("board-0.toml") for name in manifest["profile_files"])
    assert load_device(device).name in manifest["compute"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--compute", "measured"], ["--compute measured", "--host-device FILE", "calibrate"]),
        (["--host-device", "pi-5"], ["--host-device pi-5", "--compute measured"]),
        (["--compute", "measured", "--host-device", "pi-9"], ["--host-device pi-9", "pi-5"]),
        (["--dry-run", "--memory-cap", "rlimit"], ["--memory-cap rlimit", "dry run"]),
    ],
)
def test_flags_that_do_not_go_together_are_refused_in_one_line(flags: list[str], words: list[str]) -> None:
    done = run_command("--profile", "iot-4g", *flags)
    assert done.status == 2
    (line,) = done.errors.splitlines()
    assert all(word in line for word in words), line
