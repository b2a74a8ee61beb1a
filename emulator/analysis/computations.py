"""What was computed, by method, device and function: how often, of how much work, in how much time. A view."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from emulator.analysis.summary import ComputationSummary
from emulator.ledger.events import Computed
from emulator.ledger.manifest import NodeFacts
from emulator.ledger.timeline import Timeline

SECOND_NS = 10**9
WORK = ("operations", "dense_flops", "depthwise_flops", "moved_bytes")


def computations(nodes: Iterable[NodeFacts], events: Timeline, *, foreseen: bool = False) -> list[ComputationSummary]:
    """A row for each device and function: work and emulated seconds are sums over all ``times``; ``host_ms`` a median.

    ``foreseen``: by a dry run, in which the host carries out few of them; then ``host_ms`` is None. The order is that
    of their first ends.
    """
    devices = {node.name: node.device for node in nodes}
    found: dict[tuple[str, str], list[Computed]] = {}
    for event in events.of(Computed):
        found.setdefault((devices.get(event.node, ""), event.function), []).append(event)
    return [
        ComputationSummary(
            device=device,
            function=function,
            times=len(spans),
            **{key: sum(getattr(span, key) for span in spans) for key in WORK},
            seconds=sum(span.due_ns - span.start_ns for span in spans) / SECOND_NS,
            host_ms=None if foreseen else median(span.host_ns for span in spans) / 1e6,
        )
        for (device, function), spans in found.items()
    ]
