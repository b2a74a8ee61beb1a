"""A run: plays algorithms one after another and prints what they took; its record stays."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from algorithms import ALGORITHMS
from algorithms.commands.options.overrides import algorithms_of, chosen_algorithms, idle_options, seed_of, settings_of
from algorithms.commands.options.run_flags import (
    DRY_RUN,
    chosen_dilation,
    dropped_groups,
    hosted,
    memory_cap,
    parser,
    step_limit_s,
)
from emulator.errors import UserError
from emulator.ledger import run_folder
from emulator.ledger.manifest import Manifest, write_manifest
from emulator.runtime import run_manifest

if TYPE_CHECKING:
    from algorithms.commands.options.flags import Flags
    from algorithms.experiments.reading import Experiment
    from emulator.analysis.recorded import RunRecord
    from emulator.dashboard.launch import View
    from emulator.runtime.launcher import Launcher, Outcome, Plan, Prepared

STATUS = {"finished": 0, "does-not-fit": 0, "refused": 2, "interrupted": 130}  # of other outcomes: 1


def refuse(
    launcher: Launcher, modules: dict[str, tuple[str, dict[str, Any]]], flags: argparse.Namespace, folder: Path
) -> list[str]:
    """UserError for what will take more than an hour on the wall, or more than this host has at the dilation asked;
    warnings where its memory may not do, or its record will be large."""
    from emulator.host import cgroups
    from emulator.preflight import record_size
    from emulator.preflight.dilation import LIMIT_S

    estimate = launcher.estimate_run(modules)
    seconds, asked = estimate.seconds, chosen_dilation(flags.dilation)
    worst = max(estimate.choices.items(), key=lambda each: each[1].dilation, default=None)
    if asked is not None and worst and worst[1].dilation > asked:
        name, choice = worst
        raise UserError(
            f"--dilation {asked}: too small for {name} on this host: {choice.explain(cgroups.cores())};"
            f" say --dilation {choice.dilation} or auto, or --force to play it all the same"
        )
    if seconds > LIMIT_S:
        how_long = "an hour" if seconds < 2 * LIMIT_S else f"{seconds / LIMIT_S:.0f} hours"
        raise UserError(
            f"--profile {flags.profile}: this run will take over {how_long} on the wall; say --force if it may, fewer"
            " --rounds or --algorithm, --clock virtual where it is the clock that takes long, or --dry-run for figures"
        )
    return [cgroups.warning(estimate.memory_bytes), record_size.warning(estimate.events, folder)]


def in_full(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """Every algorithm's settings with all defaults, cut and auxiliary by name."""
    named = {key: prepared.task[key] for key in ("cut", "aux")}
    return {name: {**settings, "task": settings["task"] | named} for name, settings in prepared.settings.items()}


def play_all(launcher: Launcher, settings: dict[str, dict[str, Any]], view: View, dry: bool) -> dict[str, Outcome]:
    """Each algorithm on a timeline of its own, until one is broken off; UserError where all are refused."""
    outcomes: dict[str, Outcome] = {}
    play = launcher.dry_run if dry else launcher.play
    for name, algorithm_settings in settings.items():
        outcome = play(name, ALGORITHMS[name], algorithm_settings, view.tick)
        outcomes[name] = outcome
        if outcome.name not in ("finished", "does-not-fit", "refused"):
            break
    if all(outcome.name == "refused" for outcome in outcomes.values()):
        raise UserError("; ".join(f"{name}: {outcome.detail}" for name, outcome in outcomes.items()))
    return outcomes


def status_of(outcomes: Iterable[str]) -> int:
    """The exit status of a run whose algorithms ended so: the gravest counts."""
    statuses = [STATUS.get(outcome, 1) for outcome in outcomes]
    return next((status for status in (130, 1, 2) if status in statuses), 0)


class Planned(NamedTuple):
    """A run that can be played: its flags, what they choose, the manifest as far as it is known, warnings to show."""

    argv: list[str]
    flags: argparse.Namespace
    settings: dict[str, dict[str, Any]]
    plan: Plan
    manifest: Manifest
    warnings: list[str]


class RunResult(NamedTuple):
    """A run that has ended. ``outcomes``: of each method that was played."""

    folder: Path
    recorded: RunRecord
    outcomes: dict[str, Outcome]


def experiment_of(flags: argparse.Namespace) -> Experiment:
    """The experiment of a run's flags, or none's. A method of a user's own is known first: it may be set there."""
    from algorithms.experiments import reading

    if flags.algorithm:
        chosen_algorithms(flags.algorithm)
    return reading.find_experiment(flags.experiment) if flags.experiment else reading.NONE


def planned(argv: list[str], line: Flags, flags: argparse.Namespace) -> Planned:
    """What the flags of a run come to; UserError for what cannot be."""
    from algorithms.training import idle_options as idle
    from algorithms.workload.task import Task
    from emulator.clock.conductors import CLOCKS
    from emulator.profiles.reading import load_scenario
    from emulator.runtime.launcher import Plan

    experiment = experiment_of(flags)
    flags.seed = seed_of(flags, experiment)
    names = algorithms_of(flags, experiment)
    dilation, limit_s = chosen_dilation(flags.dilation), step_limit_s(flags.step_limit)
    if dilation is not None and flags.dry_run:
        raise UserError(f"--dilation {dilation}: a dry run keeps to no clock that could be slowed; leave it out")
    if dilation is not None and not CLOCKS[flags.clock].dilates:
        raise UserError(f"--dilation {dilation}: it slows the real clock; leave it out, or take --clock real")
    if flags.save != "none" and flags.dry_run:
        raise UserError(f"--save {flags.save}: a dry run trains no model that could be kept; leave it out")
    scenario = load_scenario(flags.profile, flags.clients if flags.clients is not None else experiment.clients)
    scenario = hosted(scenario, flags)
    settings = {name: settings_of(name, flags, experiment, len(scenario.clients)) for name in names}
    Task(**settings[names[0]]["task"]).check()
    warnings = [
        *line.overwritten,
        *idle_options(flags, names),
        *idle.warnings(settings),
        *dropped_groups(scenario, flags.profile),
    ]
    clock = DRY_RUN if flags.dry_run else flags.clock
    how = {"clock": clock, "seed": flags.seed, "dilation": dilation, "memory_cap": memory_cap(flags)}
    source = {"file": experiment.path, "sha256": experiment.sha256}
    manifest = run_manifest.make_manifest(scenario, settings, argv=argv, **how, experiment=source)
    plan = Plan(
        scenario,
        evaluate="algorithms.workload.task.evaluate",
        prepare="algorithms.workload.task.prepare",
        saved="algorithms.workload.saved",
        save=flags.save,
        step_limit_s=limit_s,
        **how,
    )
    return Planned(argv, flags, settings, plan, manifest, warnings)


def play(run: Planned, say: Callable[[str], None], view_type: Callable[..., View], alone: bool = False) -> RunResult:
    """Play a run and write its record. ``say`` is told what is read, found out and odd before it; ``view_type`` makes
    what shows it, of manifest and folder. UserError where nothing can be played."""
    from algorithms.commands.sweep import dependencies
    from emulator.report import record
    from emulator.runtime.launcher import Launcher
    from emulator.tables import clients_data

    flags, settings, manifest, scenario = run.flags, run.settings, run.manifest, run.plan.scenario
    for note in scenario.notes:
        say(note)
    folder = run_folder.open_folder(flags.out, flags.profile, "all" if flags.algorithm == "all" else "+".join(settings))
    write_manifest(folder, manifest)
    modules = [*ALGORITHMS.values(), "algorithms.workload.parts"]
    try:
        with Launcher(folder, run.plan, modules) as launcher:
            launcher.report = say
            if alone:
                os.nice(10)  # from here on this process only watches and draws
            played = {name: (ALGORITHMS[name], settings[name]) for name in settings}
            prepared = launcher.prepare(played)
            depends = dependencies.stamp(scenario, settings, prepared.arithmetic)
            complete = {"settings": in_full(prepared), "data": prepared.data, "depends": depends}
            manifest = msgspec.structs.replace(manifest, **complete)
            write_manifest(folder, manifest)
            for text in clients_data.first_lines(manifest.census):
                say(text)
            for warning in [*run.warnings, *prepared.warnings]:
                say(f"warning: {warning}")
            if not flags.dry_run and not flags.force:
                say("Profiling: what each computation costs, and how long the run will take.")
                for warning in filter(None, refuse(launcher, played, flags, folder)):
                    say(f"warning: {warning}")
            with view_type(manifest, folder) as view:
                outcomes = play_all(launcher, settings, view, flags.dry_run)
    except BaseException as error:  # where nothing was played, nothing stays
        run_folder.discard_run_folder(folder, settings if isinstance(error, UserError) else ())
        raise
    return RunResult(folder, record.rebuild(folder), outcomes)


def saved_models(recorded: RunRecord) -> list[str]:
    """Each saved model's file, with the round that it is of."""
    from emulator.ledger.events import ModelSaved

    last = {name: [*timeline.of(ModelSaved)][-1:] for name, timeline in recorded.timelines.items()}
    return [f"{event.file}: round {event.round + 1}" for events in last.values() for event in events]


def command(argv: list[str], alone: bool = False) -> int:
    """Play the algorithms of ``argv`` and print the tables; the exit status. ``alone``: in a process of its own."""
    line = parser()
    flags = line.parse_args(argv)
    from emulator.dashboard.app import can_draw
    from emulator.dashboard.launch import DashboardProcess, PlainOutput
    from emulator.tables import overview
    from emulator.tables import run as tables
    from emulator.tables.table import Output

    shown = tables.chosen(flags.tables)
    if flags.seeds is not None:
        from algorithms.commands.sweep import bench

        return bench.over_seeds(argv, flags.seeds, seed_of(flags, experiment_of(flags)), flags.out)
    console = Output()
    say = partial(console.print, soft_wrap=True, markup=False, highlight=False)
    view_type = PlainOutput if flags.no_dashboard or not can_draw() else DashboardProcess
    folder, recorded, outcomes = play(planned(argv, line, flags), say, view_type, alone)
    overview.print_run(recorded.summary, console, shown)
    if flags.report:
        from emulator.report import html, perfetto

        perfetto.write(folder, recorded)
        html.write(folder, recorded)
    if saved := saved_models(recorded):
        say(f"Models: {folder / 'models'} ({', '.join(saved)})")
    for tracker in flags.track:
        from algorithms.commands import tracking

        say(f"Tracked: {tracking.track(tracker, folder, recorded)}")
    for text in overview.where(folder, argv, flags.report, recorded.summary):
        say(text)
    for name, outcome in outcomes.items():
        if STATUS.get(outcome.name, 1):
            what = f"{name}: {outcome.name}" if outcome.name == "refused" else outcome.name
            say(f"{what}: {outcome.detail}")
    return status_of(outcome.name for outcome in outcomes.values())
