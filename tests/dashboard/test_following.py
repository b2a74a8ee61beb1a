"""A run's files while they grow, and a record by its due times: each thing is told once, and both end alike."""

from __future__ import annotations

import os
import platform

import psutil
import pytest
from toy import GLOBAL, MB, MS, UPDATE, at, make_manifest, make_nodes, span, write_run

from emulator.dashboard.follow import Follower, Replay
from emulator.dashboard.plain_lines import PlainLines
from emulator.dashboard.progress import SECOND_NS, Progress
from emulator.ledger.events import Ended
from emulator.ledger.files import Ledger


def test_plain_lines_tell_each_round_once(tmp_path):
    write_run(tmp_path, "fedavg", make_nodes())
    told = []
    manifest = make_manifest()
    view = PlainLines(Progress(manifest), Follower(tmp_path, manifest), told.append)
    for _ in range(3):
        view.read()
    # Until a round's end, what goes out at that instant included: the next round's means, if there is one.
    first, second, third = (2 * (u * UPDATE + g * GLOBAL) / MB for u, g in ((1, 2), (2, 3), (3, 3)))
    assert told == [
        "splitbed: toy, real clock, seed 1, 2 clients; fedavg",
        "[1/1] fedavg: starts",
        f"[1/1] fedavg: round 1 of 3 ended at 0.10 s, accuracy 50.0 %, test loss 0.300, {first:.2f} MB so far",
        f"[1/1] fedavg: round 2 of 3 ended at 0.20 s, accuracy 87.0 %, test loss 0.300, {second:.2f} MB so far",
        f"[1/1] fedavg: round 3 of 3 ended at 0.30 s, accuracy 93.0 %, test loss 0.300, {third:.2f} MB so far",
        "[1/1] fedavg: finished",
    ]


def test_plain_lines_tell_who_does_not_fit(tmp_path):
    words = Ended(**at(MS), outcome="does-not-fit", phase="compute step", detail="asked for 9.0 MiB")
    write_run(tmp_path, "fedavg", {"client-1": [words]})
    told = []
    PlainLines(Progress(make_manifest()), Follower(tmp_path, make_manifest()), told.append).read()
    assert told[2] == "[1/1] fedavg: client-1 (pi-zero-2w) at 0.00 s: does not fit: compute step: asked for 9.0 MiB"


def test_a_run_whose_process_is_gone_is_over_when_all_is_read(tmp_path):
    there = {"host": platform.node(), "pid": os.getpid(), "began": psutil.Process().create_time()}
    write_run(tmp_path, "fedavg", {"client-0": [span("step", 0, 1)]})
    for process, over in ((there, False), (there | {"began": 0.0}, True), (there | {"host": "elsewhere"}, False)):
        manifest = make_manifest(process=process)
        progress, source = Progress(manifest), Follower(tmp_path, manifest)
        assert source.advance(progress)
        assert not source.over  # there was something to read
        assert not source.advance(progress)
        assert (source.over, source.cut) == (over, over)


def test_an_algorithm_follows_when_the_one_before_it_has_ended(tmp_path):
    manifest = make_manifest(algorithms=["fedavg", "sl"])
    lines = make_nodes()
    write_run(tmp_path, "fedavg", {node: events for node, events in lines.items() if node != "supervisor"})
    progress, source = Progress(manifest), Follower(tmp_path, manifest)
    assert source.advance(progress)
    assert (len(progress.scores), progress.results, source.advance(progress)) == (3, [], False)
    write_run(tmp_path, "sl", {"client-0": [span("step", 0, 1)]})
    with Ledger(tmp_path / "ledger" / "fedavg", "supervisor") as ledger:
        for event in lines["supervisor"]:
            ledger.write(event)
    assert source.advance(progress)
    assert (progress.number, progress.scores, progress.payload_bytes) == (2, [], 0)
    assert [(result.algorithm, result.line) for result in progress.results] == [("fedavg", "finished")]
    assert not source.over


@pytest.mark.parametrize("step_s", [0.0007, 0.05, 10.0])
def test_a_replay_comes_to_the_same_state_in_steps_of_any_length(tmp_path, step_s):
    manifest = make_manifest(algorithms=["fedavg", "sl"])
    for name in manifest.algorithms:
        write_run(tmp_path, name, make_nodes())
    followed, played = Progress(manifest), Progress(manifest)
    Follower(tmp_path, manifest).advance(followed)
    source, passed_s = Replay(tmp_path, manifest, speed=2.0), 0.0
    while not source.over:
        source.pass_s(step_s)
        source.advance(played)
        assert played.now_ns <= 2 * (passed_s := passed_s + step_s) * SECOND_NS
    assert played.results == followed.results
    assert list(played.log) == list(followed.log)
    assert passed_s >= 2 * 0.3 / 2


def test_a_replay_of_an_interrupted_run_ends_with_what_there_is(tmp_path):
    cut = {node: [e for e in events if e.due_ns <= 150 * MS] for node, events in make_nodes().items()}
    write_run(tmp_path, "fedavg", {node: events for node, events in cut.items() if node != "supervisor"})
    manifest = make_manifest(algorithms=["fedavg", "sl"])
    progress, source = Progress(manifest), Replay(tmp_path, manifest)
    while not source.over:
        source.pass_s(0.1)
        source.advance(progress)
    assert [(result.outcome, result.rounds) for result in progress.results] == [("running", 1)]
