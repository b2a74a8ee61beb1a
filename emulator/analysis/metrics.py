"""The figures that runs are compared by: one number each, of an algorithm's entry in ``summary.json``. A view."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from emulator.analysis.summary import AlgorithmSummary, Way
from emulator.ledger.criteria import Criteria, Goal, Metric

KB, MB = 10**3, 10**6


class Figure(NamedTuple):
    """``of`` gives it, or None where the run does not have it; ``best``: whether less or more of it is better."""

    head: str  # above a column; a line break stands in for a space
    of: Callable[[AlgorithmSummary], float | None]
    best: Literal["least", "most"] = "least"
    trained: bool = False  # it takes a training: a dry run does not have it
    fine: bool = False  # of any size: with three digits that count below 1

    @property
    def title(self) -> str:
        """The head in one line."""
        return self.head.replace("\n", " ")


def seconds_per_round(algorithm: AlgorithmSummary) -> float | None:
    """Emulated seconds, mean over the rounds."""
    return algorithm.seconds / algorithm.rounds if algorithm.rounds and algorithm.seconds is not None else None


def payload_per_share(algorithm: AlgorithmSummary, way: Way) -> float | None:
    """Bytes of tensors that clients sent (``up``) or received (``down``) until the last round's end, without initial
    weights, per client and round in which it sent something."""
    if not algorithm.client_rounds:
        return None
    last, initial = algorithm.history[-1], algorithm.initial_bytes.payload
    sent = last.payload_up - initial.up if way == "up" else last.payload_down - initial.down
    return sent / algorithm.client_rounds


def joules_per_share(algorithm: AlgorithmSummary) -> float | None:
    """Joules of a client and round, mean over rounds and the clients whose power is known."""
    energy = algorithm.energy
    return energy.joules / energy.clients / algorithm.rounds if energy and algorithm.rounds else None


def joules_to(algorithm: AlgorithmSummary, goal: Goal) -> float | None:
    """Joules until the end of the first round that reached it, mean over those clients; None where none did."""
    reached, energy = algorithm.reached(goal), algorithm.energy
    rows = [row.joules for row in algorithm.history if reached and row.round == reached.round]
    return rows[0] / energy.clients if energy and rows and rows[0] is not None else None


def largest(values: Iterable[float | None]) -> float | None:
    """None where none is there."""
    return max((value for value in values if value is not None), default=None)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _seconds_to(goal: Goal) -> Callable[[AlgorithmSummary], float | None]:
    """Until the end of the first round that reached it; None where none did."""
    return lambda algorithm: reached.seconds if (reached := algorithm.reached(goal)) else None


def _mb_to(goal: Goal) -> Callable[[AlgorithmSummary], float | None]:
    return lambda algorithm: reached.bytes / MB if (reached := algorithm.reached(goal)) else None


def _last(metric: Metric) -> Callable[[AlgorithmSummary], float | None]:
    """Of the model after the last round, in the metric's unit; of one that diverged none."""
    return lambda algorithm: _scaled(algorithm.scores.get(metric.name), metric.factor)


FIGURES = {  # that every task has
    "s_per_round": Figure("s per\nround", seconds_per_round),
    "j_per_round": Figure("J per\nround", joules_per_share),
    "up_kb": Figure("up\nkB", lambda algorithm: _scaled(payload_per_share(algorithm, "up"), 1 / KB)),
    "down_kb": Figure("down\nkB", lambda algorithm: _scaled(payload_per_share(algorithm, "down"), 1 / KB)),
    "payload_mb": Figure("payload\nMB", lambda algorithm: algorithm.total_bytes.payload / MB),
    "peak_mib": Figure("peak\nMiB", lambda algorithm: largest(client.peak_mib for client in algorithm.clients)),
    "needed_mib": Figure("needed\nMiB", lambda algorithm: largest(client.needed_mib for client in algorithm.clients)),
}


class FigureKeys(NamedTuple):
    """Names of the figures that criteria have: ``seconds_to`` and ``mb_to`` all targets, ``values`` of the metrics; of
    a metric's targets the last is the hardest."""

    seconds_to: list[str]
    mb_to: list[str]
    hardest_seconds_to: list[str]
    hardest_mb_to: list[str]
    values: list[str]


def keys(criteria: Criteria) -> FigureKeys:
    """The names of the figures that the task's metrics have."""
    goals, hardest = criteria.goals, criteria.hardest
    return FigureKeys(
        [f"s_to_{goal.key()}" for goal in goals],
        [f"mb_to_{goal.key()}" for goal in goals],
        [f"s_to_{goal.key()}" for goal in hardest],
        [f"mb_to_{goal.key()}" for goal in hardest],
        [metric.key for metric in criteria.shown],
    )


def figures(criteria: Criteria) -> dict[str, Figure]:
    """All by name, in the order in which they are shown."""
    named, goals = keys(criteria), criteria.goals
    heads = [goal.short if goal.metric == criteria.metric else f"{goal.metric.words}\n{goal.short}" for goal in goals]
    heads = [head.replace(" ", "\n", head.count(" ") - head.endswith(" %")) for head in heads]
    found = {"s_per_round": FIGURES["s_per_round"]}
    for key, goal, head in zip(named.seconds_to, goals, heads, strict=True):
        found[key] = Figure(f"s to\n{head}", _seconds_to(goal), trained=True)
    found |= {key: FIGURES[key] for key in ("j_per_round", "up_kb", "down_kb", "payload_mb")}
    for key, goal, head in zip(named.mb_to, goals, heads, strict=True):
        found[key] = Figure(f"MB to\n{head}", _mb_to(goal), trained=True)
    for metric in criteria.shown:
        found[metric.key] = Figure(metric.head, _last(metric), metric.best, trained=True, fine=not metric.percent)
    return found | {key: FIGURES[key] for key in ("peak_mib", "needed_mib")}
