"""What a run prints at its end, from its summary alone: verdict, the tables of the three questions, what they say.

80 columns, and with eight methods at most 45 lines from the verdict to the last. Every figure is in ``tables.csv``.
All other tables are in ``tables.md`` and the report; ``--tables`` prints those that are named.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from emulator.analysis import model_memory
from emulator.analysis.client_memory import budget_share, clients_that_fit
from emulator.analysis.latency import CAUSES
from emulator.analysis.metrics import figures
from emulator.analysis.summary import Algorithms, AlgorithmSummary, Summary
from emulator.checks.clock_limits import LIMITS, limits_of
from emulator.processes import CALL
from emulator.tables import run as tables
from emulator.tables.figure_columns import figure_column, finished
from emulator.tables.headline import headline, incomplete_lines, one_seed, target_of
from emulator.tables.table import (
    BEST,
    MARKED,
    NOTHING,
    Column,
    Table,
    count,
    figure,
    from_columns,
    short,
    show,
    wrapped,
)
from emulator.validation import printable

Line = tuple[str, str]  # its style, and its text

MOST_LINES, SAID_AFTER = 45, 2  # with eight methods; of them, where the record is and what comes next
WIDTH = 80
WORDS = {
    "compute": "\ncompute",
    "serialisation": "seriali-\nsation",
    "propagation": "propa-\ngation",
    "queueing": "\nqueueing",
    "waiting": "idle,\nwaiting",
}


def print_run(summary: Summary, console: Console, more: Sequence[str] = ()) -> None:
    """Print the verdict, the two tables (and those named in ``more``), notes, and what the numbers say."""

    def show_lines(lines: Iterable[Line]) -> None:
        for style, line in lines:
            console.print(Text(line, style=style), soft_wrap=True)  # a number is never cut off

    above, below = _above(summary, console.width), _wrapped(headline(summary), console.width, "bold")
    below += _wrapped(one_seed(summary), console.width)
    show_lines(above)
    for table in tables.named(summary, more):
        show(table, console)
    room = MOST_LINES - len(above) - len(below) - SAID_AFTER - 1
    show_lines([("", ""), *_notes(summary, console.width, room), *below])


def _above(summary: Summary, width: int) -> list[Line]:
    """Verdict and tables."""
    bad = bool(summary.health.reasons)
    head, *rest = tables.verdict(summary)
    lines = _wrapped(f"{tables.title(summary)}. {head}", width, "bold red" if bad else "bold")
    for text in incomplete_lines(summary):
        lines += _wrapped(text, width, "bold red")
    for text in rest:
        lines += _wrapped(text, width, "bold red" if bad else "")
    if summary.algorithms:
        for table in both(summary):
            lines += [("", ""), *drawn(table)]
            for result in table.results:
                lines += _wrapped(result, width, "bold")
            lines += _wrapped(table.caption, width, "dim")
    return lines


def _wrapped(text: str, width: int, style: str = "") -> list[Line]:
    return [(style, line) for line in wrapped(text, width)]


def _notes(summary: Summary, width: int, room: int) -> list[Line]:
    """The first notes, as many as there is ``room`` for, but one at least; of the others, how many there are."""
    found = [_wrapped(note, width) for note in tables.notes(summary)]
    shown: list[Line] = []
    for place, lines in enumerate(found):
        last = place == len(found) - 1
        if place and len(shown) + len(lines) + (not last) > room:
            return [*shown, ("", f"Note: {len(found) - place} more in tables.md.")]
        shown += lines
    return shown


def where(folder: Path, argv: Sequence[str], report: bool, summary: Summary) -> list[str]:
    """Where the record is, and the one command that comes next: a report; then whether it holds over seeds; or the run
    again where it cannot be trusted or was cut short. On the virtual clock, but where the real one was cut short."""
    bad, last = bool(summary.health.reasons), "tables.md: all tables"
    words = [*_without(argv, ("--out",))]
    if not bad and not incomplete_lines(summary):
        if not report:
            return [f"Record: {folder} ({last})", f"Next: {CALL} report {shlex.quote(str(folder))}"]
        last = "report.html: every table, pictures, sources"
        words = [word for word in _without(words, ("--seed", "--tables")) if word != "--report"] + ["--seeds", "5"]
    if limits_of(summary.clock).host_matters and (bad or not incomplete_lines(summary)):
        quiet = next(name for name, limits in LIMITS.items() if limits.trains and not limits.host_matters)
        words = [*_without(words, ("--clock", "--dilation")), "--clock", quiet]
    return [f"Record: {folder} ({last})", f"Next: {shlex.join([*CALL.split(), *words])}"]


def _without(argv: Sequence[str], flags: Sequence[str]) -> Iterator[str]:
    """The words of a command line but for these flags and their values."""
    words = iter(argv)
    for word in words:
        if word in flags:
            next(words, None)
        elif not word.startswith(tuple(f"{flag}=" for flag in flags)):
            yield word


def _table(title: str, summary: Summary, columns: Sequence[Column], caption: str, **more: Any) -> Table:
    algorithms = summary.algorithms
    names = Column("method", [_named(name, each) for name, each in algorithms.items()])
    return from_columns([names, *columns], title=title, caption=caption, ranked=finished(algorithms), **more)


def _named(name: str, algorithm: AlgorithmSummary) -> str:
    """A method, and below it how it ended where it did not finish."""
    return name if algorithm.outcome == "finished" else f"{name}\n{tables.outcome(algorithm.outcome)}"


def both(summary: Summary) -> list[Table]:
    """The two tables."""
    return [latency(summary), volume_and_memory(summary)]


def latency(summary: Summary) -> Table:
    """Seconds of a mean round by cause, until the target, and the metric at the end."""
    algorithms, goal, of = summary.algorithms, target_of(summary), figures(summary.criteria)
    each = [*algorithms.values()]
    columns = [Column("\nrounds", [count(algorithm.rounds) for algorithm in each])]
    columns.append(figure_column(algorithms, of["s_per_round"], "\nround"))
    splits = [algorithm.round_latency_s for algorithm in each]
    for cause in CAUSES:
        columns.append(Column(WORDS[cause], [figure(split[cause] if split else None) for split in splits]))
    until = ""
    if goal:
        until = f", and until {goal.in_full}"
        columns.append(figure_column(algorithms, of[f"s_to_{goal.key()}"], f"to\n{goal.short}"))
    metric = summary.criteria.metric
    if any(metric.name in algorithm.scores for algorithm in each):
        columns.append(figure_column(algorithms, of[metric.key], metric.narrow_head))
    caption = "Emulated time, mean over clients. Queueing: for link or server."
    results = tables.unfit(algorithms)
    found = _table("Latency, s: a mean round by cause" + until, summary, columns, caption, results=results)
    return msgspec.structs.replace(found, caption=f"{caption} {BEST}: the best.") if found.best_cells() else found


def volume_and_memory(summary: Summary) -> Table:
    """Communication volume and client memory beside each other."""
    algorithms, goal, of = summary.algorithms, target_of(summary), figures(summary.criteria)
    each = [*algorithms.values()]
    groups = {1: "Communication volume"}
    columns = [figure_column(algorithms, of["up_kb"]), figure_column(algorithms, of["down_kb"])]
    columns.append(figure_column(algorithms, of["payload_mb"], "total\nMB", ranks=False))
    if goal:
        columns.append(figure_column(algorithms, of[f"mb_to_{goal.key()}"], f"MB to\n{goal.short}"))
    dry = any(algorithm.foreseen for algorithm in each)
    model = summary.workload.model.rpartition(":")[2] if summary.workload else ""  # of one's own without its file
    groups[len(columns) + 1] = f"Client memory{f' ({model})' * bool(model)}"
    key, head = ("needed_mib", "at most\nMiB") if dry else ("peak_mib", "peak\nMiB")
    columns.append(figure_column(algorithms, of[key], head, ranks=False))
    columns.append(Column("% of\nbudget", [figure(budget_share(algorithm), 100) for algorithm in each]))
    columns.append(Column("clients\nthat fit", [_fitting(algorithm) for algorithm in each]))
    caption = "kB: a client's payload in a round, without initial weights; MB: of all messages. "
    caption += "Memory: foreseen, at most" if dry else "Peak: measured"
    caption += f"{_budgets(summary.algorithms)}."
    if found := model_memory.of(summary):
        groups[len(columns) + 1] = found.model
        needs = [found.methods.get(name) for name in algorithms]
        columns.append(Column("needs\nMiB", [model_memory.span_mib(need) if need else NOTHING for need in needs]))
        fits = [need and model_memory.fitting(need, a.clients) for need, a in zip(needs, each, strict=True)]
        columns.append(Column("clients\nthat fit", [str(fit) if fit else NOTHING for fit in fits]))
        caption += f" {found.model} (least-most): computed, {found.workload}."
        caption += f" {NOTHING} there: a method of your own, which nobody has computed." * (None in needs)
    return _table("", summary, columns, caption, groups=groups)


def _budgets(algorithms: Algorithms) -> str:
    """What clients that fit are judged by; nothing where no client has a budget."""
    clients = [client for algorithm in algorithms.values() for client in algorithm.clients]
    found = {client.device: client.budget_mib for client in clients if client.budget_mib is not None}
    if not found:
        return ""
    each = [f"{short(mib, 4)} MiB ({device})" for device, mib in sorted(found.items(), key=lambda item: item[1])]
    return f"; budget: {', '.join(each) if len(each) < 3 else f'{each[0]} to {each[-1]}'}, see run.py fit"


def _fitting(algorithm: AlgorithmSummary) -> str:
    fit = clients_that_fit(algorithm.clients)
    unfit = sum(client.outcome == "does-not-fit" for client in algorithm.clients)
    if fit is None:
        return f"no ({unfit})" if unfit else NOTHING
    return f"{fit} of {len(algorithm.clients)}"


def drawn(table: Table) -> list[Line]:
    """The lines of a table with their styles: a title, groups of columns, heads, a rule, rows.

    Nothing is ever cut off: where the terminal is too narrow, it wraps.
    """
    headers, rows = (
        [head.split("\n") for head in table.headers],
        [[c.split("\n") for c in row] for row in table.texts(MARKED)],
    )
    for row in (headers, *rows):
        height = max(map(len, row))
        for index, cell in enumerate(row):
            blank = [""] * (height - len(cell))
            row[index] = blank + cell if row is headers else cell + blank
    widths = [max(cell_len(line) for row in (headers, *rows) for line in row[index]) for index in range(len(headers))]
    if sum(widths) + len(widths) - 1 + len(table.groups) <= WIDTH:  # room to set groups apart
        widths = [width + (index in table.groups) for index, width in enumerate(widths)]
    starts = [sum(width + 1 for width in widths[:index]) + (index in table.groups) for index in range(len(widths))]

    def line(row: Sequence[Sequence[str]], at: int) -> str:
        cells = [" " * (width - cell_len(c[at])) for width, c in zip(widths, row, strict=True)]
        padded = [row[i][at] + cells[i] if i < table.label_columns else cells[i] + row[i][at] for i in range(len(row))]
        return " ".join(padded).rstrip()

    above = table.title
    for index, text in table.groups.items():
        above = f"{above.ljust(starts[index] - 1)} {text}" if above else f"{'':{starts[index]}}{text}"
    lines = [("bold", above)]
    lines += [("", line(headers, at)) for at in range(len(headers[0]))]
    lines.append(("", "─" * (sum(widths) + len(widths) - 1)))
    lines += [("", line(row, at)) for row in rows for at in range(len(row[0]))]
    return [(style, printable(text)) for style, text in lines]
