"""What a run is doing, folded from its ledger, and the lines that show it: they agree with it, and fit the screen."""

from __future__ import annotations

import random

import msgspec
import pytest
from processes import Played
from rich.cells import cell_len
from toy import GLOBAL, MB, MIB, MS, ROUND_NS, UPDATE, at, make_manifest, make_nodes, make_timeline

from emulator.dashboard.clients import SORTS, ordered
from emulator.dashboard.follow import Follower
from emulator.dashboard.progress import SECOND_NS, Progress
from emulator.dashboard.screen import VIEWS, ScreenState, make_screen
from emulator.ledger.events import (
    Clamped,
    Computed,
    Ended,
    Evaluated,
    Memory,
    Received,
    RoundEnded,
    Unreachable,
    Waiting,
)

NAMES = ["fedavg", "sl", "splitfed-v1", "splitfed-v2", "local-loss", "cse-fsl", "fsl-sage"]
SIZES = [(80, 24), (100, 30), (160, 50), (200, 60)]


def follow(events, **changes):
    progress = Progress(make_manifest(**changes))
    progress.begin("fedavg")
    progress.take(events)
    return progress


def draw(progress, width, height, **choice):
    lines = [line.plain for line in make_screen(progress, width, height, ScreenState(**choice))]
    assert len(lines) == height
    assert {cell_len(line) for line in lines} == {width}
    return lines


def state(node):
    return f"{node.state} {node.what}".rstrip()


# --- progress -----------------------------------------------------------------------------------------------------


def outline(progress):
    """What does not depend on the order in which files of different nodes were read."""
    nodes = [
        (n.name, state(n), n.round, n.loss, n.up_bytes, n.down_bytes, len(n.uploads), len(n.downloads), n.peak_bytes)
        for n in progress.nodes.values()
    ]
    drawn = [draw(progress, 160, 50, view=view)[:-14] for view in ("clients", "links", "algorithms")]
    sent = [progress.sent.until_bytes(ended.due_ns) for _, ended in sorted(progress.ended.items())]
    return nodes, progress.now_ns, sent, progress.payload_bytes, progress.ended, progress.scores, drawn


def test_the_order_of_reading_files_changes_nothing():
    nodes = list(make_nodes().values())
    expected = outline(follow(make_timeline()))
    for seed in range(5):
        random.Random(seed).shuffle(nodes)
        assert outline(follow(event for lines in nodes for event in lines)) == expected


@pytest.mark.parametrize(
    ("until_ms", "doing"),
    [(0, "download global"), (10, "download global"), (69, "compute step"), (101, "download global")],
)
def test_what_a_client_is_doing(until_ms, doing):
    progress = follow(event for event in make_timeline() if event.due_ns <= until_ms * MS)
    assert state(progress.nodes["client-0"]) == doing


def test_a_client_that_waits_is_sending_until_its_message_has_left():
    def played(until_ms):
        timeline = [e for e in make_timeline(1) if e.due_ns <= until_ms * MS]
        wait = Waiting(**at(50 * MS), node="client-0", kinds=["global", "stop"], sources=["server"])
        return state(follow([*timeline, wait]).nodes["client-0"])

    assert played(69) == "upload update"
    assert played(70) == "wait global or stop"


@pytest.mark.parametrize(
    ("until_ms", "doing"), [(5, "download global"), (15, "away global"), (69, "compute step"), (110, "away global")]
)
@pytest.mark.parametrize("older", [False, True])
def test_a_client_that_nothing_can_reach_is_away_but_computes_on(until_ms, doing, older):
    """By its ledger; in an older record, which does not say, by its profile."""
    nodes = msgspec.to_builtins(make_manifest().nodes)
    nodes[1]["absence"] = {"kind": "away", "spans": [[12 * MS, 200 * MS]] if older else [[0, 1000 * MS]]}
    parts = {"description": "", "devices": [], "networks": [], "cells": [], "host": None}
    gone = Unreachable(**at(12 * MS), node="network", client="client-0", kind="away", until_ns=200 * MS)
    played = [*make_timeline(), *([] if older else [gone])]
    seen = (event for event in played if event.due_ns <= until_ms * MS)
    progress = follow(seen, nodes=nodes, scenario=None if older else parts)
    progress.take([Waiting(**at(until_ms * MS), node="server", kinds=["update"], sources=[])])
    assert state(progress.nodes["client-0"]) == doing


def test_a_client_starts_and_ends():
    assert state(follow([]).nodes["client-0"]) == "starting"
    words = Ended(**at(MS), node="client-0", outcome="does-not-fit", phase="compute step")
    assert state(follow([words]).nodes["client-0"]) == "does not fit compute step"
    assert state(follow(make_timeline()).nodes["client-0"]) == "finished"


def test_rates_by_hand():
    """Until 0.3 s, each client has sent three updates and received three globals."""
    progress = follow(make_timeline())
    client = progress.nodes["client-0"]
    assert progress.now_ns == 300 * MS
    assert client.rate_bps(True, progress.now_ns) == pytest.approx(3 * 8 * (UPDATE + 200) / 0.3)
    assert client.rate_bps(False, progress.now_ns) == pytest.approx(3 * 8 * (GLOBAL + 200) / 0.3)


def test_rates_count_the_last_two_seconds_only():
    client = follow(make_timeline()).nodes["client-0"]
    assert client.rate_bps(True, 2_060 * MS) == pytest.approx(8 * (UPDATE + 200) / 1.81)  # the bins from 0.25 s on
    assert client.rate_bps(True, 10_000 * MS) == 0


def test_totals_lag_and_clamps():
    progress = follow(make_timeline())
    assert progress.payload_bytes == 6 * (UPDATE + GLOBAL)
    # The next global goes out at the instant at which the first round ends.
    assert progress.sent.until_bytes(ROUND_NS) == 2 * UPDATE + 4 * GLOBAL
    assert (progress.worst_lag_ns, progress.clamps, progress.concerns()) == (MS, 0, [])
    progress.apply(Clamped(**at(0), node="client-0", by_ns=5 * MS, what="posted"))
    assert (progress.clamps, progress.clamped_ns) == (1, 5 * MS)
    assert "clamps of client-0" in progress.concerns()[0]  # more than 1 % of 0.3 s
    progress.begin("sl")
    assert (progress.payload_bytes, progress.clamps, progress.worst_lag_ns, progress.ended) == (0, 0, 0, {})


def test_memory_is_shown_against_the_budget():
    client = follow(make_timeline()).nodes["client-1"]
    assert (client.growth_bytes, client.peak_bytes, client.budget_bytes) == (10 * MIB, 42 * MIB, 100 * MIB)
    assert client.memory_share == pytest.approx(0.42)


def test_time_left_is_that_of_the_rounds_to_come():
    progress = follow((e for e in make_timeline() if e.due_ns <= 100 * MS), rounds=12)
    assert progress.left_ns() == 1_100 * MS
    limited = follow((e for e in make_timeline() if e.due_ns <= 100 * MS), rounds=12, stop_after_s=0.35)
    assert limited.left_ns() == 300 * MS  # the fourth begins at 0.3 s
    assert follow([], rounds=12).left_ns() is None


def test_a_capacity_counts_what_crosses_it_and_what_waits_for_it():
    nodes = msgspec.to_builtins(make_manifest().nodes)
    nodes[0] |= {"up_channels": [], "down_channels": [0]}
    for node in nodes[1:]:
        node |= {"up_channels": [], "down_channels": []}
    channels = {"channels": [{"name": "cell up", "bps": 8 * 10**6}], "traces": [], "nodes": nodes}
    progress = follow((e for e in make_timeline() if e.due_ns <= 60 * MS), **channels)
    (cell,) = progress.capacities
    assert len(cell.waiting) == 2  # both updates are posted at 50, and leave at 70
    progress = follow(make_timeline(), **channels)
    assert (len(cell.waiting), progress.capacities[0].wire_bytes) == (2, 6 * (UPDATE + 200))
    assert progress.capacities[0].used(progress.now_ns, 300 * MS) == pytest.approx(
        6 * 8 * (UPDATE + 200) / (8e6 * 0.3), rel=1e-6
    )


def test_progress_needs_every_kind_of_line_it_shows():
    """Ablation: without a kind of line, what it tells is missing."""
    for kind, missing in (
        (Memory, lambda p: p.nodes["client-0"].peak_bytes is None),
        (Evaluated, lambda p: p.scores == []),
        (RoundEnded, lambda p: p.ended == {}),
        (Received, lambda p: p.nodes["client-0"].downloads.oldest[0] == "global"),
        (Computed, lambda p: p.nodes["client-0"].function == ""),
    ):
        assert not missing(follow(make_timeline()))
        assert missing(follow(event for event in make_timeline() if not isinstance(event, kind)))


# --- the screen ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("until_ms", [-1, 5, 60, 150, 300])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_screen_shows_ten_clients_within_its_size(width, height, until_ms, view):
    progress = Progress(make_manifest(10, algorithms=NAMES, profile="iot-4g", rounds=12, stop_after_s=15.0))
    for name in NAMES[:2]:
        progress.begin(name)
        progress.end()
    progress.begin("splitfed-v1")
    progress.take(event for event in make_timeline(clients=10) if event.due_ns <= until_ms * MS)
    lines = draw(progress, width, height, view=view)
    text = "\n".join(lines)
    assert "3 of 7" in text
    assert "0 clamps" in text
    assert "…" not in lines[-1] + lines[-2] + "".join(lines[:4])  # header and legend are whole
    if view == "clients":
        for i in range(10):
            assert len([line for line in lines if line.startswith(f"client-{i} ")]) == 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20, 5), (59, 30), (60, 12), (80, 10), (300, 100)])
def test_any_size_of_screen_is_kept_to(width, height):
    lines = make_screen(follow(make_timeline(clients=10), clients=10), width, height, ScreenState())
    assert len(lines) <= height
    assert {line.cell_len for line in lines} == {width}


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_recorded_run_is_shown_with_the_figures_of_its_summary(three_clients: Played, width: int, height: int):
    progress = Progress(three_clients.manifest)
    source = Follower(three_clients.folder, three_clients.manifest)
    assert source.advance(progress)
    assert source.over
    rows = {line.split()[0]: line.split() for line in draw(progress, width, height, view="algorithms") if line.split()}
    for name, algorithm in three_clients.summary["algorithms"].items():
        result = next(result for result in progress.results if result.algorithm == name)
        assert (result.outcome, result.rounds) == (algorithm["outcome"], algorithm["rounds"])
        assert rows[name][1:3] == [algorithm["outcome"], str(algorithm["rounds"])]
        payload = algorithm["total_bytes"]["payload"]
        assert result.payload_bytes == payload
        assert f"{payload / MB:.2f}" in rows[name]
        peaks = [client["peak_mib"] for client in algorithm["clients"] if client["peak_mib"] is not None]
        assert f"{max(peaks):.2f}" in rows[name]
        if algorithm["accuracy"]:
            assert f"{100 * result.scores[-1]:.2f}" in rows[name]
            assert result.scores == [round["accuracy"] for round in algorithm["history"]]
            assert result.length_ns / SECOND_NS == algorithm["seconds"]


# --- many clients ---------------------------------------------------------------------------------------------------


def crowd(count=200):
    """Two kinds of clients, of which number 7 is a round behind and number 8 has the fullest memory."""
    nodes = msgspec.to_builtins(make_manifest(count).nodes)
    for node in nodes[1 + count // 2 :]:
        node["device"] = "pi-4b"
    progress = Progress(make_manifest(nodes=nodes))
    progress.begin("fedavg")
    progress.take(e for e in make_timeline(2, clients=count) if not isinstance(e, Ended))
    late, full = progress.nodes["client-7"], progress.nodes["client-8"]
    late.round, full.peak_bytes, full.loss, full.up_bytes = 0, 99 * MIB, 7.0, 10**9
    return progress


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_more_clients_than_rows_are_shown_as_groups_with_the_slowest(width, height):
    progress = crowd()
    lines = draw(progress, width, height)
    groups = [line for line in lines if line.startswith("100 x")]
    assert len(groups) == 2
    shown = [line.split()[0] for line in lines if line.startswith("client-")]
    assert shown[0] == "client-7"
    assert any(f"the {len(shown)} slowest of 200 clients" in line for line in lines)


@pytest.mark.parametrize("count", [10, 13, 14, 15, 16, 200])
def test_each_client_has_a_row_or_belongs_to_a_group(count):
    lines = draw(follow(make_timeline(1, clients=count), clients=count), 80, 24)
    rows = len([line for line in lines if line.startswith("client-")])
    assert rows == count or any(f"{count} x pi-zero" in line or f"of {count} clients" in line for line in lines)


def test_sums_of_a_group_are_those_of_its_members():
    progress = crowd(20)
    now_ns, window_ns = progress.now_ns, progress.window_ns
    for group in progress.groups:
        for which in range(5):
            members = sum(member.bins.total(which, now_ns, window_ns) for member in group.members)
            assert group.bins.total(which, now_ns, window_ns) == pytest.approx(members)
        assert sum(group.states.values()) == len(group.members) == 10


def test_clients_are_sorted_by_what_is_asked_for():
    progress = crowd(20)
    first = {sort: ordered(progress, sort)[0].name for sort in SORTS}
    assert first == {
        "name": "client-0",
        "slowest": "client-7",
        "memory": "client-8",
        "upload": "client-8",
        "loss": "client-8",
    }
    for sort in SORTS:
        assert sorted(node.name for node in ordered(progress, sort)) == sorted(node.name for node in progress.clients)


def test_keys_choose():
    choice = ScreenState()
    seen = []
    for _ in range(len(VIEWS)):
        seen.append(choice.view)
        choice.press("\t")
    assert (tuple(seen), choice.view) == (VIEWS, VIEWS[0])
    for number, view in enumerate(VIEWS, 1):
        choice.press(str(number))
        assert choice.view == view
    for key in " p":
        choice.press(key)
        assert choice.paused == (key == " ")
    before = ScreenState(**vars(choice))
    for key in "qx09\x00é":
        choice.press(key)
    assert choice == before
