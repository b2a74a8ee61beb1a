"""How flows share what they flow over: max-min fairness by progressive filling, in integers.

A flow goes over several resources (a client's link, a cell, the server's link), and a resource's capacity is all that
its flows together may have. Rates rise together until a resource is full; the flows over it stay there, the others
rise on (Bertsekas and Gallager, Data Networks, 2nd ed., 6.5.2). So no flow could have more without one that has no
more than it having less.

Rates are whole numbers of 2^-20 bit/s: fair shares are rounded down to that, so that no capacity is ever exceeded, and
the rest of the arithmetic is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

FINENESS = 2**20  # parts of a bit/s

UNLIMITED = 1 << 100


class Resource:
    """Something with a capacity, and the flows that are on it now: one that goes over it twice is there twice."""

    __slots__ = ("capacity", "changed_ns", "count", "flows", "left", "name")

    def __init__(self, name: str, capacity: int) -> None:
        self.name, self.capacity = name, capacity
        self.flows: dict[Flow, None] = {}  # in order of their coming: a set would have none
        self.changed_ns = 0  # shares are settled up to here
        self.left = self.count = 0  # while shares are computed: capacity and flows to be shared out


class Flow:
    """What is on its way over ``path``, at most at ``limit``. ``rate`` is its share, from ``fill``."""

    __slots__ = ("limit", "path", "rate")

    def __init__(self, path: Sequence[Resource], limit: int = UNLIMITED) -> None:
        self.path, self.limit = tuple(path), limit
        self.rate = 0

    def join(self) -> None:
        for resource in self.path:
            resource.flows[self] = None

    def leave(self) -> None:
        for resource in self.path:
            resource.flows.pop(self, None)
        self.rate = 0


def together(start: Iterable[Resource]) -> tuple[list[Resource], list[Flow]]:
    """All resources and flows that ``start`` is joined to by flows: what happens to one of them can move them all."""
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


def fill(resources: Sequence[Resource], flows: Sequence[Flow]) -> None:
    """Set every flow's ``rate`` to its max-min fair share. ``flows``: all that are on any of the ``resources``."""
    for resource in resources:
        resource.left, resource.count = resource.capacity, 0
    for flow in flows:
        for resource in flow.path:
            resource.count += 1
    # What has one flow only is a limit of that flow: it is then no part of the search for the fullest resource.
    shared = [resource for resource in resources if resource.count > 1]
    limits = [(_alone(flow), i) for i, flow in enumerate(flows)]
    if not shared:
        for flow, (limit, _) in zip(flows, limits, strict=True):
            flow.rate = limit
        return
    limits.sort(reverse=True)
    for flow in flows:
        flow.rate = -1
    while limits:
        level = min([r.left // r.count for r in shared if r.count], default=UNLIMITED)
        if limits[-1][0] <= level:
            # All shares can only rise from here, so every flow that is limited to less has its limit.
            while limits and limits[-1][0] <= level:
                limit, i = limits.pop()
                if flows[i].rate < 0:
                    _settle(flows[i], limit)
        else:
            # All that are full at this level at once: what rounding leaves would depend on their order.
            full = [r for r in shared if r.count and r.left // r.count == level]
            for resource in full:
                for flow in resource.flows:
                    if flow.rate < 0:
                        _settle(flow, level)


def _alone(flow: Flow) -> int:
    """What a flow could have of its limit and of the resources that it has to itself."""
    limit = flow.limit
    for resource in flow.path:
        if resource.count == 1 and resource.capacity < limit:
            limit = resource.capacity
    return limit


def _settle(flow: Flow, rate: int) -> None:
    flow.rate = rate
    for resource in flow.path:
        resource.left -= rate
        resource.count -= 1
