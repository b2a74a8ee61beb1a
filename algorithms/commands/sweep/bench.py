"""Many runs: profiles, settings and seeds, each a run of its own in a folder of its own; tables over all of them.

What is recorded is not played again: a run is known by what its figures depend on (``dependencies``), and looked for
among the records of the bench's folder. The same command with the same folder goes on where it was interrupted, and one
with more seeds, profiles or values plays what it adds; where something changed that results depend on, it says what.
A run that a method ends leaves the others of it to a run of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from algorithms import registry
from algorithms.commands.options.flags import COMMAND, Flags
from algorithms.commands.options.overrides import completed
from algorithms.commands.options.run_flags import RunCommand, read
from algorithms.commands.sweep.grid import BASE, Grid, SweepRun, Variant, unvaried, variants
from algorithms.commands.sweep.places import Playing, jobs_for, places
from algorithms.commands.sweep.records import Found, Records, again
from emulator.errors import UserError
from emulator.ledger import run_folder

if TYPE_CHECKING:
    import subprocess

    from emulator.tables.sweep import Ablation, Results, SweepResult
    from emulator.tables.table import Table

MOST_SEEDS = 10_000
POLL_S = 0.1  # how often the ends of runs are looked for
MOST_NAMED = 10  # of the results that are missing
OWN = ("--profile", "--seed", "--clock", "--dilation", "--out")
STOPPED = (130, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP)


def command(argv: list[str]) -> int:
    """``run.py bench``: the exit status."""
    flags, words = _parser().parse_known_args(argv)
    for word in words:
        if word.split("=")[0] in (*OWN, "--seeds"):
            raise UserError(f"{word}: a bench sets it for each of its runs; leave it out ('run.py bench --help')")
    if not 1 <= flags.seeds <= MOST_SEEDS or flags.seed < 0:
        raise UserError(f"--seeds {flags.seeds}: say how many, from 1 to {MOST_SEEDS}, and --seed from 0")
    profiles = tuple(dict.fromkeys(name.strip() for name in flags.profiles.split(",") if name.strip()))
    if not profiles:
        raise UserError(f"--profiles {flags.profiles}: say one or more, such as iot-4g,lan ('run.py profiles')")
    base, warnings = read(["--profile", profiles[0], *words])
    grid = Grid(
        base=base if base.dry_run else msgspec.structs.replace(base, clock="virtual"),
        profiles=profiles,
        variants=variants(flags.vary, flags.cross),
        seeds=tuple(range(flags.seed, flags.seed + flags.seeds)),
    )
    if flags.jobs is not None and not 1 <= flags.jobs <= len(os.sched_getaffinity(0)):
        cores = len(os.sched_getaffinity(0))
        raise UserError(f"--jobs {flags.jobs}: each run needs a core of its own; say 1 to {cores}, or leave it out")
    how: dict[str, Any] = {"out": flags.out, "against": flags.against, "warnings": warnings, "jobs": flags.jobs}
    return play_bench(grid, argv=["bench", *argv], quiet=True, **how)


def _parser() -> Flags:
    flags = Flags(
        prog="run.py bench",
        description="Plays many runs on the virtual clock and makes tables over them. Interrupted, the same command"
        " with the same --out goes on; extended, it plays what is new.",
        epilog="Every other flag is one of a run and holds for all of them: --algorithm, --rounds, --model, --set, ...;"
        " 'run.py --help' lists them. With --dry-run bytes and seconds are foreseen without training.",
        allow_abbrev=False,
    )
    flags.add_argument("--profiles", required=True, metavar="A,B", help="shipped scenarios, or scenarios' files")
    flags.add_argument("--seeds", type=int, default=3, metavar="N", help="so many seeds (default 3)")
    flags.add_argument("--seed", type=int, default=1, help="the first of them (default 1)")
    flags.add_argument(
        "--vary",
        nargs="+",
        action="extend",
        default=[],
        metavar="[ALGORITHM:]KEY=A,B",
        help="play also with each of these values, one key at a time: an option of algorithms (q, l, aux_lr, ...) or"
        " a flag of a run (aux, batch, partition, clients, ...)",
    )
    flags.add_argument(
        "--jobs", type=int, metavar="N", help="so many runs side by side, each on cores of its own; default: what fits"
    )
    flags.add_argument("--cross", action="store_true", help="play every combination of what is varied")
    flags.add_argument(
        "--against",
        metavar="NAME",
        help="what others are compared with; default: fsl-sage, or the first that fits",
    )
    flags.add_argument("--out", metavar="DIR", help="the bench's folder; default: runs/<time>-...; to go on: the same")
    return flags


def over_seeds(config: RunCommand, argv: list[str]) -> int:
    """``run.py ... --seeds N``: a run of the same configuration for each of N seeds, from its own on; exit status."""
    count = config.seeds or 0
    if not 1 <= count <= MOST_SEEDS:
        raise UserError(f"--seeds {count}: say how many, from 1 to {MOST_SEEDS}")
    seed = completed(config)[0].seed or 0
    base = msgspec.structs.replace(config, seeds=None, out=None)
    grid = Grid(base, (config.profile,), (BASE,), tuple(range(seed, seed + count)))
    return play_bench(grid, argv=argv, out=config.out, against=None, quiet=False)


def play_bench(
    grid: Grid,
    *,
    argv: list[str],
    out: str | None,
    against: str | None,
    quiet: bool,
    warnings: Sequence[str] = (),
    jobs: int | None = 1,
) -> int:
    """Play what has not been played, then print the tables; the exit status.

    ``quiet``: the runs' own output goes into files beside their folders, which remain where a run failed. ``jobs``: so
    many runs at a time; None: as many as this host has room for."""
    cells = grid.cells()
    names = list(dict.fromkeys(cell.algorithm for cell in cells))
    if against is not None and against not in names:
        raise UserError(f"--against {against}: it is not played; say one of {', '.join(names)}")
    folder = _folder(out, grid)
    for warning in warnings:
        print(f"warning: {warning}")
    command = shlex.join(["run.py", *argv])
    at_once = jobs or jobs_for(max(len(cell.manifest.clients) for cell in cells))
    with _locked(folder):
        return _play(Bench(grid, cells, folder, command=command, against=against, jobs=at_once), quiet)


def _play(bench: Bench, quiet: bool) -> int:
    for text in bench.records.unread:
        print(f"warning: {text}", flush=True)
    try:
        stopped = bench.play(quiet)
    except KeyboardInterrupt:  # between two runs
        stopped = True
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would lose the tables
    try:
        whole = bench.write(show=True)
        print(f"Record: {bench.folder}")
        if stopped:
            print(f"Interrupted. The same command with --out {bench.folder} goes on.")
    finally:
        signal.signal(signal.SIGINT, before)
    return 130 if stopped else 0 if whole else 1


class Bench:
    """All cells of a grid, and what of them has been recorded in a folder."""

    def __init__(
        self, grid: Grid, cells: Sequence[SweepRun], folder: Path, *, command: str, against: str | None, jobs: int
    ) -> None:
        self.grid, self.cells, self.folder = grid, cells, folder
        self.records = Records(folder, {cell.key for cell in cells})
        self._command, self._against, self.jobs = command, against, jobs
        self._alone: set[str] = set()  # results that were played alone, since together none was

    def play(self, quiet: bool) -> bool:
        """Play what is missing, a line and new tables a run; whether that was broken off."""
        from emulator.runtime import subcommand

        jobs = deque(self._jobs())
        total, begun, done, index = sum(map(len, jobs)), time.monotonic(), 0, 0
        keys = {cell.key for cell in self.cells}
        known = sum(self.records.counts(key) for key in keys)
        there = f"; {known} of {len(keys)} results are there already" if known else ""
        print(f"{_counted(len(jobs), 'run')} to play, for {_counted(total, 'result')}{there}.", flush=True)
        for line in again(self.records, [cell for job in jobs for cell in job]):
            print(line, flush=True)
        self.write()
        free = places(self.jobs)
        running: dict[subprocess.Popen[bytes], Playing] = {}
        stopped: list[bool] = []
        with subcommand.forwarded(running.keys(), lambda: stopped.append(True)):
            while running or (jobs and not stopped):
                while jobs and free and not stopped:
                    playing = self._start(jobs.popleft(), free.pop(), quiet, running.values())
                    running[playing.process] = playing
                ended = next((process for process in running if process.poll() is not None), None)
                if ended is None:
                    time.sleep(POLL_S)
                    continue
                playing, index = running.pop(ended), index + 1
                free.append(playing.cores)
                status = ended.returncode
                why = self._take(playing, status)
                after = self._apart(playing.job, status)
                jobs.extendleft(reversed(after))
                done += len(playing.job) - sum(map(len, after))
                now, waiting = time.monotonic(), len(jobs) + len(running)
                to_go = (now - begun) / max(done, 1) * (total - done)
                left = f"about {_minutes(to_go)} left" if waiting else "the last"
                names = ", ".join(cell.algorithm for cell in playing.job)
                took = f"{now - playing.started:.0f} s{why}"
                print(f"[{index}/{index + waiting}] {playing.run.name}: {names}: {took}; {left}", flush=True)
                self.write()
                if status in STOPPED:
                    stopped.append(True)
        return bool(stopped)

    def _apart(self, job: Sequence[SweepRun], status: int) -> list[list[SweepRun]]:
        """What of a run that failed is to be played without what ended it: all that it left, or, where it left all,
        each alone, unless that has been in vain before."""
        left = [cell for cell in job if cell.key not in self.records.found]
        if status in (0, *STOPPED) or not left or len(job) == 1:
            return []
        if len(left) < len(job):
            return [left]
        if self._alone and not self._alone & self.records.found.keys():
            return []
        self._alone |= {cell.key for cell in left}
        return [[cell] for cell in left]

    def _jobs(self) -> list[list[SweepRun]]:
        """What has to be played: the algorithms of one profile, variant and seed together, each key once."""
        jobs: dict[tuple[str, Variant, int], list[SweepRun]] = {}
        taken: set[str] = set()
        for cell in self.cells:
            if not self.records.counts(cell.key) and cell.key not in taken:
                taken.add(cell.key)
                jobs.setdefault((cell.profile, cell.variant, cell.seed), []).append(cell)
        return list(jobs.values())

    def _start(
        self, job: Sequence[SweepRun], cores: frozenset[int], quiet: bool, others: Collection[Playing]
    ) -> Playing:
        """One run, on ``cores`` of its own, beside the ``others``."""
        from emulator.runtime import subcommand

        first, run = job[0], self.records.new(job[0], [other.run for other in others])
        run.parent.mkdir(parents=True, exist_ok=True)
        own: dict[str, Any] = {"algorithm": ",".join(registry.word_of(cell.algorithm) for cell in job), "out": str(run)}
        own |= {"no_dashboard": True, "force": True} if quiet else {}
        config = msgspec.structs.replace(self.grid.config(first.profile, first.variant, first.seed), **own)
        log = run.with_name(f"{run.name}.log") if quiet else None
        process = subcommand.start_subcommand([*COMMAND, *config.words()], log, cores)
        return Playing(process, list(job), run, log, cores, time.monotonic())

    def _take(self, playing: Playing, status: int) -> str:
        """Take up the record of a run that has ended; what went wrong, in words."""
        from emulator.runtime import subcommand

        job, run, log = playing.job, playing.run, playing.log
        if (run / "manifest.json").exists():
            self.records.add(run)
        if status == 0:
            if log:
                log.unlink()
            odd = dict.fromkeys(self.records.why_again(cell) for cell in job if cell.key not in self.records.found)
            return "".join(f" (as it was played, {why})" for why in odd)
        return f" {subcommand.describe_status(status)}{_last_line(log)}"

    def write(self, show: bool = False) -> bool:
        """Write the tables of what there is, and print them if asked to; whether nothing is missing."""
        from emulator.tables import sweep

        found = self.records.found
        results = [_result(cell, found[cell.key], self.folder) for cell in self.cells if cell.key in found]
        absent = [cell for cell in self.cells if cell.key not in found]
        left_out = [result for result in results if result.why]
        dry = "; dry runs: foreseen, nothing was trained" * any(result.foreseen for result in results)
        head = [f"{', '.join(self.grid.profiles)}; {_seeds(self.grid.seeds)}{dry}"]
        if absent or left_out:
            head.append(f"PARTIAL: {len(results) - len(left_out)} of {len(self.cells)} results can be counted.")
        head += dict.fromkeys(f"- left out: {each.folder}, {each.algorithm}: {each.why}" for each in left_out)
        for cell in absent[:MOST_NAMED]:
            where = ", ".join(filter(None, (cell.profile, cell.variant.name)))
            head.append(f"- not played: {where}, {cell.algorithm}, seed {cell.seed}")
        if len(absent) > MOST_NAMED:
            head.append(f"- and {len(absent) - MOST_NAMED} more")
        page = sweep.SweepPage(self._command, head, self._tables(sweep.Results(results, self.grid.seeds)))
        sweep.write(self.folder, page, results, len(absent))
        if show:
            sweep.show_page(page)
        return not absent and not left_out

    def _tables(self, counted: Results) -> list[Table]:
        from emulator.tables import sweep

        tables = []
        for profile in self.grid.profiles:
            tables += sweep.benchmark(counted, profile)
            done = [name for name in counted.algorithms if counted.finished(profile, name)]
            reference = self._against or ("fsl-sage" if "fsl-sage" in done else next(iter(done), ""))
            if len(counted.algorithms) > 1 and len(self.grid.seeds) > 1 and reference:
                tables += sweep.differences(counted, profile, reference)
            for table in ablations(self.grid, profile, self.cells):
                tables += sweep.ablation(counted, profile, table)
        return tables


def _last_line(log: Path | None) -> str:
    """Why a run failed, as it said, and where all that it said is."""
    lines = log.read_text(errors="replace").split("\n") if log else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return f" ({said}; see {log})" if log else ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _folder(out: str | None, grid: Grid) -> Path:
    """The bench's folder: a new one, or one that holds a bench; UserError for any other."""

    if out and (Path(out) / "bench.json").exists():
        return Path(out)
    profiles, seeds = "+".join(Path(name).stem for name in grid.profiles), f"{len(grid.seeds)}-seeds"
    return run_folder.open_folder(out, profiles, seeds, first="runs")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other benches out of a folder for so long; UserError where another one plays there."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"--out {folder}: another bench plays there; wait for its end or name another") from None
    finally:
        os.close(opened)


def ablations(grid: Grid, profile: str, cells: Sequence[SweepRun]) -> list[Ablation]:
    """One a key that is varied; for each algorithm the runs as they are, then the variants that differ from them."""
    from emulator.tables.sweep import Ablation

    of_profile = [cell for cell in cells if cell.profile == profile]
    first = {(cell.variant, cell.algorithm): cell.key for cell in reversed(of_profile)}  # of the first seed
    found = []
    for title in dict.fromkeys(variant.ablation for variant in grid.variants if variant.ablation):
        some = [variant for variant in grid.variants if variant.ablation == title]
        rows: dict[str, dict[str, str]] = {}
        for name in dict.fromkeys(cell.algorithm for cell in of_profile):
            base = first[BASE, name]
            others = [variant for variant in some if first.get((variant, name), base) != base]
            if others:
                as_is = ", ".join(unvaried(grid, profile, name, field) for field in some[0].fields)
                rows[name] = {"": as_is} | {variant.name: variant.name for variant in others}
        found.append(Ablation(title, rows))
    return found


def _result(cell: SweepRun, found: Found, folder: Path) -> SweepResult:
    from emulator.ledger.census import criteria_of
    from emulator.tables.sweep import SweepResult, figures_of

    return SweepResult(
        profile=cell.profile,
        variant=cell.variant.name,
        algorithm=cell.algorithm,
        seed=cell.seed,
        folder=str(found.folder.relative_to(folder)),
        outcome=found.entry.outcome,
        why=found.why,
        foreseen=found.entry.foreseen,
        judged=found.judged,
        figures=figures_of(found.entry, criteria_of(found.judged)),
    )
