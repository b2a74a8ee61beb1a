"""A run's folder: manifest before anything starts; summary and tables from the ledger, whenever it ended."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import msgspec

from emulator import sources
from emulator.analysis.clock_agreement import Comparison, verdict_of
from emulator.analysis.recorded import RunRecord, recorded
from emulator.analysis.summary import to_json
from emulator.ledger.events import SCHEMA
from emulator.ledger.files import merged_lines
from emulator.ledger.run_folder import MERGED, atomic_write, replacing
from emulator.report import figures_csv
from emulator.tables import clients_data
from emulator.tables import run as tables
from emulator.tables.clock_agreement import clock_agreement_table
from emulator.tables.table import markdown

WRITTEN = (MERGED, "summary.json", "tables.md", "tables.csv")


def write_comparison(folder: Path, comparisons: dict[str, Comparison]) -> None:
    """``verify.json`` and ``verify.md`` above the folders of the two runs."""
    found = {
        "schema": SCHEMA,
        "verdict": verdict_of(comparisons),
        "algorithms": {name: msgspec.to_builtins(comparison) for name, comparison in comparisons.items()},
    }
    (folder / "verify.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "verify.md").write_text("\n".join(markdown(clock_agreement_table(comparisons))))


@functools.cache
def made_by() -> str:
    """A digest of what makes a summary of a ledger: where it differs, figures of the same ledger may."""
    return hashlib.sha256(json.dumps(sources.digests("emulator.analysis.summarize")).encode()).hexdigest()[:16]


def rebuild(folder: Path) -> RunRecord:
    """Write what is ``WRITTEN`` from the ledger. UserError where the folder holds no run, or cannot be written."""
    run = recorded(folder)
    with replacing(folder / MERGED, keeps=True) as merged:
        for name, events in run.timelines.items():
            merged.writelines(merged_lines(name, events))
    atomic_write(folder / "summary.json", to_json(msgspec.structs.replace(run.summary, made_by=made_by())))
    atomic_write(folder / "tables.md", tables.to_markdown(run.summary))
    atomic_write(folder / "tables.csv", figures_csv.to_csv(run.summary))
    if data := run.summary.data:
        atomic_write(folder / clients_data.NAME, clients_data.to_csv(data))
    return run
