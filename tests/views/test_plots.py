"""Plots: their figures are the summary's and the ledger's, and what must not be trusted says so in the picture."""

from __future__ import annotations

from itertools import combinations, pairwise

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from runs import latency_split, make_run, make_two
from toy import MIB, MS, at, edit, make_manifest, make_nodes, make_timeline, renumber

import run
from algorithms import ALGORITHMS
from emulator.analysis.recorded import recorded
from emulator.ledger.events import Ended, Evaluated, Lifecycle, Memory, Posted, RoundEnded, Transmitted
from emulator.ledger.files import Ledger
from emulator.ledger.manifest import write_manifest
from emulator.ledger.timeline import Timeline
from emulator.plots import charts, data, files, gantt
from emulator.plots.style import ENERGY_LOOKS, FURTHER, KINDS, LOOKS, mark_of, page, save, style

NAMES = ["fedavg", "sl"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of a run's pictures, and what was left out."""
    folder = tmp_path_factory.mktemp("drawn")
    return folder / "plots", files.draw_plots(folder, make_two()).left_out


@pytest.fixture
def words(monkeypatch, tmp_path):
    """Draws a run without writing it: the words of each picture by its name, and what was left out."""

    def draw(run):
        found = {}

        def keep(made, _folder, name):
            found[name] = " | ".join(text.get_text() for text in made.whole.findobj(Text))
            return []

        monkeypatch.setattr(files, "save", keep)
        left_out = files.draw_plots(tmp_path, run).left_out
        return found, left_out

    return draw


# --- figures ------------------------------------------------------------------------------------------------------


def test_curves_are_the_summarys_history():
    summary = make_two().summary
    for curve in data.curves(summary):
        algorithm = summary.algorithms[curve.algorithm]
        assert [p.seconds for p in curve.points] == [row.actual_s for row in algorithm.history]
        assert [p.score for p in curve.points] == [row.accuracy for row in algorithm.history]
        assert [p.round for p in curve.points] == [1, 2, 3]
        assert curve.points[-1].mb * data.MB == pytest.approx(algorithm.total_bytes.payload)
        for target, point in curve.reached.items():
            row = algorithm.to_target[target]
            assert (point.seconds, point.round) == (row.seconds, row.round + 1)
            assert point.mb * data.MB == pytest.approx(row.bytes)


def test_a_round_that_was_not_judged_is_no_point():
    events = edit(make_timeline(), lambda e: isinstance(e, Evaluated) and e.round == 1, lambda _: None)
    (curve,) = data.curves(make_run({"fedavg": events}).summary)
    assert [point.round for point in curve.points] == [1, 3]
    assert curve.reached[0.85].round == 3


def test_stacks_are_as_high_as_a_mean_round_is_long_and_the_shortest_is_first():
    summary = make_two().summary
    stacks = data.stacks(summary)
    assert list(stacks) == ["fedavg", "sl"]
    for name, stack in stacks.items():
        history = summary.algorithms[name].history
        assert sum(stack.values()) == pytest.approx(history[-1].due_s / len(history))


def test_memory_is_the_largest_peak_of_a_device_and_whether_each_fits():
    events = edit(
        make_timeline(), lambda e: isinstance(e, Memory) and e.node == "client-1", lambda _: {"peak_bytes": 101 * MIB}
    )
    (row,) = data.memory_rows(make_run({"fedavg": events}).summary)
    assert row == data.MemoryRow("fedavg", "pi-zero-2w", 101.0, False, 100.0, clients=2, unfit=1)


def test_a_client_is_done_when_its_last_message_of_the_round_has_arrived():
    (node, other) = make_manifest().clients
    events = edit(
        make_timeline(),
        lambda e: isinstance(e, Transmitted) and (e.source, e.counter) == ("client-1", 1),
        lambda e: {"arrival_ns": e.arrival_ns + 7 * MS},
    )
    done = data.done([node, other], events)
    assert [(each.client, each.seconds) for each in done] == [
        ("client-0", pytest.approx([0.08, 0.08, 0.08])),
        ("client-1", pytest.approx([0.08, 0.087, 0.08])),
    ]
    assert done[1].typical == pytest.approx(0.08)


def test_a_client_that_took_no_part_has_no_time():
    events = [event for event in make_timeline() if not isinstance(event, Posted) or event.node != "client-1"]
    assert [each.client for each in data.done(make_manifest().clients, renumber(events))] == ["client-0"]


@pytest.mark.parametrize(("ends_ms", "typical"), [((5, 9, 10), 1), ((7, 8, 10), 2), ((3, 13, 20, 28), 2), ((4, 8), 0)])
def test_the_round_that_is_shown_is_of_median_length(ends_ms, typical):
    starts_ms = (0, *ends_ms[:-1])
    events = Timeline(
        RoundEnded(**at(end * MS), round=i, started_ns=start * MS)
        for i, (start, end) in enumerate(zip(starts_ms, ends_ms, strict=True))
    )
    lengths = sorted(end - start for start, end in zip(starts_ms, ends_ms, strict=True))
    found = data.typical_round(events)
    assert found == (typical, starts_ms[typical] * MS, ends_ms[typical] * MS)
    assert found[2] - found[1] == lengths[(len(lengths) - 1) // 2] * MS
    assert data.mean_round_ns(events) == ends_ms[-1] / len(ends_ms) * MS


def test_a_mean_that_differs_from_the_round_shown_is_told():
    strips = [
        data.strip("fedavg", make_manifest().nodes, make_timeline())._replace(mean_ns=mean_ns)
        for mean_ns in (None, 104 * MS, 94 * MS)
    ]
    with style():
        titles = [axes.get_title("left") for axes in gantt.together(strips, make_two().summary).body.axes]
    assert ["; mean of all rounds: 0.09 s" in title for title in titles] == [False, False, True]


@pytest.mark.parametrize("words", [5, 40])
def test_a_result_is_within_the_width(words):
    with style():
        made = page("title", "accuracy " * words, 1.0, make_two().summary)
        drawn = FigureCanvasAgg(made.whole).get_renderer()
        texts = [text for part in made.whole.subfigs for text in part.texts]
        boxes = [text.get_window_extent(drawn) for text in texts]
    assert all(box.x1 <= made.whole.bbox.x1 for box in boxes)
    assert sum(text.get_text().count("accuracy") for text in texts) == words
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_strip_shows_the_spans_of_its_round_by_hand():
    strip = data.strip("fedavg", make_manifest().nodes, make_timeline())
    assert (strip.round, strip.length_ns) == (2, 100 * MS)
    assert strip.server.spans == {"compute": [(80 * MS, 100 * MS)], "upload": [], "download": []}
    for lane in strip.clients:
        spans = {"download": [(0, 20 * MS)], "compute": [(20 * MS, 50 * MS)], "upload": [(50 * MS, 80 * MS)]}
        assert (lane.spans, lane.done_ns) == (spans, 80 * MS)
    assert strip.at_work == 2 * 80 / 100


def test_a_client_is_busy_in_a_strip_while_its_latency_has_a_cause_of_its_own():
    """Two ways to the same figure: of a whole unfinished timeline, the strip's busy time and the split's."""
    events = [event for event in make_timeline() if not isinstance(event, RoundEnded)]
    strip = data.strip("fedavg", make_manifest().nodes, renumber(events))
    splits = [latency_split(lane.node, events) for lane in strip.clients]
    busy_ns = sum(split[cause] for split in splits for cause in ("compute", "serialisation", "propagation"))
    assert strip.round is None
    assert strip.at_work * strip.length_ns == pytest.approx(busy_ns)


def test_of_many_clients_those_that_are_busy_last_are_shown_in_their_order():
    def later(event):
        return {"arrival_ns": event.arrival_ns + int(event.source.partition("-")[2]) % 5 * MS}

    events = edit(make_timeline(1, 20), lambda e: isinstance(e, Transmitted) and e.source != "server", later)
    strip = data.strip("fedavg", make_manifest(20).nodes, events)
    assert [lane.node for lane in data.slowest(strip, 4)] == [f"client-{i}" for i in (4, 9, 14, 19)]
    assert data.slowest(strip, 20) == strip.clients


# --- pictures -----------------------------------------------------------------------------------------------------


def test_a_run_has_its_pictures_as_png_and_svg(drawn):
    folder, left_out = drawn
    names = {"accuracy-seconds", "accuracy-mb", "accuracy-rounds", "latency", "memory", "clients", "rounds"}
    names |= {f"round-{name}" for name in NAMES}
    assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert left_out == []


def test_every_picture_says_scenario_clock_seed_and_verdict(words):
    for text in words(make_two())[0].values():
        assert "toy: " in text
        assert "real clock, seed 1; verdict: good" in text
        assert "RUN" not in text


def test_the_ranking_tells_the_figures_of_the_tables(words):
    found, _ = words(make_two())
    assert "0.30 s  fedavg" in found["accuracy-seconds"]
    assert "fedavg is first at 90 %: 0.30 s; sl last: 6.00 s" in found["accuracy-seconds"]
    assert "A mean round: from 0.10 s for fedavg" in found["latency"]
    assert "to 2.00 s for sl" in found["latency"]
    assert "42.00 MiB, 42.00 % of the cap" in found["memory"]
    assert "Round 2, of median length: 2.00 s, 1.6 of 2 clients busy at a time" in found["round-sl"]


def test_the_same_run_gives_the_same_files_whatever_the_users_settings(drawn, tmp_path):
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "other"}):
        again = files.draw_plots(tmp_path, make_two()).paths
        assert matplotlib.rcParams["font.size"] == 30
    for path in again:
        assert path.read_bytes() == (drawn[0] / path.name).read_bytes(), path.name
        assert b"date>" not in path.read_bytes()


def test_algorithms_differ_in_colour_and_marker_and_look_the_same_in_any_company():
    marks = [mark_of(name) for name in ALGORITHMS]
    assert len({mark.colour for mark in marks}) == len({mark.marker for mark in marks}) == len(ALGORITHMS)
    assert mark_of("my-own") == mark_of("my-own") in FURTHER
    with style():
        for names in (["sl"], ["fedavg", "sl"]):
            summary = make_run({name: make_timeline() for name in names}).summary
            curves, against = data.curves(summary), charts.AGAINST[0]
            (axes,) = charts.scores(curves, against, summary).body.axes
            lines = {str(line.get_label()).split()[-1]: line for line in axes.lines}
            assert (lines["sl"].get_color(), lines["sl"].get_marker()) == mark_of("sl")


def test_areas_that_touch_differ_in_grey_or_have_a_hatch():
    def grey(colour):
        return sum(w * c for w, c in zip((0.299, 0.587, 0.114), to_rgb(colour), strict=True))

    kinds = sorted(map(grey, KINDS.values()))
    assert min(b - a for a, b in pairwise(kinds)) > 0.15
    for looks in (LOOKS, ENERGY_LOOKS):
        plain = sorted(grey(colour) for colour, hatch in looks.values() if not hatch)
        assert min(b - a for a, b in pairwise(plain)) > 0.15
        hatches = [hatch for _, hatch in looks.values() if hatch]
        assert len(set(hatches)) == len(hatches)


def test_a_dry_run_has_no_accuracy_and_says_so(words):
    untrained = [event for event in make_timeline() if not isinstance(event, Evaluated)]
    found, left_out = words(make_run({"fedavg": renumber(untrained)}, clock="dry-run"))
    assert not [name for name in found if name.startswith("accuracy")]
    assert left_out == ["accuracy (a dry run trains nothing): fedavg"]
    assert all("dry run: foreseen, nothing was trained" in text for text in found.values())


def test_a_run_that_was_cut_short_says_so_in_every_picture(words):
    early = [
        event for event in make_timeline(1, outcome="interrupted") if not isinstance(event, RoundEnded | Evaluated)
    ]
    found, left_out = words(make_run({"fedavg": make_timeline(), "sl": renumber(early)}))
    assert all("PARTIAL RUN" in text and "Not whole: sl: interrupted" in text for text in found.values())
    assert "From the start: unfinished, 0.10 s" in found["round-sl"]
    assert left_out[:2] == ["accuracy (no round was judged): sl", "seconds of a round (none has ended): sl"]


@pytest.mark.parametrize("outcome", ["finished", "interrupted"])
def test_a_bad_run_says_so_in_every_picture_whole_or_not(words, outcome):
    events = make_timeline(outcome=outcome)
    late = edit(events, lambda e: isinstance(e, RoundEnded), lambda e: {"actual_ns": e.due_ns + 10**9})
    run = make_run({"fedavg": late})
    found, _ = words(run)
    assert run.summary.health.verdict == "bad"
    assert all("BAD RUN" in text and "Do not trust it: " in text for text in found.values())


def test_a_method_that_does_not_fit_is_named_and_the_others_are_shown(words):
    def last_words(event):
        return {"outcome": "does-not-fit" if event.node == "client-1" else "peer-lost", "phase": "compute step"}

    unfit = edit(make_timeline(1), lambda e: isinstance(e, Ended), last_words)
    unfit = edit(unfit, lambda e: isinstance(e, Lifecycle) and e.outcome != "", lambda _: {"outcome": "does-not-fit"})
    found, _ = words(make_run({"fedavg": unfit, "sl": make_timeline()}))
    assert "Does not fit: fedavg on pi-zero-2w" in found["memory"]
    assert "does not fit: needs 40.00 MiB" in found["memory"]
    for text in found.values():
        assert "Stopped, since it does not fit: fedavg" in text
        assert "RUN" not in text


def test_nothing_but_a_start_leaves_everything_out(words):
    found, left_out = words(make_run({"fedavg": make_nodes(0)["supervisor"]}))
    assert found == {}
    assert len(left_out) == 5


def test_pictures_of_200_clients_are_small_and_say_whom_they_show(words, tmp_path):
    run = make_run({"fedavg": make_timeline(5, 200)}, clients=200)
    found, _ = words(run)
    assert "of 200 clients busy at a time (shown: the 24 slowest)" in found["round-fedavg"]
    assert "of 200 clients busy at a time (shown: the 10 slowest)" in found["rounds"]
    strip = data.strip("fedavg", run.manifest.nodes, run.timelines["fedavg"])
    done = {"fedavg": data.done(run.manifest.clients, run.timelines["fedavg"])}
    with style():
        for made in (gantt.one(strip, run.summary), charts.clients(done, run.summary)):
            _, svg = save(made, tmp_path, "picture")
            assert svg.stat().st_size < 100_000
            assert "of 200 clients" in svg.read_text() or "last: 0.08 s" in svg.read_text()


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_draws_from_manifest_and_ledger_alone_and_lists_what_it_wrote(tmp_path, capsys):
    (tmp_path / "ledger" / "fedavg").mkdir(parents=True)
    write_manifest(tmp_path, make_manifest())
    for node, events in make_nodes().items():
        with Ledger(tmp_path / "ledger" / "fedavg", node) as ledger:
            for event in events:
                ledger.write(event)
    assert recorded(tmp_path) == make_run({"fedavg": make_timeline()})
    assert run.main(["report", "--only", "plots", str(tmp_path)]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert sorted(listed) == sorted(map(str, (tmp_path / "plots").iterdir()))
    assert len(listed) == 16


@pytest.mark.parametrize("text", [None, "{", "[]", '{"nodes": []}'])
def test_what_is_no_run_is_refused_in_one_line(tmp_path, capsys, text):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    assert run.main(["report", "--only", "plots", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line
    assert "run" in line
    assert not (tmp_path / "plots").exists()


def test_a_run_that_has_recorded_nothing_yet_says_so(tmp_path, capsys):
    write_manifest(tmp_path, make_manifest())
    assert run.main(["report", "--only", "plots", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "left out: everything: nothing is recorded yet\n"
