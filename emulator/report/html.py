"""A run as one page: ``report.html``, which needs no other file, no network and no script. A view.

``run.py report DIR`` writes it, and anew everything else that comes from the ledger. What is printed on it is in
``summary.json`` and ``manifest.json``; profile files are read again for their sources, and named where they differ.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jinja2
import msgspec

from emulator.analysis import recorded
from emulator.analysis.latency import CAUSES
from emulator.analysis.summary import AlgorithmSummary
from emulator.errors import UserError
from emulator.inputs.shipped import ROOT
from emulator.ledger import run_folder
from emulator.plots import charts
from emulator.plots import files as plots
from emulator.profiles.reading import Row, describe_profile
from emulator.tables import clients_data, computations, overview
from emulator.tables import run as tables
from emulator.tables.headline import headline, incomplete_lines, one_seed, trained
from emulator.tables.profiles import GRADES
from emulator.tables.table import Table, TableRow, figure, number

NAME = "report.html"
ABOUT = ("versions", "host", "memory", "compute")  # of the manifest, as they are
LARGEST_SVG_BYTES = 300_000
CAVEATS = (
    "Seconds are emulated: what the links and devices of the profiles take by a stated model. Bytes, client memory "
    "and what models are judged by are those of real training on this host.",
    "Compute time is counted work over a device's rates, or this host's CPU time by the ratio of speeds (see the "
    "settings); it knows no caches and no thermal throttling. Predictions for the two boards that have published times "
    "are 21 % below to 53 % above them.",
    "Links are flows that share capacities, not packets. Wire bytes, with TCP/IP headers, are estimated; payload and "
    "framed bytes are exact.",
    "A client's memory is that of a process with PyTorch on this host. Peaks are measured by the kernel; the account "
    "of tensors was played before the run, one client of each device alone.",
    "One seed is one draw of weights, shards and links: differences between methods of a few points are within it.",
)

FORESEEN = (
    "Nothing was trained, so nothing is judged. Seconds are emulated: what the links and devices of the profiles take "
    "by a stated model. Bytes are those of the messages that a run would send.",
    *CAVEATS[1:3],
    "A client's memory is foreseen, not measured: an account of every tensor of one client of each device, and what "
    "allocator and workspace take besides by a fit to other runs, within about 10 % + 1 MiB.",
    "One seed is one draw of shards and links.",
)

AGAIN = {
    "virtual": "On the virtual clock the same command and versions give the same timeline, bytes and models, on like "
    "processors bit for bit. Memory is measured, and differs a little.",
    "dry-run": "The same command and versions foresee the same bytes, seconds and memory.",
    "real": "On the real clock a run differs a little from the next one; 'verify' with the same flags says how much.",
}


class Picture(NamedTuple):
    """A picture in base64: SVG, or PNG where that would be much larger."""

    name: str
    type: str
    data: str


class ProfileSource(NamedTuple):
    """A profile with its numbers; ``note``: what is the matter with its file."""

    name: str
    note: str
    rows: list[Row]


def write(folder: Path, run: recorded.RunRecord) -> Path:
    """Draw the plots and write the page; its path. UserError where it cannot be written."""
    drawn = plots.draw_plots(folder, run)
    path = folder / NAME
    run_folder.atomic_write(path, page(folder, run, drawn))
    return path


def page(folder: Path, run: recorded.RunRecord, drawn: plots.PlotFiles) -> str:
    """The page of a run whose plots are ``drawn``."""
    manifest, summary = run.manifest, run.summary
    for key in ("started", "command", "settings", "clock", "profile_files"):
        if not getattr(manifest, key):
            raise UserError(f"{folder / 'manifest.json'}: lacks '{key}'; restore it")
    pictures = [_picture(path) for path in drawn.paths if path.suffix == ".svg"]
    first = ("rounds", "latency", *(f"{charts.name_of(summary)}-{against}" for against in ("seconds", "mb")))
    pictures.sort(key=lambda picture: first.index(picture.name) if picture.name in first else len(first))
    strips = [picture for picture in pictures if picture.name in {f"round-{name}" for name in summary.algorithms}]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    text: str = environment.get_template("report.html.j2").render(
        title=f"splitbed: {summary.profile}",
        subtitle=f"{tables.title(summary)}; started {manifest.started}; record: {folder.name}",
        verdict=[*incomplete_lines(summary), *tables.verdict(summary)],
        doubtful=bool(summary.health.reasons or incomplete_lines(summary)),
        finding=headline(summary),
        one_seed=one_seed(summary),
        command=again(manifest.command),
        again=AGAIN.get(manifest.clock or "", ""),
        pictures=[picture for picture in pictures if picture not in strips],
        strips=strips,
        left_out=drawn.left_out,
        short=overview.both(summary),
        spans=spans,
        tables=tables.run_tables(summary),
        remarks=tables.remarks(summary),
        shards=clients_data.clients_data_tables(summary.data),
        clients=[(name, _clients(name, each)) for name, each in summary.algorithms.items()],
        costs=computations.computations_table(summary.algorithms),
        grades=GRADES,
        profiles=[_source(file, sha256) for file, sha256 in sorted(manifest.profile_files.items())],
        caveats=CAVEATS if trained(summary) else FORESEEN,
        settings=json.dumps(manifest.settings, indent=1),
        versions=json.dumps({key: msgspec.to_builtins(getattr(manifest, key)) for key in ABOUT}, indent=1),
    )
    return text


def again(command: Sequence[str]) -> str:
    """The command line of a run, without where it was recorded."""
    words, kept = iter(command), ["python"]
    for word in words:
        if word == "--out":
            next(words, None)
        elif not word.startswith("--out="):
            kept.append(word)
    return shlex.join(kept)


def _picture(path: Path) -> Picture:
    png = path.with_suffix(".png")
    if path.stat().st_size > LARGEST_SVG_BYTES and png.exists():
        return Picture(path.stem, "png", base64.b64encode(png.read_bytes()).decode())
    return Picture(path.stem, "svg+xml", base64.b64encode(path.read_bytes()).decode())


def spans(table: Table) -> list[tuple[str, int]]:
    """Titles of groups of columns, each with how many columns it stands over."""
    starts = [0, *table.groups, len(table.headers)]
    return [(table.groups.get(start, ""), end - start) for start, end in pairwise(starts)] if table.groups else []


def _clients(name: str, algorithm: AlgorithmSummary) -> Table:
    """One row a client of an algorithm."""
    rows: list[TableRow] = []
    for client in algorithm.clients:
        seconds = [figure((client.latency_s or {}).get(cause)) for cause in CAUSES]
        sizes = [figure(size, 1e-6) for size in (client.bytes.payload.up, client.bytes.payload.down)]
        peak = [] if algorithm.foreseen else [client.peak_mib]
        memory = map(figure, [client.budget_mib, *peak, client.needed_mib])
        rows.append([client.name, client.device, client.network, client.outcome, *seconds, *sizes, *memory])
    headers = ["client", "device", "network", "outcome", *(f"{cause}\ns" for cause in CAUSES)]
    memory_heads = ["budget\nMiB", "peak\nMiB", "needs\nMiB"]
    if algorithm.foreseen:
        memory_heads[2] = "peak, fore-\nseen MiB"
        del memory_heads[1]
    return Table(
        title=name,
        headers=[*headers, "up\nMB", "down\nMB", *memory_heads],
        label_columns=4,
        rows=rows,
        caption="Seconds by cause, due times, until the last client has its last message: "
        f"{number(algorithm.length_s)} s{_until(algorithm)}; payload of all messages; memory as above.",
    )


def _until(algorithm: AlgorithmSummary) -> str:
    """Where the tables above end."""
    seconds = algorithm.seconds
    return "" if seconds is None else f", {number(algorithm.length_s - seconds)} s after the end of the last round"


def _source(file: str, sha256: str) -> ProfileSource:
    """A profile or trace file that the run read, with its numbers if it is still there."""
    path = next((path for path in (ROOT / file, Path(file)) if path.is_file()), None)
    if path is None:
        return ProfileSource(file, "the file is not there any more", [])
    note = "" if hashlib.sha256(path.read_bytes()).hexdigest() == sha256 else "THE FILE HAS CHANGED SINCE THE RUN"
    if path.suffix != ".toml":
        return ProfileSource(file, note, [])
    try:
        (profile,) = describe_profile(str(path))
    except UserError as error:
        return ProfileSource(file, f"it cannot be read any more: {error}", [])
    return ProfileSource(f"{profile.kind} {profile.name}", note, list(profile.rows))
