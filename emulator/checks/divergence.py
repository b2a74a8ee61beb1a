"""Whether a training has diverged, and with whom that began: the first values that are infinite or no numbers. A view.

A training has diverged from the first round whose joined model has such values, or such a loss on the test set: from
then on it is not judged. Where it began is the earliest record of such values: a message, as its sender posted it; a
loss that a node reported; or a part of the joined model that nobody sends, which is the server's.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from emulator.checks.findings import Divergence, NonFiniteValues
from emulator.ledger.criteria import Criteria, Metric
from emulator.ledger.events import Evaluated, Posted, Reported
from emulator.ledger.timeline import Timeline

SECOND_NS = 10**9
OTHER_RATE = "try another client_lr or server_lr"
LONG_ENOUGH = 5  # rounds
SMALLER = "try a smaller client_lr or server_lr"  # what to do
LOSS, HALF = "loss", "half"  # of signs that are no message
SERVER = "server"  # the node, and its part of a joined model


def judged(event: Evaluated) -> bool:
    """Whether a judgement is one: of a model of numbers."""
    return event.loss is not None and not event.not_finite


def find_non_finite(events: Timeline) -> Divergence | None:
    """Of an algorithm's merged events; None where every model that was judged is one of numbers."""
    broken = [event for event in events.of(Evaluated) if not judged(event)]
    if not broken:
        return None
    unfit = min(broken, key=lambda event: event.round)
    return Divergence(round=unfit.round, at_s=unfit.due_ns / SECOND_NS, first=first_sign(events))


def first_sign(events: Timeline) -> NonFiniteValues | None:
    """The earliest, at one moment a client's before the server's and in their order; None where there is none."""
    signs = sorted(_signs(events), key=lambda sign: (sign.at_s, sign.node == SERVER, len(sign.node), sign.node))
    if not signs:
        return None
    nodes = {sign.node for sign in signs if sign.at_s == signs[0].at_s}
    return msgspec.structs.replace(signs[0], beside=len(nodes) - 1)


def _signs(events: Timeline) -> Iterator[NonFiniteValues]:
    for posted in events.of(Posted):
        if posted.not_finite:
            yield NonFiniteValues(
                node=posted.node, round=posted.round, at_s=posted.due_ns / SECOND_NS, what=posted.kind
            )
    for report in events.of(Reported):
        if any("loss" in name for name in report.not_finite):
            yield NonFiniteValues(node=report.node, round=report.round, at_s=report.due_ns / SECOND_NS, what=LOSS)
    for score in events.of(Evaluated):
        if SERVER in score.not_finite:
            yield NonFiniteValues(node=SERVER, round=score.round, at_s=score.due_ns / SECOND_NS, what=HALF)


def described(sign: NonFiniteValues) -> str:
    """A sign of divergence in words: the node, its message or loss, the round and the emulated time, s."""
    what = f"a message of {sign.node}, {sign.what},"
    if sign.what in (LOSS, HALF):
        what = f"a loss of {sign.node}" if sign.what == LOSS else f"the half of {sign.node}"
    others = (
        f", as of {sign.beside} other {'nodes' if sign.beside > 1 else 'node'} at that moment" if sign.beside else ""
    )
    return f"{what} in round {sign.round + 1}, after {sign.at_s:.2f} s{others}"


def vain(events: Timeline, criteria: Criteria) -> list[str]:
    """That a training which was judged for ``LONG_ENOUGH`` rounds and did not diverge came to nothing, in one line: its
    last model is no better than an answer without training or, where none is known, than the first model."""
    evaluated = sorted(events.of(Evaluated), key=lambda event: event.round)
    metric, found = criteria.metric, [event.by_metric.get(criteria.metric.name) for event in evaluated]
    first, last = (found[0], found[-1]) if len(found) >= LONG_ENOUGH else (None, None)
    if first is None or last is None or not all(map(judged, evaluated)):
        return []
    than, worth = criteria.naive, criteria.naive_score
    if worth is None:
        than, worth = "the model after round 1", first
    if metric.rank(last) > metric.rank(worth):
        return []
    after = f"after round {evaluated[-1].round + 1} its {metric.words} is {metric.text(last)}"
    return [f"it has learnt nothing: {after}, no better than {than} ({metric.text(worth)}); {OTHER_RATE}"]


def remarks(events: Timeline, metric: Metric) -> list[str]:
    """The remark on values that are infinite or no numbers, in one line; [] where all are finite."""
    found, first = find_non_finite(events), first_sign(events)
    if found is not None:
        until = f"from round {found.round + 1} on there is no {metric.words}"
        if first is not None and first.at_s <= found.at_s:
            began = f"which began with {described(first)}: values are infinite or no numbers"
            return [f"the training has diverged, {began}, and {until}; {SMALLER}"]
        later = f"; the first of them is {described(first)}" if first else ""
        return [f"the training has diverged, before values were infinite or no numbers{later}: {until}; {SMALLER}"]
    if first is not None:
        return [f"{described(first)}: values are infinite or no numbers; the joined models stayed finite; {SMALLER}"]
    return []
