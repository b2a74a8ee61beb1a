"""trace.json: its spans are the summary's times, its arrows the messages, and a viewer can nest what it shows."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from itertools import pairwise

import pytest
from runs import write_run
from timelines import timeline

from algorithms.commands import report
from emulator.analysis import recorded
from emulator.ledger.events import Received, RoundEnded
from emulator.ledger.manifest import write_manifest
from emulator.ledger.timeline import only
from emulator.profiles.reading import load_scenario
from emulator.report import perfetto as perfetto_trace
from emulator.runtime import run_manifest

METHODS = ("sl", "local-loss", "fsl-sage")


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A run of three methods, and its trace's events."""
    folder = tmp_path_factory.mktemp("trace") / "run"
    settings = {name: {"rounds": 2, "stop_after_s": None} for name in METHODS}
    scenario = load_scenario("iot-4g", 3)
    manifest = run_manifest.make_manifest(scenario, settings, argv=[], clock="virtual", seed=1, dilation=None)
    write_run(folder, {name: timeline(name) for name in METHODS})
    write_manifest(folder, manifest)
    assert report.command([str(folder), "--only", "trace"]) == 0
    return recorded.recorded(folder), json.loads((folder / perfetto_trace.NAME).read_text())["traceEvents"]


def ns(event, key="ts"):
    return round(event[key] * 1000)


def names(events):
    """Process and track names by their numbers."""
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    tracks = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    return processes, tracks


def spans(events, process, track):
    processes, tracks = names(events)
    drawn = [event for event in events if event["ph"] == "X" and processes[event["pid"]].startswith(process)]
    return [event for event in drawn if tracks[event["pid"], event["tid"]].startswith(track)]


def test_every_node_of_every_method_is_a_process_with_its_device(traced):
    run, events = traced
    processes, tracks = names(events)
    wanted = [f"{name} / {node.name} ({node.device})" for name in METHODS for node in run.manifest.nodes]
    assert sorted(processes.values()) == sorted(wanted)
    assert {name.split()[0] for name in tracks.values()} == {"compute", "uplink", "downlink", "wait"}


@pytest.mark.parametrize("method", METHODS)
def test_spans_of_computing_and_waiting_sum_to_the_summarys(method, traced):
    run, events = traced
    for client in run.summary.algorithms[method].clients:
        process = f"{method} / {client.name} "
        computed = sum(ns(span, "dur") for span in spans(events, process, "compute"))
        waited = sum(ns(span, "dur") for span in spans(events, process, "wait"))
        assert computed == round(client.compute_s * 1e9)
        assert waited == round(client.wait_s * 1e9)


@pytest.mark.parametrize("method", METHODS)
def test_an_arrow_leads_from_each_messages_leaving_to_its_arriving(method, traced):
    run, events = traced
    received = only(run.timelines[method], Received)
    arrows = defaultdict(dict)
    for event in events:
        if event["ph"] in "sf" and event["id"].startswith(f"{method}/"):
            assert event["ph"] not in arrows[event["id"]]
            arrows[event["id"]][event["ph"]] = event
    assert sorted(arrows) == sorted(f"{method}/{e.source}/{e.counter}" for e in received)
    processes, _ = names(events)
    arriving = {(e.source, e.counter): e for e in received}
    begins = {(e["pid"], e["tid"], ns(e)): e for e in events if e["ph"] == "X"}
    for number, ends in arrows.items():
        _, source, counter = number.split("/")
        message = arriving[source, int(counter)]
        assert ns(ends["s"]) <= ns(ends["f"]) <= message.due_ns
        assert processes[ends["s"]["pid"]].startswith(f"{method} / {source} ")
        assert processes[ends["f"]["pid"]].startswith(f"{method} / {message.node} ")
        bound = begins[ends["f"]["pid"], ends["f"]["tid"], ns(ends["f"])]  # the span that the arrow ends at
        assert ns(bound) + ns(bound, "dur") == message.due_ns


def test_no_two_spans_of_a_track_overlap(traced):
    _, events = traced
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append((ns(event), ns(event) + ns(event, "dur")))
    for found in tracks.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(sorted(found)))


def test_rates_are_never_negative_and_end_at_nothing(traced):
    series = defaultdict(list)
    for event in traced[1]:
        if event["ph"] == "C" and event["name"].endswith("Mbit/s"):
            series[event["pid"], event["name"]].append(event["args"]["Mbit/s"])
    assert series
    for values in series.values():
        assert min(values) >= 0
        assert max(values) > 0
        assert values[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_rounds_are_instants(method, traced):
    run, events = traced
    processes, _ = names(events)
    found = [ns(e) for e in events if e["ph"] == "i" and processes[e["pid"]].startswith(f"{method} / ")]
    assert found == [ended.due_ns for ended in only(run.timelines[method], RoundEnded)]


def test_perfettos_own_processor_finds_the_same_sums(traced, tmp_path):
    """Where its binary is: the package fetches it from the internet at its first use."""
    processor = pytest.importorskip("perfetto.trace_processor")
    run, events = traced
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    try:
        loaded = processor.TraceProcessor(trace=str(path))
    except (
        OSError,
        subprocess.CalledProcessError,
    ) as error:  # its download failed; what Perfetto cannot load is another error
        pytest.skip(f"perfetto's trace processor cannot be had here: {type(error).__name__}")
    with loaded:
        (flows,) = loaded.query("select count(*) as n from flow")
        assert flows.n == sum(len(only(found, Received)) for found in run.timelines.values())
        rows = loaded.query(
            "select process.name as name, sum(slice.dur) as ns from slice"
            " join thread_track on track_id = thread_track.id"
            " join thread using (utid) join process using (upid)"
            " where slice.category = 'compute' group by process.name"
        )
        found = {row.name: row.ns for row in rows}
        for method in METHODS:
            for client in run.summary.algorithms[method].clients:
                name = f"{method} / {client.name} ({client.device})"
                assert found.get(name, 0) == round(client.compute_s * 1e9)
        (errors,) = loaded.query("select sum(value) as n from stats where severity = 'error'")
        assert not errors.n
