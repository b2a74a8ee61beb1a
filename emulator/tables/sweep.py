"""The tables of many runs: what each method takes, how methods differ within a seed, what a setting changes. A view.

A figure is the mean ± standard deviation over seeds. Where not every seed has it, such as seconds to an accuracy that
was not reached, it says how many have, and is no candidate for the best of its column.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.text import Text

from emulator.analysis.metrics import FIGURES
from emulator.analysis.statistics import Estimate, estimate_mean, paired
from emulator.analysis.summary import AlgorithmSummary
from emulator.tables.table import (
    BEST,
    NOTHING,
    Output,
    Table,
    TableCell,
    TableRow,
    Value,
    count,
    csv_text,
    markdown,
    number,
    show,
)

SCHEMA = "splitbed-bench/1"
GROUPS = {
    "Latency and accuracy": ("s_per_round", "s_to_85", "s_to_90", "accuracy_percent"),
    "Communication": ("up_kb", "down_kb", "payload_mb", "mb_to_90"),
    "Memory": ("peak_mib", "needed_mib"),
}
ABLATION_GROUPS = {
    "Latency and accuracy": ("s_per_round", "s_to_90", "accuracy_percent"),
    "Communication and memory": ("payload_mb", "mb_to_90", "peak_mib"),
}
SHARES = (
    "Up, down: payload that clients send and receive until the last round's end, per client and round in which it sent "
    "something, without initial weights."
)
MEANS = {
    "Latency and accuracy": "Emulated seconds, mean over rounds, and until the first round with 85 or 90 % test "
    "accuracy; accuracy after the last round.",
    "Communication": f"{SHARES} Payload of all messages, each once: of the whole run, and posted until the end of the "
    "first round with 90 % accuracy. A kB is 1000 bytes.",
    "Memory": "The most memory that a client had above its baseline; what its budget must be: the same, or where "
    "a training was stopped, by the account, within about 10 % + 1 MiB. Measured, not modelled: the same seed played "
    "again differs, small models by some 0.1 MiB.",
}
FORESEEN = {  # of dry runs, instead
    "Latency and accuracy": "Emulated seconds, mean over rounds. Nothing was trained: there is no accuracy.",
    "Communication": f"{SHARES} Payload of all messages of the whole run, each once. A kB is 1000 bytes.",
    "Memory": "Foreseen, not measured: what a client's budget must be, by an account of its tensors and a fit to other "
    "runs, within about 10 % + 1 MiB.",
}
NOT_FORESEEN = ("s_to_85", "s_to_90", "mb_to_90", "accuracy_percent", "peak_mib")  # what a dry run does not have
OVER_SEEDS = "Mean ± standard deviation over seeds; (k of n): only k of n seeds have it."


class SweepResult(msgspec.Struct, frozen=True, kw_only=True):
    """One algorithm of one run. ``figures``: by the names of ``analysis.metrics``, in its units; ``why``: why it cannot
    be counted, or empty."""

    profile: str
    variant: str
    algorithm: str
    seed: int
    folder: str
    outcome: str
    why: str
    foreseen: bool = False  # by a dry run
    figures: dict[str, float | None]


class Ablation(NamedTuple):
    """What varies in one table: for each algorithm the variants that change something, with their labels."""

    title: str
    rows: Mapping[str, Mapping[str, str]]  # algorithm -> variant -> label


class SweepPage(NamedTuple):
    """All that is shown: lines above the tables, of which the first is the title and others are warnings."""

    command: str
    head: Sequence[str]
    tables: Sequence[Table]


def figures_of(algorithm: AlgorithmSummary) -> dict[str, float | None]:
    """All figures of an algorithm's entry in ``summary.json``; of a training that memory ended, memory's alone."""
    ended = algorithm.outcome == "does-not-fit"
    return {key: None if ended and key not in GROUPS["Memory"] else each.of(algorithm) for key, each in FIGURES.items()}


class Results:
    """Those of a bench that can be counted, by what was played."""

    def __init__(self, results: Sequence[SweepResult], seeds: Sequence[int]) -> None:
        self._seeds = seeds
        self._by = {(r.profile, r.variant, r.algorithm, r.seed): r for r in results if not r.why}
        self.foreseen = any(result.foreseen for result in results)
        self.algorithms = list(dict.fromkeys(result.algorithm for result in results))

    def shown(self, keys: Sequence[str]) -> dict[str, str]:
        """Of these figures those that there can be, with their heads."""
        if not self.foreseen:
            return {key: FIGURES[key].head for key in keys}
        there = {key: FIGURES[key].head for key in keys if key not in NOT_FORESEEN}
        return there | ({"needed_mib": "peak, fore-\nseen MiB"} if "peak_mib" in keys else {})

    def played(self, profile: str, variant: str, algorithm: str) -> dict[int, SweepResult]:
        """What was counted of it, by seed."""
        each = {seed: self._by.get((profile, variant, algorithm, seed)) for seed in self._seeds}
        return {seed: result for seed, result in each.items() if result}

    def finished(self, profile: str, algorithm: str) -> bool:
        """Whether it finished and fits with every seed that was played, unvaried."""
        played = self.played(profile, "", algorithm).values()
        return bool(played) and all(result.outcome == "finished" for result in played)

    def estimate(self, profile: str, variant: str, algorithm: str, figure: str) -> Estimate | None:
        """Over the seeds that were played."""
        return estimate_mean([result.figures[figure] for result in self.played(profile, variant, algorithm).values()])


def benchmark(results: Results, profile: str) -> list[Table]:
    """A profile's tables, a row an algorithm; the unvaried runs."""
    names = [name for name in results.algorithms if results.played(profile, "", name)]
    ranked = [index for index, name in enumerate(names) if results.finished(profile, name)]
    unfit = [text for name in names if (text := _unfit([*results.played(profile, "", name).values()]))]
    found = []
    means = MEANS | (FORESEEN if results.foreseen else {})
    for group, wanted in GROUPS.items():
        rows: list[TableRow] = []
        keys = results.shown(wanted)
        for name in names:
            cells = (cell(results.estimate(profile, "", name, key)) for key in keys)
            rows.append([name, count(len(results.played(profile, "", name))), *cells])
        headers = ["algorithm", "seeds", *keys.values()]
        table = Table(
            title=f"{profile}: {group.lower()}",
            headers=headers,
            label_columns=1,
            rows=rows,
            caption=f"{means[group]} {OVER_SEEDS} {BEST}: the best, by more than the seeds explain.",
            best={i: FIGURES[key].best for i, key in enumerate(keys, 2) if _stands_out(results, profile, key)},
            results=unfit,
            ranked=ranked,
        )
        found.append(table)
    return found


def _stands_out(results: Results, profile: str, key: str) -> bool:
    """Whether the best method differs from each other one by more than the 95 % interval, in seeds of both."""
    complete: dict[str, dict[int, float]] = {}
    for name in results.algorithms:
        played = results.played(profile, "", name)
        values = {seed: value for seed, result in played.items() if (value := result.figures[key]) is not None}
        if values and len(values) == len(played) and results.finished(profile, name):
            complete[name] = values
    if len(complete) < 2:
        return False
    first = min if FIGURES[key].best == "least" else max
    best = complete.pop(first(complete, key=lambda name: statistics.fmean(complete[name].values())))
    pairs = ([(value, best[seed]) for seed, value in other.items() if seed in best] for other in complete.values())
    found = [paired(each) for each in pairs]
    return all(each and each.half_width is not None and abs(each.mean) > each.half_width for each in found)


def differences(results: Results, profile: str, reference: str) -> list[Table]:
    """What another algorithm has more than the reference, within each seed."""
    others = [name for name in results.algorithms if name != reference and results.played(profile, "", name)]
    there = results.played(profile, "", reference)
    found = []
    for some in map(results.shown, GROUPS.values()):
        rows: list[TableRow] = []
        for name in others:
            played = results.played(profile, "", name)
            pairs = [(result, there[seed]) for seed, result in played.items() if seed in there]
            cells = ([(one.figures[key], other.figures[key]) for one, other in pairs] for key in some)
            rows.append([name, count(len(pairs)), *(difference(paired(each)) for each in cells)])
        table = Table(
            title=f"{profile}: difference to {reference}",
            headers=["algorithm", "seeds", *some.values()],
            label_columns=1,
            rows=rows,
            caption=f"The other's figure minus that of {reference} within each seed: mean and half width of its 95 % "
            "interval (Student's t). An interval without 0 is a difference that the seeds do not explain.",
        )
        found.append(table)
    return found


def ablation(results: Results, profile: str, varied: Ablation) -> list[Table]:
    """What a setting changes: a row for each algorithm and value that was played."""
    found = []
    for group, wanted in ABLATION_GROUPS.items():
        rows: list[TableRow] = []
        keys = results.shown(wanted)
        for name, labels in varied.rows.items():
            for variant, label in labels.items():
                if results.played(profile, variant, name):
                    cells = (cell(results.estimate(profile, variant, name, key)) for key in keys)
                    rows.append([name, label, *cells])
        table = Table(
            title=f"{profile}, {varied.title} varied: {group.lower()}",
            headers=["algorithm", "setting", *keys.values()],
            label_columns=2,
            rows=rows,
            caption=f"{OVER_SEEDS} The first setting of each algorithm is that of the tables above; algorithms that "
            "the setting does not change are left out.",
        )
        found += [table] if rows else []
    return found


def _unfit(played: Sequence[SweepResult]) -> str:
    outcomes = [result.outcome.replace("-", " ") for result in played if result.outcome != "finished"]
    if not outcomes:
        return ""
    return f"{played[0].algorithm}: {outcomes[0]} with {len(outcomes)} of {len(played)} seeds."


def cell(found: Estimate | None) -> TableCell:
    """``mean ± std``; how many have it where not all do, on a line below, and then no value, since it is no best."""
    return _spread(found, found.std) if found else TableCell(None, NOTHING)


def difference(found: Estimate | None) -> TableCell:
    """``±mean ± half width`` of the 95 % interval."""
    return _spread(found, found.half_width, signed=True) if found else TableCell(None, NOTHING)


def _spread(found: Estimate, spread: float | None, *, signed: bool = False) -> TableCell:
    text = number(found.mean, signed=signed) + (f" ± {number(spread)}" if spread is not None else "")
    return TableCell(found.mean, text) if found.n == found.of else TableCell(None, f"{text}\n({found.n} of {found.of})")


def to_csv(results: Sequence[SweepResult]) -> str:
    """A row a result, then rows ``mean``, ``std`` and ``n`` for each profile, variant and algorithm."""
    headers = ["row", "profile", "variant", "algorithm", "seed", "outcome", "why", "folder", *FIGURES]
    rows: list[dict[str, Value]] = [
        {"row": "run", **msgspec.structs.asdict(result), **result.figures} for result in results
    ]
    for profile, variant, algorithm in dict.fromkeys((r.profile, r.variant, r.algorithm) for r in results):
        found = Results(results, sorted({result.seed for result in results}))
        each = {key: found.estimate(profile, variant, algorithm, key) for key in FIGURES}
        names = {"profile": profile, "variant": variant, "algorithm": algorithm}
        for what in ("mean", "std", "n"):
            rows.append({"row": what, **names, **{key: getattr(one, what) for key, one in each.items() if one}})
    return csv_text(headers, ([row.get(head) for head in headers] for row in rows))


def show_page(page: SweepPage) -> None:
    """Print it to a terminal."""
    console = Output()
    for index, text in enumerate(page.head):
        console.print(Text(text, style="bold red" if index else "bold"))
    for table in page.tables:
        show(table, console)


def write(folder: Path, page: SweepPage, results: Sequence[SweepResult], missing: int) -> None:
    """``tables.md``, ``tables.csv`` and ``bench.json``; ``missing``: how many results have not been played."""
    lines = [f"# {page.head[0]}", "", f"`{page.command}`", ""]
    lines += [line for text in page.head[1:] for line in (f"**{text}**", "")]
    lines += [line for table in page.tables for line in markdown(table)]
    (folder / "tables.md").write_text("\n".join(lines))
    (folder / "tables.csv").write_text(to_csv(results))
    found = {"schema": SCHEMA, "command": page.command, "missing": missing, "results": results}
    (folder / "bench.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
