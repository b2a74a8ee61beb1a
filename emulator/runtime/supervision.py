"""Watches the processes of a timeline and reaps them all, whatever happens.

A child's end is seen at once by its sentinel, a stopped one by its signs of life. A slow one is waited for and told of.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from emulator.errors import SplitbedError
from emulator.host import cgroups
from emulator.host.liveness import (
    STEP_LEAST_S,
    DurationReporter,
    LivenessMonitor,
    LivenessReading,
    Reporter,
    describe_activity,
    longest,
)
from emulator.host.load import HostLoad
from emulator.ledger import events
from emulator.ledger.files import Ledger, Tail
from emulator.runtime import launch_spec, postmortem
from emulator.runtime.attempts import ABANDONED, LatenessWatch
from emulator.runtime.launch_spec import LaunchSpec

TICK_S = 0.25
GRACE_S = 2.0  # from the end of a run to the kill of what is still there
LAST_LINES_S = 30.0  # for the network process to write down what is under way, where the run was not broken off
TOLD_EARLY_S = 10.0  # of what comes before a timeline, where nothing else is shown
DEADLOCK_AFTER_S = 0.5  # a process that ended is the better explanation, and is seen by then
FORK_SERVER_GONE = 255  # what multiprocessing makes of a child's status that nobody can report


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM."""


class Starter(Protocol):
    """What starts the processes, and knows whether the user wants an end."""

    def start_all(
        self, spec: LaunchSpec, control: Connection, done: Connection
    ) -> Iterator[tuple[str, BaseProcess]]: ...
    def check_stop(self) -> None: ...


def liveness_problem(signs: Sequence[LivenessReading], limit_s: float) -> str:
    """What is wrong with processes that show such signs; "" where nothing is."""
    for sign in signs:
        if sign.silent_s:
            return f"{sign.name} shows no sign of life for {sign.silent_s:.0f} s (stopped, or frozen)"
        if sign.doing and sign.doing.for_s > limit_s:
            return (
                f"{describe_activity(sign.name, sign.doing)}; a step may take {limit_s:.0f} s of this host: where it"
                " is no endless loop, say a longer --step-limit, or none"
            )
    return ""


class Supervision:
    """One algorithm's processes, from start to the last reaped; ``starter`` starts them.

    ``limit_s``: how long one step may take on the host; ``watch``: what abandons it where the host is too slow.
    """

    def __init__(
        self,
        starter: Starter,
        spec: LaunchSpec,
        ledger: Ledger,
        tick: Callable[[], None],
        limit_s: float = STEP_LEAST_S,
        watch: LatenessWatch | None = None,
    ) -> None:
        self._starter, self._spec, self._ledger, self._tick = starter, spec, ledger, tick
        self._limit_s, self._watched = limit_s, watch
        self.next_dilation = 0  # where the attempt was abandoned
        self._kills = cgroups.memory_kills()
        self._signs, self._teller = LivenessMonitor(Path(spec.heartbeat_file)), DurationReporter()
        self._control, self._theirs = multiprocessing.Pipe()
        self._done, self._evaluator_done = multiprocessing.Pipe()
        self._load = HostLoad()
        self._started_wall_ns: int | None = None
        self.wall_s: float | None = None  # from the start of the clock to the last node's leave
        self._processes: dict[str, BaseProcess] = {}
        self._deadlock = ("", 0.0)
        self._broken = ""
        self.traceback = ""  # of the method's error that ended it
        self._lost: dict[str, float] = {}  # connections that broke, and when

    def play(self) -> tuple[str, str]:
        """Outcome and its explanation."""
        outcome, detail = "failed", "the supervisor failed"
        try:
            for name, process in self._starter.start_all(self._spec, self._theirs, self._evaluator_done):
                self._processes[name] = process
                self._tick()
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

    def _describe_exit(self, process: BaseProcess) -> str:
        return describe_exit(process, self._kills)

    def _nodes(self) -> dict[str, BaseProcess]:
        return {name: p for name, p in self._processes.items() if name not in ("network", "evaluator")}

    def _watch(self) -> tuple[str, str]:
        """Until all nodes have finished, or one thing goes wrong."""
        waiting = dict(self._nodes())
        while waiting:
            sentinels = [p.sentinel for p in self._processes.values() if p.exitcode is None]
            connection.wait([*sentinels, self._control], TICK_S)
            self._tick()
            self._starter.check_stop()
            self._take_news()
            for name, process in list(waiting.items()):
                if process.exitcode is not None:
                    del waiting[name]
                    self._tell("gone", name)
                    if process.exitcode != launch_spec.FINISHED:
                        return self._verdict(name, process)
            for name in ("network", "evaluator"):
                if self._processes[name].exitcode is not None:
                    self._take_news()
                    return "failed", self._broken or f"the {name} process {self._describe_exit(self._processes[name])}"
            words, since_s = self._deadlock
            if words and time.monotonic() - since_s > DEADLOCK_AFTER_S:
                return "failed", f"deadlock: {words}"
            for name, since_s in self._lost.items():
                if name in waiting and time.monotonic() - since_s > GRACE_S:  # its end would have been seen
                    return "failed", f"the connection between {name} and the network broke"
            if stuck := self._stuck():
                return "stuck", stuck
            if self._watched and self._started_wall_ns and (late := self._watched.look(self._processes)):
                dilation, cores = self._spec.dilation, cgroups.cores()
                self.next_dilation = self._watched.next_dilation(dilation, self._processes, cores)
                return ABANDONED, late
            self._note_load()
        self._take_news()
        return "finished", ""

    def _verdict(self, name: str, process: BaseProcess) -> tuple[str, str]:
        ended = next((e for e in reversed(self._events(name)) if isinstance(e, events.Ended)), None)
        words = ended.detail if ended else ""
        folder = Path(self._spec.ledger_folder)
        struck = postmortem.read_crash(Path(self._spec.snapshot_folder), name)
        if ran := postmortem.ran_out(
            -(process.exitcode or 0), struck, self._events(name), self._memory_estimate_of(name)
        ):
            postmortem.speak_for(folder, name, ran)
            return "does-not-fit", f"{name}: {ran.words}"
        match process.exitcode:
            case launch_spec.DOES_NOT_FIT:
                return "does-not-fit", f"{name}: {words}"
            case launch_spec.REFUSED:
                return "refused", words
            case launch_spec.FAILED if ended and words:
                self.traceback = ended.traceback
                return "failed", f"{name}: {words}"
            case _:
                where = f" in {struck.function} ({struck.line})" if struck and struck.function else ""
                return "failed", f"{name} {self._describe_exit(process)}{where}{': ' + words if words else ''}"

    def _memory_estimate_of(self, name: str) -> events.MemoryEstimated | None:
        """The account of a client of its kind of device, as it was written before the nodes began."""
        device = next((client.device.name for client in self._spec.scenario.clients if client.name == name), "")
        accounts = [event for event in self._events("supervisor") if isinstance(event, events.MemoryEstimated)]
        return next((account for account in accounts if account.device == device), None)

    def _events(self, name: str) -> list[events.AnyEvent]:
        return Tail(Path(self._spec.ledger_folder) / f"{name}.jsonl").read()

    def _take_news(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while self._control.poll():
                word, argument = self._control.recv()
                if word == "started":
                    self._started_wall_ns = int(argument)
                elif word == "ended" and self._started_wall_ns is not None:
                    self.wall_s = (int(argument) - self._started_wall_ns) / 1e9
                elif word == "lost":
                    self._lost.setdefault(argument, time.monotonic())
                elif word == "broken":
                    self._broken = f"the network process: {argument}"
                elif word == "deadlock":
                    self._deadlock = argument, time.monotonic()

    def _stuck(self) -> str:
        """What is wrong with a process, by its signs of life; what lasts long is written down."""
        signs = list(self._signs.look(self._processes))
        found = liveness_problem(signs, self._limit_s)
        slow = longest(signs)
        if slow and slow.doing and self._teller.is_news(slow.doing.where, slow.doing.for_s) and not found:
            now_ns = self._host_now_ns()
            self._ledger.write(
                events.Lasting(due_ns=now_ns, actual_ns=now_ns, what=describe_activity(slow.name, slow.doing))
            )
        return found

    def _host_now_ns(self) -> int:
        """Wall time since the start, divided by the dilation; 0 before it."""
        if self._started_wall_ns is None:
            return 0
        return (time.monotonic_ns() - self._started_wall_ns) // self._spec.dilation

    def _note_load(self) -> None:
        reading = self._load.read()
        if reading is not None and self._started_wall_ns is not None:
            now_ns = self._host_now_ns()
            self._ledger.write(events.Host(due_ns=now_ns, actual_ns=now_ns, **reading._asdict()))

    def _tell(self, order: str, argument: str) -> None:
        with contextlib.suppress(OSError):
            self._control.send((order, argument))

    def _end_nodes(self, outcome: str, detail: str) -> None:
        """End the nodes, then the network."""
        if outcome != "finished":
            short = f"{detail.partition(':')[0]} failed" if self.traceback else detail  # a line of each node's
            self._tell("abort", f"the run ends {short}" if outcome == "interrupted" else f"the run ends: {short}")
        deadline_s = time.monotonic() + GRACE_S
        for process in self._nodes().values():
            _end(process, deadline_s)
        self._tell("close", "")
        if "network" in self._processes:
            grace_s = LAST_LINES_S if outcome in ("finished", "does-not-fit") else GRACE_S
            _end(self._processes["network"], time.monotonic() + grace_s)

    def _catch_up(self) -> tuple[str, str] | None:
        """Until the evaluator has judged the last snapshot; outcome and explanation where it does not."""
        with contextlib.suppress(OSError):
            self._done.send("no more")
        evaluator = self._processes["evaluator"]
        while evaluator.exitcode is None:
            connection.wait([evaluator.sentinel], TICK_S)
            self._tick()
            self._starter.check_stop()
            if stuck := self._stuck():
                return "stuck", stuck
        return ("failed", f"the evaluator process {self._describe_exit(evaluator)}") if evaluator.exitcode else None


class ChildTask:
    """A child that does one thing before or instead of a timeline, and answers. ``what``: its name in messages."""

    def __init__(self, what: str, process: BaseProcess, answer: Connection, beats: Path, limit_s: float) -> None:
        self._what, self._process, self._answer, self._limit_s = what, process, answer, limit_s
        self._kills = cgroups.memory_kills()
        self._watch, self._teller, self._begun_s = (
            LivenessMonitor(beats),
            DurationReporter(TOLD_EARLY_S),
            time.monotonic(),
        )

    def wait(self, each: Callable[[], None], report: Reporter) -> Any:
        """Its answer; SplitbedError where it ends without one, or is stuck. ``each`` is called several times a second,
        and may raise; what lasts is reported."""
        try:
            while not self._answer.poll(TICK_S):
                each()
                self._look(report)
            each()
            return self._answer.recv()
        except EOFError:
            self._process.join(GRACE_S)
            raise SplitbedError(f"{self._what} {describe_exit(self._process, self._kills)}") from None
        except BaseException:
            self._process.kill()
            raise
        finally:
            self._process.join(GRACE_S)
            self._process.kill()

    def _look(self, report: Reporter) -> None:
        signs = list(self._watch.look({self._what: self._process}))
        if found := liveness_problem(signs, self._limit_s):
            raise SplitbedError(found)
        lasts_s = time.monotonic() - self._begun_s
        if self._teller.is_news("", lasts_s):
            doing = signs[0].doing if signs else None
            report(f"{self._what}: {lasts_s:.0f} s so far{f', now in {doing.where}' if doing and doing.where else ''}")


def _end(process: BaseProcess, deadline_s: float) -> None:
    """Wait for a process until the deadline, then kill it; SIGKILL ends a stopped one too."""
    process.join(max(deadline_s - time.monotonic(), 0.0))
    if process.exitcode is None:
        process.kill()
        process.join(5.0)


def describe_exit(process: BaseProcess, kills: int | None = None) -> str:
    """How a process ended, in words. ``kills``: how many the kernel had killed for memory when it began."""
    code = process.exitcode
    if code == FORK_SERVER_GONE:
        return f"is lost: the fork server was ended{cgroups.for_memory(kills)}"
    if code == -signal.SIGKILL and (why := cgroups.for_memory(kills)):
        return f"was ended{why}"
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"
