"""The traces that ship: made again bit for bit, as their headers say, what they aim at; drawn as they are."""

from __future__ import annotations

import io
import operator
import re
import shlex
from itertools import groupby, pairwise
from math import log2
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import run
from emulator.errors import UserError
from emulator.inputs.shipped import ROOT
from emulator.piecewise import StepFunction
from emulator.tables import traces as trace_views
from emulator.traces.reading import Form, Trace, find_trace, load_trace, shipped_traces
from emulator.traces.statistics import statistics
from netprofiles.traces import make as trace_maker
from netprofiles.traces.make import KINDS, PEAKS_KBPS, SLOT_S, make

S = 10**9
LARGEST_BYTES = 50_000
LTE = ["lte-walking", "lte-driving"]


def made(folder: Path, name: str, seed: int, seconds: int | None = None) -> Trace:
    path = folder / "made.csv"
    path.write_text(make(name, seed, seconds))
    return load_trace(path, "made.csv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


def test_every_model_ships_a_trace() -> None:
    assert shipped_traces() == tuple(sorted(KINDS))


@pytest.mark.parametrize("name", KINDS)
def test_the_command_in_a_shipped_traces_header_makes_it_again_bit_for_bit(name: str, tmp_path: Path) -> None:
    content = (ROOT / "traces" / f"{name}.csv").read_bytes()
    said = re.match(r"# Made by `python run\.py (traces make .*)`, not recorded\.\n", content.decode())
    assert said
    assert run.main([*shlex.split(said[1]), "--out", str(tmp_path / "again.csv")]) == 0
    assert (tmp_path / "again.csv").read_bytes() == content
    assert len(content) <= LARGEST_BYTES
    assert max(map(len, content.decode().splitlines())) <= trace_maker.WIDTH


@pytest.mark.parametrize("name", KINDS)
def test_a_shipped_trace_meets_its_aims_and_its_header_states_them(name: str) -> None:
    trace, kind = find_trace(name, "test"), KINDS[name]
    facts = statistics(trace)
    header = (ROOT / "traces" / f"{name}.csv").read_text().replace("\n#   ", " ")
    assert trace.up.length_ns == kind.seconds * S
    assert kind.aims
    for aim in kind.aims:
        value = getattr(getattr(facts, aim.column), aim.statistic)
        assert aim.low * 0.999 <= value <= aim.high * 1.001, aim
        assert f"# Aim: {trace_maker.aim_text(aim)}\n" in header


@settings(max_examples=10)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 10**6), st.integers(60, 200))
def test_any_seed_and_length_give_a_trace_that_is_scaled_to_the_aims(
    folder: Path, name: str, seed: int, seconds: int
) -> None:
    trace = made(folder, name, seed, seconds)
    assert trace == made(folder, name, seed, seconds)
    slot_s = {"nb-iot": 5, "starlink": 15}.get(name, 1)
    assert trace.up.length_ns == -(-seconds // slot_s) * slot_s * S
    for aim in KINDS[name].aims:
        if aim.low == aim.high:
            value = getattr(getattr(statistics(trace), aim.column), aim.statistic)
            assert value == pytest.approx(aim.low, rel=0.002)


def test_another_seed_is_another_trace(folder: Path) -> None:
    for name in KINDS:
        assert made(folder, name, 1).up != made(folder, name, 2).up


def test_driving_varies_more_than_walking_and_has_outages_of_1_to_5_s() -> None:
    walking, driving = (find_trace(name, "test") for name in LTE)
    assert statistics(driving).down_mbps.variation > 1.3 * statistics(walking).down_mbps.variation
    rates = [driving.down.at(n * S) for n in range(600)]
    outages = [len(list(group)) for out, group in groupby(rates, key=operator.not_) if out]
    assert set(outages) <= {1, 2, 3, 4, 5}
    assert len(outages) >= 5
    assert len(set(outages)) >= 3


@pytest.mark.parametrize("name", LTE)
def test_both_directions_of_lte_are_out_together(name: str) -> None:
    trace = find_trace(name, "test")
    assert [not rate for rate in trace.up.values] == [not rate for rate in trace.down.values]


def test_nb_iots_rates_are_its_peaks_halved_up_to_five_times_one_level_at_a_time() -> None:
    trace = find_trace("nb-iot", "test")
    levels = {
        side: [round(log2(PEAKS_KBPS[f"{side}_mbps"] * 1000 / rate)) for rate in getattr(trace, side).values]
        for side in ("up", "down")
    }
    assert levels["up"] == levels["down"]
    assert set(levels["up"]) == {0, 1, 2, 3, 4, 5}
    assert all(abs(b - a) <= 1 for a, b in pairwise(levels["up"]))
    for side, found in levels.items():
        peak = PEAKS_KBPS[f"{side}_mbps"] * 1000
        assert getattr(trace, side).values == tuple(round(peak / 2**level) for level in found)


def test_starlinks_slots_begin_with_a_short_drop_a_longer_way_and_more_loss() -> None:
    trace = find_trace("starlink", "test")
    assert trace.delays is not None
    assert trace.losses is not None
    slots = range(0, trace.up.length_ns, SLOT_S * S)
    zeros = [start for start, rate in zip(trace.up.starts_ns, trace.up.values, strict=True) if not rate]
    assert zeros == list(slots)
    assert trace.down.starts_ns == trace.up.starts_ns
    for slot in slots:
        assert trace.down.at(slot) == 0
        assert 0.05 <= (trace.up.next_ns(slot) - slot) / S <= 0.25
        assert trace.losses.at(slot) > 10 * trace.losses.at(slot + 2 * S)
        later = [trace.delays.at(slot + n * S) for n in range(2, SLOT_S)]
        assert trace.delays.at(slot) > max(later) - 5 * 10**6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["make", "wifi", "--out", "x.csv"],
            "traces make wifi: there is no such model; say one of lte-walking",
        ),
        (["make", "nb-iot", "--seconds", "1", "--out", "x.csv"], "--seconds 1: say a number from 30 to 100000"),
        (["make", "nb-iot", "--out", "."], "--out .: cannot write it (File exists); name a new file"),
        (["make", "nb-iot"], "the following arguments are required: --out; run.py traces make --help shows the flags"),
        (["show", "wifi"], "traces show wifi: no such trace; give a path with a / or ending in .csv, .txt, .up"),
    ],
)
def test_a_mistake_in_the_command_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["traces", *arguments]) == 2
    answer = capsys.readouterr()
    assert answer.err.startswith(f"run.py: {said}")
    assert (answer.out, len(answer.err.splitlines())) == ("", 1)


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(UserError, match=r"cannot write it \(File exists\)"):
        run.command(["traces", "make", "nb-iot", "--out", str(tmp_path / "mine.csv")])
    assert (tmp_path / "mine.csv").read_text() == "mine"


def drawn(trace: Trace) -> list[str]:
    screen = io.StringIO()
    trace_views.show_trace(trace, Console(file=screen, width=80))
    return screen.getvalue().splitlines()


@pytest.mark.parametrize("name", KINDS)
def test_a_drawing_and_its_table_fit_80_columns_with_nothing_cut(name: str) -> None:
    lines = drawn(find_trace(name, "test"))
    assert max(map(cell_len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_the_list_fits_80_columns_with_nothing_cut() -> None:
    screen = io.StringIO()
    trace_views.show_traces(Console(file=screen, width=80))
    lines = screen.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert [line.split()[0] for line in lines if re.search(r" up +[kM]bit/s", line)] == list(shipped_traces())


def bars(lines: list[str], title: str) -> list[list[int]]:
    """The rows of a drawing from above, each a height in eighths for every column."""
    first = lines.index(title) + 1
    rows = [line[10:].ljust(trace_views.COLUMNS) for line in lines[first : first + trace_views.ROWS]]
    return [[trace_views.BLOCKS.index(mark) for mark in row] for row in rows]


HEIGHTS = st.one_of(st.integers(0, 10), st.integers(0, 1000))


@given(st.lists(HEIGHTS, min_size=trace_views.COLUMNS, max_size=trace_views.COLUMNS).filter(any))
def test_a_bar_is_as_high_as_its_column_and_outages_are_marked(heights: list[int]) -> None:
    """One step a column: each bar is value / top of the height, to an eighth of a row, and never quite nothing."""
    steps = StepFunction(tuple(n * S for n in range(len(heights))), tuple(h * 10**6 for h in heights), len(heights) * S)
    lines = trace_views.trace_lines(Trace("t", "t.csv", "", steps, steps))
    top = trace_views.nice(max(heights))
    for column, (height, *marks) in enumerate(zip(heights, *bars(lines, "up and down alike, Mbit/s"), strict=True)):
        assert sum(marks) == max(round(height / top * trace_views.ROWS * 8), 1 if height else 0), column
    marked = next((line for line in lines if line.strip().startswith("at 0")), "")[10:]
    assert [i for i, mark in enumerate(marked) if mark == "×"] == [i for i, h in enumerate(heights) if not h]


def test_a_drawing_names_its_units_and_the_ends_of_its_axes() -> None:
    lines = drawn(find_trace("starlink", "test"))
    for title in ("up, Mbit/s", "down, Mbit/s", "round trip, ms", "loss, %"):
        axis = lines[lines.index(title) + trace_views.ROWS + 1 :][:2]
        assert axis[0].startswith("       0 └")
        assert axis[1].split()[0] == "0"
        assert axis[1].split()[-1] == "300"
    assert "up, kbit/s" in drawn(find_trace("nb-iot", "test"))


@given(st.floats(1e-9, 1e9))
def test_an_axis_ends_at_a_round_number_not_far_above(value: float) -> None:
    assert value * (1 - 1e-6) <= trace_views.nice(value) <= value * 1.34


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ("0 1\n0.000000001 2\n", Form()),
        ("3\n", Form(format="mahimahi")),
        ("0 0.000001\n1 0\n", Form(rate="mbps")),
        ("time_s,down_mbps\n0,1\n1,2\n", Form()),
    ],
    ids=["2 ns", "3 ms", "slow", "down alone"],
)
def test_the_shortest_and_slowest_traces_are_drawn_too(content: str, form: Form, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    assert max(map(cell_len, drawn(load_trace(tmp_path / "t.csv", "t.csv", form)))) <= 80
