"""What was played below a bench's folder, by what it depends on."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from algorithms.commands.sweep import dependencies
from algorithms.commands.sweep.grid import SweepRun
from emulator.analysis.summary import AlgorithmSummary, Summary, read_summary
from emulator.errors import SplitbedError
from emulator.ledger import run_folder
from emulator.ledger.census import Judged
from emulator.ledger.manifest import Manifest, read_manifest

COUNTED = ("finished", "diverged", "does-not-fit", "would-not-fit")  # outcomes that are results


class Found(NamedTuple):
    """The record of one algorithm. ``judged``: by what; ``why``: why it cannot be counted, or empty."""

    folder: Path
    algorithm: str
    entry: AlgorithmSummary
    judged: Judged | None
    why: str


class Noted(NamedTuple):
    """What a record says it depends on, of one algorithm."""

    folder: Path
    manifest: Manifest
    parts: dependencies.Parts


class Records:
    """What was played below a bench's folder; ``wanted``: the keys of all that it may be asked for."""

    def __init__(self, folder: Path, wanted: Collection[str]) -> None:
        self.folder = folder / "runs"
        self.found: dict[str, Found] = {}
        self.unread: list[str] = []
        self._wanted = wanted
        self._noted: dict[str, list[Noted]] = {}  # by algorithm
        for manifest in sorted(self.folder.glob("*/manifest.json")):
            self.add(manifest.parent)

    def add(self, run: Path) -> None:
        """Look at a run's folder; one that was cut short, or whose tables an older version made, gets them anew."""
        import msgspec

        try:
            manifest = read_manifest(run)
            keys = {}
            for name in manifest.algorithms:
                try:
                    parts = dependencies.parts_of(manifest, name)
                except (SplitbedError, msgspec.ValidationError, KeyError):  # settings, data or a method of another day
                    parts = {}
                self._noted.setdefault(name, []).append(Noted(run, manifest, parts))
                keys[name] = dependencies.key_of(parts)
            if not set(keys.values()) & set(self._wanted):
                return
            summary = _summary(run)
            judged = summary.data.judged if summary.data else None
            for name, entry in summary.algorithms.items():
                key, found = keys[name], Found(run, name, entry, judged, _doubt(name, entry, summary))
                if key and (key not in self.found or self.found[key].why):
                    self.found[key] = found
        except (SplitbedError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            self.unread.append(f"{run}: is no record that this version can read ({error}); it is left as it is")

    def counts(self, key: str) -> bool:
        """Whether a key was played, with a result that can be trusted."""
        return key in self.found and not self.found[key].why

    def new(self, cell: SweepRun, taken: Collection[Path] = ()) -> Path:
        """A folder for another run, which is none of those ``taken``."""
        number = 1
        while (run := self.folder / f"{cell.stem}{f'-{number}' * (number > 1)}").exists() or run in taken:
            number += 1
        return run

    def why_again(self, cell: SweepRun) -> str:
        """Why a cell that was played before does not count, in words; empty where it was not played."""
        if cell.key in self.found:
            return self.found[cell.key].why
        name = re.compile(re.escape(cell.stem) + r"(-\d+)?")
        before = [noted for noted in self._noted.get(cell.algorithm, []) if name.fullmatch(noted.folder.name)]
        if not before:
            return ""
        last = max(before, key=lambda noted: noted.manifest.started)
        parts = dependencies.parts_of(cell.manifest, cell.algorithm)
        return dependencies.why_again(last.manifest, last.parts, cell.manifest, parts)


def again(records: Records, cells: Sequence[SweepRun]) -> Iterator[str]:
    """Lines that say which of the ``cells`` were played before, and why they are played again."""
    reasons: dict[str, list[SweepRun]] = {}
    for cell in cells:
        if why := records.why_again(cell):
            reasons.setdefault(why, []).append(cell)
    for why, some in reasons.items():
        names = ", ".join(dict.fromkeys(cell.algorithm for cell in some))
        yield f"Again: {len(some)} result{'s' * (len(some) != 1)} of {names}: {why}"


def _summary(run: Path) -> Summary:
    """The figures of a run as this version makes them, where its ledger is there to make them from."""
    from emulator.report import record

    path = run / "summary.json"
    recorded = (run / "ledger").is_dir() or (run / run_folder.MERGED).exists()
    found = read_summary(path) if path.exists() else None
    if found is None or (recorded and found.made_by != record.made_by()):
        return record.rebuild(run).summary
    return found


def _doubt(name: str, entry: AlgorithmSummary, summary: Summary) -> str:
    """Why an algorithm's figures cannot be counted; empty where they can."""
    for finding in summary.health.findings:
        if finding.algorithm == name and finding.severity == "reason":
            return finding.text
    return "" if entry.outcome in COUNTED else entry.detail or entry.outcome
