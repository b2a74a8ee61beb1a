"""Plays a run: prepares its data, finds out its costs, starts the processes of a timeline and watches them to its end.

Each child holds the read end of a pipe whose only writer is this process.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from emulator.clock.conductors import CLOCKS
from emulator.compute.memory import reset_peak
from emulator.errors import InternalError, MethodFailed, SplitbedError, UserError
from emulator.host import cgroups, resources
from emulator.host.liveness import SLOT_BYTES, Reporter, step_limit_s
from emulator.ledger import events
from emulator.ledger.census import Census
from emulator.ledger.files import Ledger
from emulator.network.topology import Topology
from emulator.preflight.dilation import (
    LIMIT_S,
    AlgorithmEstimate,
    DilationChoice,
    MemoryBreakdown,
    ProfilingResult,
    RunEstimate,
    choose_dilation,
)
from emulator.profiles.scenario import Scenario
from emulator.runtime import attempts
from emulator.runtime.fork_server import ForkServer
from emulator.runtime.launch_spec import LaunchSpec
from emulator.runtime.supervision import TICK_S, ChildTask, Interrupted, Supervision

STOPPING = (signal.SIGTERM, signal.SIGHUP)


class Plan(msgspec.Struct, frozen=True):
    """What is played: the same for all algorithms of a run but for ``settings``."""

    scenario: Scenario
    seed: int
    clock: str
    dilation: int | None  # None: chosen for each algorithm
    memory_cap: str  # rlimit | account
    evaluate: str  # dotted: (task, parts) -> loss and the task's metrics by name, the first of these for each client
    prepare: str  # dotted: (settings, folder) -> settings, once before the nodes start
    saved: str = ""  # dotted: a module with ``improves(task, scores, best)`` and ``save(task, parts, path)``
    save: str = "none"  # none | final | best: which of the judged models is kept, as models/ALGORITHM.pt
    step_limit_s: float | None = None  # on the host, of one computation or of a coroutine between two waits


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of a timeline. ``name``: finished, does-not-fit, refused (the user can mend it: ``UserError``),
    failed, stuck, interrupted. ``wall_s``, ``traceback`` and ``abandoned``: as in the ledger's ``Lifecycle``."""

    name: str
    detail: str
    dilation: int
    wall_s: float | None = None
    traceback: str = ""
    abandoned: list[str] = []


class Prepared(NamedTuple):
    """What is known before anything is played: warnings to show; every algorithm's settings with their defaults; the
    task as its data are prepared, and what these are (``clients_data``); how kernels are chosen (``arithmetic``)."""

    warnings: list[str]
    settings: dict[str, dict[str, Any]]
    task: dict[str, Any]
    data: Census | None
    arithmetic: dict[str, Any]


class Launcher:
    """Use as a context: the fork server lives from ``__enter__`` to ``__exit__``."""

    def __init__(self, run_folder: Path, plan: Plan, preload: list[str]) -> None:
        self._folder, self._plan = run_folder, plan
        self._fork_server = ForkServer(preload)
        self._reader, self._writer = multiprocessing.Pipe(duplex=False)
        self._stop_reason = ""
        self._task: dict[str, Any] = {}
        self._prepared: Path | None = None
        self._timelines = 0
        self._kills = cgroups.memory_kills()
        self._estimates: dict[str, AlgorithmEstimate] = {}
        self.report: Reporter = lambda _text: None  # is told what lasts long before a timeline

    def __enter__(self) -> Launcher:
        resources.allow_open_files(len(self._plan.scenario.clients))
        cgroups.check_tasks(len(self._plan.scenario.clients))
        if self._plan.clock in CLOCKS:  # else nobody's memory is measured
            reset_peak()
        self._handlers = self._take_signals()
        try:
            self._scratch = resources.Scratch()
            self._fork_server.start(self._scratch.sockets)
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._fork_server.stop()
        self._scratch.close()
        self._give_back()

    def _take_signals(self) -> dict[int, Any]:
        """The handlers before ours. What is ignored (SIGHUP under nohup) stays so; in a thread nothing can be taken."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        taken = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
        return {number: signal.signal(number, self._on_signal) for number in (*taken, signal.SIGINT)}

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stop_reason = "by Ctrl-C" if number == signal.SIGINT else f"by {signal.Signals(number).name}"

    def _start(self, target: str, spec: LaunchSpec, *more: object) -> BaseProcess:
        try:
            return self._fork_server.run(spec.node, target, spec, self._reader, self._fork_server.pid, *more)
        except EOFError:
            why = f"the fork server was ended{cgroups.for_memory(self._kills)}"
            raise SplitbedError(f"{spec.node} cannot be started: {why}") from None
        except OSError as error:
            raise SplitbedError(f"{spec.node} cannot be started: {error}") from None

    def prepare(self, modules: dict[str, tuple[str, dict[str, Any]]]) -> Prepared:
        """Check the settings of all algorithms (name -> module, settings) and prepare their data."""
        if self._prepared:
            shutil.rmtree(self._prepared, ignore_errors=True)  # a fit prepares once for each of its probes
        self._prepared = folder = self._scratch.new_folder()
        where = self._specify("", "", {}, self._scratch.folder, self._scratch.folder, snapshots=folder)
        what = "the preparation of the data"
        found = self._ask(what, "prepare_data", where, self._plan.prepare, modules)
        self._task, warnings, settings, facts, arithmetic = found
        return Prepared(warnings, settings, self._task, msgspec.convert(facts, Census) if facts else None, arithmetic)

    def set_run_folder(self, run_folder: Path) -> None:
        """Record what is played from now on in another run's folder."""
        self._folder = run_folder

    def skip_profiling(self, algorithm: str, estimate: AlgorithmEstimate) -> None:
        """Play ``algorithm`` next without profiling."""
        self._estimates[algorithm] = estimate

    def _specify(
        self, algorithm: str, module: str, settings: dict[str, Any], ledger: Path, timeline: Path, snapshots: Path
    ) -> LaunchSpec:
        """The specification that all processes of a timeline have in common."""
        heartbeats = timeline / "heartbeats"
        with resources.filling():
            heartbeats.write_bytes(bytes((len(self._plan.scenario.clients) + 3) * SLOT_BYTES))
        self._timelines += 1
        return LaunchSpec(
            node="preparation",
            role="preparation",
            number=0,
            algorithm=algorithm,
            module=module,
            evaluate=self._plan.evaluate,
            save=self._plan.save,
            saved=self._plan.saved,
            model_file=str(self._folder / "models" / f"{algorithm}.pt"),
            settings={**settings, "task": self._task},
            scenario=self._plan.scenario,
            seed=self._plan.seed,
            clock=self._plan.clock,
            dilation=1,
            memory_cap=self._plan.memory_cap,
            address=f"ipc://{self._scratch.sockets}/{self._timelines}.network",
            ledger_folder=str(ledger),
            snapshot_folder=str(snapshots),
            heartbeat_file=str(heartbeats),
            costs={},
            measured_ns={},
        )

    def estimate_run(self, modules: dict[str, tuple[str, dict[str, Any]]]) -> RunEstimate:
        """What the algorithms will take of the host, up to the first that passes ``LIMIT_S`` seconds.

        One that cannot be profiled counts nothing: playing it will say why.
        """
        seconds, choices, memory_bytes, recorded = 0.0, {}, 0, 0
        devices = Counter(client.device.name for client in self._plan.scenario.clients)
        for algorithm, (module, settings) in modules.items():
            folder = self._scratch.new_folder()
            spec = self._specify(algorithm, module, settings, folder, folder, folder)
            with contextlib.suppress(UserError, InternalError, MethodFailed):
                estimate: AlgorithmEstimate = self._profile(spec)
                self._estimates[algorithm] = estimate
                cores = cgroups.cores()
                clock = CLOCKS[self._plan.clock]
                choice = self._choose_dilation(estimate.profiled)
                dilation = clock.dilation(self._plan.dilation, choice.dilation)
                if clock.dilates:
                    choices[algorithm] = choice
                memory_bytes = max(memory_bytes, estimate.host_memory_bytes(devices))
                recorded += estimate.events
                seconds += estimate.wall_s(dilation if clock.dilates else None, cores)
            if seconds > LIMIT_S:
                break
        return RunEstimate(seconds, choices, memory_bytes, recorded)

    def _profile(self, spec: LaunchSpec, **how: Any) -> AlgorithmEstimate:
        """The estimate of an algorithm from profiling it, however long that takes."""
        what, limit_s = f"profiling of {spec.algorithm}", self._limit_s()
        estimate: AlgorithmEstimate = self._ask(what, "run_profiling", spec, limit_s=limit_s, **how)
        return estimate

    def _limit_s(self, slowest_host_ns: int = 0) -> float:
        """How long one step may take on the host."""
        return step_limit_s(self._plan.step_limit_s, slowest_host_ns / 1e9)

    def _choose_dilation(self, profiled: ProfilingResult) -> DilationChoice:
        plan = self._plan
        devices = Counter(client.device.name for client in plan.scenario.clients)
        shared_ns = Topology(plan.scenario, plan.seed).shared_delay_ns()
        quota = cgroups.quota()
        return choose_dilation(profiled, devices, cgroups.cores(), shared_ns, quota.period_ns if quota else None)

    def play(self, algorithm: str, module: str, settings: dict[str, Any], tick: Callable[[], None]) -> Outcome:
        """Profile and play one algorithm; ``tick`` several times a second."""
        plan = self._plan

        def timeline(spec: LaunchSpec, ledger: Ledger) -> Outcome:
            estimate = self._estimates.pop(algorithm, None)
            if estimate is None:
                estimate = self._profile(spec, tick=tick, report=_writer(ledger))
            profiled, choice = estimate.profiled, self._choose_dilation(estimate.profiled)
            clock, limit_s = CLOCKS[plan.clock], self._limit_s(profiled.slowest_host_ns())
            dilation, abandoned = clock.dilation(plan.dilation, choice.dilation), list[str]()
            why = choice.explain(cgroups.cores()) if clock.dilates else ""
            while True:
                known = {"costs": profiled.costs, "measured_ns": profiled.measured_ns}
                spec = msgspec.structs.replace(spec, dilation=dilation, **known)
                begun = events.Lifecycle(due_ns=0, actual_ns=0, outcome="", dilation=dilation, why=why)
                ledger.write(msgspec.structs.replace(begun, uncharged=profiled.uncharged, abandoned=abandoned))
                _write_breakdowns(ledger, estimate.breakdowns)
                may_abandon = clock.dilates and plan.dilation is None and len(abandoned) + 1 < attempts.MOST
                watch = attempts.LatenessWatch(spec, len(plan.scenario.clients)) if may_abandon else None
                supervision = Supervision(self, spec, ledger, tick, limit_s, watch)
                outcome, detail = supervision.play()
                if outcome != attempts.ABANDONED:
                    ended = Outcome(outcome, detail, dilation, supervision.wall_s, supervision.traceback)
                    return msgspec.structs.replace(ended, abandoned=abandoned)
                abandoned.append(f"at dilation {dilation} {detail}")
                attempts.set_aside(spec)
                ledger.begin_anew()
                _writer(ledger)(f"abandoned, since {abandoned[-1]}; begins again at {supervision.next_dilation}")
                dilation, where = supervision.next_dilation, Path(spec.ledger_folder)
                folder = self._scratch.new_folder()
                spec = self._specify(algorithm, module, settings, where, folder, folder)

        return self._recorded(algorithm, module, settings, timeline)

    def dry_run(self, algorithm: str, module: str, settings: dict[str, Any], tick: Callable[[], None]) -> Outcome:
        """Like ``play``, but one process foresees bytes and seconds and nothing is trained (``dryrun``)."""

        def timeline(spec: LaunchSpec, ledger: Ledger) -> Outcome:
            ledger.write(events.Lifecycle(due_ns=0, actual_ns=0, outcome=""))
            started_s = time.monotonic()
            what, report = f"the dry run of {algorithm}", _writer(ledger)
            found = self._ask(what, "run_dry", spec, tick=tick, report=report, limit_s=self._limit_s())
            breakdowns, uncharged = found
            if uncharged:
                ledger.write(events.Lifecycle(due_ns=0, actual_ns=0, outcome="", uncharged=uncharged))
            _write_breakdowns(ledger, breakdowns)
            return Outcome("finished", "", 1, time.monotonic() - started_s)

        return self._recorded(algorithm, module, settings, timeline)

    def _recorded(
        self,
        algorithm: str,
        module: str,
        settings: dict[str, Any],
        timeline: Callable[[LaunchSpec, Ledger], Outcome],
    ) -> Outcome:
        """How a timeline ended, in the ledger too."""
        timeline_folder = self._scratch.new_folder()
        ledger_folder = self._folder / "ledger" / algorithm
        ledger_folder.mkdir(parents=True)
        ledger = Ledger(ledger_folder, "supervisor")
        spec = self._specify(algorithm, module, settings, ledger_folder, timeline_folder, timeline_folder)
        try:
            outcome = timeline(spec, ledger)
        except Interrupted as interrupted:
            outcome = Outcome("interrupted", str(interrupted), 1)
        except UserError as error:
            outcome = Outcome("refused", str(error).removeprefix(f"{algorithm}: "), 1)
        except MethodFailed as error:
            outcome = Outcome("failed", str(error).removeprefix(f"{algorithm}: "), 1, None, error.traceback)
        except SplitbedError as error:
            outcome = Outcome("failed", str(error), 1)
        ended = events.Lifecycle(
            due_ns=0,
            actual_ns=0,
            outcome=outcome.name,
            detail=outcome.detail,
            dilation=outcome.dilation,
            wall_s=outcome.wall_s,
            traceback=outcome.traceback,
        )
        ledger.write(ended)
        ledger.close()
        shutil.rmtree(timeline_folder, ignore_errors=True)  # it may hold snapshots that nobody judged
        return outcome

    def _ask(
        self,
        what: str,
        target: str,
        spec: LaunchSpec,
        *more: object,
        tick: Callable[[], None] = lambda: None,
        report: Reporter | None = None,
        limit_s: float = math.inf,
    ) -> Any:
        """The answer of a child that does one thing, ``what`` in messages; one step of it may take ``limit_s``."""
        answer, theirs = multiprocessing.Pipe(duplex=False)
        process = self._start(target, spec, theirs, *more)
        theirs.close()

        def each() -> None:
            tick()
            self.check_stop()

        found = ChildTask(what, process, answer, Path(spec.heartbeat_file), limit_s).wait(each, report or self.report)
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

    def start_all(self, spec: LaunchSpec, control: Connection, done: Connection) -> Iterator[tuple[str, BaseProcess]]:
        """Start the processes of a timeline one by one: the network, then the others."""
        roles = [("network", "network"), *self.roles()]
        bound, theirs = multiprocessing.Pipe(duplex=False)
        more: dict[str, tuple[object, ...]] = {"network": (control, theirs), "evaluator": (done,)}
        by_role = {"network": "run_network", "evaluator": "run_evaluator"}
        for number, (name, role) in enumerate(roles):
            scenario = spec.scenario if role == "network" else self._plan.scenario.without_traces()
            where = msgspec.structs.replace(spec, node=name, role=role, number=number, scenario=scenario)
            self.check_stop()
            yield name, self._start(by_role.get(role, "run_node"), where, *more.get(role, ()))
            if role == "network":  # a node connects once and never again
                theirs.close()
                while not bound.poll(TICK_S):  # its end closes the pipe too
                    self.check_stop()
        bound.close()


def _writer(ledger: Ledger) -> Reporter:
    """Writes down what lasts long before the clock starts."""
    return lambda text: ledger.write(events.Lasting(due_ns=0, actual_ns=0, what=text))


def _write_breakdowns(ledger: Ledger, breakdowns: list[MemoryBreakdown]) -> None:
    for breakdown in breakdowns:
        ledger.write(
            events.MemoryEstimated(
                due_ns=0,
                actual_ns=0,
                device=breakdown.device,
                kinds=breakdown.kinds,
                during=breakdown.during.partition("(")[0].rpartition(".")[2],
                needed_bytes=breakdown.needed_bytes,
            )
        )
