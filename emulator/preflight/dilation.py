"""How many times slower than wall time the real clock must run so that the host keeps up with the timeline.

Profiling measures, once and without contention, what each distinct computation costs the host, and how long the
timeline takes. From that:

- every computation must end within its emulated span, or late by less than the host's scheduler makes any span:
  N >= (host time - ``SLACK_NS``) / span;
- all nodes together may ask for at most ``CORE_SHARE`` of the cores, and the server, which has one thread on the
  host whatever its workers, for at most that share of one: N >= host seconds per emulated second / (share x cores);
- under a CPU quota nodes may ask for ``QUOTA_SHARE`` of it instead: what else a run does (judging rounds, drawing)
  has a low priority on a core, but takes as much of a quota. Where nodes that compute at the same time use up a
  period's quota, all stand still until the next: N so that such a stop is at most ``STOP_NS`` of emulated time;
- where clients share a cell or the server's link, posts that the host delivers late must still come in time: N so that
  most of a message's delay is ``NEEDED_REORDER_WINDOW_NS`` on the wall.
"""

from __future__ import annotations

import math

import msgspec

from emulator.compute.device import Work

CORE_SHARE = 0.8
QUOTA_SHARE = 0.4
STOP_NS = 10_000_000  # within what the end of a round of half a second may be off
SLACK_NS = 1_000_000
MOST_REORDER_WINDOW_NS = (
    20_000_000  # how long the real clock keeps back what happens where clients share a capacity, at most
)
NEEDED_REORDER_WINDOW_NS = 10_000_000  # what most posts of a sound host are late by, at most
REORDER_WINDOW_SHARE = 0.75  # of a message's delay: the rest is for its receiver to fetch it
REORDER_WINDOW_MOST_DILATION = 20.0  # that is chosen for its sake
LIMIT_S = 3600.0  # of wall time, for all algorithms of a run, without --force
SECOND_NS = 10**9
# Of the host's memory: what a run has once (Python, torch and the methods, which all processes share; supervisor,
# network, evaluator, server), and what each client has of its own before it trains. Measured with seven clients.
SHARED_BYTES, CLIENT_BYTES = 800 * 2**20, 22 * 2**20


class Span(msgspec.Struct, frozen=True):
    """One distinct computation on one kind of device: what the model says and what the host needed."""

    device: str
    function: str
    span_ns: int
    host_ns: int
    times: int


class ProfilingResult(msgspec.Struct, frozen=True):
    """The costs of a method's computations and the length of its timeline, as profiling found them.

    ``client_host_ns`` and ``clients`` are by device; ``elapsed_ns`` is emulated. ``complete``: the algorithm came to
    its end within profiling, in which ``rounds`` ended; ``events`` is what a run
    would have recorded of it, about. ``measured_ns``: CPU time of one run by cost key,
    where durations are to come from it. ``uncharged``: lines of the method that work on tensors outside a computation.
    """

    costs: dict[str, Work] = {}
    spans: list[Span] = []
    elapsed_ns: int = 0
    server_host_ns: int = 0
    client_host_ns: dict[str, int] = {}
    clients: dict[str, int] = {}
    complete: bool = False
    measured_ns: dict[str, int] = {}
    uncharged: list[str] = []
    rounds: int = 0
    events: int = 0

    def slowest_host_ns(self) -> int:
        return max((span.host_ns for span in self.spans), default=0)


class DilationChoice(msgspec.Struct, frozen=True):
    """The smallest dilation that suffices, and why: ``because`` is the need that is largest."""

    dilation: int
    tightest: Span | None
    cores_asked: float  # host seconds per emulated second, all nodes together
    because: str = ""

    def explain(self, cores: float) -> str:
        """The needs of this host, and which of them decided."""
        span = self.tightest
        spans = (
            f"the tightest computation, {span.function} on {span.device}, takes {span.host_ns / 1e6:.2f} ms of this"
            f" host for {span.span_ns / 1e6:.2f} ms emulated; "
            if span
            else ""
        )
        decided = f"; {self.because} decides" if self.dilation > 1 else ""
        return f"{spans}all nodes ask for {self.cores_asked:.2f} of {cores:.4g} cores{decided}"


def reorder_window_ns(shared_delay_ns: int | None, dilation: int) -> int:
    """The wall time for which the real clock holds back events, so that late posts can still come before them.

    Nothing where clients share no capacity (``shared_delay_ns`` None): a late post then begins on the schedule of its
    stamp. Else a part of the least delay of any message, after which somebody would see it.
    """
    if shared_delay_ns is None:
        return 0
    return min(MOST_REORDER_WINDOW_NS, int(shared_delay_ns * dilation * REORDER_WINDOW_SHARE))


def choose_dilation(
    profiled: ProfilingResult,
    scenario_clients: dict[str, int],
    cores: float,
    shared_delay_ns: int | None = None,
    quota_period_ns: int | None = None,
) -> DilationChoice:
    """The smallest N >= 1 for a scenario with ``scenario_clients`` clients by device, on ``cores`` cores.

    ``quota_period_ns``: so many cores are allowed by a CPU quota with this period.
    """
    share, of_what = (CORE_SHARE, "the cores") if quota_period_ns is None else (QUOTA_SHARE, "the CPU quota")
    tightest = max(profiled.spans, key=_ratio, default=None)
    count, profiled_count = sum(scenario_clients.values()), sum(profiled.clients.values())
    host_ns = profiled.server_host_ns * count / max(profiled_count, 1)
    for device, device_host_ns in profiled.client_host_ns.items():
        host_ns += device_host_ns * scenario_clients[device] / profiled.clients[device]
    cores_asked = host_ns / max(profiled.elapsed_ns, 1)
    server_asks = profiled.server_host_ns * count / max(profiled_count, 1) / max(profiled.elapsed_ns, 1)
    needs = {
        "the tightest computation": _ratio(tightest) if tightest else 0.0,
        f"at most {share:.0%} of {of_what}": cores_asked / cores / share,
        f"at most {CORE_SHARE:.0%} of the server's core": server_asks / min(cores, 1.0) / CORE_SHARE,
    }
    if quota_period_ns is not None:
        stop_ns = quota_period_ns * (1 - cores / (count + 1))  # all nodes compute
        needed = _at_once_ns(profiled, scenario_clients) > cores * quota_period_ns
        needs["the stop when a CPU quota is used up"] = stop_ns / STOP_NS if needed else 0.0
    if shared_delay_ns is not None:
        enough = NEEDED_REORDER_WINDOW_NS / REORDER_WINDOW_SHARE / max(shared_delay_ns, 1)
        needs["the short delay where clients share a capacity"] = min(enough, REORDER_WINDOW_MOST_DILATION)
    because = max(needs, key=lambda need: needs[need])
    return DilationChoice(math.ceil(max(1.0, needs[because])), tightest, cores_asked, because)


def _at_once_ns(profiled: ProfilingResult, scenario_clients: dict[str, int]) -> int:
    """What the host needs where every client carries out its longest computation at one moment."""
    longest: dict[str, int] = {}
    for span in profiled.spans:
        longest[span.device] = max(span.host_ns, longest.get(span.device, 0))
    return sum(longest.get(device, 0) * count for device, count in scenario_clients.items())


def _ratio(span: Span) -> float:
    return (span.host_ns - SLACK_NS) / max(span.span_ns, 1)


class RunEstimate(msgspec.Struct, frozen=True):
    """Seconds on the wall that a run takes at least, and the choice for each of its algorithms, where it matters; what
    its processes need of the host's memory, and how many events it will record, about."""

    seconds: float
    choices: dict[str, DilationChoice]
    memory_bytes: int = 0
    events: int = 0


class MemoryBreakdown(msgspec.Struct, frozen=True):
    """A client's tensors when they were most: bytes by ``ledger.MEMORY_KINDS``, and in which computation.

    ``needed_bytes``: how far its process will grow.
    """

    device: str
    kinds: dict[str, int]
    during: str
    needed_bytes: int

    @property
    def total_bytes(self) -> int:
        return sum(self.kinds.values())


class AlgorithmEstimate(msgspec.Struct, frozen=True):
    """The estimate of an algorithm's run: emulated time, host time on one core, memory and events.

    ``complete`` False: the times are lower bounds. ``breakdowns``: a client's tensors, for each kind of device.
    ``events``: about how many the run will record.
    """

    profiled: ProfilingResult
    elapsed_ns: int
    host_ns: int
    complete: bool
    breakdowns: list[MemoryBreakdown] = []
    events: int = 0

    def wall_s(self, dilation: int | None, cores: float) -> float:
        """Seconds on the wall: of the real clock at this dilation, or (None) of the virtual one."""
        if dilation is None:
            return self.host_ns / cores / SECOND_NS
        return self.elapsed_ns * dilation / SECOND_NS

    def host_memory_bytes(self, scenario_clients: dict[str, int]) -> int:
        """What all processes take of the host's memory, about: ``scenario_clients`` (by device) by their accounts, the
        server as little as with one client, and what is there before any training."""
        needed = {tensors.device: tensors.needed_bytes for tensors in self.breakdowns}
        return SHARED_BYTES + sum((CLIENT_BYTES + needed.get(name, 0)) * n for name, n in scenario_clients.items())
