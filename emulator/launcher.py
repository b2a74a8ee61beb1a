"""Starts the processes of a timeline, watches them, and reaps them all, whatever happens.

Children come from a fork server that has preloaded torch and the algorithms. It is started from the main thread (the
kernel's parent-death signal goes by thread). Each child holds the read end of a pipe whose only writer is this
process. A child's end is seen at once by its sentinel, a stopped one by its heartbeat.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec

from emulator import child
from emulator import ledger as events
from emulator.child import HEARTBEAT_BYTES, Placement
from emulator.coordinator import CLOCKS
from emulator.dilation import choose
from emulator.errors import SplitbedError, UserError
from emulator.hostload import HostLoad
from emulator.ledger import Ledger, Tail
from emulator.preload import SUPERVISOR_VARIABLE
from emulator.profiles import Scenario

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
TICK_S = 0.25
SILENT_AFTER_S = 5.0  # without a heartbeat: ten beats
GRACE_S = 2.0  # from the end of a run to the kill of what is still there
REHEARSAL_LIMIT_S = 120.0
DEADLOCK_AFTER_S = 0.5  # a process that ended is the better explanation, and is seen by then
BIND_LIMIT_S = 30.0
STUCK_FACTOR, STUCK_LEAST_S = 50.0, 60.0
FORK_SERVER_GONE = 255  # what multiprocessing makes of a child's status that nobody can report


class Plan(msgspec.Struct, frozen=True):
    """What is played: the same for all algorithms of a run but for ``settings``."""

    scenario: Scenario
    seed: int
    clock: str
    dilation: int | None  # None: chosen for each algorithm
    evaluate: str  # dotted: (task, parts) -> (accuracy, loss)
    prepare: str  # dotted: (settings, folder) -> settings, once before the nodes start


class Ending(msgspec.Struct, frozen=True):
    """How a timeline ended. ``outcome``: finished, does-not-fit, failed, stuck, interrupted."""

    outcome: str
    detail: str
    dilation: int


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM."""


class Launcher:
    """Use as a context: the fork server lives from ``__enter__`` to ``__exit__``."""

    def __init__(self, run_folder: Path, plan: Plan, preload: list[str]) -> None:
        self._folder, self._plan = run_folder, plan
        self._context = multiprocessing.get_context("forkserver")
        os.environ |= dict.fromkeys(THREAD_VARIABLES, "1") | {SUPERVISOR_VARIABLE: str(os.getpid())}
        # The fork server takes over neither sys.path nor, when a preload cannot be found, says so.
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        mine = ("emulator.worker", "emulator.network", "emulator.rehearsal")
        late = ("torch._dynamo", "numpy.random")  # torch imports them when the first optimizer is made
        self._context.set_forkserver_preload(["emulator.preload", *mine, *late, *preload, "emulator.preloaded"])
        self._reader, self._writer = multiprocessing.Pipe(duplex=False)
        self._stop_reason = ""
        self._task: dict[str, Any] = {}

    def __enter__(self) -> Launcher:
        self._handlers = {signal.SIGTERM: signal.signal(signal.SIGTERM, self._on_signal)}
        # What is ignored stays so in a new program: Ctrl-C reaches all processes of a terminal, we alone act on it.
        self._handlers[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        forkserver.ensure_running()
        signal.signal(signal.SIGINT, self._on_signal)
        self._server_pid = int(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
        self._scratch = Path(tempfile.mkdtemp(prefix="splitbed-"))
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._server_pid, signal.SIGKILL)  # it has nothing to tidy up
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        shutil.rmtree(self._scratch, ignore_errors=True)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stop_reason = "interrupted" if number == signal.SIGINT else "terminated"

    def _start(self, target: Callable[..., None], placement: Placement, *more: object) -> BaseProcess:
        arguments = (placement, self._reader, self._server_pid, *more)
        process = self._context.Process(target=target, args=arguments, name=placement.node, daemon=True)
        try:
            process.start()
        except (OSError, EOFError) as error:
            raise SplitbedError(f"{placement.node} cannot be started: {error or 'the fork server was ended'}") from None
        return process

    def prepare(self, modules: dict[str, tuple[str, dict[str, Any]]]) -> list[str]:
        """Check the settings of all algorithms (name -> module, settings) and prepare their data; warnings to show."""
        folder = self._scratch / "data"
        folder.mkdir()
        where = self._placement("", "", {}, self._scratch, self._scratch, snapshots=folder)
        self._task, warnings = self._ask(child.prepare_data, where, lambda: None, self._plan.prepare, modules)
        return list(warnings)

    def _placement(
        self, algorithm: str, module: str, settings: dict[str, Any], ledger: Path, timeline: Path, snapshots: Path
    ) -> Placement:
        """What all processes of a timeline are told."""
        heartbeats = timeline / "heartbeats"
        heartbeats.write_bytes(bytes((len(self._plan.scenario.clients) + 3) * HEARTBEAT_BYTES))
        return Placement(
            node="preparation",
            role="preparation",
            number=0,
            algorithm=algorithm,
            module=module,
            evaluate=self._plan.evaluate,
            settings={**settings, "task": self._task},
            scenario=self._plan.scenario,
            seed=self._plan.seed,
            clock=self._plan.clock,
            dilation=1,
            address=f"ipc://{timeline}/network",
            ledger_folder=str(ledger),
            snapshot_folder=str(snapshots),
            heartbeat_file=str(heartbeats),
            costs={},
            stuck_after_s=STUCK_LEAST_S,
        )

    def play(
        self, algorithm: str, module: str, settings: dict[str, Any], begin: Callable[[], None], tick: Callable[[], None]
    ) -> Ending:
        """Rehearse and play one algorithm; ``begin`` when its ledger begins, ``tick`` several times a second."""
        plan = self._plan
        timeline = Path(tempfile.mkdtemp(dir=self._scratch))  # mode 0700
        ledger_folder = self._folder / "ledger" / algorithm
        ledger_folder.mkdir(parents=True)
        ledger = Ledger(ledger_folder, "supervisor")
        begin()
        placement = self._placement(algorithm, module, settings, ledger_folder, timeline, timeline)
        try:
            rehearsed = self._ask(child.run_rehearsal, placement, tick)
            devices = Counter(client.device.name for client in plan.scenario.clients)
            choice = choose(rehearsed, devices, len(os.sched_getaffinity(0)))
            placement = msgspec.structs.replace(
                placement,
                dilation=CLOCKS[plan.clock].dilation(plan.dilation, choice.dilation),
                costs=rehearsed.costs,
                stuck_after_s=max(STUCK_LEAST_S, STUCK_FACTOR * rehearsed.slowest_host_ns() / 1e9),
            )
            ledger.write(events.Timeline(due_ns=0, actual_ns=0, outcome="", dilation=placement.dilation))
            outcome, detail = Timeline(self, placement, ledger, tick).play()
        except Interrupted as interrupted:
            outcome, detail = "interrupted", str(interrupted)
        except UserError:
            raise
        except SplitbedError as error:
            outcome, detail = "failed", str(error)
        ledger.write(
            events.Timeline(due_ns=0, actual_ns=0, outcome=outcome, detail=detail, dilation=placement.dilation)
        )
        ledger.close()
        return Ending(outcome, detail, placement.dilation)

    def _ask(self, target: Callable[..., None], placement: Placement, tick: Callable[[], None], *more: object) -> Any:
        """The answer of a child that does one thing."""
        answer, theirs = multiprocessing.Pipe(duplex=False)
        process = self._start(target, placement, theirs, *more)
        theirs.close()
        try:
            deadline_s = time.monotonic() + REHEARSAL_LIMIT_S
            while not answer.poll(TICK_S):
                tick()
                self.check_stop()
                if time.monotonic() > deadline_s:
                    raise SplitbedError(
                        f"{placement.node} of {placement.algorithm} took over {REHEARSAL_LIMIT_S:.0f} s"
                    )
            self.check_stop()
            found = answer.recv()
        except EOFError:
            process.join(GRACE_S)
            raise SplitbedError(f"{placement.node} of {placement.algorithm} {_how(process)}") from None
        finally:
            process.join(GRACE_S)
            process.kill()
        if isinstance(found, Exception):
            raise found
        return found

    def check_stop(self) -> None:
        if self._stop_reason:
            raise Interrupted(self._stop_reason)

    def roles(self) -> list[tuple[str, str]]:
        """Names and roles of all processes that connect to the network, in the order in which they start."""
        scenario = self._plan.scenario
        clients = [(client.name, "client") for client in scenario.clients]
        return [("evaluator", "evaluator"), (scenario.server.name, "server"), *clients]

    def start_all(
        self, placement: Placement, control: Connection, done: Connection
    ) -> Iterator[tuple[str, BaseProcess]]:
        """Start the processes of a timeline one by one: the network, then the others."""
        roles = [("network", "network"), *self.roles()]
        bound, theirs = multiprocessing.Pipe(duplex=False)
        more: dict[str, tuple[object, ...]] = {"network": (control, theirs), "evaluator": (done,)}
        targets: dict[str, Callable[..., None]] = {"network": child.run_network, "evaluator": child.run_evaluator}
        for number, (name, role) in enumerate(roles):
            where = msgspec.structs.replace(placement, node=name, role=role, number=number)
            self.check_stop()
            yield name, self._start(targets.get(role, child.run_node), where, *more.get(role, ()))
            if role == "network":  # a node connects once and never again
                theirs.close()
                bound.poll(BIND_LIMIT_S)
        bound.close()


class Timeline:
    """One algorithm's processes, from start to the last reaped."""

    def __init__(self, launcher: Launcher, placement: Placement, ledger: Ledger, tick: Callable[[], None]) -> None:
        self._launcher, self._placement, self._ledger, self._tick = launcher, placement, ledger, tick
        self._control, self._theirs = multiprocessing.Pipe()
        self._done, self._evaluator_done = multiprocessing.Pipe()
        self._load = HostLoad()
        self._started_wall_ns: int | None = None
        self._started_s = time.monotonic()
        self._processes: dict[str, BaseProcess] = {}
        self._deadlock = ("", 0.0)
        self._broken = ""
        self._lost: dict[str, float] = {}  # connections that broke, and when

    def play(self) -> tuple[str, str]:
        """Outcome and its explanation."""
        outcome, detail = "failed", "the supervisor failed"
        try:
            for name, process in self._launcher.start_all(self._placement, self._theirs, self._evaluator_done):
                self._processes[name] = process
            self._theirs.close()
            self._evaluator_done.close()
            outcome, detail = self._watch()
            self._end_nodes(outcome, detail)
            if outcome in ("finished", "does-not-fit"):
                outcome, detail = self._catch_up() or (outcome, detail)
        except Interrupted as interrupted:
            outcome, detail = "interrupted", str(interrupted)
        finally:
            self._end_nodes(outcome, detail)
            for process in self._processes.values():
                _end(process, time.monotonic())
            self._control.close()
            self._done.close()
        return outcome, detail

    def _nodes(self) -> dict[str, BaseProcess]:
        return {name: p for name, p in self._processes.items() if name not in ("network", "evaluator")}

    def _watch(self) -> tuple[str, str]:
        """Until all nodes have finished, or one thing goes wrong."""
        waiting = dict(self._nodes())
        while waiting:
            sentinels = [p.sentinel for p in self._processes.values() if p.exitcode is None]
            connection.wait([*sentinels, self._control], TICK_S)
            self._tick()
            self._launcher.check_stop()
            self._take_news()
            for name in ("network", "evaluator"):
                if self._processes[name].exitcode is not None:
                    return "failed", self._broken or f"the {name} process {_how(self._processes[name])}"
            for name, process in list(waiting.items()):
                if process.exitcode is not None:
                    del waiting[name]
                    self._tell("gone", name)
                    if process.exitcode != child.FINISHED:
                        return self._verdict(name, process)
            words, since_s = self._deadlock
            if words and time.monotonic() - since_s > DEADLOCK_AFTER_S:
                return "failed", f"deadlock: {words}"
            for name, since_s in self._lost.items():
                if name in waiting and time.monotonic() - since_s > GRACE_S:  # its end would have been seen
                    return "failed", f"the connection between {name} and the network broke"
            silent = self._silent()
            if silent:
                return self._stopped(silent)
            self._note_load()
        return "finished", ""

    def _stopped(self, name: str) -> tuple[str, str]:
        return "stuck", f"{name} shows no sign of life for {SILENT_AFTER_S:.0f} s (stopped, or starved of CPU)"

    def _verdict(self, name: str, process: BaseProcess) -> tuple[str, str]:
        ended = next((e for e in reversed(self._events(name)) if isinstance(e, events.Ended)), None)
        words = ended.detail if ended else ""
        match process.exitcode:
            case child.DOES_NOT_FIT:
                return "does-not-fit", f"{name}: {words}"
            case child.STUCK:
                return "stuck", f"{name}: {words}"
            case _:
                return "failed", f"{name} {_how(process)}{': ' + words if words else ''}"

    def _events(self, name: str) -> list[events.AnyEvent]:
        return Tail(Path(self._placement.ledger_folder) / f"{name}.jsonl").read()

    def _take_news(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while self._control.poll():
                word, argument = self._control.recv()
                if word == "started":
                    self._started_wall_ns = int(argument)
                elif word == "lost":
                    self._lost.setdefault(argument, time.monotonic())
                elif word == "broken":
                    self._broken = f"the network process: {argument}"
                elif word == "deadlock":
                    self._deadlock = argument, time.monotonic()

    def _silent(self) -> str:
        """A node whose heart has stopped beating."""
        if time.monotonic() - self._started_s < 2 * SILENT_AFTER_S:
            return ""  # some are still starting
        beats = Path(self._placement.heartbeat_file).read_bytes()
        for number, (name, process) in enumerate(self._processes.items()):
            beat = int.from_bytes(beats[number * HEARTBEAT_BYTES : (number + 1) * HEARTBEAT_BYTES], "little")
            if process.exitcode is None and time.monotonic_ns() - beat > SILENT_AFTER_S * 1e9:
                return name
        return ""

    def _note_load(self) -> None:
        reading = self._load.read()
        if reading is not None and self._started_wall_ns is not None:
            now_ns = (time.monotonic_ns() - self._started_wall_ns) // self._placement.dilation
            busy, steal, pressure = reading
            self._ledger.write(events.Host(due_ns=now_ns, actual_ns=now_ns, busy=busy, steal=steal, pressure=pressure))

    def _tell(self, order: str, argument: str) -> None:
        with contextlib.suppress(OSError):
            self._control.send((order, argument))

    def _end_nodes(self, outcome: str, detail: str) -> None:
        """End the nodes, then the network."""
        if outcome != "finished":
            self._tell("abort", f"the run ends: {detail}")
        deadline_s = time.monotonic() + GRACE_S
        for process in self._nodes().values():
            _end(process, deadline_s)
        self._tell("close", "")
        if "network" in self._processes:
            _end(self._processes["network"], time.monotonic() + GRACE_S)

    def _catch_up(self) -> tuple[str, str] | None:
        """Until the evaluator has judged the last snapshot; outcome and explanation where it does not."""
        with contextlib.suppress(OSError):
            self._done.send("no more")
        evaluator = self._processes["evaluator"]
        while evaluator.exitcode is None:
            connection.wait([evaluator.sentinel], TICK_S)
            self._tick()
            self._launcher.check_stop()
            if self._silent():
                return self._stopped("evaluator")
        return ("failed", f"the evaluator process {_how(evaluator)}") if evaluator.exitcode else None


def _end(process: BaseProcess, deadline_s: float) -> None:
    """Wait for a process until the deadline, then kill it; SIGKILL ends a stopped one too."""
    process.join(max(deadline_s - time.monotonic(), 0.0))
    if process.exitcode is None:
        process.kill()
        process.join(5.0)


def _how(process: BaseProcess) -> str:
    code = process.exitcode
    if code == FORK_SERVER_GONE:
        return "is lost: the fork server was ended"
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"
