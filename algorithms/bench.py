"""Many runs: profiles, settings and seeds, each a run of its own in a folder of its own; tables over all of them.

What is recorded is never played again: a run is known by what its figures depend on (``algorithms.grid``), and looked
for among the records of the bench's folder. The same command with the same folder goes on where it was interrupted,
and one with more seeds, profiles or values plays what it adds.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from algorithms.grid import BASE, Cell, Grid, Variant, key_of, unvaried, variants
from emulator.errors import SplitbedError, UserError
from emulator.flags import Flags

RUN = Path(__file__).parent.parent / "run.py"
MOST_NAMED = 10  # of the results that are missing
COUNTED = ("finished", "does-not-fit", "would-not-fit")  # outcomes that are results
OWN = ("--profile", "--seed", "--clock", "--dilation", "--out")
STOPPED = (130, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP)


class Found(NamedTuple):
    """The record of one algorithm. ``why``: why it cannot be counted, or empty."""

    folder: Path
    algorithm: str
    entry: dict[str, Any]
    why: str


class Records:
    """What was played below a bench's folder, by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "runs"
        self.found: dict[str, Found] = {}
        self.unread: list[str] = []
        for manifest in sorted(self.folder.glob("*/manifest.json")):
            self.add(manifest.parent)

    def add(self, run: Path) -> None:
        """Look at a run's folder; one that was cut short gets its tables first."""
        from emulator import record

        try:
            manifest = json.loads((run / "manifest.json").read_text())
            if not (run / "summary.json").exists():
                record.rebuild(run)
            summary = json.loads((run / "summary.json").read_text())
            for name, entry in summary["algorithms"].items():
                key, found = key_of(manifest, name), Found(run, name, entry, _doubt(name, entry, summary))
                if key not in self.found or self.found[key].why:
                    self.found[key] = found
        except (SplitbedError, OSError, ValueError, KeyError, TypeError) as error:
            self.unread.append(f"{run}: is no record that this version can read ({error}); it is left as it is")

    def counts(self, key: str) -> bool:
        """Whether a key was played, with a result that can be trusted."""
        return key in self.found and not self.found[key].why

    def new(self, cell: Cell) -> Path:
        """A folder for another run."""
        stem = "-".join(filter(None, (Path(cell.profile).stem, cell.variant.name, f"seed-{cell.seed}")))
        stem = "".join(letter if letter.isalnum() or letter in "=-._" else "-" for letter in stem)
        number = 1
        while (run := self.folder / f"{stem}{f'-{number}' * (number > 1)}").exists():
            number += 1
        return run


def _doubt(name: str, entry: dict[str, Any], summary: dict[str, Any]) -> str:
    """Why an algorithm's figures cannot be counted; empty where they can."""
    reasons = [reason for reason in summary["health"]["reasons"] if reason.startswith(f"{name}:")]
    if reasons:
        return str(reasons[0].removeprefix(f"{name}: "))
    return "" if entry["outcome"] in COUNTED else entry["detail"] or entry["outcome"]


def command(argv: list[str]) -> int:
    """``run.py bench``: the exit status."""
    flags, words = _parser().parse_known_args(argv)
    for word in words:
        if word.split("=")[0] in (*OWN, "--seeds"):
            raise UserError(f"{word}: a bench sets it for each of its runs; leave it out ('run.py bench --help')")
    if flags.seeds < 1 or flags.seed < 0:
        raise UserError(f"--seeds {flags.seeds}: say how many, from 1, and --seed from 0")
    profiles = tuple(dict.fromkeys(name.strip() for name in flags.profiles.split(",") if name.strip()))
    if not profiles:
        raise UserError(f"--profiles {flags.profiles}: say one or more, such as iot-4g,lan ('run.py profiles')")
    how = [] if "--dry-run" in words else ["--clock", "virtual"]
    grid = Grid(
        words=(*words, *how),
        profiles=profiles,
        variants=variants(flags.vary, flags.cross),
        seeds=tuple(range(flags.seed, flags.seed + flags.seeds)),
    )
    return play(grid, argv=["bench", *argv], out=flags.out, against=flags.against, quiet=True)


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
    flags.add_argument("--cross", action="store_true", help="play every combination of what is varied")
    flags.add_argument(
        "--against", metavar="NAME", help="the algorithm that others are compared with; default: fsl-sage, or the first"
    )
    flags.add_argument("--out", metavar="DIR", help="the bench's folder; default: runs/<time>-...; to go on: the same")
    return flags


def over_seeds(argv: list[str], count: int, seed: int, out: str | None) -> int:
    """``run.py ... --seeds N``: a run of the same flags for each of ``count`` seeds from ``seed`` on; exit status."""
    if count < 1:
        raise UserError(f"--seeds {count}: say how many, from 1")
    own = Flags(allow_abbrev=False, add_help=False)
    for flag in ("--seeds", "--seed", "--out", "--profile"):
        own.add_argument(flag)
    taken, words = own.parse_known_args(argv)
    grid = Grid(tuple(words), (taken.profile,), (BASE,), tuple(range(seed, seed + count)))
    return play(grid, argv=argv, out=out, against=None, quiet=False)


def play(grid: Grid, *, argv: list[str], out: str | None, against: str | None, quiet: bool) -> int:
    """Play what has not been played, then write and print the tables; the exit status.

    ``quiet``: the runs' own output goes into files beside their folders, which remain where a run failed."""
    from emulator import subcommand

    cells = grid.cells()
    names = list(dict.fromkeys(cell.algorithm for cell in cells))
    if against is not None and against not in names:
        raise UserError(f"--against {against}: it is not played; say one of {', '.join(names)}")
    folder = _folder(out, grid)
    records = Records(folder)
    for text in records.unread:
        print(f"warning: {text}", flush=True)
    jobs = _jobs(cells, records)
    total, begun, done = sum(map(len, jobs)), time.monotonic(), 0
    print(_plan(cells, records, jobs), flush=True)
    stopped = False
    for index, job in enumerate(jobs, 1):
        first, algorithms = job[0], [cell.algorithm for cell in job]
        run = records.new(first)
        run.parent.mkdir(parents=True, exist_ok=True)
        words = [*grid.command(first.profile, first.variant, first.seed), "--algorithm", ",".join(algorithms)]
        words += ["--no-dashboard", "--force"] if quiet else []
        log = run.with_name(f"{run.name}.log") if quiet else None
        started = time.monotonic()
        status = subcommand.run([sys.executable, str(RUN), *words, "--out", str(run)], log)
        if (run / "manifest.json").exists():
            records.add(run)
        if log and status == 0:
            log.unlink()
        done += len(job)
        now = time.monotonic()
        left = f"about {_minutes((now - begun) / done * (total - done))} left" if done < total else "the last"
        ending = "" if status == 0 else f" {subcommand.how(status)}{_last_line(log)}"
        print(f"[{index}/{len(jobs)}] {run.name}: {', '.join(algorithms)}: {now - started:.0f} s{ending}; {left}")
        sys.stdout.flush()
        if status in STOPPED:
            stopped = True
            break
    return _conclude(grid, cells, records, folder, argv=argv, against=against, stopped=stopped)


def _jobs(cells: Sequence[Cell], records: Records) -> list[list[Cell]]:
    """What has to be played: the algorithms of one profile, variant and seed together, each key once."""
    jobs: dict[tuple[str, Variant, int], list[Cell]] = {}
    taken: set[str] = set()
    for cell in cells:
        if not records.counts(cell.key) and cell.key not in taken:
            taken.add(cell.key)
            jobs.setdefault((cell.profile, cell.variant, cell.seed), []).append(cell)
    return list(jobs.values())


def _plan(cells: Sequence[Cell], records: Records, jobs: Sequence[Sequence[Cell]]) -> str:
    keys = {cell.key for cell in cells}
    known = sum(records.counts(key) for key in keys)
    there = f"; {known} of {len(keys)} results are there already" if known else ""
    return f"{len(jobs)} runs to play, for {sum(map(len, jobs))} results{there}."


def _last_line(log: Path | None) -> str:
    """Why a run failed, as it said, and where all that it said is."""
    lines = log.read_text(errors="replace").split("\n") if log else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return f" ({said}; see {log})" if log else ""


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _folder(out: str | None, grid: Grid) -> Path:
    """The bench's folder: a new one, or one that holds a bench; UserError for any other."""
    from emulator import record

    if out and (Path(out) / "runs").is_dir() and not (Path(out) / "manifest.json").exists():
        return Path(out)
    return record.open_folder(out, "+".join(Path(name).stem for name in grid.profiles), f"{len(grid.seeds)}-seeds")


# --- what was found ---------------------------------------------------------------------------------------------------


def _conclude(
    grid: Grid,
    cells: Sequence[Cell],
    records: Records,
    folder: Path,
    *,
    argv: list[str],
    against: str | None,
    stopped: bool,
) -> int:
    from emulator import bench_tables

    results = [_result(cell, records.found[cell.key], folder) for cell in cells if cell.key in records.found]
    counted = bench_tables.Results(results, grid.seeds)
    names = counted.algorithms
    reference = against or ("fsl-sage" if "fsl-sage" in names else names[0] if names else "")
    sheets = []
    for profile in grid.profiles:
        sheets += bench_tables.benchmark(counted, profile)
        if len(names) > 1 and len(grid.seeds) > 1:
            sheets += bench_tables.differences(counted, profile, reference)
        for table in _ablations(grid, cells):
            sheets += bench_tables.ablation(counted, profile, table)
    left_out = [result for result in results if result.why]
    absent = [cell for cell in cells if cell.key not in records.found]
    head = [f"{', '.join(grid.profiles)}; seeds {grid.seeds[0]} to {grid.seeds[-1]}"]
    if absent or left_out:
        head.append(f"PARTIAL: {len(results) - len(left_out)} of {len(cells)} results can be counted.")
    head += [f"- left out: {each.folder}, {each.algorithm}: {each.why}" for each in left_out]
    for cell in absent[:MOST_NAMED]:
        head.append(
            f"- not played: {', '.join(filter(None, (cell.profile, cell.variant.name)))}, {cell.algorithm}, "
            f"seed {cell.seed}"
        )
    if len(absent) > MOST_NAMED:
        head.append(f"- and {len(absent) - MOST_NAMED} more")

    page = bench_tables.Page(f"run.py {' '.join(argv)}", head, sheets)
    bench_tables.write(folder, page, results, len(absent))
    bench_tables.show_page(page)
    print(f"Record: {folder}")
    if stopped:
        print(f"Interrupted. The same command with --out {folder} goes on.")
        return 130
    return 1 if absent or left_out else 0


def _ablations(grid: Grid, cells: Sequence[Cell]) -> list[Any]:
    """One a key that is varied; for each algorithm the runs as they are, then the variants that differ from them."""
    from emulator.bench_tables import Ablation

    first = {(cell.variant, cell.algorithm): cell.key for cell in reversed(cells)}
    found = []
    for title in dict.fromkeys(variant.ablation for variant in grid.variants if variant.ablation):
        some = [variant for variant in grid.variants if variant.ablation == title]
        rows: dict[str, dict[str, str]] = {}
        for name in dict.fromkeys(cell.algorithm for cell in cells):
            base = first[BASE, name]
            others = [variant for variant in some if first.get((variant, name), base) != base]
            if others:
                as_is = ", ".join(unvaried(grid, name, field) for field in some[0].fields)
                rows[name] = {"": as_is} | {variant.name: variant.name for variant in others}
        found.append(Ablation(title, rows))
    return found


def _result(cell: Cell, found: Found, folder: Path) -> Any:
    from emulator.bench_tables import Result, figures_of

    return Result(
        profile=cell.profile,
        variant=cell.variant.name,
        algorithm=cell.algorithm,
        seed=cell.seed,
        folder=str(found.folder.relative_to(folder)),
        outcome=found.entry["outcome"],
        why=found.why,
        figures=figures_of(found.entry),
    )
