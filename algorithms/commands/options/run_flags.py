"""The command line of a run, made from the knobs of its configuration. Nothing here imports torch by itself."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, get_args

from algorithms.commands.options.flags import Flags
from algorithms.experiments.run_config import NO_FIGURE, RunConfig
from algorithms.workload.knobs import Knob, knob
from emulator.errors import UserError
from emulator.tables.run import listed

if TYPE_CHECKING:
    from emulator.profiles.scenario import Scenario


REPLACED = ("--align", "--server-order")  # by --set
Tracker = Literal["tensorboard", "mlflow", "wandb-offline"]
TRACKERS: tuple[Tracker, ...] = get_args(Tracker)

EPILOG = """other commands, as in 'run.py profiles' (each has --help):
  verify          with these flags: plays both clocks and compares them
  bench           many runs: profiles, seeds and settings; tables with mean, deviation and intervals
  fit             the largest batch that fits a device
  calibrate       measures this machine, for --compute measured
  cuts MODEL      where a model can be cut
  profiles        lists networks, devices and scenarios; with a NAME, the source of each of its numbers
  traces          lists, draws, converts and makes bandwidth traces
  watch DIR       the dashboard of a run that goes on
  replay DIR      the dashboard of a run, once more
  report DIR      one page of a run: tables, plots, timeline, sources (--only: one of them)
  energy DIR      joules of its clients, by the power numbers of profiles
  export DIR      a run's figures as columns: CSV or Parquet
  compare DIR...  runs side by side, and what differs between them"""


ABOUT = (
    "How long a split-learning method takes on these links and devices, how many bytes leave a client, and whether it"
    " fits in a client's memory."
)


class RunCommand(RunConfig, frozen=True, kw_only=True):
    """What a command line says besides: many runs, and what is shown of one."""

    seeds: Annotated[
        int | None,
        knob("a run for each of N seeds, from --seed on; tables of mean ± deviation", metavar="N", **NO_FIGURE),
    ] = None
    tables: Annotated[
        str | None,
        knob(
            f"print these tables too, which are in tables.md and the report: {listed()}",
            metavar="all|A,B",
            **NO_FIGURE,
        ),
    ] = None
    track: Annotated[
        tuple[Tracker, ...],
        knob("tell an experiment tracker of each method's rounds at the end; its own library does it", **NO_FIGURE),
    ] = ()
    report: Annotated[bool, knob("end with plots, trace.json and report.html", **NO_FIGURE)] = False
    no_dashboard: Annotated[bool, knob("plain lines instead of the live dashboard", **NO_FIGURE)] = False


def add_flag(flags: argparse._ActionsContainer, knob: Knob, *, required: bool = False, hidden: bool = False) -> None:
    """The flag of a knob, which takes any text: ``Knob.value_of`` converts and checks it. ``hidden``: no help names
    it."""
    default = f" (default {knob.default})" * (knob.kind is int and bool(knob.default))
    if knob.kind is bool:
        flags.add_argument(
            knob.flag,
            dest=knob.name,
            action="store_true",
            default=None,
            help=argparse.SUPPRESS if hidden else knob.help,
        )
        return
    words = get_args(get_args(knob.kind)[0] if knob.is_list else knob.kind)
    flags.add_argument(
        knob.flag,
        dest=knob.name,
        action="append" if knob.is_list else "store",
        required=required,
        metavar=knob.metavar or (f"{{{','.join(words)}}}" if words else None),
        help=argparse.SUPPRESS if hidden else knob.help + default,
    )


def parser(prog: str = "run.py", about: str = ABOUT, hidden: Sequence[str] = ()) -> Flags:
    """The flags of a run, for it or for a command that plays one, which sets those that are ``hidden`` itself."""
    flags = Flags(
        prog=prog,
        description=about,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, each in RunCommand.knobs().items():
        add_flag(flags, each, required=name == "profile", hidden=name in hidden)
    for flag in REPLACED:
        flags.add_argument(flag, type=partial(_replaced, flag), default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    flags.add_argument("--version", action="version", version=f"splitbed {importlib.metadata.version('splitbed')}")
    return flags


def read(words: Sequence[str], line: Flags | None = None) -> tuple[RunCommand, list[str]]:
    """What a command line says, and warnings: what of it changes nothing."""
    line = line or parser()
    return RunCommand.of(vars(line.parse_args(words))), line.overwritten


def _replaced(flag: str, value: str) -> NoReturn:
    option = flag.removeprefix("--").replace("-", "_")
    raise UserError(f"{flag} {value}: it is no flag any more: say --set {option}={value}")


def dropped_groups(scenario: Scenario, profile: str) -> list[str]:
    """A warning for each group of the profile's clients of which a smaller ``--clients`` left nobody."""
    from emulator.profiles.reading import load_scenario

    def kinds(of: Scenario) -> dict[str, int]:
        return Counter(f"{client.device.name} behind {client.network.name}" for client in of.clients)

    played = kinds(scenario)
    return [
        f"--clients {len(scenario.clients)}: none is left of the profile's {count} x {kind}"
        for kind, count in kinds(load_scenario(profile)).items()
        if kind not in played
    ]


def scenario_of(config: RunConfig) -> Scenario:
    """The profile with so many clients, and with that of this host where durations come from its CPU time."""
    from emulator.profiles.reading import load_scenario, with_host

    scenario = load_scenario(config.profile, config.clients)
    return with_host(scenario, config.host_device) if config.host_device is not None else scenario
