"""How long clients' messages queue at the server: the same for every way to write a server, and derivable from the
ledger alone."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from itertools import chain
from typing import Any

import msgspec
import pytest
import torch
from timelines import merged
from toy import make_manifest, make_nodes, span

from algorithms import ALGORITHMS
from emulator.analysis.latency import latency_splits
from emulator.analysis.summarize import SECOND_NS, summarize
from emulator.ledger.events import Computed, Event, Received
from emulator.ledger.timeline import Timeline, only
from emulator.node.node import ServerNode
from emulator.preflight.dilation import ProfilingResult
from emulator.preflight.dry_run import dry_run
from emulator.profiles.reading import load_scenario
from emulator.testing.stage import MS, WAY_NS, Stage, blob, link_ns, make_scenario, note, operations

CLIENTS = ("client-0", "client-1")
STEP_MS, LATER_MS = 50, 5
ARRIVAL_NS = link_ns(blob(1000)) + WAY_NS  # of what is posted at time 0

Serve = Callable[[ServerNode], Coroutine[Any, Any, None]]


def step(x: torch.Tensor) -> int:
    del x
    return operations(STEP_MS)


def join(xs: list[torch.Tensor]) -> int:
    del xs
    return operations(STEP_MS)


def queued(serve: Serve, workers: int = 1, later_ms: int = LATER_MS) -> list[tuple[str, int]]:
    """Whose each of the server's computations was, and how long it queued in ns: the first client's message comes
    first, and that of the second so much later."""
    with Stage(make_scenario(len(CLIENTS), workers)) as stage:

        async def send(name: str, after_ms: int) -> None:
            await asyncio.sleep(after_ms / 1000)
            await stage.nodes[name].post("server", blob(1000))

        stage.play(send(CLIENTS[0], 0), send(CLIENTS[1], later_ms), serve(stage.server))
        spans = sorted(stage.of("server", Computed), key=lambda event: event.start_ns)
        return [(event.source, event.queued_ns) for event in spans]


# --- one rule for every way to write a server -----------------------------------------------------------------------


async def one_loop(node: ServerNode) -> None:
    for _ in CLIENTS:
        message = await node.recv()
        await node.compute(step, message.x)


async def a_task_for_each_client(node: ServerNode) -> None:
    async def serve(name: str) -> None:
        await node.compute(step, (await node.recv(source=name)).x)

    async with asyncio.TaskGroup() as group:
        for name in CLIENTS:
            group.create_task(serve(name))


async def a_task_for_each_message(node: ServerNode) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in CLIENTS:
            message = await node.recv()
            group.create_task(node.compute(step, message.x.float()))


async def a_reader_and_a_worker(node: ServerNode) -> None:
    line: asyncio.Queue[Any] = asyncio.Queue()

    async def read() -> None:
        for _ in CLIENTS:
            line.put_nowait(await node.recv())

    async def work() -> None:
        for _ in CLIENTS:
            await node.compute(step, (await line.get()).x)

    await asyncio.gather(read(), work())


def a_reader_that_looks_otherwise(view: Callable[[torch.Tensor], torch.Tensor]) -> Serve:
    """The one who reads passes a view on, which is no tensor of the message's."""

    async def serve(node: ServerNode) -> None:
        line: asyncio.Queue[torch.Tensor] = asyncio.Queue()

        async def read() -> None:
            for _ in CLIENTS:
                line.put_nowait(view((await node.recv()).x))

        async def work() -> None:
            for _ in CLIENTS:
                await node.compute(step, await line.get())

        await asyncio.gather(read(), work())

    return serve


async def another_form_of_what_came(node: ServerNode) -> None:
    for _ in CLIENTS:
        message = await node.recv()
        await node.compute(step, message.x.float() + 1)


async def the_message_itself(node: ServerNode) -> None:
    for _ in CLIENTS:
        await node.compute(join, [await node.recv()])


WAYS = [
    *(one_loop, a_task_for_each_client, a_task_for_each_message, a_reader_and_a_worker),
    *(another_form_of_what_came, the_message_itself),
    *(a_reader_that_looks_otherwise(view) for view in (torch.Tensor.detach, torch.flatten, lambda x: x[1:])),
]


@pytest.mark.parametrize("serve", WAYS)
def test_a_message_queues_from_its_arrival_until_its_computation_begins(serve: Serve) -> None:
    assert queued(serve) == [(CLIENTS[0], 0), (CLIENTS[1], (STEP_MS - LATER_MS) * MS)]


@pytest.mark.parametrize("serve", WAYS)
def test_nothing_queues_where_the_server_is_free(serve: Serve) -> None:
    assert queued(serve, later_ms=STEP_MS + 1) == [(CLIENTS[0], 0), (CLIENTS[1], 0)]


@pytest.mark.parametrize(("serve", "waits"), [(one_loop, True), (a_task_for_each_client, False)])
def test_a_second_worker_helps_those_who_use_it(serve: Serve, waits: bool) -> None:
    assert queued(serve, workers=2) == [(CLIENTS[0], 0), (CLIENTS[1], waits * (STEP_MS - LATER_MS) * MS)]


def test_whose_turn_comes_later_queues_until_then() -> None:
    async def blocked(node: ServerNode) -> None:
        for name in reversed(CLIENTS):
            await node.compute(step, (await node.recv(source=name)).x)

    assert queued(blocked) == [(CLIENTS[1], 0), (CLIENTS[0], (LATER_MS + STEP_MS) * MS)]


def test_waiting_for_others_is_no_queue_and_what_follows_is() -> None:
    """Both are gathered, then served: the first client has waited for the second, then the second for the first."""

    async def gather(node: ServerNode) -> None:
        for message in [await node.recv() for _ in CLIENTS]:
            await node.compute(step, message.x)

    assert queued(gather) == [(CLIENTS[0], 0), (CLIENTS[1], STEP_MS * MS)]


def test_a_mean_of_several_is_nobodys_and_one_update_that_a_deadline_holds_does_not_queue() -> None:
    async def mean(node: ServerNode) -> None:
        await node.compute(join, [(await node.recv()).x for _ in CLIENTS])
        await node.compute(operations, 1)

    async def hold(node: ServerNode) -> None:
        first = await node.recv(source=CLIENTS[0])
        await asyncio.sleep(3)
        await node.compute(join, [first.x])

    assert queued(mean) == [("", 0), ("", 0)]
    assert queued(hold) == [(CLIENTS[0], 0)]


def test_ones_own_computations_are_no_queue_and_those_after_the_first_wait_for_a_worker_alone() -> None:
    """Two messages of one client, of which the second finds the first in the making; the first has a sequel."""
    with Stage(make_scenario(1)) as stage:

        async def post() -> None:
            await stage.client.post("server", note(0))
            await stage.client.post("server", note(1))

        async def serve() -> None:
            for number in range(2):
                await stage.server.recv()
                await stage.server.compute(operations, STEP_MS)
                if not number:
                    await stage.server.compute(operations, 7)

        stage.play(post(), serve())
        spans = stage.of("server", Computed)
        assert [(e.source, e.counter, e.queued_ns) for e in spans] == [
            *((CLIENTS[0], number, 0) for number in (0, 0, 1))
        ]
        assert spans[-1].start_ns > stage.of("server", Received)[-1].due_ns  # it was there long before


def test_a_clients_computations_are_for_nobody() -> None:
    with Stage(make_scenario(1)) as stage:
        stage.play(stage.client.compute(operations, 3), stage.client.compute(operations, 3))
        assert [(e.source, e.queued_ns) for e in stage.of("client-0", Computed)] == [(None, 0), (None, 3 * MS)]


# --- from the ledger alone ------------------------------------------------------------------------------------------


def derived_ns(events: list[Any]) -> int:
    """From each message's arrival, or from the end of the last computation for its sender, to its own begin."""
    arrival_ns = {(e.source, e.counter): e.due_ns for e in only(events, Received) if e.node == "server"}
    ends_ns: dict[str, list[int]] = {}
    total_ns = 0
    for event in sorted((e for e in only(events, Computed) if e.node == "server"), key=lambda e: (e.start_ns, e.seq)):
        if event.source:
            earlier = [ns for ns in ends_ns.setdefault(event.source, []) if ns <= event.start_ns]
            total_ns += event.start_ns - max([arrival_ns[event.source, event.counter], *earlier])
            ends_ns[event.source].append(event.due_ns)
    return total_ns


def by_kind_ns(events: list[Any]) -> int:
    """The same for the k-th smashed batch and the k-th step of the server, in methods that serve as batches come."""
    batches = sorted((e for e in only(events, Received) if e.kind == "smashed"), key=lambda e: (e.due_ns, e.seq))
    served = (e for e in only(events, Computed) if e.function in ("cut_step", "server_step"))
    ends_ns: dict[str, int] = {}
    total_ns = 0
    for batch, event in zip(batches, sorted(served, key=lambda e: (e.start_ns, e.seq)), strict=True):
        total_ns += event.start_ns - max(batch.due_ns, ends_ns.get(batch.source, 0))
        ends_ns[batch.source] = event.due_ns
    return total_ns


@functools.cache
def in_a_cell(name: str) -> list[Any]:
    """Two rounds of ten sensors behind one mast, whose batches meet at the server."""
    events: dict[str, list[Event]] = {}
    settings = {"rounds": 2, "stop_after_s": None}
    scenario = load_scenario("iot-4g-cell")
    dry_run(ALGORITHMS[name], settings, scenario, 1, ProfilingResult(), lambda node: events.setdefault(node, []).append)
    return merged(events)


def table_s(events: list[Any]) -> float:
    """What the tables say."""
    return float(summarize(make_manifest(), {"method": events}).algorithms["method"].server.queue_wait_s)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_tables_queueing_is_that_of_the_ledger(name: str) -> None:
    events = in_a_cell(name)
    assert table_s(events) == pytest.approx(derived_ns(events) / SECOND_NS, abs=1e-12)
    if name != "fsl-sage":  # there alignments queue too
        assert table_s(events) == pytest.approx(by_kind_ns(events) / SECOND_NS, abs=1e-12)


def test_methods_with_one_loop_queue_more_than_the_one_with_a_task_for_each_client() -> None:
    v1, v2, local = (table_s(in_a_cell(name)) for name in ("splitfed-v1", "splitfed-v2", "local-loss"))
    assert 0 < 3 * v1 < v2 < local
    assert table_s(in_a_cell("fedavg")) == table_s(in_a_cell("sl")) == 0  # nobody to queue behind


def test_what_queues_at_the_server_is_no_waiting_of_its_client() -> None:
    """Under SplitFed V2 a client does nothing else meanwhile, so all of it shows in its time."""
    events = Timeline(in_a_cell("splitfed-v2"))
    names = [f"client-{i}" for i in range(10)]
    until_ns = max(event.due_ns for event in events)
    without = Timeline(msgspec.structs.replace(e, queued_ns=0) if isinstance(e, Computed) else e for e in events)
    (split,), (less,) = (latency_splits(names, each, until_ns) for each in (events, without))
    moved_ns = [split[name]["queueing"] - less[name]["queueing"] for name in names]
    assert moved_ns == [less[name]["waiting"] - split[name]["waiting"] for name in names]
    assert sum(moved_ns) == by_kind_ns(events)


# --- records made before --------------------------------------------------------------------------------------------


def test_an_older_record_is_read_and_its_queue_is_not_known() -> None:
    def lines(source: str | None) -> list[Any]:
        nodes = make_nodes(1)
        kept = [event for event in nodes["server"] if not isinstance(event, Computed)]
        spans = [span("cut_step", 80, 85, 0, source), span("cut_step", 85, 90, 5, source and CLIENTS[1])]
        nodes["server"] = [msgspec.structs.replace(e, node="server", seq=i) for i, e in enumerate([*kept, *spans])]
        return Timeline(chain.from_iterable(nodes.values()))

    before, now = lines(None), lines(CLIENTS[0])
    found = [summarize(make_manifest(), {"fedavg": each}).algorithms["fedavg"].server for each in (before, now)]
    assert [server.queue_wait_s for server in found] == [None, 0.005]
    fields = msgspec.to_builtins(only(before, Computed)[-1])
    line = {key: value for key, value in fields.items() if key not in ("source", "counter")}
    assert msgspec.convert(line, Computed) == msgspec.convert(fields, Computed)
