"""The run's tables, from ``summary.json`` alone: on the terminal, as Markdown and as CSV.

A verdict that is bad stands above the tables, with its reasons. Every head says the unit; a sentence or two below a
table say what its columns mean. Made for 80 columns.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from emulator.analysis.communication import SIZES
from emulator.analysis.latency import CAUSES
from emulator.analysis.metrics import FIGURES
from emulator.checks.health import limits_of
from emulator.tables import clients_data, communication, computations
from emulator.tables import memory as memory_sheets
from emulator.tables.headline import partial, standing, trained
from emulator.tables.table import BEST_MEANS, Ranked, Sheet, markdown, number, show
from emulator.validation import printable

Json = Mapping[str, Any]

OUTCOMES = {"does-not-fit": "does not fit", "would-not-fit": "would not fit"}
DRY_RUN = (
    "Dry run: nothing was trained. Payload and framed bytes are exact; seconds are the model's, without a host's "
    "delays; memory is foreseen from the tensors of one client, within about 10 % + 1 MiB; accuracy takes a run."
)
FULL_PERCENT = 100.0


def print_tables(summary: Json, console: Console) -> None:
    """Print verdict, tables and their meaning to a terminal."""
    bad = bool(summary["health"]["reasons"])
    console.print(Text(printable(title(summary)), style="bold"))
    for line in partial(summary):
        console.print(Text(printable(line), style="bold red"))
    for line in verdict(summary):
        console.print(Text(printable(line), style="bold red" if bad else ""))
    for sheet in sheets(summary):
        show(sheet, console)
    for line in remarks(summary):
        console.print()
        console.print(Text(printable(line)))


def to_markdown(summary: Json) -> str:
    """The same as ``tables.md``, with what each computation costs, and what each client has of the data."""
    lines = [f"# {title(summary)}", ""]
    for line in partial(summary):
        lines += [f"**{line}**", ""]
    for line in verdict(summary):
        lines += [f"**{line}**" if summary["health"]["reasons"] else line, ""]
    for sheet in sheets(summary):
        lines += markdown(sheet)
    for sheet in [computations.sheet(summary["algorithms"]), *clients_data.sheets(summary)]:
        lines += markdown(sheet)
    for line in remarks(summary):
        lines += [line, ""]
    return "\n".join(lines)


def to_csv(summary: Json) -> str:
    """Long form: a row for each algorithm, then for its kinds of messages, then for its clients.

    Cells that do not apply are empty. A client's rows have its own bytes and times, an algorithm's the totals over
    clients, but for ``latency_..._s``, the mean over clients. Bytes are whole bytes.
    """
    sizes = [(size, way) for size in SIZES for way in ("up", "down")]
    heads = ["row", "algorithm", "name", "device", "network", "outcome", "rounds", "seconds_s"]
    heads += ["accuracy", "balanced_accuracy", "loss"]
    heads += ["messages", "official_bytes", *(f"{size}_{way}_bytes" for size, way in sizes)]
    heads += ["to_0.85_s", "to_0.85_bytes", "to_0.9_s", "to_0.9_bytes"]
    heads += ["server_busy_s", "server_align_s", "server_queue_wait_s", "server_align_wait_s", "server_held_mib"]
    heads += ["budget_mib", "baseline_mib", "peak_mib", "tensors_mib", "beside_mib", "needed_mib"]
    heads += ["compute_s", "transfer_s", "wait_s", *(f"latency_{cause}_s" for cause in CAUSES)]
    text = io.StringIO()
    writer = csv.DictWriter(text, heads, restval="", lineterminator="\n")
    writer.writeheader()
    for name, algorithm in summary["algorithms"].items():
        row = {
            key: algorithm[key]
            for key in ("outcome", "rounds", "accuracy", "balanced_accuracy", "loss", "official_bytes")
        }
        row |= {"row": "algorithm", "algorithm": name, "seconds_s": algorithm["seconds"], **_latencies(algorithm)}
        row |= {f"{size}_{way}_bytes": algorithm["bytes"][size][way] for size, way in sizes}
        for target, reached in algorithm["to_target"].items():
            row[f"to_{target}_s"] = reached["seconds"] if reached else ""
            row[f"to_{target}_bytes"] = reached["bytes"] if reached else ""
        for key in ("busy_s", "align_s", "queue_wait_s", "align_wait_s", "held_mib"):
            row[f"server_{key}"] = (algorithm["server"] or {}).get(key, "")
        writer.writerow(row)
        for kind, sent in communication.kinds(algorithm).items():
            row = {"row": "kind", "algorithm": name, "name": kind, "messages": sent["messages"]}
            row |= {f"{size}_{way}_bytes": sent[way][size] for size, way in sizes}
            writer.writerow(row | {"official_bytes": sent["official"]})
        for client in algorithm["clients"]:
            row = {key: value for key, value in client.items() if key in heads}
            row |= {"row": "client", "algorithm": name, **_latencies(client)}
            row |= {f"{size}_{way}_bytes": client["bytes"][size][way] for size, way in sizes}
            writer.writerow(row)
    return text.getvalue()


def _latencies(entry: Json) -> dict[str, float]:
    return {f"latency_{cause}_s": seconds for cause, seconds in (entry["latency_s"] or {}).items()}


# --- the tables ---------------------------------------------------------------------------------------------------


def sheets(summary: Json) -> list[Sheet]:
    """The tables, in order; the best values are looked for among the algorithms that finished."""
    algorithms = summary["algorithms"]
    ranked = _finished(algorithms)
    sent = [communication.in_all(algorithms, ranked), communication.by_kind(algorithms)]
    memory = [memory_sheets.by_device(algorithms), *memory_sheets.by_category(algorithms)]
    found = [_latency(algorithms), _causes(algorithms), *sent, *memory, _server(algorithms)]
    beside = clients_data.accuracy_of_the_largest(summary) if trained(summary) else ""
    found[0] = msgspec.structs.replace(found[0], meaning=f"{found[0].meaning} {beside}".rstrip())
    return found + [_alignment(algorithms)] * any(algorithm["alignment"] for algorithm in algorithms.values())


def _finished(algorithms: Json) -> list[int]:
    """The rows of those whose figures may be compared."""
    return [index for index, each in enumerate(algorithms.values()) if each["outcome"] == "finished"]


def _latency(algorithms: Json) -> Sheet:
    rows = []
    keys = ("s_per_round", "s_to_85", "s_to_90", "accuracy_percent")
    values = {key: [FIGURES[key].of(algorithm) for algorithm in algorithms.values()] for key in keys}
    for index, (name, algorithm) in enumerate(algorithms.items()):
        first, *others = (number(values[key][index]) for key in keys)
        ended = "foreseen" if algorithm["foreseen"] and algorithm["outcome"] == "finished" else algorithm["outcome"]
        what = [name, _outcome(ended), str(algorithm["rounds"])]
        rows.append([*what, first, number(algorithm["seconds"]), *others])
    return Sheet(
        title="Latency",
        heads=["algorithm", "outcome", "rounds", "s per\nround", "total\ns", "s to\n85 %", "s to\n90 %", "accuracy\n%"],
        names=2,
        rows=rows,
        meaning="Emulated seconds until the end of the last round, their mean per round, and until the first round "
        "whose joined model has 85 or 90 % top-1 accuracy on the test set; accuracy after the last round. "
        f"{BEST_MEANS}",
        best={column: Ranked(FIGURES[key].best, values[key]) for column, key in zip((3, 5, 6, 7), keys, strict=True)},
        ranked=_finished(algorithms),
        results=[text for name, algorithm in algorithms.items() if (text := _unfit(name, algorithm))],
    )


def _causes(algorithms: Json) -> Sheet:
    rows, short = [], ("compute", "leaving", "on its way", "queueing", "waiting")
    for name, algorithm in algorithms.items():
        split = algorithm["round_latency_s"]
        whole = sum(split.values()) if split else None
        rows.append([name, *(number(split[cause] if split else None) for cause in CAUSES), number(whole)])
    return Sheet(
        title="Where the seconds of a round go",
        heads=["algorithm", *(f"{cause}\ns" for cause in short), "round\ns"],
        names=1,
        rows=rows,
        meaning="Of a mean round, mean over clients, by due times; every instant counts once, to the first that holds: "
        "the client computes; bits of a message of its own are leaving, either way (serialisation); one is on its way "
        "(propagation); one waits for the link (TCP's set-up too), or at the server for its computation to begin; else "
        "the client waits for others.",
    )


def _server(algorithms: Json) -> Sheet:
    rows = []
    for name, algorithm in algorithms.items():
        server = algorithm["server"] or {}
        busy_s, length_s, workers = server.get("busy_s"), algorithm["length_s"], server.get("workers") or 1
        used = busy_s / length_s / workers if busy_s is not None and length_s else None
        seconds = (number(server.get(f"{what}_s")) for what in ("busy", "align", "queue_wait", "align_wait"))
        rows.append([name, *seconds, number(used, FULL_PERCENT), number(server.get("held_mib"))])
    return Sheet(
        title="The server",
        heads=["algorithm", "busy\ns", "of it\nalign s", "queue\ns", "of it\nalign s", "used\n%", "held\nMiB"],
        names=1,
        rows=rows,
        meaning="Sum of its computations' durations; how long messages queued for them, each from its arrival, or the "
        "end of the last computation for the same client, to the begin of its own (–: the record does not say); of "
        "both the part of functions named align or refresh, of auxiliary models; busy time over that of all workers "
        "for the whole run. By due times. Held: the most payload at once that was posted and had not left, each "
        "message in full; there is no limit to it.",
    )


def _alignment(algorithms: Json) -> Sheet:
    rows = []
    for name, algorithm in algorithms.items():
        if found := algorithm["alignment"]:
            before, after = ([row[key] for row in found] for key in ("before", "after"))
            cells = (before[0], after[0], sum(before) / len(found), sum(after) / len(found))
            rows.append([name, str(len(found)), *map(number, cells)])
    return Sheet(
        title="Alignment of auxiliary models",
        heads=["algorithm", "aligned\nrounds", "first:\nbefore", "\nafter", "mean:\nbefore", "\nafter"],
        names=1,
        rows=rows,
        meaning="Error of the gradients that auxiliaries estimate, on the samples that they are aligned with, before "
        "an alignment's first step and after its last: sum of squares over that of the true gradients, mean over "
        "clients. 1.00 is what predicting zero has.",
    )


# --- lines around them --------------------------------------------------------------------------------------------


def title(summary: Json) -> str:
    """Which run it was."""
    dilation = summary.get("dilation") or 1
    slowed = f", dilation {dilation}" if dilation != 1 else ""
    clock = f"{summary['clock']} clock" if trained(summary) else "dry run"
    return f"Profile {summary['profile']}, {clock}, seed {summary['seed']}{slowed}"


def verdict(summary: Json) -> list[str]:
    """The run's verdict on itself, in lines; the first says it."""
    health = summary["health"]
    if not trained(summary):
        doubts = ["Do not trust the figures below:"] if health["reasons"] else []
        return [DRY_RUN, *doubts, *(f"- {reason}" for reason in health["reasons"])]
    if health["verdict"] == "unplayed":
        return [f"Verdict: {standing(summary)}."]
    if health["verdict"] in ("good", "partial") and not any(each["rounds"] for each in health["algorithms"].values()):
        return [f"Verdict: {standing(summary)}: no round has ended, so there are no figures."]
    if health["verdict"] in ("good", "partial"):
        figures = list(health["algorithms"].values())
        lag = _largest(figures, "lag_max_ms")
        late = _largest(figures, "late_p95_ms")
        clamps = sum(figure["clamps"] for figure in figures)
        if not lag and not clamps and not _largest(figures, "late_max_ms"):
            if not limits_of(summary).host_matters:
                by_rule = "this clock lets everything take place when it is due: seconds are the model's"
                return [f"Verdict: {standing(summary)}; {by_rule}, without a host's delays."]
            what = "Every round ended and every message arrived"
            if partial(summary):
                what = "Every round that has ended and every message that arrived did so"
            return [f"Verdict: {standing(summary)}. {what} exactly when it was due."]
        moved = sum(figure["clamped_ms"] for figure in figures)
        return [
            f"Verdict: {standing(summary)}. Rounds ended at most {number(lag)} ms off; 95 % of messages at most "
            f"{number(late)} ms late; {clamps} clamps ({number(moved)} ms in all)."
        ]
    refused = tuple(f"{name}: refused" for name in summary["algorithms"])
    incomplete = all(reason.startswith(refused) for reason in health["reasons"])
    verdict = (
        "INCOMPLETE. The figures of the other methods hold:" if incomplete else "BAD. Do not trust the figures below:"
    )
    return [f"Verdict: {verdict}", *(f"- {reason}" for reason in health["reasons"])]


def remarks(summary: Json) -> list[str]:
    """What stands below the tables: what the verdict noted, and where the host was tightest."""
    notes = [note for note in summary["health"]["notes"] if not note.endswith(": does-not-fit")]
    remarks = [f"Note: {note}" for note in (*notes, *clients_data.remarks(summary))]
    slowest = max(summary["algorithms"].items(), key=lambda each: each[1]["dilation"], default=None)
    if slowest and slowest[1].get("dilation_why"):
        name, algorithm = slowest
        remarks.append(f"Dilation {algorithm['dilation']} ({name}): {algorithm['dilation_why']}.")
    tight = [item for figures in summary["health"]["algorithms"].values() for item in figures["tightest"]]
    spans: dict[tuple[str, str], Json] = {}
    for item in sorted(tight, key=lambda item: -item["ratio"]):
        spans.setdefault((item["function"], item["device"]), item)
    if spans:
        worst = "; ".join(
            f"{function} of {device} {number(item['host_ms'])} of {number(item['span_ms'])}"
            for (function, device), item in list(spans.items())[:3]
        )
        remarks.append(f"Tightest computations, ms that the host took of the emulated ms: {worst}.")
    return remarks


def _unfit(name: str, algorithm: Json) -> str:
    unfit = algorithm["does_not_fit"]
    if unfit is None:
        return ""
    if algorithm["foreseen"]:
        return (
            f"{name} would not fit: {unfit['client']} ({unfit['device']}) is foreseen to need about "
            f"{number(unfit['needed_mib'])} MiB, its budget is {number(unfit['budget_mib'])} MiB."
        )
    asked = f", and asked for {number(unfit['asked_mib'])} MiB more" if unfit["asked_mib"] is not None else ""
    peak = f", peak {number(unfit['peak_mib'])} MiB" if unfit["peak_mib"] is not None else ""
    needs = f"; it needs about {number(unfit['needed_mib'])} MiB" if unfit["needed_mib"] is not None else ""
    return (
        f"{name} {_outcome(unfit['outcome'])}: {unfit['client']} ({unfit['device']}), in phase {unfit['phase']}, "
        f"budget {number(unfit['budget_mib'])} MiB{peak}{asked}{needs}."
    )


def _outcome(outcome: str) -> str:
    return OUTCOMES.get(outcome, outcome)


def _largest(rows: Sequence[Json], key: str) -> float | None:
    return max((row[key] for row in rows if row[key] is not None), default=None)
