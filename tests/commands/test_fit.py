"""The largest batch that fits: the search on known curves, and a command that measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from processes import ROOT, Board

from algorithms.commands import fit
from algorithms.commands.fit import CLOSE, LEAST, Probe, search

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
    board.write_text(Board(budget_mib=4).toml())
    flags = ["--model", "cnn", "--device", str(board), "--algorithm", "sl,fedavg", "--batches", "64,32"]
    command = [sys.executable, "run.py", "fit", *flags, "--out", str(tmp_path / "fit")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads((tmp_path / "fit" / "fit.json").read_text())
    assert list(found) == ["fedavg", "sl"]
    for name, (probes, largest, _open_end, _refused) in found.items():
        peaks = dict(map(tuple, probes))
        fitting = [batch for batch, peak_mib in peaks.items() if peak_mib <= 4]
        assert largest[0] == max(fitting)
        assert any(batch > largest[0] for batch in peaks)  # a larger one was tried and does not
        assert f"{largest[0]}" in done.stdout
        for batch, peak_mib in peaks.items():
            summary = json.loads((tmp_path / "fit" / f"{name}-{batch}" / "summary.json").read_text())
            assert summary["algorithms"][name]["clients"][0]["peak_mib"] == peak_mib
    assert max(found["sl"][1][:1]) > max(found["fedavg"][1][:1])


@pytest.mark.parametrize("batches", ["", "none", "1", "64,1", "5000"])
def test_batches_that_cannot_be_are_refused_in_one_line(batches: str) -> None:
    with pytest.raises(fit.UserError, match="--batches"):
        fit._batches(batches)
