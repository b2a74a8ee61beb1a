"""The configuration of a run: what a command line, an experiment file and ``play`` say, converted and checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import msgspec

from algorithms import registry
from algorithms.training.settings import DEFAULT_ROUNDS, DEFAULT_STOP_AFTER_S, MOST_ROUNDS
from algorithms.workload.knobs import Knob, knob, knobs_of
from algorithms.workload.task import Task
from emulator.errors import UserError
from emulator.host.liveness import STEP_FACTOR, STEP_LEAST_S
from emulator.validation import unknown_key

DRY_RUN = "dry-run"  # what stands for the clock in its record
EMPTY = "it is empty (a variable that is not set?): give a value, or leave it out"
HELD: dict[str, Any] = {"not_in": ("vary", "experiment")}
NO_FIGURE: dict[str, Any] = {**HELD, "counts_in": "nothing"}


def dilation_of(text: str) -> int | None:
    """``--dilation`` as a whole number from 1, or None for auto."""
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UserError(f"--dilation {text}: say auto or a whole number from 1")
    return int(text)


def step_limit_s(text: str) -> float:
    """``--step-limit`` in seconds, infinite for none."""
    if text == "none":
        return math.inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds < math.inf:
        raise UserError(f"--step-limit {text}: say seconds of this host, from 1, or none")
    return seconds


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run's options, and in ``task`` what is said of the knobs of ``Task``; None: not said.

    What an experiment file can say (it does not have ``not_in="experiment"``) is None where it is not said.
    """

    profile: Annotated[
        str, knob("a shipped scenario, or a scenario's file", metavar="NAME|FILE", counts_in="scenario", **HELD)
    ]
    experiment: Annotated[
        str | None,
        knob(
            "a shipped experiment, or its file: workload and settings of a paper",
            metavar="NAME|FILE",
            counts_in="setting",
            **HELD,
        ),
    ] = None
    algorithm: Annotated[str | None, knob(registry.HELP, metavar="all|A,B", counts_in="method", not_in=("vary",))] = (
        None
    )
    rounds: Annotated[
        int | None,
        knob(
            f"so many rounds for every algorithm; default: up to {DEFAULT_ROUNDS}, none starting after"
            f" {DEFAULT_STOP_AFTER_S:.0f} emulated seconds",
            counts_in="setting",
        ),
    ] = None
    clients: Annotated[int | None, knob("so many clients, in the scenario's proportions", counts_in="setting")] = None
    seed: Annotated[
        int | None, knob("of everything that is drawn (default 1)", counts_in="setting", not_in=("vary",))
    ] = None
    clock: Annotated[
        Literal["real", "virtual"] | None,
        knob(
            "real (default): emulated time is wall time; virtual: the same timeline as fast as the host computes,"
            " repeatable",
            counts_in="clock",
            **HELD,
        ),
    ] = None
    dry_run: Annotated[
        bool,
        knob(
            "foresee bytes and seconds without training: each distinct computation is carried out once",
            counts_in="clock",
            **HELD,
        ),
    ] = False
    dilation: Annotated[
        int | None,
        knob(
            "slow the real clock N times; auto: as much as this host needs, usually 1",
            metavar="N|auto",
            counts_in="dilation",
            parse=dilation_of,
            **HELD,
        ),
    ] = None
    task: dict[str, Any] = {}
    options: Annotated[
        tuple[str, ...],
        knob(
            "an option of an algorithm, or of all that have it, e.g. fsl-sage:l=10, q_per_round=true",
            option="--set",
            metavar="[ALGORITHM:]KEY=VALUE",
            counts_in="setting",
            **HELD,
        ),
    ] = ()
    compute: Annotated[
        Literal["counted", "measured"],
        knob(
            "where durations of computations come from: counted FLOPs, bytes and operations (default), or this host's"
            " CPU time times the ratio of speeds",
            counts_in="compute",
            **HELD,
        ),
    ] = "counted"
    host_device: Annotated[
        str | None,
        knob(
            "this host's device profile, for --compute measured ('run.py calibrate' writes one)",
            metavar="NAME|FILE",
            counts_in="compute",
            **HELD,
        ),
    ] = None
    memory_cap: Annotated[
        Literal["rlimit", "account"] | None,
        knob(
            "rlimit (default): a client that passes its budget is stopped; account: it goes on, and the result says"
            " that it would not fit",
            counts_in="memory",
            **HELD,
        ),
    ] = None
    force: Annotated[bool, knob("play what will take over an hour, or what this host is too slow for", **NO_FIGURE)] = (
        False
    )
    step_limit: Annotated[
        float | None,
        knob(
            "end a run in which one computation, or a coroutine that does not wait, lasts longer on this host; default:"
            f" {STEP_LEAST_S:.0f}, or {STEP_FACTOR:.0f} times the longest in profiling",
            metavar="SECONDS|none",
            parse=step_limit_s,
            **NO_FIGURE,
        ),
    ] = None
    save: Annotated[
        Literal["none", "final", "best"],
        knob("keep each method's last or best judged model: models/METHOD.pt of the run's folder", **NO_FIGURE),
    ] = "none"
    out: Annotated[
        str | None, knob("the run's folder; default: runs/<time>-<profile>-<algorithms>", metavar="DIR", **NO_FIGURE)
    ] = None

    @property
    def played_on(self) -> str:
        """The clock, or what stands for it in a record."""
        return DRY_RUN if self.dry_run else self.clock or "real"

    @property
    def cap(self) -> str:
        """What happens at a client's budget: a dry run has no client that could be stopped."""
        return "account" if self.dry_run else self.memory_cap or "rlimit"

    @property
    def how(self) -> dict[str, Any]:
        """What a plan and a manifest take of it."""
        return {"clock": self.played_on, "seed": self.seed, "dilation": self.dilation, "memory_cap": self.cap}

    @classmethod
    def knobs(cls) -> dict[str, Knob]:
        """By name, those of the task in its place."""
        found: dict[str, Knob] = {}
        for name in cls.__struct_fields__:
            found |= knobs_of(Task) if name == "task" else {name: knobs_of(cls)[name]}
        return found

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """The configuration that says this, by the names of knobs: texts, or values from Python; None: not said.

        UserError, one line with the flag, for the first that cannot be."""
        known = cls.knobs()
        own: dict[str, Any] = {}
        task: dict[str, Any] = {}
        for name, value in said.items():
            if name not in known:
                raise UserError(f"{name}: {unknown_key(name, known)}")
            if value == "":
                raise UserError(f"{known[name].flag}: {EMPTY}")
            if value is not None:
                (task if name in knobs_of(Task) else own)[name] = known[name].value_of(value)
        config = cls(**own, task=task)
        config.check()
        return config

    def words(self) -> list[str]:
        """The command line that says the same."""
        found = []
        for name, its in self.knobs().items():
            value: Any = self.task.get(name) if name in knobs_of(Task) else getattr(self, name)
            for each in value if its.is_list else (value,):
                if each is True:
                    found.append(its.flag)
                elif each is not None and (name in self.task or each != its.default):
                    found.append(f"{its.flag}={'none' if each == math.inf else each}")
        return found

    def check(self) -> None:
        """UserError for what cannot be, alone or together."""
        from emulator.clock.conductors import CLOCKS

        if self.rounds is not None and not 1 <= self.rounds <= MOST_ROUNDS:
            raise UserError(f"--rounds {self.rounds}: say a number from 1 to {MOST_ROUNDS}")
        if self.dry_run and self.clock:
            raise UserError(f"--clock {self.clock}: --dry-run keeps to no clock; say one of them")
        if self.dry_run and self.dilation is not None:
            raise UserError(
                f"--dilation {self.dilation}: a dry run keeps to no clock that could be slowed; leave it out"
            )
        if self.dry_run and self.save != "none":
            raise UserError(f"--save {self.save}: a dry run trains no model that could be kept; leave it out")
        if self.dilation is not None and not CLOCKS[self.played_on].dilates:
            raise UserError(f"--dilation {self.dilation}: it slows the real clock; leave it out, or take --clock real")
        if self.memory_cap == "rlimit" and self.dry_run:
            raise UserError("--memory-cap rlimit: a dry run has no client that could be stopped; leave it out")
        if self.compute == "measured" and self.host_device is None:
            raise UserError(
                "--compute measured: needs this host's profile: say --host-device FILE, which 'run.py calibrate' makes"
            )
        if self.compute != "measured" and self.host_device is not None:
            raise UserError(f"--host-device {self.host_device}: it is for --compute measured; say both or none")
