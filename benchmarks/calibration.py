"""A device's speed from measured times: each step of a method is timed under the quota that it will have.

    duration = operations x dispatch + dense FLOPs / dense rate + bytes / memory rate        (``compute.device``)

fitted without negative terms, by least squares of error / sqrt(time): long steps count for more, and their sum has no
bias. Depthwise convolutions are not in question.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls

from algorithms.training import steps
from emulator.compute.counting import WorkCounter
from emulator.compute.device import Work

REPEATS = 5
PAUSE_S = 0.03  # before each, as between the steps of a round: the quota's bucket is full again
FREE = 10**6  # a rate (GFLOP/s, GB/s) for a term that does not show in the times


class Timed(NamedTuple):
    """A step: what it consists of, and the seconds that it takes."""

    name: str
    work: Work
    seconds: float


class Case(NamedTuple):
    """A step to be timed; ``prepare`` gives its arguments anew for each row of calls.

    ``row``: so many calls follow one another in use; between rows the quota's bucket fills up again.
    """

    fn: Callable[..., Any]
    prepare: Callable[[], tuple[Any, ...]]
    row: int = 1


class Rates(NamedTuple):
    """In the units of a device's profile."""

    dispatch_us: float
    dense_gflops: float
    memory_gbps: float


def client_cases(method: str, config: Any) -> list[Case]:
    """The steps of a client's round."""
    half, aux = (
        steps.Part(config.task.client_half(), config.client_optimizer),
        steps.Part(config.task.auxiliary(), None),
    )
    x, y = next(config.task.shard(0).batches(0))
    cases = [
        Case(steps.load_weights, lambda: (half, steps.weights(half))),
        Case(steps.forward, lambda: (half, x)),
    ]
    if method == "fsl-sage":
        return [
            *cases,
            Case(steps.estimated_step, lambda: (half, aux, half.module(x), y)),
            Case(steps.whole_estimated_step, lambda: (half, aux, x, y)),
        ]

    def gradient() -> tuple[Any, ...]:
        z = half.module(x)
        return half, z, torch.full_like(z, 1e-4)

    return [*cases, Case(steps.backward, gradient)]


def server_cases(method: str, config: Any) -> list[Case]:
    """The steps of the server."""
    half = steps.Part(config.task.server_half(), config.server_optimizer)
    client = config.task.client_half()
    x, y = next(config.task.shard(0).batches(0))
    z = client(x).detach()
    state = steps.weights(steps.Part(client, None))
    mean = Case(steps.weighted_mean, lambda: ([state] * config.task.clients, [1] * config.task.clients))
    if method == "splitfed-v2":
        return [Case(steps.cut_step, lambda: (half, z, y)), mean]
    aux = steps.Part(config.task.auxiliary(), config.auxiliary_optimizer(config.align_lr))
    g, _ = steps.refresh(half, z, y)
    epoch = steps.Epoch(torch.arange(len(y)))
    # the alignments of all clients fall together, so that the server works without a pause
    return [
        Case(steps.server_step, lambda: (half, z, y), REPEATS),
        Case(steps.refresh, lambda: (half, z, y), REPEATS),
        Case(steps.align_epoch, lambda: (aux, z, g, y, epoch, config.align_batch), config.align_epochs),
        mean,
    ]


def count(cases: Sequence[Case]) -> list[Work]:
    """What each consists of; the first call of each, which prepares what torch prepares once."""
    found = []
    for case in cases:
        arguments = case.prepare()
        with WorkCounter() as counter:
            case.fn(*arguments)
        found.append(counter.work)
    return found


def timed(cases: Sequence[Case], works: Sequence[Work]) -> list[Timed]:
    """The mean of several calls of each."""
    found = []
    for case, work in zip(cases, works, strict=True):
        spent_s = 0.0
        for _ in range(REPEATS):
            arguments = case.prepare()
            time.sleep(PAUSE_S)
            begun_s = time.monotonic()
            for _ in range(case.row):
                case.fn(*arguments)
            spent_s += time.monotonic() - begun_s
        found.append(Timed(case.fn.__qualname__, work, spent_s / REPEATS / case.row))
    return found


def fit(found: Sequence[Timed]) -> Rates:
    """The rates whose predictions are closest; a term with nothing to say is free."""
    terms = np.array([[t.work.operations, t.work.dense_flops, t.work.moved_bytes] for t in found], float)
    target = np.sqrt(np.array([t.seconds for t in found]))
    weighted = terms / target[:, None]
    sizes = weighted.max(axis=0)  # the terms are solved as multiples of these
    sizes[sizes == 0] = 1
    dispatch_s, per_flop_s, per_byte_s = nnls(weighted / sizes, target)[0] / sizes
    rates = (1e-9 / each if each * FREE * 1e9 > 1 else FREE for each in (per_flop_s, per_byte_s))
    return Rates(float(dispatch_s) * 1e6, *(float(rate) for rate in rates))
