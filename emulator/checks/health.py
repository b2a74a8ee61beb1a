"""A run's verdict on itself: did the real clock keep to the model's times, and do the processes' records agree?

``check`` looks at what was recorded by different processes and compares it with laws that none of them applies by
itself: bytes posted = received + undelivered, no message faster than its link, order and time monotone, nodes in time.
A reason makes the verdict bad; a note asks to look twice. Running out of memory or an interrupt alone is neither.

Limits, and why these:

- A round's end may be 1 % of the round's length + 5 ms off its due time in 95 % of an algorithm's rounds (what timers
  and scheduling of a sound host cost), and 5 % + 50 ms in every one (a pause of the host, once).
- Nothing may be received more than 1 ms before it is due (the resolution of poll timeouts).
- A node's clamps may add up to 1 % of the run's length; under the virtual clock there may be none. There actual times
  are due times, so the limits above hold with nothing to spare.
- Half of an algorithm's messages may be received later than 10 ms + 1 % of their time on the way, and half of its
  computations may end more than 50 ms after their spans; from one in twenty on it is noted. No figure of a run is made
  of these times: clients that begin a round at one moment queue for the host's cores, and what counts is that they
  have caught up when the round ends. A host that is behind most of the time is too slow whatever the rounds say.
- A dry run has no verdict: the laws are checked on its records too, but it trained nothing and kept to no clock.
- An algorithm that failed, hung, was refused or was not judged in every round cannot be trusted whatever its figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from statistics import median

from emulator.checks import divergence
from emulator.checks.clock_limits import Limits, limits_of
from emulator.checks.findings import Figures, Finding, Health, HostBottleneck, Severity
from emulator.checks.invariants import conserved, in_order, tally, whole_ledgers, within_channels, within_links
from emulator.checks.omissions import uncharged, unknown_arithmetic
from emulator.checks.round_limits import unequal_limits
from emulator.checks.send_queues import beyond_memory, blocked, unused_limits
from emulator.ledger import round_lag
from emulator.ledger.events import (
    AnyEvent,
    Clamped,
    Computed,
    Evaluated,
    Host,
    Lifecycle,
    Received,
    Reported,
    RoundEnded,
    Undelivered,
)
from emulator.ledger.manifest import Manifest
from emulator.ledger.timeline import Timeline, timelines_of

MS = 10**6
EARLY_NS = 1 * MS
LATE_NS, HOST_LATE_NS = 10 * MS, 50 * MS
NOTED_SHARE, BEHIND_SHARE = 0.05, 0.5
CUT_OFF = "no end was recorded: its process was killed, or goes on"
LONGER = "a longer deadline_s waits for them"  # what to do
QUIETER = "end what else runs here, or say --clock virtual"
SLOWER = "say a larger --dilation, or --clock virtual"
UNTRUSTED = ("failed", "stuck", "refused")
STEAL_SHARE = 0.05
STOPPED_SHARE = 0.05  # of a CPU quota's periods
PRESSURE_SHARE = 0.20  # a fifth of the time some task waited for a core


def check_health(manifest: Manifest, recorded: Mapping[str, Iterable[AnyEvent]]) -> Health:
    """Judge a run from its manifest and the events of each algorithm."""
    timelines = timelines_of(recorded)
    limits = limits_of(manifest.clock)
    figures: dict[str, Figures] = {}
    findings: list[Finding] = []

    def find(algorithm: str, found: Iterable[tuple[str, Severity, list[str]]]) -> None:
        for law, severity, texts in found:
            findings.extend(Finding(algorithm=algorithm, law=law, severity=severity, text=text) for text in texts)

    for algorithm, events in timelines.items():
        find(algorithm, _of_timeline(manifest, events, limits))
        figures[algorithm] = _figures(events, _bottlenecks(manifest, events) if limits.host_matters else [])
    find("", [("send-queue", "note", unused_limits(manifest)), ("round-limits", "note", unequal_limits(manifest))])
    find("", [("host", "note", _host(timelines) if limits.host_matters else [])])
    reasons, notes = ([str(each) for each in findings if each.severity == kind] for kind in ("reason", "note"))
    verdict = ("bad" if reasons else "good") if limits.trains else "none"
    return Health(verdict=verdict, reasons=reasons, notes=notes, findings=findings, algorithms=figures)


def _of_timeline(manifest: Manifest, events: Timeline, limits: Limits) -> Iterator[tuple[str, Severity, list[str]]]:
    """Each law by name, how severe it is to break it, and how this algorithm's timeline does, a line each."""
    ending = events.ending
    if ending != "finished":
        how = CUT_OFF if ending == "partial" else f"{ending}{_why_refused(events)}"
        yield ending, "reason" if ending in UNTRUSTED else "note", [how]
    missing, cut_short = conserved(events, ending)
    yield "conservation", "reason", missing
    yield "conservation", "note", cut_short if ending != "refused" else []  # that it was cut short is said
    yield "evaluation", "reason", _unjudged(events) if ending == "finished" and limits.trains else []
    yield "ledger", "reason", whole_ledgers(events)
    yield "links", "reason", within_links(manifest, events)
    yield "order", "reason", in_order(events)
    yield "channels", "reason", within_channels(manifest, events)
    clamps = events.by_node(Clamped)
    yield "clamps", "reason", clamped(clamps, events.length_ns, len(manifest.clients), limits.clamp_share)
    yield "early", "reason", _early(events)
    yield "lag", "reason", lagging(events.of(RoundEnded))
    for law, (share, text) in {"late": _late(events), "host-behind": _host_late(events)}.items():
        yield law, "reason" if share > BEHIND_SHARE else "note", [text] if share > NOTED_SHARE else []
    yield "uncharged", "reason", uncharged(events)
    yield "arithmetic", "note", unknown_arithmetic(events)
    yield "divergence", "note", divergence.remarks(events, manifest.criteria.metric)
    yield "vain", "note", divergence.vain(events, manifest.criteria)
    yield "deadline", "note", _left_out(events)
    yield "send-queue", "note", blocked(events)
    yield "server-memory", "note", beyond_memory(manifest, events)


def _why_refused(events: Timeline) -> str:
    return "".join(f": {event.detail}" for event in events.of(Lifecycle) if event.outcome == "refused")


def percentile(values: Iterable[int], share: float) -> int | None:
    """The smallest value that is not exceeded by ``share`` of all (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(ceil(share * len(ranked)) - 1, 0)] if ranked else None


def lagging(rounds: Sequence[RoundEnded]) -> list[str]:
    """Ends of one algorithm's rounds against their due times."""
    beyond, far = round_lag.beyond(rounds), round_lag.far(rounds)
    reasons = []
    if len(beyond) > (1 - round_lag.LAG_ROUNDS_SHARE) * len(rounds):
        off = f"{len(beyond)} of {len(rounds)} rounds ended more than 1 % + 5 ms off their due time"
        reasons.append(f"lag: {off}; {SLOWER}")
    if far:
        worst = max(map(round_lag.off_ns, far))
        reasons.append(
            f"lag: {len(far)} rounds ended more than 5 % + 50 ms off, the worst by {worst / MS:.1f} ms; {SLOWER}"
        )
    return reasons


def _early(events: Timeline) -> list[str]:
    early = [e for e in events.of(Received) if e.actual_ns < e.due_ns - EARLY_NS]
    return tally("received before they were due", [(e.source, e.counter) for e in early])


def clamped(of_node: Mapping[str, Sequence[Clamped]], length_ns: int, clients: int, share: float) -> list[str]:
    """A node's clamps together; the network's are spread over the links of all clients."""
    reasons = []
    for node, clamps in of_node.items():
        limit_ns = share * length_ns * (max(clients, 1) if node == "network" else 1)
        total_ns = sum(clamp.by_ns for clamp in clamps)
        if total_ns > limit_ns:
            allowed = f"more than {100 * share:.0f} % of the run" if share else "this clock allows none"
            moved = f"{len(clamps)} clamps of {node} moved events by {total_ns / MS:.1f} ms ({allowed})"
            reasons.append(f"{moved}; {SLOWER}" if share else moved)
    return reasons


def _unjudged(events: Timeline) -> list[str]:
    """Rounds that ended and were not judged."""
    judged = {evaluated.round for evaluated in events.of(Evaluated)}
    missing = [ended.round for ended in events.of(RoundEnded) if ended.round not in judged]
    return [f"{len(missing)} rounds were not evaluated, the first is round {missing[0] + 1}"] if missing else []


def _left_out(events: Timeline) -> list[str]:
    reports = [event for event in events.of(Reported) if "left_out" in event.values]
    counts = [int(event.values["left_out"]) for event in reports]
    vain = [event.round for event in reports if event.values.get("counted") == 0]
    left = f"the deadline left clients out {sum(counts)} times, in {len(counts)} rounds"
    remarks = [f"{left}; {LONGER}"] if counts else []
    if vain:
        remarks.append(f"no update was in time in {len(vain)} rounds, the first is round {min(vain) + 1}; {LONGER}")
    return remarks


def _late(events: Timeline) -> tuple[float, str]:
    """Messages that became visible after they were due: their share, and a sentence."""
    way_ns = {key: carried.arrival_ns - carried.posted_ns for key, carried in events.transmitted.items()}
    received = events.of(Received)
    late = [m for m in received if m.actual_ns - m.due_ns > LATE_NS + way_ns.get((m.source, m.counter), 0) // 100]
    text = f"late messages: {len(late)} of {len(received)} were received over {LATE_NS // MS} ms + 1 % late"
    text = f"{text}; {QUIETER}"
    return len(late) / max(len(received), 1), text


def _host_late(events: Timeline) -> tuple[float, str]:
    """Computations that the host ended after their spans: their share, and a sentence."""
    spans = events.of(Computed)
    late = [span for span in spans if span.host_late_ns > HOST_LATE_NS]
    if not late:
        return 0.0, ""
    worst = max(late, key=lambda span: span.host_late_ns)
    return len(late) / len(spans), (
        f"host behind: {len(late)} of {len(spans)} computations ended over {HOST_LATE_NS // MS} ms late, "
        f"the worst ({worst.function} of {worst.node}) by {worst.host_late_ns / MS:.1f} ms; {QUIETER}"
    )


def _host(timelines: Mapping[str, Timeline]) -> list[str]:
    """Reasons to mistrust the host: notes, since lag already shows what they did."""
    hosts = [host for events in timelines.values() for host in events.of(Host)]
    notes = []
    stolen = sum(host.steal > STEAL_SHARE for host in hosts)
    if stolen:
        taken = "other machines took more than 5 % of the cores"
        notes.append(f"host: {taken} in {stolen} of {len(hosts)} samples (steal); say --clock virtual")
    pressed = sum(host.pressure is not None and host.pressure > PRESSURE_SHARE for host in hosts)
    if pressed:
        waited = "work waited for a core over 20 % of the time"
        notes.append(f"host: {waited} in {pressed} of {len(hosts)} samples (PSI); {QUIETER}")
    stopped = sum(host.stopped is not None and host.stopped > STOPPED_SHARE for host in hosts)
    if stopped:
        ran_out = "the CPU quota ran out in over 5 % of its periods"
        notes.append(f"host: {ran_out} in {stopped} of {len(hosts)} samples; allow more, or say --clock virtual")
    return notes


def _bottlenecks(manifest: Manifest, events: Timeline) -> list[HostBottleneck]:
    """By the median of the host's times: the first of a kind pays for what torch prepares once."""
    host_ns: dict[tuple[str, str, int], list[int]] = {}
    for span in events.of(Computed):
        device = manifest.by_name[span.node].device if span.node in manifest.by_name else span.node
        host_ns.setdefault((device, span.function, span.due_ns - span.start_ns), []).append(span.host_ns)
    bottlenecks: dict[tuple[str, str], HostBottleneck] = {}
    for (device, function, length_ns), all_ns in host_ns.items():
        middle_ns = median(all_ns)
        ratio = middle_ns / max(length_ns * events.dilation, 1)
        if (device, function) not in bottlenecks or ratio > bottlenecks[device, function].ratio:
            bottlenecks[device, function] = HostBottleneck(
                device=device, function=function, ratio=ratio, host_ms=middle_ns / MS, span_ms=length_ns / MS
            )
    return sorted(
        bottlenecks.values(), key=lambda bottleneck: (-bottleneck.ratio, bottleneck.device, bottleneck.function)
    )[:5]


def _figures(events: Timeline, bottlenecks: list[HostBottleneck]) -> Figures:
    rounds = events.of(RoundEnded)
    late = [event.actual_ns - event.due_ns for event in events.of(Received)]
    clamps = [event.by_ns for event in events.of(Clamped)]
    spans = events.of(Computed)
    hosts = events.of(Host)
    return Figures(
        rounds=len(rounds),
        lag_p95_ms=_ms(percentile(map(round_lag.off_ns, rounds), 0.95)),
        lag_max_ms=_ms(max(map(round_lag.off_ns, rounds), default=None)),
        late_p50_ms=_ms(percentile(late, 0.50)),
        late_p95_ms=_ms(percentile(late, 0.95)),
        late_max_ms=_ms(max(late, default=None)),
        messages=len(late),
        undelivered=len(events.of(Undelivered)),
        clamps=len(clamps),
        clamped_ms=sum(clamps) / MS,
        clamp_max_ms=max(clamps, default=0) / MS,
        spans=len(spans),
        spans_late=sum(span.host_late_ns > HOST_LATE_NS for span in spans),
        bottlenecks=bottlenecks,
        host_busy=_mean([host.busy for host in hosts]),
        host_steal=_mean([host.steal for host in hosts]),
        host_pressure=_mean([host.pressure for host in hosts if host.pressure is not None]),
    )


def _ms(value_ns: int | None) -> float | None:
    return None if value_ns is None else value_ns / MS


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
