"""The ledger: a line an event, whole or not there, in an order that readers agree on."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import typing
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest
from toy import ROUND_NS, make_timeline

from emulator.errors import UserError
from emulator.ledger import files
from emulator.ledger.events import AnyEvent, Computed, Ended, Event, Posted, Refused, Reported, RoundEnded, Transmitted
from emulator.ledger.files import Ledger, Tail, read_node
from emulator.ledger.timeline import Timeline, only
from emulator.runtime import targets

EVENT_TYPES = typing.get_args(AnyEvent)
SAMPLES: dict[Any, Any] = {
    int: 7,
    str: "ä \r\n\x85\u2028 text",
    float: 0.5,
    int | None: None,
    float | None: 0.5,
    str | None: "client-0",
    list[str]: ["smashed", "update"],
    list[float | None]: [0.5, None],
    dict[str, float]: {"loss": 0.25},
    dict[str, int]: {"parameters": 7},
    tuple[str, ...]: ("aten::_linalg_svd",),
}


def sample(event_type: type[Event]) -> Event:
    """An event with a value in every field."""
    hints = typing.get_type_hints(event_type)
    return event_type(**{name: SAMPLES[hints[name]] for name in event_type.__struct_fields__})


def reported(due_ns: int, node: str = "", seq: int = -1, round: int = 0) -> Reported:
    return Reported(due_ns=due_ns, actual_ns=0, node=node, seq=seq, round=round, values={})


@pytest.fixture
def writer(tmp_path: Path) -> typing.Iterator[Ledger]:
    with Ledger(tmp_path, "client-3") as opened:
        yield opened


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda event_type: event_type.__name__)
def test_an_event_comes_back_as_it_was_written(event_type: type[Event], writer: Ledger) -> None:
    event = sample(event_type)
    writer.write(event)
    assert read_node(writer.path) == [msgspec.structs.replace(event, node="client-3", seq=0)]


def test_every_event_type_of_the_module_can_be_read() -> None:
    assert set(EVENT_TYPES) == set(Event.__subclasses__())


def test_a_line_says_its_event_by_name(writer: Ledger) -> None:
    writer.write(RoundEnded(due_ns=5, actual_ns=6, round=2, started_ns=1))
    line = json.loads(writer.path.read_text())
    assert line["event"] == "round_ended"
    assert (line["due_ns"], line["actual_ns"], line["node"], line["seq"]) == (5, 6, "client-3", 0)


def test_a_writer_that_is_left_open_is_told(tmp_path: Path) -> None:
    """Which fails every test that leaves one: beyond 1,024 files ``select`` refuses what is opened next."""
    with pytest.warns(ResourceWarning, match=r"unclosed file .*client-3\.jsonl"):
        Ledger(tmp_path, "client-3")


def test_a_writer_numbers_its_lines_and_appends_to_what_is_there(writer: Ledger) -> None:
    for due_ns in (30, 10, 20):
        writer.write(reported(due_ns))
    lines = read_node(writer.path)
    assert [(event.due_ns, event.seq, event.node) for event in lines] == [
        (30, 0, "client-3"),
        (10, 1, "client-3"),
        (20, 2, "client-3"),
    ]
    second = Ledger(writer.path.parent, "client-3")
    second.write(reported(40))
    second.close()
    assert len(read_node(writer.path)) == 4


def test_a_line_is_one_write(writer: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    real_write = os.write
    monkeypatch.setattr(files.os, "write", lambda file, line: (written.append(line), real_write(file, line))[1])
    writer.write(sample(Refused))
    monkeypatch.undo()
    assert [line.count(b"\n") for line in written] == [1]
    assert written[0].endswith(b"\n")


def test_threads_of_a_node_leave_whole_lines_in_the_order_of_their_numbers(
    writer: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, each = 8, 200
    start = threading.Barrier(threads)
    real_write = os.write

    def late_write(file: int, line: bytes) -> int:
        time.sleep(0)  # lets another thread overtake this one, if it may
        return real_write(file, line)

    monkeypatch.setattr(files.os, "write", late_write)

    def write(thread: int) -> None:
        start.wait()
        for i in range(each):
            writer.write(reported(i, round=thread))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads are interrupted between any two steps
    try:
        running = [threading.Thread(target=write, args=(i,)) for i in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    lines = read_node(writer.path)
    assert [event.seq for event in lines] == list(range(threads * each))
    for thread_number in range(threads):
        own = [event.due_ns for event in lines if isinstance(event, Reported) and event.round == thread_number]
        assert own == list(range(each))


def test_a_tail_returns_each_line_once_and_a_half_written_one_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "client-0.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    first, second, third = (files.encode_line(reported(i)) + b"\n" for i in range(3))
    path.write_bytes(first + second[:20])
    assert [event.due_ns for event in tail.read()] == [0]
    assert tail.read() == []
    path.write_bytes(first + second[:-1])
    assert tail.read() == []
    path.write_bytes(first + second + third)
    assert [event.due_ns for event in tail.read()] == [1, 2]
    assert tail.read() == []


def test_what_a_killed_process_wrote_can_be_read_up_to_its_last_whole_line(writer: Ledger) -> None:
    for due_ns in range(5):
        writer.write(reported(due_ns))
    whole = writer.path.read_bytes()
    for length in range(len(whole)):
        writer.path.write_bytes(whole[:length])
        assert len(read_node(writer.path)) == whole[:length].count(b"\n")


def test_a_merge_is_by_due_time_then_node_then_the_nodes_own_number() -> None:
    one = [reported(20, "b", 0), reported(10, "b", 1), reported(20, "b", 2)]
    other = [reported(20, "a", 0), reported(5, "a", 1), reported(20, "a", 2)]
    expected = [(5, "a", 1), (10, "b", 1), (20, "a", 0), (20, "a", 2), (20, "b", 0), (20, "b", 2)]
    for streams in ([one, other], [other, one], [one + other], [other[::-1], one[::-1]]):
        assert [(event.due_ns, event.node, event.seq) for event in Timeline(chain.from_iterable(streams))] == expected


def test_a_timeline_is_the_merge_of_its_folder(tmp_path: Path) -> None:
    for node, due_times in (("server", (3, 1)), ("client-0", (2,))):
        writer = Ledger(tmp_path, node)
        for due_ns in due_times:
            writer.write(reported(due_ns))
        writer.close()
    (tmp_path / "notes.txt").write_text("not a ledger")
    assert [(event.due_ns, event.node) for event in files.read_timeline(tmp_path)] == [
        (1, "server"),
        (2, "client-0"),
        (3, "server"),
    ]


def test_a_full_disk_in_a_dry_run_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "server.jsonl").symlink_to("/dev/full")

    def play() -> None:
        with Ledger(tmp_path, "server") as written:
            written.write(sample(Reported))

    refused = targets._in_one_thread(play, "fedavg", "players.faulty", "the dry run")
    assert isinstance(refused, UserError)
    assert str(refused).startswith(f"{tmp_path}/server.jsonl: cannot be written (No space left on device)")


def test_a_line_that_is_no_text_is_named_like_one_that_is_no_event(writer: Ledger) -> None:
    writer.write(reported(1))
    with writer.path.open("ab") as file:
        file.write(b'{"event":"refused","due_ns":0,"actual_ns":0,"source":"\xff","reason":""}\n')
    with pytest.raises(UserError, match=r", line 2: no event that this version can read"):
        Tail(writer.path).read()


def test_a_timeline_hands_out_what_a_walk_through_all_of_it_finds() -> None:
    timeline = make_timeline()
    for kind in (Posted, Transmitted, Computed, Ended):
        assert timeline.of(kind) == only(timeline, kind) != []
        for node in ("server", "client-1", "network", "nobody"):
            own = [event for event in only(timeline, kind) if event.node == node]
            assert timeline.of(kind, node) == sorted(own, key=lambda event: event.seq)
    assert timeline.posted == {(event.node, event.counter): event for event in only(timeline, Posted)}
    assert timeline.transmitted.keys() == timeline.posted.keys()
    assert (timeline.ending, timeline.dilation, timeline.length_ns) == ("finished", 1, 3 * ROUND_NS)
    assert Timeline(reversed(timeline)) == timeline
