"""One fork server for all benchmarks, and the timelines played on it; what comes back is their ledgers.

Real processes, started, watched and reaped by the emulator's own launcher, at dilation 1.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from algorithms import ALGORITHMS
from benchmarks.scenes import scene
from emulator.errors import SplitbedError
from emulator.ledger.events import AnyEvent, Host
from emulator.ledger.files import read_timeline
from emulator.profiles.scenario import Scenario
from emulator.runtime.launch_spec import LaunchSpec
from emulator.runtime.launcher import Launcher, Plan

PLAYERS = tuple(f"benchmarks.players.{name}" for name in ("presence", "echo", "streams", "flood", "ticks"))


class Broken(SplitbedError):
    """A timeline of a benchmark did not end well."""


class Usage(NamedTuple):
    """CPU time that processes have used so far, in seconds."""

    at_ns: int  # CLOCK_MONOTONIC
    cpu_s: dict[str, float]


class Played(NamedTuple):
    """What is left of a timeline. ``starting_ns``: when its first process was started (CLOCK_MONOTONIC)."""

    events: list[AnyEvent]
    starting_ns: int
    usage: list[Usage]  # about four times a second

    def host_busy(self) -> float:
        """Mean share of all cores that was in use, 0 to 1; 0 where the timeline was too short to tell."""
        readings = [event.busy for event in self.events if isinstance(event, Host)]
        return sum(readings) / len(readings) if readings else 0.0

    def core_share(self, process: str) -> float:
        """Share of one core that a process used, from the first reading in which it was at work to the last."""
        readings = [usage for usage in self.usage if process in usage.cpu_s]
        if len(readings) < 2 or readings[-1].at_ns == readings[0].at_ns:
            return 0.0
        used_s = readings[-1].cpu_s[process] - readings[0].cpu_s[process]
        return used_s * 1e9 / (readings[-1].at_ns - readings[0].at_ns)


class Stage(Launcher):
    """Use as a context. ``preload_s``: from the fork server's start to its first child; ``child_s``: one more."""

    def __init__(self, folder: Path) -> None:
        # No snapshot is ever written, so nothing is evaluated; the evaluator only imports the module.
        self._blank = Plan(scene("none", ()), 1, "real", 1, "rlimit", "algorithms.workload.judging.judge", "")
        super().__init__(folder, self._blank, [*ALGORITHMS.values(), "algorithms.workload.parts", *PLAYERS])
        self._starting_ns = 0
        self._watched: dict[str, psutil.Process] = {}
        self._usage: list[Usage] = []
        self.preload_s = self.child_s = 0.0

    def __enter__(self) -> Stage:
        begin_s = time.monotonic()
        super().__enter__()
        try:
            _empty_child()
            self.preload_s = time.monotonic() - begin_s
            begin_s = time.monotonic()
            _empty_child()
        except BaseException:
            self.__exit__()
            raise
        self.child_s = time.monotonic() - begin_s
        return self

    def new_folder(self, name: str) -> Path:
        """An empty folder for what a benchmark writes; it is there until all have ended."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder))

    def perform(
        self, name: str, scenario: Scenario, module: str, settings: dict[str, Any], clock: str = "real"
    ) -> Played:
        """Play ``module`` once; ``name`` names its ledger."""
        self._plan = Plan(scenario, 1, clock, 1, "rlimit", self._blank.evaluate, "")
        self._usage = []
        outcome = self.play(name, module, settings, self._read_usage)
        if outcome.name == "interrupted":
            raise KeyboardInterrupt
        if outcome.name != "finished":
            raise Broken(f"{name}: {outcome.name}: {outcome.detail}")
        return Played(read_timeline(self._folder / "ledger" / name), self._starting_ns, self._usage)

    def start_all(self, spec: LaunchSpec, control: Connection, done: Connection) -> Iterator[tuple[str, BaseProcess]]:
        self._starting_ns = time.monotonic_ns()
        self._watched = {}
        for name, process in super().start_all(spec, control, done):
            if process.pid is not None:
                self._watched[name] = psutil.Process(process.pid)
            yield name, process

    def _read_usage(self) -> None:
        cpu_s: dict[str, float] = {}
        for name, process in self._watched.items():
            with contextlib.suppress(psutil.Error):
                cpu_s[name] = sum(process.cpu_times()[:2])
        self._usage.append(Usage(time.monotonic_ns(), cpu_s))


def _empty_child() -> None:
    child = multiprocessing.get_context("forkserver").Process(target=time.monotonic)
    child.start()
    child.join()
