"""A run: plays algorithms one after another and prints what they took; its record stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from algorithms import ALGORITHMS
from algorithms.commands.options.overrides import completed, idle_options, settings_of
from algorithms.commands.options.run_flags import dropped_groups, read, scenario_of
from algorithms.experiments.run_config import RunConfig
from emulator.errors import UserError, own_frames
from emulator.ledger import run_folder
from emulator.ledger.manifest import Manifest, write_manifest
from emulator.runtime import run_manifest

if TYPE_CHECKING:
    from emulator.analysis.recorded import RunRecord
    from emulator.dashboard.launch import View
    from emulator.runtime.launcher import Launcher, Outcome, Plan, Prepared

STATUS = {"finished": 0, "does-not-fit": 0, "refused": 2, "interrupted": 130}  # of other outcomes: 1


def refuse(
    launcher: Launcher, modules: dict[str, tuple[str, dict[str, Any]]], config: RunConfig, folder: Path
) -> list[str]:
    """UserError for what will take more than an hour on the wall, or more than this host has at the dilation asked;
    warnings where its memory may not do, or its record will be large."""
    from emulator.host import cgroups
    from emulator.preflight import record_size
    from emulator.preflight.dilation import LIMIT_S

    estimate = launcher.estimate_run(modules)
    seconds, asked = estimate.seconds, config.dilation
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
            f"--profile {config.profile}: this run will take over {how_long} on the wall; say --force if it may, fewer"
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
    """A run that can be played: its configuration, what it chooses, the manifest so far, warnings to show."""

    config: RunConfig
    settings: dict[str, dict[str, Any]]
    plan: Plan
    manifest: Manifest
    warnings: list[str]


class RunResult(NamedTuple):
    """A run that has ended. ``outcomes``: of each method that was played."""

    folder: Path
    recorded: RunRecord
    outcomes: dict[str, Outcome]


def planned(config: RunConfig, argv: list[str]) -> Planned:
    """What the configuration of a run comes to; ``argv``: as it was said. UserError for what cannot be."""
    from algorithms.training import idle_options as idle
    from algorithms.workload.task import Task
    from emulator.runtime.launcher import Plan

    config, experiment = completed(config)
    scenario = scenario_of(config)
    settings = settings_of(config, experiment, len(scenario.clients))
    Task(**next(iter(settings.values()))["task"]).check()
    warnings = [
        *idle_options(config.options, list(settings)),
        *idle.warnings(settings),
        *dropped_groups(scenario, config.profile),
    ]
    manifest = run_manifest.make_manifest(
        scenario,
        settings,
        argv=argv,
        **config.how,
        experiment={"file": experiment.path, "sha256": experiment.sha256},
        run=msgspec.to_builtins(config),
    )
    plan = Plan(
        scenario,
        evaluate="algorithms.workload.judging.judge",
        prepare="algorithms.workload.task.prepare",
        saved="algorithms.workload.judging",
        save=config.save,
        step_limit_s=config.step_limit,
        **config.how,
    )
    return Planned(config, settings, plan, manifest, warnings)


def play(run: Planned, say: Callable[[str], None], view_type: Callable[..., View], alone: bool = False) -> RunResult:
    """Play a run and write its record. ``say`` is told what is read, found out and odd before it; ``view_type`` makes
    what shows it, of manifest and folder. UserError where nothing can be played."""
    from algorithms.commands.sweep import dependencies
    from emulator.report import record
    from emulator.runtime.launcher import Launcher
    from emulator.tables import clients_data

    config, settings, manifest, scenario = run.config, run.settings, run.manifest, run.plan.scenario
    for note in scenario.notes:
        say(note)
    methods = "all" if config.algorithm == "all" else "+".join(settings)
    folder = run_folder.open_folder(config.out, config.profile, methods)
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
            for text in clients_data.first_lines(manifest.data):
                say(text)
            for warning in [*run.warnings, *prepared.warnings]:
                say(f"warning: {warning}")
            if not config.dry_run and not config.force:
                say("Profiling: what each computation costs, and how long the run will take.")
                for warning in filter(None, refuse(launcher, played, config, folder)):
                    say(f"warning: {warning}")
            with view_type(manifest, folder) as view:
                outcomes = play_all(launcher, settings, view, config.dry_run)
            if abandoned := {name: outcome.abandoned for name, outcome in outcomes.items() if outcome.abandoned}:
                write_manifest(folder, msgspec.structs.replace(manifest, abandoned=abandoned))
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
    config, warnings = read(argv)
    from emulator.dashboard.app import can_draw
    from emulator.dashboard.launch import DashboardProcess, PlainOutput
    from emulator.ledger.events import Posted
    from emulator.tables import overview
    from emulator.tables import run as tables
    from emulator.tables.table import Output

    shown = tables.chosen(config.tables)
    if config.seeds is not None:
        from algorithms.commands.sweep import bench

        return bench.over_seeds(config, argv)
    console = Output()
    say = partial(console.print, soft_wrap=True, markup=False, highlight=False)
    view_type = PlainOutput if config.no_dashboard or not can_draw() else DashboardProcess
    run = planned(config, argv)
    run.warnings[:0] = warnings
    folder, recorded, outcomes = play(run, say, view_type, alone)
    if any(timeline.of(Posted) for timeline in recorded.timelines.values()):  # else there is no figure
        overview.print_run(recorded.summary, console, shown)
    if config.report:
        from emulator.report import html, perfetto

        perfetto.write(folder, recorded)
        html.write(folder, recorded)
    if saved := saved_models(recorded):
        say(f"Models: {folder / 'models'} ({', '.join(saved)})")
    for tracker in config.track:
        from algorithms.commands.records import tracking

        say(f"Tracked: {tracking.track(tracker, folder, recorded)}")
    for text in overview.where(folder, argv, config.report, recorded.summary):
        say(text)
    for name, outcome in outcomes.items():
        if STATUS.get(outcome.name, 1):
            if outcome.traceback:
                say(f"{name}: the whole traceback is in {folder / 'ledger' / name / 'supervisor.jsonl'}; your lines:")
            for frame in own_frames(outcome.traceback):
                say(f"  {frame}")
            say(f"{name}: {outcome.name}: {outcome.detail}")  # last, as in Python
    return status_of(outcome.name for outcome in outcomes.values())
