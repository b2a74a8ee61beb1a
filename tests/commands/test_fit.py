"""The largest batch that fits: the search on known curves, and a command that measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from processes import ROOT, Board

from algorithms.commands import fit
from algorithms.commands.fit import CLOSE, LEAST, Probe, search
from algorithms.data import datasets
from algorithms.workload.task import Task, prepare

MOST = 4096


@example(31.0, 0.01, 1379.0, [94])  # the line through two probes ends just below the largest batch of all
@given(st.floats(0, 50), st.floats(0.01, 3), st.floats(0, 2000), st.lists(st.integers(LEAST, 512), min_size=1))
def test_what_is_found_fits_and_what_is_a_little_larger_does_not(
    fixed_mib: float, per_sample_mib: float, budget_mib: float, batches: list[int]
) -> None:
    tried: list[int] = []

    def peak(batch: int) -> float:
        return fixed_mib + per_sample_mib * batch

    def measure(batch: int) -> float:
        tried.append(batch)
        return peak(batch)

    found = search(measure, budget_mib, [Probe(batch, peak(batch)) for batch in sorted(set(batches))], MOST)
    assert len(tried) <= 14
    assert len(tried) == len(set(tried))
    if peak(LEAST) > budget_mib:
        assert found.largest is None
    elif peak(MOST) <= budget_mib:
        assert (found.largest, found.open_end) == (Probe(MOST, peak(MOST)), True)
    else:
        assert found.largest is not None
        assert (
            peak(found.largest.batch)
            <= budget_mib
            < peak(found.largest.batch + max(1, int(CLOSE * found.largest.batch)))
        )


def test_a_curve_that_is_no_line_is_followed_too() -> None:
    """At small batches something else is largest, as in FedAvg's optimizer step."""

    def peak(batch: int) -> float:
        return max(190.0, 170.0 + 0.5 * batch)

    found = search(peak, 250.5, [Probe(batch, peak(batch)) for batch in (8, 16, 32)], MOST)
    assert found.largest is not None
    assert abs(found.largest.batch - 161) <= 1


def test_the_command_measures_and_tells_what_fits(tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text(Board(budget_mib=8).toml())
    flags = ["--model", "cnn", "--device", str(board), "--algorithm", "sl,fedavg", "--batches", "64,32"]
    command = [sys.executable, "run.py", "fit", *flags, "--out", str(tmp_path / "fit")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads((tmp_path / "fit" / "fit.json").read_text())
    assert list(found) == ["fedavg", "sl"]
    for name, (probes, largest, _open_end, _refused) in found.items():
        peaks = dict(map(tuple, probes))
        fitting = [batch for batch, peak_mib in peaks.items() if peak_mib <= 8]
        assert largest[0] == max(fitting)
        assert any(batch > largest[0] for batch in peaks)  # a larger one was tried and does not
        assert f"{largest[0]}" in done.stdout
        for batch, peak_mib in peaks.items():
            summary = json.loads((tmp_path / "fit" / f"{name}-{batch}" / "summary.json").read_text())
            assert summary["algorithms"][name]["clients"][0]["peak_mib"] == peak_mib
    assert max(found["sl"][1][:1]) > max(found["fedavg"][1][:1])


OWN = ROOT / "tests" / "support" / "own_workloads.py"


@pytest.mark.parametrize(
    ("dataset", "model"), [("windows", "Recurrent"), ("vectors", "mlp"), ("tokens", "Tagger"), ("", "cnn")]
)
def test_a_probe_has_batches_of_the_shapes_and_types_that_a_run_of_these_data_has(
    dataset: str, model: str, tmp_path: Path
) -> None:
    words = ["--dataset", f"{OWN}:{dataset}"] if dataset else ["--dataset", "digits"]
    model = f"{OWN}:{model}" if dataset else model
    flags = fit._parsed(["--model", model, "--device", "pi-4b", "--ignore-index", "-7", *words])
    datasets.write_about(tmp_path, fit._described(flags))
    settings = fit._settings("sl", flags, tmp_path, 200)  # more than the data set has of some
    probe = fit.prepare(msgspec.convert(settings["task"], Task), tmp_path / "probe")
    run = prepare(Task(dataset=words[1], model=model, batch=4, clients=1, ignore_index=-7), tmp_path / "run")
    probed, played = ([*task.shard(0).batches(0)] for task in (probe, run))
    assert [len(x) for x, _ in probed] == [200, 200]
    for one, other in zip(probed[0], played[0], strict=True):
        assert (one.dtype, one.shape[1:]) == (other.dtype, other.shape[1:])
    assert repr(probe.client_half()) == repr(run.client_half())


@pytest.mark.parametrize(
    ("words", "batch"),
    [
        ("--input 6x128 --classes 3", (torch.float32, (6, 128), torch.int64, ())),
        ("--input 64 --vocabulary 30 --task-kind per-position", (torch.int64, (64,), torch.int64, (64,))),
        ("--input 20 --classes 2 --task-kind regression", (torch.float32, (20,), torch.float32, (2,))),
    ],
)
def test_without_data_the_flags_say_what_a_sample_is(words: str, batch: tuple[Any, ...], tmp_path: Path) -> None:
    flags = fit._parsed(["--model", f"{OWN}:conv", "--device", "pi-4b", *words.split()])
    datasets.write_about(tmp_path, fit._described(flags))
    x, y = Task(folder=str(tmp_path)).example_batch(5)
    assert (x.dtype, x.shape[1:], y.dtype, y.shape[1:]) == batch


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--dataset digits --classes 3", "--classes: --dataset digits says it: leave one of them out"),
        ("--input 6xL", "--input 6xL: say the axes of a sample with positive numbers"),
        ("--classes 0", "--classes must be at least 1"),
    ],
)
def test_samples_that_cannot_be_are_refused(words: str, text: str) -> None:
    with pytest.raises(fit.UserError, match=text):
        fit._described(fit._parsed(["--model", "cnn", "--device", "pi-4b", *words.split()]))


@pytest.mark.parametrize("batches", ["", "none", "1", "64,1", "5000"])
def test_batches_that_cannot_be_are_refused_in_one_line(batches: str) -> None:
    with pytest.raises(fit.UserError, match="--batches"):
        fit._batches(batches)
