"""Runs that were never played, as views read them."""

from __future__ import annotations

import msgspec
from toy import at, edit, make_manifest, make_timeline

from emulator.analysis.latency import latency_splits
from emulator.analysis.recorded import RunRecord
from emulator.analysis.summarize import summarize
from emulator.ledger.files import Ledger
from emulator.ledger.manifest import write_manifest
from emulator.ledger.timeline import Timeline, timelines_of


def as_json(part):
    """A summary, or a part of it, as ``summary.json`` has it."""
    return msgspec.to_builtins(part, str_keys=True)


def slower(events, factor):
    """The same timeline with every time multiplied."""
    keys = ("start_ns", "posted_ns", "arrival_ns", "started_ns", "queued_ns")

    def later(event):
        return at(event.due_ns * factor) | {key: getattr(event, key) * factor for key in keys if hasattr(event, key)}

    return edit(events, lambda _: True, later)


def make_run(timelines, clients=2, **changes):
    manifest, timelines = make_manifest(clients, algorithms=list(timelines), **changes), timelines_of(timelines)
    return RunRecord(manifest, timelines, summarize(manifest, timelines))


def make_two(**changes):
    return make_run({"fedavg": make_timeline(), "sl": slower(make_timeline(), 20)}, **changes)


def latency_split(client, events, until_ns=None):
    """One client's nanoseconds of each cause; until the timeline's end where nothing else is said."""
    (splits,) = latency_splits([client], Timeline(events), Timeline(events).length_ns if until_ns is None else until_ns)
    return splits[client]


def write_run(folder, timelines, **changes):
    """A run's folder as its processes left it, without summary or tables."""
    whole = {
        "command": ["run.py", "--profile", "iot-4g", "--out", "x"],
        "started": "2026-11-23T00:00:00",
        "profile_files": FILES,
        "settings": {name: {"rounds": 3} for name in timelines},
    }
    folder.mkdir()
    write_manifest(folder, make_manifest(2, **{"algorithms": list(timelines), **changes, **whole}))
    for name, events in timelines.items():
        (folder / "ledger" / name).mkdir()
        for node in {event.node for event in events}:
            with Ledger(folder / "ledger" / name, node) as ledger:
                for event in sorted(events, key=lambda event: event.seq):
                    if event.node == node:
                        ledger.write(event)
    return folder


FILES = {"devices/pi-zero-2w.toml": "0" * 64, "devices/gone.toml": "1" * 64}
