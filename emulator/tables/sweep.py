"""The tables of many runs: what each method takes, how methods differ within a seed, what a setting changes. A view.

A figure is the mean ± standard deviation over seeds. Where not every seed has it, such as seconds to a target that
was not reached, it says how many have, and is no candidate for the best of its column.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.text import Text

from emulator.analysis.metrics import Figure, figures, keys
from emulator.analysis.statistics import Estimate, estimate_mean, paired
from emulator.analysis.summary import AlgorithmSummary
from emulator.ledger.census import Judged, criteria_of
from emulator.ledger.criteria import OLDER, Criteria
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
WHOLE = "Payload of all messages of the whole run, each once."
MEMORY = ("peak_mib", "needed_mib")
SHARES = (
    "Up, down: payload that clients send and receive until the last round's end, per client and round in which it sent "
    "something, without initial weights."
)
MEASURED = (
    "The most memory that a client had above its baseline; what its budget must be: the same, or where a training was "
    "stopped, by the account, within about 10 % + 1 MiB. Measured, not modelled: the same seed played again differs, "
    "small models by some 0.1 MiB."
)
FORESEEN = (
    "Foreseen, not measured: what a client's budget must be, by an account of its tensors and a fit to other runs, "
    "within about 10 % + 1 MiB."
)
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
    judged: Judged | None = None  # by what; None in older records
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


class FigureGroup(NamedTuple):
    """Figures that stand in one table, and what they mean."""

    title: str
    keys: Sequence[str]
    means: str = ""


def figures_of(algorithm: AlgorithmSummary, criteria: Criteria = OLDER) -> dict[str, float | None]:
    """All figures of an algorithm's entry in ``summary.json``; of a training that memory ended, memory's alone."""
    ended = algorithm.outcome == "does-not-fit"
    return {key: None if ended and key not in MEMORY else each.of(algorithm) for key, each in figures(criteria).items()}


class Results:
    """Those of a bench that can be counted, by what was played."""

    def __init__(self, results: Sequence[SweepResult], seeds: Sequence[int]) -> None:
        self._seeds = seeds
        self._by = {(r.profile, r.variant, r.algorithm, r.seed): r for r in results if not r.why}
        self.foreseen = any(result.foreseen for result in results)
        self.algorithms = list(dict.fromkeys(result.algorithm for result in results))
        self._criteria = [criteria_of(judged) for judged in _distinct(results)]  # several where data are varied
        self.figures = all_figures(results)

    def groups(self) -> list[FigureGroup]:
        """The tables of a profile."""
        of = [keys(criteria) for criteria in self._criteria]
        words, until, hardest = (_listed(each) for each in zip(*map(_words, self._criteria), strict=True))
        seconds = f"Emulated seconds, mean over rounds{until and f', and until the first round with {until}'}"
        after = f"Nothing was trained: there is no {words}." if self.foreseen else f"{words} after the last round."
        seconds = f"Emulated seconds, mean over rounds. {after}" if self.foreseen else f"{seconds}; {after}"
        sent = hardest and not self.foreseen
        payload = f"of the whole run, and posted until the end of the first round with {hardest}"
        payload = f"Payload of all messages, each once: {payload}." if sent else WHOLE
        return [
            FigureGroup(
                f"Latency and {words}",
                ["s_per_round", *_union(each.seconds_to for each in of), *_union(each.values for each in of)],
                seconds,
            ),
            FigureGroup(
                "Communication",
                ["up_kb", "down_kb", "payload_mb", *_union(each.hardest_mb_to for each in of)],
                f"{SHARES} {payload} A kB is 1000 bytes.",
            ),
            FigureGroup("Memory", MEMORY, FORESEEN if self.foreseen else MEASURED),
        ]

    def ablation_groups(self) -> list[FigureGroup]:
        """The tables of what is varied."""
        of = [keys(criteria) for criteria in self._criteria]
        seconds, values = _union(each.hardest_seconds_to for each in of), _union(each.values for each in of)
        return [
            FigureGroup(self.groups()[0].title, ["s_per_round", *seconds, *values]),
            FigureGroup(
                "Communication and memory",
                ["payload_mb", *_union(each.hardest_mb_to for each in of), "peak_mib"],
            ),
        ]

    def shown(self, keys: Sequence[str]) -> dict[str, str]:
        """Of these figures those that there can be, with their heads."""
        if not self.foreseen:
            return {key: self.figures[key].head for key in keys}
        there = {key: of.head for key in keys if not (of := self.figures[key]).trained and key != "peak_mib"}
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
        return estimate_mean(
            [result.figures.get(figure) for result in self.played(profile, variant, algorithm).values()]
        )


def all_figures(results: Sequence[SweepResult]) -> dict[str, Figure]:
    """By name, of all metrics by which results are judged."""
    return {key: each for judged in _distinct(results) for key, each in figures(criteria_of(judged)).items()}


def _distinct(results: Sequence[SweepResult]) -> list[Judged | None]:
    """Criteria by their metrics: the naive answer's score follows the data of a seed."""
    found = {criteria_of(result.judged).metrics: result.judged for result in reversed(results)}
    return [*reversed(found.values())] or [None]


def _union(names: Iterable[Sequence[str]]) -> list[str]:
    return [*dict.fromkeys(name for some in names for name in some)]


def _words(criteria: Criteria) -> tuple[str, str, str]:
    """Its metrics, its targets and the hardest of them in words."""
    return criteria.words, criteria.reaching("test "), criteria.reaching(hardest=True)


def _listed(words: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(filter(None, words)))


def benchmark(results: Results, profile: str) -> list[Table]:
    """A profile's tables, a row an algorithm; the unvaried runs."""
    names = [name for name in results.algorithms if results.played(profile, "", name)]
    ranked = [index for index, name in enumerate(names) if results.finished(profile, name)]
    unfit = [text for name in names if (text := _unfit([*results.played(profile, "", name).values()]))]
    found = []
    for group in results.groups():
        rows: list[TableRow] = []
        shown = results.shown(group.keys)
        for name in names:
            cells = (cell(results.estimate(profile, "", name, key), results.figures[key].fine) for key in shown)
            rows.append([name, count(len(results.played(profile, "", name))), *cells])
        headers = ["algorithm", "seeds", *shown.values()]
        table = Table(
            title=f"{profile}: {group.title.lower()}",
            headers=headers,
            label_columns=1,
            rows=rows,
            caption=f"{group.means} {OVER_SEEDS} {BEST}: the best, by more than the seeds explain.",
            best={i: results.figures[key].best for i, key in enumerate(shown, 2) if _stands_out(results, profile, key)},
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
        values = {seed: value for seed, result in played.items() if (value := result.figures.get(key)) is not None}
        if values and len(values) == len(played) and results.finished(profile, name):
            complete[name] = values
    if len(complete) < 2:
        return False
    first = min if results.figures[key].best == "least" else max
    best = complete.pop(first(complete, key=lambda name: statistics.fmean(complete[name].values())))
    pairs = ([(value, best[seed]) for seed, value in other.items() if seed in best] for other in complete.values())
    found = [paired(each) for each in pairs]
    return all(each and each.half_width is not None and abs(each.mean) > each.half_width for each in found)


def differences(results: Results, profile: str, reference: str) -> list[Table]:
    """What another algorithm has more than the reference, within each seed."""
    others = [name for name in results.algorithms if name != reference and results.played(profile, "", name)]
    there = results.played(profile, "", reference)
    found = []
    for group in results.groups():
        rows: list[TableRow] = []
        some = results.shown(group.keys)
        for name in others:
            played = results.played(profile, "", name)
            pairs = [(result, there[seed]) for seed, result in played.items() if seed in there]
            cells = {key: [(one.figures.get(key), other.figures.get(key)) for one, other in pairs] for key in some}
            differ = (difference(paired(each), results.figures[key].fine) for key, each in cells.items())
            rows.append([name, count(len(pairs)), *differ])
        table = Table(
            title=f"{profile}: difference to {reference}, {group.title.lower()}",
            headers=["algorithm", "seeds", *some.values()],
            label_columns=1,
            rows=rows,
            caption=f"The other's figure minus that of {reference} within each seed: mean and half width of its 95 % "
            "interval (Student's t). An interval without 0 is a difference that the seeds do not explain.",
        )
        found += [table] if rows else []
    return found


def ablation(results: Results, profile: str, varied: Ablation) -> list[Table]:
    """What a setting changes: a row for each algorithm and value that was played."""
    found = []
    for group in results.ablation_groups():
        rows: list[TableRow] = []
        shown = results.shown(group.keys)
        for name, labels in varied.rows.items():
            for variant, label in labels.items():
                if results.played(profile, variant, name):
                    cells = (
                        cell(results.estimate(profile, variant, name, key), results.figures[key].fine) for key in shown
                    )
                    rows.append([name, label, *cells])
        table = Table(
            title=f"{profile}, {varied.title} varied: {group.title.lower()}",
            headers=["algorithm", "setting", *shown.values()],
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


def cell(found: Estimate | None, fine: bool = False) -> TableCell:
    """``mean ± std``; how many have it where not all do, on a line below, and then no value, since it is no best."""
    return _spread(found, found.std, fine=fine) if found else TableCell(None, NOTHING)


def difference(found: Estimate | None, fine: bool = False) -> TableCell:
    """``±mean ± half width`` of the 95 % interval."""
    return _spread(found, found.half_width, signed=True, fine=fine) if found else TableCell(None, NOTHING)


def _spread(found: Estimate, spread: float | None, *, fine: bool, signed: bool = False) -> TableCell:
    beside = f" ± {number(spread, fine=fine)}" if spread is not None else ""
    text = f"{number(found.mean, signed=signed, fine=fine)}{beside}"
    return TableCell(found.mean, text) if found.n == found.of else TableCell(None, f"{text}\n({found.n} of {found.of})")


def to_csv(results: Sequence[SweepResult]) -> str:
    """A row a result, then rows ``mean``, ``std`` and ``n`` for each profile, variant and algorithm."""
    of = all_figures(results)
    headers = ["row", "profile", "variant", "algorithm", "seed", "outcome", "why", "folder", *of]
    rows: list[dict[str, Value]] = [
        {"row": "run", **msgspec.structs.asdict(result), **result.figures} for result in results
    ]
    for profile, variant, algorithm in dict.fromkeys((r.profile, r.variant, r.algorithm) for r in results):
        found = Results(results, sorted({result.seed for result in results}))
        each = {key: found.estimate(profile, variant, algorithm, key) for key in of}
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
