"""The run's tables by name, from ``summary.json`` alone: each by itself, all as Markdown.

A verdict that is bad stands above the tables, with its reasons. Every head says the unit; a sentence or two below a
table say what its columns mean. Made for 80 columns. What a run prints of them: ``overview``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches

import msgspec

from emulator.analysis.latency import CAUSES
from emulator.analysis.metrics import figures, keys, largest
from emulator.analysis.summary import Algorithms, AlgorithmSummary, Summary
from emulator.checks.clock_limits import limits_of
from emulator.checks.findings import HostBottleneck
from emulator.errors import UserError
from emulator.ledger.criteria import Criteria
from emulator.tables import clients_data, communication, computations, energy
from emulator.tables import memory as memory_sheets
from emulator.tables.figure_columns import figure_column, finished
from emulator.tables.headline import incomplete_lines, trained, verdict_label
from emulator.tables.table import BEST_MEANS, Column, Table, TableRow, count, figure, from_columns, markdown, number

OUTCOMES = {"does-not-fit": "does not fit", "would-not-fit": "would not fit"}
DRY_RUN = (
    "Dry run: nothing was trained. Payload and framed bytes are exact where no message's size depends on the values of "
    "tensors, as in all methods that ship; seconds are the model's, without a host's delays; memory is foreseen from "
    "the tensors of one client, within about 10 % + 1 MiB; {} takes a run."
)
FULL_PERCENT = 100.0


def to_markdown(summary: Summary) -> str:
    """``tables.md``: verdict, every table, and notes."""
    lines = [f"# {title(summary)}", ""]
    for line in incomplete_lines(summary):
        lines += [f"**{line}**", ""]
    for line in verdict(summary):
        lines += [f"**{line}**" if summary.health.reasons else line, ""]
    for table in named(summary, [*TABLES]):
        lines += markdown(table)
    for line in remarks(summary):
        lines += [line, ""]
    return "\n".join(lines)


# --- the tables ---------------------------------------------------------------------------------------------------


def named(summary: Summary, names: Sequence[str]) -> list[Table]:
    """The tables of these names; a name has none where the run has nothing of its kind."""
    return [table for name in names for table in TABLES[name](summary)]


def chosen(text: str | None) -> list[str]:
    """The names that ``--tables`` says, in the tables' order; UserError where there is none of a name."""
    names = [name.strip() for name in text.split(",")] if text is not None else []
    if names == ["all"]:
        return [*TABLES]
    for name in names:
        if name not in TABLES:
            near = get_close_matches(name, TABLES, 1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"--tables {name}: there is none of this name; {meant}say all, or any of {listed()}")
    return [name for name in TABLES if name in names]


def listed() -> str:
    """The names of all tables."""
    return ", ".join(TABLES)


def run_tables(summary: Summary) -> list[Table]:
    """The tables that have a row for each method."""
    return named(summary, [name for name in TABLES if name not in ("computations", "data")])


def _latency_beside_chance(summary: Summary) -> Table:
    found = _latency(summary.algorithms, summary.criteria)
    beside = clients_data.naive_answer(summary) if trained(summary) else ""
    return msgspec.structs.replace(found, caption=f"{found.caption} {beside}".rstrip())


def _latency(algorithms: Algorithms, criteria: Criteria) -> Table:
    of, named = figures(criteria), keys(criteria)
    reaching = criteria.reaching()
    until = ", their mean per round, and until the first round whose joined model has {} on the test set"
    seconds = until.format(reaching) if reaching else ", and their mean per round"
    each = [*algorithms.values()]
    ended = ["foreseen" if one.foreseen and one.outcome == "finished" else one.outcome for one in each]
    return from_columns(
        [
            Column("algorithm", [*algorithms]),
            Column("outcome", [outcome(ending) for ending in ended]),
            Column("rounds", [count(algorithm.rounds) for algorithm in each]),
            figure_column(algorithms, of["s_per_round"]),
            Column("total\ns", [figure(algorithm.seconds) for algorithm in each]),
            *(figure_column(algorithms, of[key]) for key in (*named.seconds_to, *named.values)),
        ],
        title="Latency",
        label_columns=2,
        caption=f"Emulated seconds until the end of the last round{seconds}; {criteria.words} after the last round. "
        f"{BEST_MEANS}",
        ranked=finished(algorithms),
        results=unfit(algorithms),
    )


def _causes(algorithms: Algorithms) -> Table:
    rows: list[TableRow] = []
    headers = ("compute\ns", "seriali-\nsation s", "propa-\ngation s", "queueing\ns", "idle,\nwaiting s")
    for name, algorithm in algorithms.items():
        split = algorithm.round_latency_s
        whole = sum(split.values()) if split else None
        rows.append([name, *(figure(split[cause] if split else None) for cause in CAUSES), figure(whole)])
    return Table(
        title="Latency of a round by cause",
        headers=["algorithm", *headers, "round\ns"],
        label_columns=1,
        rows=rows,
        caption="Of a mean round, mean over clients, by due times. Each instant is attributed to the first matching "
        "state: the client computes; bits of a message of its own are leaving, either way (serialisation delay); one "
        "is on its way (propagation delay); one waits for the link (TCP's set-up too), or at the server for its "
        "computation to begin (queueing delay); else the client is idle and waits for others.",
    )


def _server(algorithms: Algorithms) -> Table:
    rows: list[TableRow] = []
    for name, algorithm in algorithms.items():
        server, length_s = algorithm.server, algorithm.length_s
        used = server.busy_s / length_s / (server.workers or 1) if server and length_s else None
        busy = (server.busy_s, server.align_s, server.queue_wait_s, server.align_wait_s) if server else [None] * 4
        held_mib = server.held_mib if server else None
        rows.append([name, *map(figure, busy), figure(used, FULL_PERCENT), figure(held_mib)])
    return Table(
        title="The server",
        headers=["algorithm", "busy\ns", "of it\nalign s", "queue\ns", "of it\nalign s", "used\n%", "held\nMiB"],
        label_columns=1,
        rows=rows,
        caption="Sum of its computations' durations; how long messages queued for them, each from its arrival, or the "
        "end of the last computation for the same client, to the begin of its own (–: the record does not say); of "
        "both the part of functions named align or refresh, of auxiliary models; busy time over that of all workers "
        "for the whole run. By due times. Held: the most payload at once that was posted and had not left, each "
        "message in full; there is no limit to it.",
    )


def _alignment(algorithms: Algorithms) -> Table:
    rows: list[TableRow] = []
    for name, algorithm in algorithms.items():
        if found := algorithm.alignment:
            before, after = [row.before for row in found], [row.after for row in found]
            cells = (before[0], after[0], sum(before) / len(found), sum(after) / len(found))
            rows.append([name, count(len(found)), *map(figure, cells)])
    return Table(
        title="Alignment of auxiliary models",
        headers=["algorithm", "aligned\nrounds", "first:\nbefore", "\nafter", "mean:\nbefore", "\nafter"],
        label_columns=1,
        rows=rows,
        caption="Error of the gradients that auxiliaries estimate, on the samples that they are aligned with, before "
        "an alignment's first step and after its last: sum of squares over that of the true gradients, mean over "
        "clients. 1.00 is what predicting zero has.",
    )


TABLES: dict[str, Callable[[Summary], list[Table]]] = {  # by the names of ``--tables``
    "latency": lambda summary: [_latency_beside_chance(summary)],
    "causes": lambda summary: [_causes(summary.algorithms)],
    "volume": lambda summary: [communication.in_all(summary.algorithms, summary.criteria)],
    "kinds": lambda summary: [communication.by_kind(summary.algorithms)],
    "memory": lambda summary: [memory_sheets.by_device(summary.algorithms)],
    "memory-parts": lambda summary: memory_sheets.by_category(summary.algorithms),
    "model-memory": memory_sheets.with_model,
    "energy": energy.tables,
    "server": lambda summary: [_server(summary.algorithms)],
    "alignment": lambda summary: [_alignment(summary.algorithms)] * _aligned(summary),
    "computations": lambda summary: [computations.computations_table(summary.algorithms)],
    "data": lambda summary: clients_data.clients_data_tables(summary.data),
}


def _aligned(summary: Summary) -> bool:
    return any(algorithm.alignment for algorithm in summary.algorithms.values())


# --- lines around them --------------------------------------------------------------------------------------------


def title(summary: Summary) -> str:
    """Which run it was."""
    dilation = summary.dilation or 1
    slowed = f", dilation {dilation}" if dilation != 1 else ""
    clock = f"{summary.clock} clock" if trained(summary) else "dry run"
    return f"Profile {summary.profile}, {clock}, seed {summary.seed}{slowed}"


def verdict(summary: Summary) -> list[str]:
    """The run's verdict on itself, in lines; the first says it."""
    health = summary.health
    if not trained(summary):
        doubts = ["Do not trust the figures below:"] if health.reasons else []
        return [DRY_RUN.format(summary.criteria.metric.words), *doubts, *(f"- {reason}" for reason in health.reasons)]
    if health.verdict == "unplayed":
        return [f"Verdict: {verdict_label(summary)}."]
    if health.verdict in ("good", "partial") and not any(each.rounds for each in health.algorithms.values()):
        return [f"Verdict: {verdict_label(summary)}: no round has ended, so there are no figures."]
    if health.verdict in ("good", "partial"):
        judged = list(health.algorithms.values())
        lag = largest(each.lag_max_ms for each in judged)
        late = largest(each.late_p95_ms for each in judged)
        clamps = sum(each.clamps for each in judged)
        if not lag and not clamps and not largest(each.late_max_ms for each in judged):
            if not limits_of(summary.clock).host_matters:
                by_rule = "this clock lets everything take place when it is due: seconds are the model's"
                return [f"Verdict: {verdict_label(summary)}; {by_rule}, without a host's delays."]
            what = "Every round ended and every message arrived"
            if incomplete_lines(summary):
                what = "Every round that has ended and every message that arrived did so"
            return [f"Verdict: {verdict_label(summary)}. {what} exactly when it was due."]
        moved = sum(each.clamped_ms for each in judged)
        return [
            f"Verdict: {verdict_label(summary)}. Rounds ended at most {number(lag)} ms off; 95 % of messages at most "
            f"{number(late)} ms late; {clamps} clamps ({number(moved)} ms in all)."
        ]
    incomplete = all(found.law == "refused" for found in health.findings if found.severity == "reason")
    verdict = (
        "INCOMPLETE. The figures of the other methods hold:" if incomplete else "BAD. Do not trust the figures below:"
    )
    return [f"Verdict: {verdict}", *(f"- {reason}" for reason in health.reasons)]


def notes(summary: Summary) -> list[str]:
    """What the verdict noted, and what is odd about the data."""
    found = [each for each in summary.health.findings if each.severity == "note"]
    noted = [each for each in found if each.law not in ("does-not-fit", "interrupted")]
    return [f"Note: {note}" for note in (*noted, *clients_data.remarks(summary))]


def remarks(summary: Summary) -> list[str]:
    """What stands below the tables: notes, and where the host was tightest."""
    remarks = notes(summary)
    slowest = max(summary.algorithms.items(), key=lambda each: each[1].dilation, default=None)
    if slowest and slowest[1].dilation_why:
        name, algorithm = slowest
        remarks.append(f"Dilation {algorithm.dilation} ({name}): {algorithm.dilation_why}.")
    for name, each in summary.algorithms.items():
        remarks += [f"Abandoned ({name}): {text}; nothing of it is counted." for text in each.abandoned]
    tight = [item for each in summary.health.algorithms.values() for item in each.bottlenecks]
    spans: dict[tuple[str, str], HostBottleneck] = {}
    for item in sorted(tight, key=lambda item: -item.ratio):
        spans.setdefault((item.function, item.device), item)
    if spans:
        worst = "; ".join(
            f"{function} of {device} {number(item.host_ms)} of {number(item.span_ms)}"
            for (function, device), item in list(spans.items())[:3]
        )
        remarks.append(f"Tightest computations, ms that the host took of the emulated ms: {worst}.")
    return remarks


def unfit(algorithms: Algorithms) -> list[str]:
    """A sentence for each method that does not fit a client's memory."""
    return [text for name, algorithm in algorithms.items() if (text := _unfit(name, algorithm))]


def _unfit(name: str, algorithm: AlgorithmSummary) -> str:
    unfit = algorithm.does_not_fit
    if unfit is None:
        return ""
    if algorithm.foreseen:
        return (
            f"{name} would not fit: {unfit.client} ({unfit.device}) is foreseen to need about "
            f"{number(unfit.needed_mib)} MiB, its budget is {number(unfit.budget_mib)} MiB."
        )
    asked = f", and asked for {number(unfit.asked_mib)} MiB more" if unfit.asked_mib is not None else ""
    peak = f", peak {number(unfit.peak_mib)} MiB" if unfit.peak_mib is not None else ""
    needs = f"; it needs about {number(unfit.needed_mib)} MiB" if unfit.needed_mib is not None else ""
    return (
        f"{name} {outcome(unfit.outcome)}: {unfit.client} ({unfit.device}), in phase {unfit.phase}, "
        f"budget {number(unfit.budget_mib)} MiB{peak}{asked}{needs}."
    )


def outcome(outcome: str) -> str:
    """In words."""
    return OUTCOMES.get(outcome, outcome)
