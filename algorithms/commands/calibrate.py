"""What this machine's torch does in one thread, as a device profile: dense, depthwise, memory, dispatch.

Training steps of known work are timed, by the CPU time of the thread, and the four rates of ``compute.device`` are
fitted to them without negative terms, by least squares of the relative error: each step shows one rate best.

    seconds = operations x dispatch + dense FLOPs / dense + depthwise FLOPs / depthwise + bytes / memory rate

A profile predicts a step only as well as two FLOP rates can; ``--compute measured`` needs of it no more than the ratio
of this machine's speed to a device's, and takes the CPU time of each step itself.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn
from torch.nn.functional import cross_entropy

from algorithms.commands.options.flags import Flags
from algorithms.workload import models
from emulator.compute.counting import WorkCounter
from emulator.compute.device import Work
from emulator.errors import UserError

REPEATS, QUICK_REPEATS = 9, 3
MOST = 1e15  # a rate, in FLOP/s or bytes/s, for a term that does not show in the times
TERMS = ("operations", "dense_flops", "depthwise_flops", "moved_bytes")


class Case(NamedTuple):
    """A training step: a model, or ``elementwise`` (normalisation and activation alone), and its batch."""

    model: str
    batch: int
    side: int  # images of 3 x side x side


CASES = (
    Case("cnn", 1, 8),
    Case("cnn", 16, 8),
    Case("elementwise", 16, 32),
    Case("elementwise", 64, 32),
    Case("resnet18", 16, 32),
    Case("resnet18", 64, 32),
    Case("mobilenet_v2", 16, 32),
    Case("mobilenet_v2", 16, 64),
)


class Timed(NamedTuple):
    """A step: what it consists of, and the CPU seconds of one."""

    work: Work
    seconds: float


class Rates(NamedTuple):
    """Seconds an operation; FLOP/s, FLOP/s, bytes/s."""

    dispatch_s: float
    dense: float
    depthwise: float
    memory: float

    def seconds(self, work: Work) -> float:
        """What ``work`` takes."""
        rates = (self.dense, self.depthwise, self.memory)
        sizes = (work.dense_flops, work.depthwise_flops, work.moved_bytes)
        return work.operations * self.dispatch_s + sum(size / rate for size, rate in zip(sizes, rates, strict=True))


def fit(found: Sequence[Timed]) -> Rates:
    """The rates with the least squares of relative errors; a term that would be negative has no cost."""
    terms = np.array([[getattr(timed.work, term) / timed.seconds for term in TERMS] for timed in found], float)
    sizes = terms.max(axis=0)  # from thousands to ten thousands of millions: solved as multiples of these
    sizes[sizes == 0] = 1
    costs = nnls(terms / sizes, np.ones(len(found)))[0] / sizes
    rates = (min(1 / cost, MOST) if cost else MOST for cost in costs[1:])
    return Rates(float(costs[0]), *map(float, rates))


def training_step(case: Case) -> Callable[[], None]:
    """One step of SGD on random images; the model and its data are made now."""
    shape, classes = (3, case.side, case.side), 10
    torch.manual_seed(1)
    sizes = models.ModelShapes(shape, classes)
    model = _elementwise() if case.model == "elementwise" else models.build_model(case.model, sizes, seed=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x, y = torch.rand(case.batch, *shape), torch.randint(classes, (case.batch,))

    def step() -> None:
        torch.autograd.backward(cross_entropy(model(x), y))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _elementwise() -> nn.Module:
    """Batch norms and activations, whose sizes are those of a network's first layers."""
    layers: list[nn.Module] = [nn.Upsample(scale_factor=2)]
    for _ in range(8):
        layers += [nn.BatchNorm2d(3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), _Fold())


class _Fold(nn.Module):
    """Ten sums, so that what follows costs next to nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : x.shape[1] // 10 * 10].reshape(len(x), 10, -1).mean(2)


def count_work(step: Callable[[], None]) -> Work:
    """What a step consists of, once everything is there that is made once."""
    step()
    with WorkCounter() as counter:
        step()
    work: Work = counter.work
    return work


def measure(cases: Sequence[Case] = CASES, repeats: int = REPEATS, tell: Callable[[str], None] = print) -> list[Timed]:
    """Time all cases in turn, so that a disturbance of the machine meets each; the median of each."""
    torch.set_num_threads(1)
    steps = {case: training_step(case) for case in cases}
    works = {case: count_work(step) for case, step in steps.items()}
    seconds: dict[Case, list[float]] = {case: [] for case in cases}
    for turn in range(repeats):
        for case, step in steps.items():
            begun_s = time.thread_time()
            step()
            seconds[case].append(time.thread_time() - begun_s)
        tell(f"turn {turn + 1} of {repeats}")
    return [Timed(works[case], statistics.median(seconds[case])) for case in cases]


# --- the command ------------------------------------------------------------------------------------------------------


def command(argv: list[str]) -> int:
    """Measure, show how well the rates explain what was measured, and write the profile; the exit status."""
    flags = Flags(prog="run.py calibrate", description="Measure this machine in one thread and write its profile.")
    flags.add_argument(
        "--out", required=True, metavar="FILE", help="the profile, e.g. host.toml; nothing is overwritten"
    )
    flags.add_argument("--quick", action="store_true", help=f"{QUICK_REPEATS} turns instead of {REPEATS}")
    chosen = flags.parse_args(argv)
    path = Path(chosen.out)
    if path.suffix != ".toml" or path.exists() or not path.resolve().parent.is_dir():
        raise UserError(f"--out {path}: name a new file that ends in .toml, in a folder that is there")
    if not os.access(path.resolve().parent, os.W_OK):
        raise UserError(f"--out {path}: cannot be written; name a file in a folder that can")
    from emulator.host.device_profile import device_text
    from emulator.tables.table import Table, number, show

    found = measure(repeats=QUICK_REPEATS if chosen.quick else REPEATS, tell=lambda _line: None)
    rates = fit(found)
    try:
        path.write_text(device_text(*_in_profile_units(rates)), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror}); name another") from None
    rows = [_row(case, timed, rates, number) for case, timed in zip(CASES, found, strict=True)]
    headers = ["moved\nMB", "CPU\nms", "by rate\nms", "off\n%"]
    show(
        Table(
            title="Training steps on this machine, one thread",
            headers=["model", "batch", "image", "oper-\nations", "dense\nGFLOP", "depthw.\nGFLOP", *headers],
            label_columns=1,
            rows=rows,
            caption=f"Dense {rates.dense / 1e9:.3g} GFLOP/s, depthwise {rates.depthwise / 1e9:.3g} GFLOP/s, memory "
            f"{rates.memory / 1e9:.3g} GB/s, dispatch {rates.dispatch_s * 1e6:.3g} us an operation, fitted to these "
            "steps (median of CPU time). By rate: what they come to with the rates.",
        )
    )
    print(f"Profile: {path}. Use it: --compute measured --host-device {path}")
    return 0


def _in_profile_units(rates: Rates) -> tuple[float, float, float, float]:
    return rates.dense / 1e9, rates.depthwise / 1e9, rates.memory / 1e9, rates.dispatch_s * 1e6


def _row(case: Case, timed: Timed, rates: Rates, number: Callable[[float], str]) -> list[str]:
    work, predicted = timed.work, rates.seconds(timed.work)
    sizes = (work.dense_flops / 1e9, work.depthwise_flops / 1e9, work.moved_bytes / 1e6)
    off = f"{100 * (predicted / timed.seconds - 1):+.0f}"
    times: list[Any] = [timed.seconds * 1e3, predicted * 1e3]
    where = [case.model, str(case.batch), f"{case.side}x{case.side}"]
    return [*where, str(work.operations), *map(number, sizes), *map(number, times), off]
