"""splitbed's command line: ``python run.py --profile iot-4g``.

Children of the fork server import this file again, so it imports at top level only what parses flags.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import shlex
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from algorithms import ALGORITHMS
from algorithms.choices import algorithms_of, idle_options, seed_of, settings_of
from algorithms.run_flags import DRY_RUN, chosen_dilation, dropped_groups, hosted, memory_cap, parser, step_limit_s
from emulator.errors import SplitbedError, UserError, one_line
from emulator.flags import without

if TYPE_CHECKING:
    from emulator.display import View
    from emulator.launcher import Ending, Launcher, Prepared

COMMANDS = {  # besides a run and verify
    "bench": "algorithms.bench:command",
    "calibrate": "algorithms.calibrate:command",
    "fit": "algorithms.fit:command",
    "report": "emulator.report:command",
    "trace": "emulator.perfetto_trace:command",
    "compare": "emulator.compare:command",
    "cuts": "algorithms.cuts:command",
    "plots": "emulator.plots:command",
    "profiles": "emulator.profile_views:command",
    "replay": "emulator.dashboard:replay",
    "traces": "emulator.trace_views:command",
    "watch": "emulator.dashboard:watch",
}
VERIFY = "Plays a run under both clocks, each as a command of its own, and shows how far the two agree."
UNNAMEABLE = (errno.ENAMETOOLONG, errno.ELOOP)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STATUS = {"finished": 0, "does-not-fit": 0, "refused": 2, "interrupted": 130}  # of other outcomes: 1


def refuse(launcher: Launcher, modules: dict[str, tuple[str, dict[str, Any]]], flags: argparse.Namespace) -> str:
    """UserError for what will take more than an hour on the wall, or more than this host has at the dilation asked;
    a warning where its memory may not do, else ""."""
    from emulator import cgroups
    from emulator.dilation import LIMIT_S

    forecast = launcher.foresee(modules)
    seconds, asked = forecast.seconds, chosen_dilation(flags.dilation)
    worst = max(forecast.choices.items(), key=lambda each: each[1].dilation, default=None)
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
    return cgroups.warning(forecast.memory_bytes)


def in_full(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """Every algorithm's settings with all defaults, cut and auxiliary by name."""
    named = {key: prepared.task[key] for key in ("cut", "aux")}
    return {name: {**settings, "task": settings["task"] | named} for name, settings in prepared.settings.items()}


def play_all(launcher: Launcher, settings: dict[str, dict[str, Any]], view: View, dry: bool) -> dict[str, Ending]:
    """Each algorithm on a timeline of its own, until one is broken off; UserError where all are refused."""
    endings: dict[str, Ending] = {}
    play = launcher.dry_run if dry else launcher.play
    for name, algorithm_settings in settings.items():
        ending = play(name, ALGORITHMS[name], algorithm_settings, view.tick)
        endings[name] = ending
        if ending.outcome not in ("finished", "does-not-fit", "refused"):
            break
    if all(ending.outcome == "refused" for ending in endings.values()):
        raise UserError("; ".join(f"{name}: {ending.detail}" for name, ending in endings.items()))
    return endings


def status_of(outcomes: Iterable[str]) -> int:
    """The exit status of a run whose algorithms ended so: the gravest counts."""
    statuses = [STATUS.get(outcome, 1) for outcome in outcomes]
    return next((status for status in (130, 1, 2) if status in statuses), 0)


def run(argv: list[str], alone: bool = False) -> int:
    """Play the algorithms of ``argv`` and print the tables; the exit status. ``alone``: in a process of its own."""
    line = parser()
    flags = line.parse_args(argv)
    from rich.console import Console
    from rich.text import Text

    from algorithms import depends, experiment_files, idle
    from algorithms.task import Task
    from emulator import clients_data, record, tables
    from emulator.coordinator import CLOCKS
    from emulator.dashboard import can_draw
    from emulator.display import Drawn, Lines
    from emulator.findings import sentence
    from emulator.launcher import Launcher, Plan
    from emulator.profile_reading import load_scenario

    experiment = experiment_files.find(flags.experiment) if flags.experiment else experiment_files.NONE
    flags.seed = seed_of(flags, experiment)
    if flags.seeds is not None:
        from algorithms import bench

        return bench.over_seeds(argv, flags.seeds, flags.seed, flags.out)
    names = algorithms_of(flags, experiment)
    dilation, limit_s = chosen_dilation(flags.dilation), step_limit_s(flags.step_limit)
    if dilation is not None and flags.dry_run:
        raise UserError(f"--dilation {dilation}: a dry run keeps to no clock that could be slowed; leave it out")
    if dilation is not None and not CLOCKS[flags.clock].dilates:
        raise UserError(f"--dilation {dilation}: it slows the real clock; leave it out, or take --clock real")
    scenario = load_scenario(flags.profile, flags.clients if flags.clients is not None else experiment.clients)
    scenario = hosted(scenario, flags)
    for note in scenario.notes:
        print(note)
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
    manifest = record.make_manifest(scenario, settings, argv=argv, **how)
    manifest["experiment"] = {"file": experiment.path, "sha256": experiment.sha256}
    folder = record.open_folder(flags.out, flags.profile, flags.algorithm.replace(",", "+"))
    record.write_manifest(folder, manifest)

    console = Console()
    say = partial(console.print, soft_wrap=True, markup=False, highlight=False)
    view_type = Lines if flags.no_dashboard or not can_draw() else Drawn
    plan = Plan(
        scenario,
        evaluate="algorithms.task.evaluate",
        prepare="algorithms.task.prepare",
        step_limit_s=limit_s,
        **how,
    )
    modules = [*ALGORITHMS.values(), "algorithms.parts"]
    endings: dict[str, Ending] = {}
    try:
        with Launcher(folder, plan, modules) as launcher:
            launcher.report = say
            if alone:
                os.nice(10)  # from here on this process only watches and draws
            prepared = launcher.prepare({name: (ALGORITHMS[name], settings[name]) for name in names})
            manifest["settings"] = in_full(prepared)
            manifest["data"] = prepared.data
            manifest["depends"] = depends.stamp(scenario, settings, prepared.arithmetic)
            record.write_manifest(folder, manifest)
            for text in clients_data.first_lines(prepared.data):
                say(text)
            for warning in [*warnings, *prepared.warnings]:
                say(f"warning: {warning}")
            if not flags.dry_run and not flags.force:
                console.print("Rehearsing: what each computation costs, and how long the run will take.")
                if warning := refuse(launcher, {name: (ALGORITHMS[name], settings[name]) for name in names}, flags):
                    say(f"warning: {warning}")
            with view_type(manifest, folder) as view:
                endings = play_all(launcher, settings, view, flags.dry_run)
    except BaseException as error:
        record.withdraw_folder(folder, settings if isinstance(error, UserError) else ())  # where nothing was played
        raise
    recorded = record.rebuild(folder)
    tables.print_tables(recorded.summary, console)
    say(f"Record: {folder}")
    if flags.report:
        from emulator import perfetto_trace, report

        say(f"Trace: {perfetto_trace.write(folder, recorded)}")
        say(f"Report: {report.write(folder, recorded)}")
    else:
        say(f"A page with pictures: python run.py report {shlex.quote(str(folder))}", style="dim")
    console.print(Text(sentence(recorded.summary), style="bold"))
    for name, ending in endings.items():
        if STATUS.get(ending.outcome, 1):
            what = f"{name}: {ending.outcome}" if ending.outcome == "refused" else ending.outcome
            say(f"{what}: {ending.detail}")
    return status_of(ending.outcome for ending in endings.values())


def verify(argv: list[str]) -> int:
    """Play the algorithms of ``argv`` under both clocks, each as a command of its own, and compare; 0: they agree."""
    flags = parser("run.py verify", VERIFY).parse_args(argv)
    from rich.console import Console

    from emulator import record, subcommand
    from emulator import verify as both
    from emulator.coordinator import CLOCKS
    from emulator.sheets import show

    if any(word.split("=")[0] == "--clock" for word in argv):
        raise UserError("--clock: verify plays both; leave it out")
    if flags.dry_run:
        raise UserError("--dry-run: verify compares two runs, and a dry run is none; leave it out")
    console = Console()
    say = partial(console.print, soft_wrap=True, markup=False, highlight=False)
    folder = record.open_folder(flags.out, flags.profile, "verify")
    for clock in both.PLAYED:
        arguments = without(argv, "--out", *([] if CLOCKS[clock].dilates else ["--dilation"]))
        arguments += ["--clock", clock, "--out", str(folder / clock)]
        status = subcommand.run([sys.executable, str(Path(__file__).resolve()), *arguments])
        if status:
            record.withdraw_folder(folder)  # where nothing was played
            if folder.exists():
                how = subcommand.how(status)
                say(f"verify: the {clock} run {how}; its record: {folder / clock}")
            return status if status > 0 else 1
    comparisons = both.compare(*(record.read(folder / clock) for clock in both.PLAYED))
    record.write_comparison(folder, comparisons)
    show(both.sheet(comparisons), console)
    say(f"Verdict: {both.verdict_of(comparisons)}. Record: {folder}")
    return 0 if both.verdict_of(comparisons) == "agrees" else 1


def command(argv: list[str], alone: bool = False) -> int:
    """A command by its name, or a run; the exit status."""
    import importlib

    if argv[:1] == ["verify"]:
        return verify(argv[1:])
    module, _, function = COMMANDS.get(argv[0] if argv else "", "").partition(":")
    if not module:
        if argv and not argv[0].startswith("-"):
            names = ", ".join(sorted(["verify", *COMMANDS]))
            raise UserError(f"{argv[0]}: there is no such command; say one of {names}, or a run's flags: run.py --help")
        return run(argv, alone)
    status: int = getattr(importlib.import_module(module), function)(argv[1:])
    return status


def main(argv: list[str], alone: bool = False) -> int:
    """The exit status of a command; a user's mistake is one line and 2. ``alone``: the process is the command's, which
    may lower its priority; it stays what it was for whoever calls this from a program of his own."""
    if alone:
        _open_what_is_closed()
        _print_whatever()
    try:
        try:
            return command(argv, alone)
        finally:
            sys.stdout.flush()
    except UserError as error:
        print(f"run.py: {one_line(str(error))}", file=sys.stderr)
        return 2
    except SplitbedError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has had enough
        _forget_output()
        return 0
    except OSError as error:
        if error.errno in UNNAMEABLE:
            print(f"run.py: {one_line(str(error.filename))}: {error.strerror}; give another path", file=sys.stderr)
            return 2
        if error.errno not in FULL:
            raise
        _forget_output()
        print(f"run.py: {error.filename or 'its output'}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2


def _open_what_is_closed() -> None:
    """Where a shell closed standard streams (``>&-``), files and sockets of ours would be taken for them."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: PTH123, SIM115


def _print_whatever() -> None:
    """A sign that the terminal's encoding lacks becomes a question mark; a file's name keeps its bytes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # none where it was closed
            stream.reconfigure(errors="surrogateescape" if stream.encoding.startswith("utf") else "replace")


def _forget_output() -> None:
    """Python flushes once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], alone=True))
