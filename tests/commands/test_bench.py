"""A bench: statistics by their formulas, runs known by what they depend on, interruptions that lose nothing."""

from __future__ import annotations

import csv
import fcntl
import json
import math
import os
import signal
import statistics
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import Board, Command, wait_for, write_scenario
from runs import make_run
from sweeps import result
from toy import make_timeline
from words import config_of_words

import run
from algorithms import fedavg
from algorithms.commands.sweep.bench import ablations
from algorithms.commands.sweep.grid import BASE, Grid, Variant, unvaried, variants
from emulator.analysis.statistics import estimate_mean, paired
from emulator.analysis.summary import read_summary
from emulator.errors import UserError
from emulator.runtime.evaluator import hash_of
from emulator.tables.sweep import (
    Ablation,
    Results,
    ablation,
    benchmark,
    cell,
    difference,
    differences,
    figures_of,
)
from emulator.tables.table import MARKED, NOTHING
from emulator.testing.recording import record

values = st.floats(-1e6, 1e6)

# --- statistics -------------------------------------------------------------------------------------------------------


@given(st.lists(values, min_size=2, max_size=12))
def test_mean_and_deviation_are_those_of_a_sample(some: list[float]) -> None:
    found = estimate_mean(some)
    assert found is not None
    assert (found.n, found.of) == (len(some), len(some))
    assert found.mean == pytest.approx(np.mean(some), rel=1e-9, abs=1e-6)
    assert found.std == pytest.approx(np.std(some, ddof=1), rel=1e-6, abs=1e-6)


def test_the_interval_is_students_by_its_closed_forms_for_one_and_two_degrees_of_freedom() -> None:
    two, three = estimate_mean([1.0, 3.0]), estimate_mean([1.0, 2.0, 3.0])
    assert two is not None
    assert three is not None
    cauchy = math.tan(math.pi * 0.475)  # the quantile at 0.975 of Student's t with one degree of freedom
    assert two.half_width == pytest.approx(cauchy * math.sqrt(2) / math.sqrt(2))
    second = 0.95 * math.sqrt(2 / (1 - 0.95**2))  # with two
    assert three.half_width == pytest.approx(second / math.sqrt(3))


@given(st.lists(values, min_size=2, max_size=8), st.floats(-100, 100))
def test_pairs_that_differ_by_a_constant_differ_by_it_without_doubt(some: list[float], shift: float) -> None:
    found = paired([(value + shift, value) for value in some])
    assert found is not None
    assert found.mean == pytest.approx(shift, abs=1e-8)
    assert found.half_width == pytest.approx(0, abs=1e-8)


def test_what_is_not_there_is_counted_and_not_averaged() -> None:
    found = estimate_mean([None, 4.0, 6.0])
    assert found is not None
    assert (found.n, found.of, found.mean) == (2, 3, 5.0)
    assert cell(found).text == f"5.00 ± {math.sqrt(2):.2f} (2 of 3)".replace(" (", "\n(")
    assert estimate_mean([None, None]) is None
    assert cell(None).text == NOTHING
    assert difference(paired([(3.0, 1.0), (None, 1.0)])).text == "+2.00\n(1 of 2)"


def test_what_cannot_be_trusted_is_in_no_mean() -> None:
    some = [result("a", 1, 1.0), result("a", 2, 1000.0, why="late"), result("b", 1, 2.0), result("b", 2, 4.0)]
    latency = benchmark(Results(some, (1, 2)), "p")[0].texts(MARKED)
    assert [row[:3] for row in latency] == [["a", "1", "1.00"], ["b", "2", f"3.00 ± {math.sqrt(2):.2f}"]]


@pytest.mark.parametrize(
    ("ones", "others", "first"),
    [
        ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], "2.00 ± 1.00*"),  # 1 less in every seed
        ([1.0, 2.0, 3.0], [3.0, 2.0, 4.0], "2.00 ± 1.00"),  # less in the mean, but the seeds explain that
        ([1.0], [2.0], "1.00"),  # one seed explains everything
        ([1.0, None, 1.0], [2.0, 2.0, 2.0], "1.00 ± 0.00\n(2 of 3)"),  # what some seeds lack is not the best
        ([1.0, 1.0], [1.0, 1.0], "1.00 ± 0.00"),
    ],
)
def test_the_best_is_marked_where_it_differs_by_more_than_its_interval(
    ones: list[float | None], others: list[float | None], first: str
) -> None:
    some = [result("a", seed, value) for seed, value in enumerate(ones)]
    some += [result("b", seed, value) for seed, value in enumerate(others)]
    latency = benchmark(Results(some, range(len(ones))), "p")[0]
    assert latency.texts(MARKED)[0][2] == first
    assert latency.texts(MARKED)[1][2].count("*") == 0


# --- what is played ---------------------------------------------------------------------------------------------------

WORDS = ("--algorithm", "sl,fsl-sage", "--clock", "virtual")


def keys(variant: Variant = BASE, words: tuple[str, ...] = WORDS, profile: str = "iot-4g", seed: int = 1) -> dict:
    return {cell.algorithm: cell.key for cell in Grid(config_of_words(*words), (profile,), (variant,), (seed,)).cells()}


def test_one_key_at_a_time_or_every_combination() -> None:
    names = [variant.name for variant in variants(["q=1,5", "fsl-sage:l=2"], cross=False)]
    assert names == ["", "q=1", "q=5", "l=2"]
    crossed = variants(["q=1,5", "fsl-sage:l=2", "aux=pool"], cross=True)
    assert [variant.name for variant in crossed] == ["", "q=1, l=2, aux=pool", "q=5, l=2, aux=pool"]
    assert crossed[1].said == (("options", "q=1"), ("options", "fsl-sage:l=2"), ("aux", "pool"))
    assert crossed[1].only == "fsl-sage"


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("q=5", set()),  # the default
        ("aux=linear", set()),  # the cut's default by its name
        ("aux=pool", {"fsl-sage"}),  # SL has none
        ("cut=conv2", set()),  # the default
        ("cut=conv1", {"sl", "fsl-sage"}),
        ("l=2", {"fsl-sage"}),
        ("align=none", {"fsl-sage"}),
        ("batch=8", {"sl", "fsl-sage"}),
        ("clients=3", {"sl", "fsl-sage"}),
        ("partition=dirichlet:0.1", {"sl", "fsl-sage"}),
        ("samples_per_client=50", {"sl", "fsl-sage"}),
    ],
)
def test_a_variant_is_another_run_for_those_whose_figures_may_depend_on_it(text: str, changed: set[str]) -> None:
    base, varied = keys(), keys(variants([text], cross=False)[1])
    assert {name for name in base if base[name] != varied[name]} == changed


def test_fedavg_which_has_no_cut_is_played_once_and_trains_alike_at_every_cut() -> None:
    base = config_of_words("--algorithm", "sl,fedavg", "--clock", "virtual")
    grid = Grid(base, ("iot-4g",), variants(["cut=conv1,conv3"], cross=False), (1,))
    cells = grid.cells()
    assert Counter(cell.algorithm for cell in {cell.key: cell for cell in cells}.values()) == {"sl": 3, "fedavg": 1}
    (table,) = ablations(grid, "iot-4g", cells)
    assert [*table.rows] == ["sl"]
    task = {"clients": 2, "samples_per_client": 8, "batch": 8}
    one, other = (record(fedavg, {"rounds": 1, "task": task | {"cut": cut}}) for cut in ("conv1", "conv3"))
    wholes = [[{**each["client"], **each["server"]} for each in recording.snapshots] for recording in (one, other)]
    for mine, its in zip(*wholes, strict=True):
        assert hash_of({"whole": mine}) == hash_of({"whole": its})


def test_another_seed_profile_or_clock_is_another_run() -> None:
    base = keys()
    for other in (keys(seed=2), keys(profile="lan"), keys(words=("--algorithm", "sl,fsl-sage", "--dry-run"))):
        assert not set(base.values()) & set(other.values())


def test_an_ablation_has_its_profiles_own_settings_and_what_they_change() -> None:
    base = config_of_words(*WORDS)
    grid = Grid(base, ("hospital-lan", "iot-4g"), variants(["clients=10", "l=2", "q=5"], cross=False), (1, 2))
    cells = grid.cells()
    clients, steps, q = ablations(grid, "hospital-lan", cells)
    assert clients.rows == {name: {"": "clients=4", "clients=10": "clients=10"} for name in ("sl", "fsl-sage")}
    assert steps.rows == {"fsl-sage": {"": "l=3", "l=2": "l=2"}}
    assert (q.title, q.rows) == ("q", {})  # the default
    assert ablations(grid, "iot-4g", cells)[0].rows == {}  # it has ten anyway


def test_an_ablation_has_a_row_for_each_setting_that_was_played() -> None:
    some = [result("a", 1, 1.0), result("a", 1, 3.0, variant="q=1")]
    (latency, memory) = ablation(
        Results(some, (1,)), "p", Ablation("q", {"a": {"": "q=5", "q=1": "q=1", "q=9": "q=9"}})
    )
    assert latency.texts() == [["a", "q=5", "1.00", "1.00", "1.00"], ["a", "q=1", "3.00", "3.00", "3.00"]]
    assert [row[1] for row in memory.texts()] == ["q=5", "q=1"]


def test_a_difference_is_the_others_figure_less_the_references_within_a_seed() -> None:
    some = [result("a", seed, float(seed)) for seed in (1, 2, 3)] + [result("b", seed, 10.0) for seed in (2, 3)]
    (row,) = differences(Results(some, (1, 2, 3)), "p", "a")[0].texts()
    half = math.tan(math.pi * 0.475) * math.sqrt(0.5) / math.sqrt(2)  # of 8 and 7
    assert row[:3] == ["b", "2", f"+7.50 ± {half:.2f}"]


def test_no_two_tables_of_differences_have_one_title_and_none_is_empty() -> None:
    some = [result(name, seed, 1.0) for name in "ab" for seed in (1, 2)]
    titles = [table.title for table in differences(Results(some, (1, 2)), "p", "a")]
    assert len({*titles}) == len(titles) == 3
    assert differences(Results(some[:2], (1, 2)), "p", "a") == []


def test_a_setting_is_written_alike_whether_it_is_varied_or_not() -> None:
    base = config_of_words(*WORDS)
    grid = Grid(base, ("lan",), variants(["participation=0.5", "client_lr=1,0.01"], cross=False), (1,))
    assert [unvaried(grid, "lan", "sl", key) for key in ("participation", "client_lr")] == [
        "participation=1",
        "client_lr=0.001",
    ]


def test_of_a_training_that_memory_ended_only_memory_is_a_figure() -> None:
    (entry,) = make_run({"fedavg": make_timeline()}).summary.algorithms.values()
    whole, ended = figures_of(entry), figures_of(msgspec.structs.replace(entry, outcome="does-not-fit"))
    assert None not in (whole["payload_mb"], whole["s_per_round"], whole["peak_mib"])
    assert {key for key, value in ended.items() if value is not None} == {"peak_mib", "needed_mib"}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--vary", "q"], "--vary q:"),
        (["--vary", "q=1,1"], "--vary q=1,1: a value is there twice; say each once"),
        (["--vary", ":q=1"], "--vary :q=1: say [ALGORITHM:]KEY=VALUE,VALUE"),
        (["--vary", "q=1", "q=2"], "--vary q="),
        (["--vary", "qq=1"], "qq"),
        (["--vary", "seed=1,2"], "seed cannot be varied"),
        (["--vary", "aux=none-such"], "none-such"),
        (["--vary", "nobody:q=1"], "--vary nobody:...: it is not among the algorithms sl, fsl-sage; add it"),
        (["--vary", "q=zero"], "q"),
        (["--vary", "fedavg:client_lr=1"], "fedavg"),
        (["--seed", "-1"], "--seed"),
        (["--seeds", "0"], "--seeds 0"),
        (["--profiles", "nowhere"], "nowhere"),
        (["--clock", "real"], "--clock"),
        (["--against", "fedavg"], "--against fedavg"),
        (["--algorithm", "none-such"], "none-such"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_played(
    arguments: list[str], names: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "--profiles", "iot-4g", "--algorithm", "sl,fsl-sage", "--out", str(tmp_path / "b"), *arguments]
    assert run.main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert names in err
    assert not (tmp_path / "b").exists()


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all my work")
    with pytest.raises(UserError, match="not empty"):
        run.command(["bench", "--profiles", "iot-4g", "--algorithm", "sl", "--out", str(tmp_path)])


def test_a_folder_where_another_bench_plays_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text("{}")
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another bench plays there"):
        run.command(["bench", "--profiles", "iot-4g", "--algorithm", "sl", "--out", str(tmp_path)])
    os.close(other)


# --- whole benches ----------------------------------------------------------------------------------------------------


def rows(folder: Path) -> list[dict[str, str]]:
    """The table of a bench without its runs' folders, and without memory, which is measured and not repeatable."""
    without = ("folder", "peak_mib", "needed_mib")
    with (folder / "tables.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in without} for row in csv.DictReader(file)]


def test_an_interrupted_bench_goes_on_and_says_what_an_uninterrupted_one_says(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path / "scenario", [(1, Board())])
    flags = ["--algorithm", "cse-fsl", "--rounds", 1, "--batch", 128]
    bench = ["bench", "--jobs", 1, "--profiles", scenario, *flags]
    folder = tmp_path / "bench"
    runs = [folder / "runs" / f"{scenario.stem}-seed-{seed}" for seed in (1, 2)]
    with Command(folder, *bench, "--seeds", 2, program="run.py") as command:
        ledger = runs[1] / "ledger" / "cse-fsl"
        wait_for(lambda: ledger.exists() or command.process.poll() is not None, "the second run plays")
        command.look()
        command.process.send_signal(signal.SIGINT)
        assert command.finish() == 130
        assert "PARTIAL: 1 of 2 results" in command.out
        assert f"--out {folder} goes on" in command.out
    assert "PARTIAL" in (folder / "tables.md").read_text()
    kept = (runs[0] / "ledger.jsonl").stat()
    assert run.main(["report", str(folder)]) == 2  # a bench is no run

    with Command(folder, *bench, "--seeds", 2, program="run.py") as command:
        assert command.finish() == 0, command.out
        assert "1 run to play, for 1 result; 1 of 2 results are there already." in command.out
    assert (runs[0] / "ledger.jsonl").stat() == kept
    assert runs[1].with_name(f"{runs[1].name}-2").exists()

    whole = tmp_path / "whole"
    run_flags = ["--profile", scenario, *flags, "--clock", "virtual", "--seeds", 2]
    with Command(whole, *run_flags, program="run.py") as command:
        assert command.finish() == 0, command.out
    assert rows(whole) == rows(folder)

    first = whole / "runs" / runs[0].name
    for name in ("ledger.jsonl", "summary.json", "tables.md", "tables.csv"):
        (first / name).unlink()
    cut = {ledger: ledger.read_bytes() for ledger in (first / "ledger" / "cse-fsl").glob("*.jsonl")}
    cut = {ledger: said[: len(said) // 2] for ledger, said in cut.items()}
    for ledger, said in cut.items():  # as a kill leaves them
        ledger.write_bytes(said)
    with Command(whole, *bench, "--seeds", 2, program="run.py") as command:  # a bench finds the runs of --seeds
        assert command.finish() == 0, command.out
        assert "1 run to play, for 1 result; 1 of 2 results are there already." in command.out
    assert {ledger: ledger.read_bytes() for ledger in cut} == cut
    assert rows(whole) == rows(folder)

    found = json.loads((whole / "bench.json").read_text())["results"]
    for each in found:
        summary = read_summary(whole / each["folder"] / "summary.json")
        assert each["figures"] == figures_of(summary.algorithms["cse-fsl"])
        assert summary.seed == each["seed"]
    mean = next(row for row in rows(whole) if row["row"] == "mean")
    for key in ("s_per_round", "accuracy_percent", "payload_mb"):
        assert float(mean[key]) == pytest.approx(statistics.fmean(each["figures"][key] for each in found))
