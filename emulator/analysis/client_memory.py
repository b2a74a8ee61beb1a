"""What a client needed of its memory and whether it fits, from its events. A view.

What the kernel measured is ``peak_mib``. What is foreseen, from an account of the client's tensors, is ``needed_mib``
where nothing was measured to the end: of a training that was stopped, and of all that a dry run says. A client of a dry
run has no peak. 1 MiB is 2^20 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from emulator.analysis.summary import AlgorithmSummary, ClientSummary, Unfit
from emulator.checks.clock_limits import limits_of
from emulator.ledger.events import Ended, Memory, MemoryEstimated, Started
from emulator.ledger.manifest import Manifest, NodeFacts
from emulator.ledger.timeline import Timeline

MIB = 2**20


class Measured(NamedTuple):
    """MiB: the process before its model exists, what its device leaves for training, and the peak above the first."""

    budget_mib: float | None
    baseline_mib: float | None
    peak_mib: float | None


class ClientMemory(NamedTuple):
    """What a summary says of a client's memory; of the same names there."""

    outcome: str
    budget_mib: float | None
    baseline_mib: float | None
    peak_mib: float | None
    account_mib: dict[str, float] | None
    account_during: str
    tensors_mib: float | None
    beside_mib: float | None
    needed_mib: float | None


class MemorySource(NamedTuple):
    """How the memory of a run's clients is known: whether a cap was enforced; or nothing was measured."""

    enforced: bool
    foreseen: bool


def how_memory_is_known(manifest: Manifest) -> MemorySource:
    """By the run's manifest."""
    return MemorySource(manifest.memory.cap != "account", not limits_of(manifest.clock).trains)


def client_memory(
    node: NodeFacts,
    events: Timeline,
    ends: Sequence[str],
    account: MemoryEstimated | None,
    how: MemorySource,
) -> ClientMemory:
    """A client's ``outcome``, and its memory in MiB; ``ends``: the outcomes of its last words.

    Outcomes: fits, does-not-fit (stopped, or its peak passed its budget), would-not-fit (it was let go on); of a dry
    run would-fit and would-not-fit, by what is foreseen; else its last words.
    """
    memory, whole = measured(node, events), ends == ["finished"]
    peak_mib = None if how.foreseen else memory.peak_mib  # older dry runs recorded what they foresaw like a reading
    needed_mib, tensors_mib = memory.peak_mib, None
    if account is not None:
        tensors_mib = sum(account.kinds.values()) / MIB
        needed_mib = peak_mib if whole and peak_mib is not None else max(account.needed_bytes / MIB, peak_mib or 0.0)
    size, budget = needed_mib if how.foreseen else peak_mib, memory.budget_mib
    outcome = ends[-1] if ends else "unknown"
    if "does-not-fit" in ends or (size is not None and budget is not None and size > budget):
        outcome = "does-not-fit" if how.enforced and not how.foreseen else "would-not-fit"
    elif whole and size is not None and budget is not None:
        outcome = "would-fit" if how.foreseen else "fits"
    return ClientMemory(
        outcome=outcome,
        budget_mib=budget,
        baseline_mib=memory.baseline_mib,
        peak_mib=peak_mib,
        account_mib={kind: size / MIB for kind, size in account.kinds.items()} if account else None,
        account_during=account.during if account else "",
        tensors_mib=tensors_mib,
        beside_mib=peak_mib - tensors_mib if whole and peak_mib is not None and tensors_mib is not None else None,
        needed_mib=needed_mib,
    )


def measured(node: NodeFacts, events: Timeline) -> Measured:
    """Baseline, budget and peak growth above the baseline; None where nothing was measured or capped."""
    started = events.of(Started, node.name)
    peaks = [event.peak_bytes for event in events.of(Memory, node.name)]
    budgets = [event.budget_bytes for event in started if event.budget_bytes is not None]
    baselines = [event.baseline_bytes for event in started if event.baseline_bytes]
    return Measured(
        budget_mib=_mib(budgets[0] if budgets else node.budget_bytes),
        baseline_mib=_mib(baselines[0] if baselines else None),
        peak_mib=_mib(max(peaks, default=None)),
    )


def does_not_fit(events: Timeline, clients: Sequence[ClientSummary]) -> Unfit | None:
    """The first client that did not fit: one that an allocation failed in, else one whose peak passed its budget.

    Under a cap that was only accounted: the first that would not fit. ``needed_mib`` is the peak of a training that
    was not stopped, else what its account says, if that is more than the peak was when it was stopped.
    """
    unfit = [client for client in clients if client.outcome in ("does-not-fit", "would-not-fit")]
    if not unfit:
        return None
    words = {e.node: e for e in events.of(Ended) if e.outcome == "does-not-fit"}
    stopped = sorted((client for client in unfit if client.name in words), key=lambda c: words[c.name].due_ns)
    client = (stopped or unfit)[0]
    last = words.get(client.name)
    passed = "peak above the budget" if client.peak_mib is not None else "foreseen above the budget"
    return Unfit(
        client=client.name,
        device=client.device,
        phase=last.phase if last else passed,
        budget_mib=client.budget_mib,
        peak_mib=client.peak_mib,
        needed_mib=client.needed_mib,
        outcome=client.outcome,
        asked_mib=_mib(last.asked_bytes) if last else None,
        clients=[other.name for other in unfit],
    )


def budget_share(algorithm: AlgorithmSummary) -> float | None:
    """The largest share of a client's budget that its peak takes, or of a dry run what is foreseen."""
    sizes = [(c.needed_mib if algorithm.foreseen else c.peak_mib, c.budget_mib) for c in algorithm.clients]
    return max((size / budget for size, budget in sizes if size and budget), default=None)


def clients_that_fit(clients: Sequence[ClientSummary]) -> int | None:
    """How many of a summary's clients fit, or would; None where one was stopped, which ended the others before they
    could show, or where not all were judged."""
    outcomes = [client.outcome for client in clients]
    if not all(outcome in ("fits", "would-fit", "would-not-fit") for outcome in outcomes):
        return None
    return len(outcomes) - outcomes.count("would-not-fit")


def _mib(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else size_bytes / MIB
