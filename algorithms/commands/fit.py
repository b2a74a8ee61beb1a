"""What fits a device: for each algorithm the largest batch, and the peak at the usual ones, from short measured steps.

A probe is a run like any other on the virtual clock: one client on that device, whose process trains two steps at a
batch size and sends what it has to send; its cap is only accounted, so that the whole peak is seen. Its samples have
the shapes and types of the data set's, or of what the flags say, and mean nothing: memory does not look at values. The
largest batch is looked for along the line through the two probes next to the budget, until one fits whose neighbour
does not.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from algorithms import ALGORITHMS, registry
from algorithms.commands.cuts import check_unsaid, parse_shape
from algorithms.commands.options import overrides
from algorithms.commands.options.flags import Flags
from algorithms.commands.options.run_flags import add_flag
from algorithms.data.archives import WHITE
from algorithms.data.datasets import Description, Loaded, Samples, about_path, describe, read_about, write_about
from algorithms.data.user_objects import is_named, short
from algorithms.experiments.run_config import RunConfig
from algorithms.workload.knobs import knobs_of
from algorithms.workload.task import Task
from emulator.errors import UserError
from emulator.ledger import run_folder
from emulator.ledger.manifest import write_manifest
from emulator.runtime import run_manifest

if TYPE_CHECKING:
    from emulator.profiles.scenario import Device, Scenario

STEPS = 2  # the first makes the optimizer's state, the second has it
USUAL = (256, 128, 64, 32)
LEAST, MOST = 2, 4096  # a batch norm needs two samples
UNSAID = ("batch", "epochs", "partition", "samples_per_client")  # flags of a run that are none of a fit
EXAMPLES = "examples"  # the name of data that are no data set's
CLOSE = 0.01  # the search ends when what fits and what does not are so close, or neighbours


class Probe(NamedTuple):
    """A batch and what it needed: MiB above the baseline, measured."""

    batch: int
    peak_mib: float


class Fit(NamedTuple):
    """What was found of an algorithm. ``largest``: None where not even the smallest batch fits; ``open_end``: larger
    ones were not tried; ``refused``: why it could not be tried at all."""

    probes: list[Probe]
    largest: Probe | None
    open_end: bool = False
    refused: str = ""

    def peak_mib(self, batch: int) -> float | None:
        """The measured peak at a batch, where it was tried."""
        return next((probe.peak_mib for probe in self.probes if probe.batch == batch), None)


def search(measure: Callable[[int], float], budget_mib: float, known: list[Probe], most: int = MOST) -> Fit:
    """The largest batch up to ``most`` whose peak is within the budget, from ``known`` probes on."""
    probes = list(known)

    def probe(batch: int) -> None:
        probes.append(Probe(batch, measure(batch)))

    def inside() -> list[Probe]:
        return sorted(probe for probe in probes if probe.peak_mib <= budget_mib)

    def outside() -> list[Probe]:
        return sorted(probe for probe in probes if probe.peak_mib > budget_mib)

    if not inside():
        probe(LEAST)
    if not inside():
        return Fit(probes, None)
    while True:
        low = inside()[-1]
        if not outside() and low.batch == most:
            return Fit(probes, low, open_end=True)
        high = outside()[0] if outside() else Probe(most + 1, math.inf)
        if high.batch - low.batch <= max(1, CLOSE * low.batch):
            if outside():
                return Fit(probes, low)
            probe(most)  # nothing larger was seen not to fit
            continue
        near = [each for each in probes if each not in (low, high)] if math.isinf(high.peak_mib) else [high]
        other = max(near, default=Probe(0, 0.0))
        slope = (other.peak_mib - low.peak_mib) / (other.batch - low.batch)
        guess = low.batch + int((budget_mib - low.peak_mib) / max(slope, 1e-9))
        probe(min(max(guess, low.batch + 1), high.batch - 1))


class Prober:
    """Runs probes of one model on one device; use as a context. Every probe's record stays in ``folder``."""

    def __init__(self, scenario: Scenario, flags: argparse.Namespace, folder: Path) -> None:
        from emulator.runtime.launcher import Launcher, Plan

        plan = Plan(
            scenario,
            seed=1,
            clock="virtual",
            dilation=None,
            memory_cap="account",
            evaluate="algorithms.workload.judging.judge",
            prepare="algorithms.commands.fit.prepare",
        )
        self._scenario, self._flags, self._folder = scenario, flags, folder
        self._launcher = Launcher(folder, plan, [*ALGORITHMS.values(), "algorithms.workload.parts"])

    def __enter__(self) -> Prober:
        self._launcher.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._launcher.__exit__(*error)

    def peak_mib(self, algorithm: str, batch: int) -> float:
        """The client's peak at a batch; UserError where it cannot be trained."""
        from emulator.preflight.dilation import AlgorithmEstimate, ProfilingResult
        from emulator.report import record

        settings = _settings(algorithm, self._flags, self._folder, batch)
        folder = self._folder / f"{algorithm}-{batch}"
        folder.mkdir()
        manifest = run_manifest.make_manifest(
            self._scenario,
            {algorithm: settings},
            argv=["fit"],
            clock="virtual",
            seed=1,
            dilation=None,
            memory_cap="account",
        )
        write_manifest(folder, manifest)
        self._launcher.set_run_folder(folder)
        self._launcher.prepare({algorithm: (ALGORITHMS[algorithm], settings)})
        self._launcher.skip_profiling(algorithm, AlgorithmEstimate(ProfilingResult(), 0, 0, complete=False))
        outcome = self._launcher.play(algorithm, ALGORITHMS[algorithm], settings, lambda: None)
        if outcome.name == "interrupted":
            raise KeyboardInterrupt
        client = record.rebuild(folder).summary.algorithms[algorithm].clients[0]
        if outcome.name != "finished" or client.peak_mib is None:
            raise UserError(f"{algorithm}, batch {batch}: {outcome.detail or outcome.name}")
        return float(client.peak_mib)


def prepare(task: Task, folder: Path) -> Task:
    """``task.prepare`` with examples in the place of samples: ``STEPS`` batches of the one client, and two to test."""
    from algorithms.workload.task import prepare as prepare_task

    def examples(samples: int) -> Samples:
        x, y = task.example_batch(samples)
        return Samples((x * levels).byte().numpy() if levels else x.numpy(), y.numpy())

    levels = read_about(task.folder).levels
    return prepare_task(task, folder, Loaded(examples(STEPS * task.batch), examples(2)))


def command(argv: list[str]) -> int:
    """Probe, and print the table; the exit status."""
    flags = _parsed(argv)
    from emulator.profiles.reading import load_device
    from emulator.tables.table import show

    device = load_device(flags.device)
    scenario = _scenario(device, flags.network)
    budget_mib = device.budget_bytes / 2**20
    described = _described(flags)
    what = short(flags.model) if is_named(flags.model) else flags.model
    folder = run_folder.open_folder(flags.out, Path(flags.device).stem, f"fit-{what.replace(':', '-')}")
    found: dict[str, Fit] = {}
    try:
        write_about(folder, described)
        _check(flags, folder)
        with Prober(scenario, flags, folder) as prober:
            for name in overrides.chosen_algorithms(flags.algorithm):
                found[name] = _fit(prober, name, flags.batches, budget_mib)
    finally:
        if found:
            (folder / "fit.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
        else:
            about_path(folder).unlink(missing_ok=True)
            run_folder.discard_run_folder(folder)
    if all(fit.refused for fit in found.values()):
        raise UserError("; ".join(dict.fromkeys(fit.refused for fit in found.values())))
    show(fit_table(found, flags, device.name, budget_mib, _shown(described)))
    print(f"Record: {folder}")
    return 0


def _parsed(argv: list[str]) -> argparse.Namespace:
    flags = Flags(prog="run.py fit", description="The largest batch that fits a device, by short measured steps.")
    flags.add_argument("--device", required=True, metavar="NAME|FILE", help="the client's device profile")
    flags.add_argument("--algorithm", default="all", metavar="all|A,B", help=registry.HELP)
    flags.add_argument("--batches", default=USUAL, type=_batches, metavar="A,B", help="also tell the peaks at these")
    flags.add_argument("--input", metavar="CxHxW", help="axes of a sample (default 3x32x32; of the cnn 1x8x8)")
    flags.add_argument("--classes", type=int, metavar="N", help="classes, or values of a regression (default 10)")
    flags.add_argument("--vocabulary", type=int, metavar="N", help="samples are tokens below it (default: numbers)")
    for name, knob in knobs_of(Task).items():
        if name not in UNSAID:
            add_flag(flags, knob, required=name == "model")
    flags.add_argument("--network", default="iot-4g", help="the client's link, behind which messages queue")
    flags.add_argument("--set", action="append", default=[], metavar="[ALGORITHM:]KEY=VALUE", dest="options")
    flags.add_argument("--out", metavar="DIR", help="where the probes are recorded; default: runs/<time>-...")
    chosen = flags.parse_args(argv)
    overrides.chosen_algorithms(chosen.algorithm)
    return chosen


def _described(flags: argparse.Namespace) -> Description:
    """Shapes and types of the samples: the data set's, or those that are said; UserError for what cannot be."""
    check_unsaid(flags, "input", "classes", "vocabulary")
    ignored = int(flags.ignore_index or Task().ignore_index)
    if flags.dataset:
        return describe(flags.dataset, flags.data_dir or Task().data_dir, flags.task_kind or "", ignored)
    classes, vocabulary = 10 if flags.classes is None else flags.classes, flags.vocabulary or 0
    if classes < 1 or vocabulary < 0:
        raise UserError("--classes must be at least 1, and --vocabulary at least 0")
    shape = parse_shape(flags.input or ("1x8x8" if flags.model == "cnn" else "3x32x32"))
    kind = flags.task_kind or "classification"
    axes = shape[1:] if len(shape) == 3 else shape[-1:]
    positions = {"multilabel": (classes,), "regression": (classes,), "per-position": axes}.get(kind, ())
    levels = WHITE if len(shape) == 3 and not vocabulary else 0
    return Description(shape, classes, STEPS * MOST, 2, levels, kind, vocabulary, positions)


def _shown(about: Description) -> str:
    size = "x".join(map(str, about.shape))
    return f"{size} tokens of {about.vocabulary}" if about.vocabulary else size


def _check(flags: argparse.Namespace, folder: Path) -> None:
    """UserError for what no algorithm can train; what one of them cannot is told when its turn comes."""
    settings = _settings(overrides.chosen_algorithms(flags.algorithm)[0], flags, folder, LEAST)
    task = msgspec.convert(settings["task"], Task)
    task.objective()
    task.check()
    task.named()


def _settings(algorithm: str, flags: argparse.Namespace, folder: Path, batch: int) -> dict[str, Any]:
    """Of a probe; ``folder``: where it is written what the samples are."""
    own = {name: value for name, value in vars(flags).items() if name in knobs_of(Task)}
    own |= {"batch": batch, "dataset": flags.dataset or EXAMPLES}
    said = {"profile": flags.device, "algorithm": flags.algorithm, "rounds": 1, "options": flags.options, **own}
    config, experiment = overrides.completed(RunConfig.of(said))
    settings = overrides.settings_of(config, experiment, 1)[algorithm]
    settings["task"]["folder"] = str(folder)
    return settings


def _batches(text: str) -> tuple[int, ...]:
    try:
        batches = tuple(sorted({int(word) for word in text.split(",")}, reverse=True))
    except ValueError:
        batches = ()
    if not batches or not LEAST <= batches[-1] <= batches[0] <= MOST:
        raise UserError(f"--batches {text}: say numbers from {LEAST} to {MOST}, such as 256,64")
    return batches


def _scenario(device: Device, network: str) -> Scenario:
    from emulator.profiles.reading import load_device, load_network
    from emulator.profiles.scenario import ClientSpec, Scenario, ServerSpec

    server = ServerSpec("server", load_device("edge-server"), load_network("ethernet-1g"), workers=2)
    client = ClientSpec("client-0", 0, device, load_network(network))
    return Scenario(f"fit on {device.name}", "one client", server, (client,), {})


def _fit(prober: Prober, name: str, batches: tuple[int, ...], budget_mib: float) -> Fit:
    """Probe the usual batches and look for the largest; what was measured before a refusal is kept."""
    probes: list[Probe] = []

    def measure(batch: int) -> float:
        peak_mib = prober.peak_mib(name, batch)
        probes.append(Probe(batch, peak_mib))
        fits = "fits" if peak_mib <= budget_mib else "does not fit"
        print(f"{name}, batch {batch}: {peak_mib:.1f} MiB of {budget_mib:.1f}: {fits}", flush=True)
        return peak_mib

    try:
        usual = [Probe(batch, measure(batch)) for batch in sorted(batches)]
        return search(measure, budget_mib, usual)
    except UserError as error:
        print(error, flush=True)
        return Fit(probes, None, refused=str(error))


def fit_table(found: dict[str, Fit], flags: argparse.Namespace, device: str, budget_mib: float, samples: str) -> Any:
    """The table of what fits; ``samples``: their axes, in words."""
    from emulator.tables.table import NOTHING, Table, TableCell, TableRow, figure, number

    rows: list[TableRow] = []
    for name, fit in found.items():
        peaks = [fit.peak_mib(batch) for batch in flags.batches]
        marked = [TableCell(peak, f"{number(peak)}{'*' if peak and peak > budget_mib else ''}") for peak in peaks]
        largest = NOTHING if fit.largest is None else f"{'>=' if fit.open_end else ''}{fit.largest.batch}"
        largest = "none" if fit.largest is None and not fit.refused else largest
        rows.append([name, largest, figure(fit.largest.peak_mib if fit.largest else None), *marked])
    headers = ["algorithm", "largest\nbatch", "its peak\nMiB", *(f"batch {batch}\nMiB" for batch in flags.batches)]
    return Table(
        title=f"{flags.model} ({samples}) on {device}: {budget_mib:.1f} MiB to train in",
        headers=headers,
        label_columns=1,
        rows=rows,
        caption=f"Peak growth of a client's process above its baseline, measured over {STEPS} steps and a round's "
        "messages; *: does not fit. Largest: the next that was tried and does not fit is 1 % larger, or one sample. "
        f"The link is {flags.network}.",
        results=[fit.refused for fit in found.values() if fit.refused],
    )
