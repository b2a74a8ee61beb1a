"""Max-min fair sharing of capacities by flows: progressive filling, in integers.

A flow goes over several resources (a client's link, a cell, the server's link), and a resource's capacity is all that
its flows together may have. Rates rise together until a resource is full; the flows over it stay there, the others
rise on (Bertsekas and Gallager, Data Networks, 2nd ed., 6.5.2). So no flow could have more without one that has no
more than it having less.

Rates and capacities are integers in units of 2^-20 bit/s, which ``_q20`` in a name says: fair shares are rounded down
to that, so that no capacity is ever exceeded, and the rest of the arithmetic is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Q20 = 2**20  # units of rate in a bit/s

UNLIMITED_Q20 = 1 << 100


class Resource:
    """A capacity in 2^-20 bit/s, and the flows over it now: a flow that goes over it twice counts twice."""

    __slots__ = ("capacity_q20", "changed_ns", "count", "flows", "left_q20", "name")

    def __init__(self, name: str, capacity_q20: int) -> None:
        self.name, self.capacity_q20 = name, capacity_q20
        self.flows: dict[Flow, None] = {}  # in order of their coming: a set would have none
        self.changed_ns = 0  # shares are settled up to here
        self.left_q20 = self.count = 0  # while shares are computed: capacity and flows to be shared out


class Flow:
    """A transmission over the resources of ``path``, limited to ``limit_q20``; ``rate_q20``: its fair share."""

    __slots__ = ("limit_q20", "path", "rate_q20")

    def __init__(self, path: Sequence[Resource], limit_q20: int = UNLIMITED_Q20) -> None:
        self.path, self.limit_q20 = tuple(path), limit_q20
        self.rate_q20 = 0

    def attach(self) -> None:
        for resource in self.path:
            resource.flows[self] = None

    def detach(self) -> None:
        for resource in self.path:
            resource.flows.pop(self, None)
        self.rate_q20 = 0


def connected_component(start: Iterable[Resource]) -> tuple[list[Resource], list[Flow]]:
    """The connected component of ``start``: all resources and flows whose shares depend on each other."""
    resources = dict.fromkeys(start)
    waiting, flows = list(resources), dict[Flow, None]()
    while waiting:
        for flow in waiting.pop().flows:
            if flow not in flows:
                flows[flow] = None
                for resource in flow.path:
                    if resource not in resources:
                        resources[resource] = None
                        waiting.append(resource)
    return list(resources), list(flows)


def share_max_min(resources: Sequence[Resource], flows: Sequence[Flow]) -> None:
    """Set every flow's ``rate_q20`` to its max-min fair share. ``flows``: all that are on any of the ``resources``."""
    for resource in resources:
        resource.left_q20, resource.count = resource.capacity_q20, 0
    for flow in flows:
        for resource in flow.path:
            resource.count += 1
    # What has one flow only is a limit of that flow: it is then no part of the search for the fullest resource.
    shared = [resource for resource in resources if resource.count > 1]
    limits = [(_alone(flow), i) for i, flow in enumerate(flows)]
    if not shared:
        for flow, (limit_q20, _) in zip(flows, limits, strict=True):
            flow.rate_q20 = limit_q20
        return
    limits.sort(reverse=True)
    for flow in flows:
        flow.rate_q20 = -1
    while limits:
        level_q20 = min([r.left_q20 // r.count for r in shared if r.count], default=UNLIMITED_Q20)
        if limits[-1][0] <= level_q20:
            # All shares can only rise from here, so every flow that is limited to less has its limit.
            while limits and limits[-1][0] <= level_q20:
                limit_q20, i = limits.pop()
                if flows[i].rate_q20 < 0:
                    _settle(flows[i], limit_q20)
        else:
            # All that are full at this level at once: what rounding leaves would depend on their order.
            full = [r for r in shared if r.count and r.left_q20 // r.count == level_q20]
            for resource in full:
                for flow in resource.flows:
                    if flow.rate_q20 < 0:
                        _settle(flow, level_q20)


def _alone(flow: Flow) -> int:
    """The least of a flow's limit and the capacities of the resources that it alone uses, in 2^-20 bit/s."""
    limit_q20 = flow.limit_q20
    for resource in flow.path:
        if resource.count == 1 and resource.capacity_q20 < limit_q20:
            limit_q20 = resource.capacity_q20
    return limit_q20


def _settle(flow: Flow, rate_q20: int) -> None:
    flow.rate_q20 = rate_q20
    for resource in flow.path:
        resource.left_q20 -= rate_q20
        resource.count -= 1
