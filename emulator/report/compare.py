"""Runs side by side: the same figures of each, their differences to the first, and what differs in their manifests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from emulator.analysis import recorded
from emulator.analysis.metrics import FIGURES, Figure, figures, keys
from emulator.analysis.summary import AlgorithmSummary
from emulator.ledger.manifest import Manifest
from emulator.tables.table import NOTHING, Table, TableCell, TableRow, count, figure

Json = Mapping[str, Any]

# Of a manifest, what differs between any two runs.
IGNORED = ("started", "command", "--out", "process")
FOLLOWS = ("data.clients[",)  # from settings, which differ too
SOURCES = "depends.sources."
MOST_FILES = 8  # that are named
MOST = 60  # characters of a value that is shown
FORESEEN = "peak, foreseen, MiB"  # a row of its own: no difference is taken between it and a measured one


def comparison_tables(runs: Sequence[recorded.RunRecord], names: Sequence[str]) -> list[Table]:
    """A table for each algorithm that at least two of the runs have."""
    algorithms = [name for name, count in algorithm_counts(runs).items() if count > 1]
    shown: dict[str, Figure] = {}
    for criteria in [run.summary.criteria for run in runs]:
        of, named = figures(criteria), keys(criteria)
        left_out = {"needed_mib", *named.mb_to} - {*named.hardest_mb_to}
        shown |= {each.title: each for key, each in of.items() if key not in left_out}
    peak = shown.pop(FIGURES["peak_mib"].title)  # last
    each = [*shown.values(), peak]
    return [_table(name, [run.summary.algorithms.get(name) for run in runs], names, each) for name in algorithms]


def algorithm_counts(runs: Sequence[recorded.RunRecord]) -> Counter[str]:
    """How many of the runs have each algorithm."""
    return Counter(name for run in runs for name in run.summary.algorithms)


def _table(name: str, found: Sequence[AlgorithmSummary | None], names: Sequence[str], shown: Sequence[Figure]) -> Table:
    rows: list[TableRow] = [
        ["rounds", *(count(each.rounds) if each else NOTHING for each in found), *[""] * (len(found) - 1)]
    ]
    for compared in shown:
        values = [compared.of(algorithm) if algorithm else None for algorithm in found]
        cells = (figure(value, fine=compared.fine) for value in values)
        rows.append([compared.title, *cells, *_beyond_first(values, compared.fine)])
    if any(each and each.foreseen for each in found):
        needed = FIGURES["needed_mib"].of
        values = [needed(each) if each and each.foreseen else None for each in found]
        rows.append([FORESEEN, *map(figure, values), *_beyond_first(values)])
    rows.append(["outcome", *(each.outcome if each else NOTHING for each in found), *[""] * (len(found) - 1)])
    more = [f"{other}\n- {names[0]}" for other in names[1:]]
    return Table(title=name, headers=["", *names, *more], label_columns=1, rows=rows, caption="")


def _beyond_first(values: Sequence[float | None], fine: bool = False) -> list[TableCell]:
    """What each of the others has more than the first."""
    first, *others = values
    more = (None if value is None or first is None else value - first for value in others)
    return [figure(each, signed=True, fine=fine) for each in more]


def differences(runs: Sequence[recorded.RunRecord], names: Sequence[str]) -> list[str]:
    """What is not the same in the manifests, in lines; settings only of algorithms that all runs have."""
    whole = all(run.manifest.parts for run in runs)
    flat = [dict(_flat(_facts(run.manifest, whole))) for run in runs]
    held = algorithm_counts(runs)
    ignored = (*IGNORED, *FOLLOWS, *(f"settings.{name}." for name, count in held.items() if count < len(runs)))
    lines = []
    changed: dict[str, None] = {}  # files of our source
    for key in dict.fromkeys(key for each in flat for key in each):
        values = [each.get(key, NOTHING) for each in flat]
        if len(set(values)) == 1 or key.startswith(ignored):
            continue
        if key.startswith(SOURCES):
            changed[key.removeprefix(SOURCES).partition(".")[2]] = None
        else:
            lines.append(f"  {key}: " + "; ".join(f"{n} {_short(v)}" for n, v in zip(names, values, strict=True)))
    if changed:
        more = f" and {len(changed) - MOST_FILES} more" if len(changed) > MOST_FILES else ""
        lines.append(f"  source: not the same in {', '.join([*changed][:MOST_FILES])}{more}")
    return lines


def _facts(manifest: Manifest, whole: bool) -> Json:
    """What a manifest says; ``whole``: with the numbers of devices and links, which older ones have not."""
    found: dict[str, Any] = msgspec.to_builtins(manifest)
    for node in found["nodes"]:
        node.pop("device_number", None), node.pop("network_number", None)
    return found if whole else found | {"scenario": None}


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{key}[{index}]")
    elif value is not None:
        yield key, str(value)


def _short(text: str) -> str:
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"
