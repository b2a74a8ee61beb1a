"""What waits to leave: a client's limit acts where it is said, the server has none, and what it holds is counted."""

from __future__ import annotations

import functools
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from toy import make_manifest, make_timeline

from algorithms import ALGORITHMS
from emulator.analysis.summarize import summarize
from emulator.checks.health import check_health
from emulator.checks.send_queues import beyond_memory, blocked, held_peak_bytes, unused_limits
from emulator.ledger.events import Blocked, Event, Posted, RoundEnded, Transmitted
from emulator.ledger.timeline import Timeline, only
from emulator.preflight.dilation import ProfilingResult
from emulator.preflight.dry_run import dry_run
from emulator.profiles.availability import Absence
from emulator.profiles.reading import load_device, load_scenario
from emulator.profiles.scenario import Device, Scenario
from emulator.runtime.run_manifest import make_manifest as manifest_of
from emulator.testing.stage import MS, SECOND, Stage, blob, link_ns, make_scenario, queue_of
from emulator.transport.messages import SharedCopies

MIB = 2**20
CLIENTS = 4
MODEL_BYTES = 160_000  # about that of the default model


def with_server_queue(scenario: Scenario, send_queue_bytes: int | None) -> Scenario:
    device = msgspec.structs.replace(scenario.server.device, send_queue_bytes=send_queue_bytes)
    return msgspec.structs.replace(scenario, server=msgspec.structs.replace(scenario.server, device=device))


def played(scenario: Scenario, **settings: Any) -> list[Event]:
    """The events of all nodes of a dry run of FedAvg."""
    events: list[Event] = []

    def ledger_of(node: str) -> Any:
        return lambda event: events.append(msgspec.structs.replace(event, node=node, seq=len(events)))

    settings = {"stop_after_s": None, **settings}
    dry_run(ALGORITHMS["fedavg"], settings, scenario, 1, ProfilingResult(), ledger_of)
    return events


def ends_s(events: list[Event]) -> list[float]:
    return [event.due_ns / SECOND for event in only(events, RoundEnded)]


@functools.cache
def field() -> Scenario:
    return load_scenario("iot-4g", CLIENTS)


# --- the server ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue_bytes", [1, 2 * MODEL_BYTES, 2**40])
def test_no_round_depends_on_what_the_servers_device_says_of_a_send_queue(queue_bytes: int) -> None:
    assert ends_s(played(with_server_queue(field(), queue_bytes), rounds=2)) == ends_s(played(field(), rounds=2))


@pytest.mark.parametrize("queue_bytes", [2 * MODEL_BYTES, None])
def test_clients_that_are_away_do_not_hold_up_a_server_with_a_deadline(queue_bytes: int | None) -> None:
    """Three of four are away from 4 to 100 s; from then on a round is the deadline and what the server computes."""
    scenario = with_server_queue(field(), queue_bytes)
    gone = Absence("away", ((4 * SECOND, 100 * SECOND),))
    clients = tuple(msgspec.structs.replace(c, absence=gone if c.index < 3 else None) for c in scenario.clients)
    events = played(msgspec.structs.replace(scenario, clients=clients), rounds=10, deadline_s=3.0)
    ends = ends_s(events)
    bound = [end for end in ends if end > 4 + 3]
    assert len(bound) >= 5
    lengths = [later - earlier for earlier, later in pairwise(bound)]
    assert lengths == pytest.approx([3.0] * len(lengths), abs=0.01)


def test_what_a_node_held_at_once_is_the_most_that_had_not_left() -> None:
    """In the toy run each round begins with a global of 9,800 B to each of two clients, at one moment."""
    events = make_timeline()
    assert held_peak_bytes("server", events) == 2 * 9_800
    assert held_peak_bytes("client-0", events) == 19_800
    server = summarize(make_manifest(), {"fedavg": events}).algorithms["fedavg"].server
    assert server.held_mib == 2 * 9_800 / MIB


def test_what_never_leaves_stays_held() -> None:
    """Of the six globals none but the first leaves."""
    left = [e for e in make_timeline() if not (isinstance(e, Transmitted) and e.source == "server" and e.counter)]
    events = Timeline(left)
    sent = [e for e in only(events, Posted) if e.node == "server"]
    assert held_peak_bytes("server", events) == (len(sent) - 1) * 9_800


def test_a_server_that_holds_more_than_its_device_has_is_noted() -> None:
    nodes, events = msgspec.to_builtins(make_manifest().nodes), make_timeline()
    nodes[0]["training_bytes"] = 2 * 9_800
    assert beyond_memory(make_manifest(nodes=nodes), events) == []
    nodes[0]["training_bytes"] -= 1
    manifest = make_manifest(nodes=nodes)
    (note,) = beyond_memory(manifest, events)
    assert note.startswith("server held up to 0.0 MiB")
    assert f"fedavg: {note}" in check_health(manifest, {"fedavg": events}).notes


def test_a_send_queue_of_a_servers_device_is_said_to_be_none() -> None:
    def notes(scenario: Scenario) -> list[str]:
        settings = {"fedavg": {"rounds": 1, "stop_after_s": None}}
        return unused_limits(manifest_of(scenario, settings, clock="virtual", seed=1, dilation=None, argv=[]))

    (note,) = notes(with_server_queue(field(), 4096 * MIB))
    assert note == "server: send_queue_mib = 4096 of edge-server is a limit of clients: a server has none; leave it out"
    assert notes(field()) == []
    assert notes(load_scenario("smart-home-wifi")) == []


# --- a client ---------------------------------------------------------------------------------------------------------


def test_a_client_waits_for_room_as_long_as_what_is_before_it_takes_and_a_note_says_so() -> None:
    """A queue of 1,000 B, posts of 600 B: each but the first waits until the one before it has left."""
    one_ns = link_ns(blob(600))
    with queue_of(1000) as stage:

        async def main() -> None:
            for _ in range(4):
                await stage.client.post("server", blob(600))

        stage.play(main())
        found = stage.of("client-0", Blocked)
    assert [(e.since_ns, e.due_ns) for e in found] == [(i * one_ns, (i + 1) * one_ns) for i in range(3)]
    assert {(e.destination, e.kind, e.payload_bytes, e.held_bytes, e.room_bytes) for e in found} == {
        ("server", "blob", 600, 0, 1000)
    }
    events = Timeline(msgspec.structs.replace(event, node="client-0", seq=i) for i, event in enumerate(found))
    (note,) = blocked(events)
    one_s = one_ns / SECOND
    assert note == (
        "posts waited for room in a send queue (a larger send_queue_mib has it): "
        f"client-0 3 times, {3 * one_s:.3f} s in all, {one_s:.3f} s at the longest"
    )
    assert f"fedavg: {note}" in check_health(make_manifest(), {"fedavg": [*make_timeline(), *events]}).notes


def test_a_note_names_who_waited_longest_and_sums_up_the_others() -> None:
    waits = {"client-0": [1], "client-1": [5, 2], "client-2": [9], "client-3": [3], "client-4": [2]}
    sizes = {"payload_bytes": 2, "held_bytes": 1, "room_bytes": 2}
    events = Timeline(
        Blocked(due_ns=s * SECOND, actual_ns=0, node=node, destination="server", kind="x", since_ns=0, **sizes)
        for node, found in waits.items()
        for s in found
    )
    (note,) = blocked(events)
    assert note.partition(": ")[2].split("; ") == [
        "client-2 once, 9.000 s in all, 9.000 s at the longest",
        "client-1 2 times, 7.000 s in all, 5.000 s at the longest",
        "client-3 once, 3.000 s in all, 3.000 s at the longest",
        "2 more clients 2 times, 3.000 s in all, 2.000 s at the longest",
    ]
    assert blocked(make_timeline()) == []


def test_a_queue_that_always_has_room_is_not_noted() -> None:
    with queue_of(1200) as stage:

        async def main() -> None:
            await stage.client.post("server", blob(600))
            await stage.client.post("server", blob(600))

        stage.play(main())
        assert stage.of("client-0", Blocked) == []


def test_a_client_whose_device_says_nothing_has_its_training_budget(tmp_path: Path) -> None:
    text = (
        'kind = "device"\ndescription = "x"\nmemory_mib = 512\nos_reserved_mib = 130\nruntime_mib = 220\n'
        "dense_gflops = 4\ndepthwise_gflops = 0.04\nmemory_gbps = 1.1\ndispatch_us = 170\n"
    )
    (tmp_path / "board.toml").write_text(text)
    assert load_device(str(tmp_path / "board.toml")).room_bytes == 162 * MIB
    (tmp_path / "board.toml").write_text(text + "send_queue_mib = 8\n")
    assert load_device(str(tmp_path / "board.toml")).room_bytes == 8 * MIB


def test_a_client_on_such_a_device_waits_only_beyond_that() -> None:
    device = Device("board", 3000, 1000, 1000, 10**9, 10**8, 10**9, MS)
    with Stage(make_scenario(device=device)) as stage:

        async def main() -> list[int]:
            times = []
            for size in (600, 400, 1):
                await stage.client.post("server", blob(size))
                times.append(stage.client.now())
            return times

        assert stage.play(main()) == [[0, 0, link_ns(blob(600))]]


# --- copies -----------------------------------------------------------------------------------------------------------


def test_one_state_for_many_receivers_is_held_once_while_it_is_the_same() -> None:
    state = torch.tensor([1.0, float("nan"), -0.0])
    copy = SharedCopies()
    first, second = copy(state), copy(state)
    assert first is second and first is not state
    assert first.data_ptr() != state.data_ptr()
    state.data[2] = 0.0  # equal as a number, and not the same bits; .data tells no version
    third = copy(state)
    assert third is not first
    assert (str(first[2].item()), str(third[2].item())) == ("-0.0", "0.0")
    assert copy(state[:2]) is not third  # the same place, another shape


def test_a_copy_is_freed_when_nobody_holds_it() -> None:
    copy, state = SharedCopies(), torch.ones(1000)
    held = copy(state)
    alive = weakref.ref(held)
    del held
    assert alive() is None


def test_what_the_server_overwrites_after_a_post_arrives_as_it_was_at_each() -> None:
    with Stage(make_scenario()) as stage:
        message = blob(5000, fill=1)

        async def main() -> list[int]:
            await stage.server.post("client-0", message)
            await stage.server.post("client-1", message)
            message.x.numpy()[:] = 2  # behind torch's back
            await stage.server.post("client-1", message)
            return [int((await stage.nodes[name].recv()).x[0]) for name in ("client-0", "client-1", "client-1")]

        assert stage.play(main()) == [[1, 1, 2]]


def test_ten_posts_of_one_state_take_the_memory_of_one() -> None:
    with Stage(make_scenario(clients=10)) as stage:
        message = blob(100_000)

        async def main() -> int:
            for name in stage.server.clients:
                await stage.server.post(name, message)
            return len({parcel.tensors[0].data_ptr() for parcel in stage.server._outbox.parcels})

        assert stage.play(main()) == [1]


def test_a_clients_posts_each_have_their_own_copy() -> None:
    with Stage(make_scenario()) as stage:
        message = blob(1000)

        async def main() -> int:
            for _ in range(3):
                await stage.client.post("server", message)
            return len({parcel.tensors[0].data_ptr() for parcel in stage.client._outbox.parcels})

        assert stage.play(main()) == [3]
