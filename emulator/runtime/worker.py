"""A node's process: limits, seeds, clock, the algorithm's coroutine, last words."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch

from emulator.clock.conductors import CLOCKS
from emulator.clock.loop import EmulatedLoop
from emulator.compute.counting import ComputeThread, Costs
from emulator.compute.memory import (
    KEEPING,
    MALLOC,
    ClientMemoryCap,
    MemoryCap,
    bytes_asked,
    is_out_of_memory,
    tune_malloc,
)
from emulator.errors import DoesNotFit, NoRoom, PeerLost, UserError, root_of, told, traceback_of
from emulator.host import liveness
from emulator.ledger import events
from emulator.ledger.files import Ledger
from emulator.node import playing
from emulator.node.node import Assembly, ClientNode, Node, ServerNode
from emulator.runtime import launch_spec, postmortem
from emulator.runtime.evaluator import write_part, write_snapshot
from emulator.runtime.launch_spec import LaunchSpec
from emulator.runtime.watchdog import Watchdog
from emulator.transport.endpoint import Endpoint
from emulator.transport.messages import StateDict

MOST_SNAPSHOTS = 32  # that wait for the evaluator
SNAPSHOT_POLL_S = 0.05


def run_worker(spec: LaunchSpec, watchdog: Watchdog) -> int:
    """Play the node's part of the timeline; the exit status that says how it ended."""
    torch.set_num_threads(1)
    torch.manual_seed(_seed_of(spec))  # of layers that draw, such as dropout
    ledger = Ledger(Path(spec.ledger_folder), spec.node)
    postmortem.install_crash_recorder(Path(spec.snapshot_folder), spec.node)
    module = importlib.import_module(spec.module)
    tune_malloc(MALLOC if spec.role == "client" else KEEPING)
    endpoint = Endpoint(spec.address, spec.node, module.MESSAGES)
    thread = ComputeThread()
    thread.submit(_throw_away_step, time.monotonic_ns, lambda: None).settle()
    scenario, member = spec.scenario, spec.scenario.member(spec.node)
    assembly = Assembly(scenario.clients, partial(CLOCKS[spec.clock].pacer, endpoint))
    loop = assembly.loop
    endpoint.attach(loop)
    asyncio.set_event_loop(loop)

    budget_bytes = member.device.budget_bytes if spec.role == "client" else None
    cap = (ClientMemoryCap if spec.role == "client" else MemoryCap)(budget_bytes, enforced=spec.memory_cap == "rlimit")
    costs = Costs(spec.costs, spec.measured_ns, scenario.host)
    node = assembly.add(member, endpoint, thread, costs, ledger.write, cap=cap)
    ledger.write(
        events.Started(
            due_ns=0,
            actual_ns=0,
            role=spec.role,
            pid=os.getpid(),
            device=member.device.name,
            network=member.network.name,
            workers=member.workers,
            baseline_bytes=cap.baseline_bytes,
            budget_bytes=cap.budget_bytes,
            limit_bytes=cap.limit_bytes,
        )
    )
    written: list[Future[None]] = []
    snapshots = ThreadPoolExecutor(1, "snapshots", initializer=lambda: os.setpriority(os.PRIO_PROCESS, 0, 19))
    if isinstance(node, ServerNode):
        node.on_snapshot = _snapshot_writer(spec, node, loop, snapshots, written)
    elif isinstance(node, ClientNode):
        node.on_part = partial(write_part, Path(spec.snapshot_folder))

    def last_words(
        outcome: str,
        detail: str = "",
        phase: str = "",
        asked_bytes: int | None = None,
        *,
        trace: str = "",
        orderly: bool = True,
    ) -> None:
        memory = cap.reading()
        now: dict[str, Any] = {"due_ns": loop.now_ns, "actual_ns": loop.pacer.actual_ns()}
        for event in endpoint.sign_off(**now) if orderly else ():
            ledger.write(event)
        ledger.write(events.Memory(**now, **memory))
        said: dict[str, Any] = {"outcome": outcome, "detail": detail, "phase": phase, "asked_bytes": asked_bytes}
        ledger.write(events.Ended(**now, **said, traceback=trace))

    watchdog.last_words = lambda reason: last_words("interrupted", reason, orderly=False)
    watchdog.doing = partial(_doing, thread)
    try:
        config = msgspec.convert(spec.settings, module.Config)
        loop.run_until_complete(playing.play(node, getattr(module, node.role)(node, config)))
        if written:
            written[-1].result()  # the last one too
        status = launch_spec.FINISHED
        last_words("finished")
    except BaseException as raised:
        cap.lift()
        error = root_of(raised)
        if isinstance(error, DoesNotFit):
            status = launch_spec.DOES_NOT_FIT
            last_words("does-not-fit", str(error), error.phase, error.asked_bytes)
        elif is_out_of_memory(error, cap):
            status = launch_spec.DOES_NOT_FIT
            last_words("does-not-fit", str(error), node.phase or "between computations", bytes_asked(error))
        elif isinstance(error, PeerLost):
            status = launch_spec.ABORTED
            last_words("peer-lost", str(error))
        elif isinstance(error, NoRoom):
            status = launch_spec.FAILED
            last_words("failed", str(error))
        elif isinstance(error, UserError):
            status = launch_spec.REFUSED
            last_words("refused", str(error))
        else:
            status = launch_spec.FAILED
            last_words("failed", told(error, module.__file__), trace=traceback_of(error))
    snapshots.shutdown(wait=True)
    endpoint.close()
    return status


def _seed_of(spec: LaunchSpec) -> int:
    """A stream of the node's own, the same in every run of the seed."""
    name = f"{spec.seed}:torch:{spec.algorithm}:{spec.node}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def _throw_away_step() -> None:
    """One tiny training step, so that what torch allocates once does not count as growth."""
    layer = torch.nn.Conv2d(1, 2, 3)
    optimizer = torch.optim.Adam(layer.parameters())
    loss = torch.nn.functional.cross_entropy(layer(torch.zeros(2, 1, 4, 4)).flatten(1), torch.zeros(2).long())
    torch.autograd.backward(loss)
    optimizer.step()


def _snapshot_writer(
    spec: LaunchSpec, node: Node, loop: EmulatedLoop, pool: ThreadPoolExecutor, written: list[Future[None]]
) -> Callable[[int, dict[str, StateDict], str], None]:
    folder = Path(spec.snapshot_folder)

    def write(round: int, parts: dict[str, StateDict], missing_part: str) -> None:
        if written:
            written[-1].result()  # a full disk ends the run
        while len(list(folder.glob("*.pt"))) >= MOST_SNAPSHOTS:  # the evaluator is far behind; the host waits for it
            time.sleep(SNAPSHOT_POLL_S)
        copies = {
            part: {name: tensor.detach().clone() for name, tensor in state.items()} for part, state in parts.items()
        }
        written.append(
            pool.submit(write_snapshot, folder, round, node.now(), loop.pacer.actual_ns(), copies, missing_part)
        )

    return write


def _doing(thread: ComputeThread) -> liveness.Activity | None:
    """What this node does for long: a computation, else a coroutine that does not wait."""
    run = thread.current
    if run is not None and run.started_wall_ns:  # else it is handed to the thread, which has not begun with it
        return liveness.lasting("computation", run.started_wall_ns, thread.ident)
    return liveness.main_thread()
