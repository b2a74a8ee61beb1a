"""A bench plays what is not there, says why what is there does not count, and goes on after what a method ends.

Its runs are made up: what ``run.py`` would leave, at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sweeps import archive
from toy import make_manifest, make_nodes, write_run
from words import config_of_words

import run
from algorithms.commands.sweep import dependencies
from algorithms.commands.sweep.grid import BASE, Grid, SweepRun
from algorithms.commands.sweep.records import Records
from emulator.report import record
from emulator.runtime import run_manifest, subcommand

NAMES = ("fedavg", "sl", "cse-fsl")
Fate = Callable[[list[str]], tuple[dict[str, str], int]]


def cells_of(names: Sequence[str], words: Sequence[str] = (), seed: int = 1) -> list[SweepRun]:
    how = ("--algorithm", ",".join(names), "--clock", "virtual", *words)
    return Grid(config_of_words(*how), ("iot-4g",), (BASE,), (seed,)).cells()


class Ended:
    """A process that has ended with this status."""

    def __init__(self, status: int) -> None:
        self.returncode = status

    def poll(self) -> int:
        return self.returncode


class Runs:
    """What stands for ``run.py``: ``fate`` gives, for the methods of a run, the outcome of each that it records, and
    its status."""

    def __init__(self) -> None:
        self.played: list[list[str]] = []
        self.fate: Fate = lambda names: (dict.fromkeys(names, "finished"), 0)
        self.note: Callable[[dict[str, Any]], None] = lambda _manifest: None
        self.words: tuple[str, ...] = ()

    def __call__(self, command: Sequence[str], log: Path | None, _cores: object) -> Ended:
        return Ended(self.play(command, log))

    def play(self, command: Sequence[str], log: Path | None) -> int:
        words = dict(word.split("=", 1) for word in command[3:] if "=" in word)
        names, folder = words["--algorithm"].split(","), Path(words["--out"])
        self.played.append(names)
        outcomes, status = self.fate(names)
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("it ended\n")
        if not outcomes:
            return status
        manifest = msgspec.to_builtins(cells_of(names, self.words, int(words["--seed"]))[0].manifest)
        self.note(manifest)
        folder.mkdir(parents=True)
        for name, outcome in outcomes.items():
            write_run(folder, name, make_nodes(outcome=outcome))
        manifest |= {"nodes": msgspec.to_builtins(make_manifest().nodes), "channels": [], "traces": []}
        manifest |= {"scenario": None, "started": f"{len(self.played):06d}"}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        record.rebuild(folder)
        return status


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    fake = Runs()
    monkeypatch.setattr(subcommand, "start_subcommand", fake)
    yield fake


def bench(folder: Path, *more: str, algorithms: Sequence[str] = NAMES) -> int:
    words = ["bench", "--jobs", "1", "--profiles", "iot-4g", "--seeds", "1", "--algorithm", ",".join(algorithms), *more]
    return run.main([*words, "--out", str(folder)])


def test_what_counts_is_not_played_again(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tmp_path / "b") == 0
    assert bench(tmp_path / "b") == 0
    assert runs.played == [[*NAMES]]
    assert "Again" not in capsys.readouterr().out


def test_a_bench_goes_on_after_a_method_that_ends_its_run(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(names: list[str]) -> tuple[dict[str, str], int]:
        begun = names[: names.index("sl") + 1] if "sl" in names else names
        return {name: "failed" if name == "sl" else "finished" for name in begun}, int("sl" in names)

    runs.fate = crash
    assert bench(tmp_path / "b") == 1
    assert runs.played == [["fedavg", "sl", "cse-fsl"], ["cse-fsl"]]
    out = capsys.readouterr().out
    assert "PARTIAL: 2 of 3 results can be counted." in out
    assert "sl: failed" in out

    runs.fate = lambda names: (dict.fromkeys(names, "finished"), 0)
    assert bench(tmp_path / "b") == 0
    assert runs.played[2:] == [["sl"]]
    assert "Again: 1 result of sl: failed" in capsys.readouterr().out


@pytest.mark.parametrize("outcome", ["does-not-fit", "refused"])
def test_what_does_not_fit_or_is_refused_leaves_the_others_their_results(
    outcome: str, runs: Runs, tmp_path: Path
) -> None:
    runs.fate = lambda names: ({name: outcome if name == "sl" else "finished" for name in names}, 2 * ("sl" in names))
    assert bench(tmp_path / "b") == (0 if outcome == "does-not-fit" else 1)
    assert len(runs.played) == 1


def test_methods_of_a_run_that_records_nothing_are_tried_alone_as_long_as_that_helps(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.fate = lambda names: ({}, 2) if "sl" in names else (dict.fromkeys(names, "finished"), 0)
    assert bench(tmp_path / "b", "--seeds", "2") == 1
    assert runs.played == 2 * [[*NAMES], ["fedavg"], ["sl"], ["cse-fsl"]]
    assert "- not played: iot-4g, sl, seed 2" in capsys.readouterr().out
    runs.played.clear()
    runs.fate = lambda _names: ({}, 2)
    assert bench(tmp_path / "c", "--seeds", "2") == 1
    assert runs.played == [[*NAMES], ["fedavg"], ["sl"], ["cse-fsl"], [*NAMES]]


def again(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    capsys.readouterr()
    assert bench(folder, *more) == 0
    return [line for line in capsys.readouterr().out.split("\n") if line.startswith("Again")]


def test_it_says_why_a_result_is_played_again(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def older_torch(manifest: dict[str, Any]) -> None:
        manifest["versions"]["torch"] = "2.9.0"
        manifest["depends"]["sources"]["sl"]["algorithms/sl.py"] = "0"

    runs.note = older_torch
    assert bench(tmp_path / "b") == 1  # as it was played, torch was another
    runs.note = lambda _manifest: None
    torch = f"torch 2.9.0 -> {run_manifest._version('torch')}"
    assert again(tmp_path / "b", capsys) == [
        f"Again: 2 results of fedavg, cse-fsl: {torch}",
        f"Again: 1 result of sl: algorithms/sl.py changed; {torch}",
    ]
    assert again(tmp_path / "b", capsys) == []


def test_other_data_of_the_same_name_are_played(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--dataset", "mine", "--data-dir", str(archive(tmp_path / "data", 1)))
    runs.words = words
    assert bench(tmp_path / "b", *words) == 0
    archive(tmp_path / "data", 2)
    assert again(tmp_path / "b", capsys, *words) == ["Again: 3 results of fedavg, sl, cse-fsl: the data changed"]
    assert len(runs.played) == 2


def test_results_of_earlier_versions_are_said_and_kept(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def older(manifest: dict[str, Any]) -> None:
        del manifest["depends"]

    runs.note = older
    assert bench(tmp_path / "b") == 1
    (kept,) = (tmp_path / "b" / "runs").iterdir()
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    runs.note = lambda _manifest: None
    assert again(tmp_path / "b", capsys) == [f"Again: 3 results of fedavg, sl, cse-fsl: {dependencies.OLDER}"]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("kept", [True, False])
def test_a_summary_that_other_code_made_is_made_anew_where_its_ledger_is_there(
    kept: bool, runs: Runs, tmp_path: Path
) -> None:
    assert bench(tmp_path / "b") == 0
    assert runs.played == [[*NAMES]]
    (folder,) = (tmp_path / "b" / "runs").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    rounds = summary["algorithms"]["sl"]["rounds"]
    assert summary["made_by"] == record.made_by()
    summary["made_by"], summary["algorithms"]["sl"]["rounds"] = "of another day", 99
    (folder / "summary.json").write_text(json.dumps(summary))
    if not kept:
        (folder / "ledger.jsonl").unlink()
        (folder / "ledger").rename(tmp_path / "away")
    cell = next(cell for cell in cells_of(NAMES) if cell.algorithm == "sl")
    assert Records(tmp_path / "b", {"another"}).found == {}
    found = Records(tmp_path / "b", {cell.key}).found[cell.key]
    assert found.entry.rounds == (rounds if kept else 99)
