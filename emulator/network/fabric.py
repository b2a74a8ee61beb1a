"""The network as arithmetic: messages in, and when each begins to leave, has left and arrives; no clock, no I/O.

Every ordered pair (source, destination) is a FIFO connection: one message at a time is a *flow* over the capacities
between the two (``topology``), which flows share max-min fairly (``fairness``). Shares change the moment a flow begins
or ends or a capacity changes; between such moments everything is linear, so the fabric goes from one to the next:

    post(...)     a message is handed over, with the time of its stamp
    next_ns()     when something happens next; None: nothing, until something is posted
    advance()     the events of that moment: a message's first bit leaves, or its last bit has left; it then arrives

A message that is posted at p on a connection by itself, of n bytes, over a link of constant rate:

    start  = max(p, departure of the message before it)
    left   = start + ceil(8 n / rate)
    arrival = max(left + delay + jitter, arrival of the message before it)

and TCP (``tcp``) lets it begin a round trip later where the connection must be set up, leave in rounds while the
window is small, at most at the rate that loss allows, and arrive later when its tail was lost.

State is integer. A post whose stamp is before what its capacities have been settled for (the real clock can be late)
begins then instead, and says by how much it was moved.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import NamedTuple

from emulator.errors import UserError
from emulator.network import tcp
from emulator.network.connection import BYTE_Q20_NS, Connection, ConnectionState, QueuedMessage
from emulator.network.fairness import Flow, Resource, connected_component, share_max_min
from emulator.network.jitter import Transmission
from emulator.network.topology import Channel, Topology
from emulator.profiles.scenario import Scenario

CHANGES, ENDS, STARTS = range(3)  # at one moment: capacities change, flows end, flows begin

MOST_CONNECTIONS = 10_000  # that one message may lose


class LinkEvent(NamedTuple):
    """An event of a message on its link: its first bit leaves, or (``departs``) its last bit has left.

    Ordered by time, sender (by its place among the nodes), the sender's counter. ``moved_ns``: its start was moved.
    """

    due_ns: int
    place: int
    counter: int
    departs: bool
    source: str
    destination: str
    transmission: Transmission
    moved_ns: int = 0


class BegunAbsence(NamedTuple):
    """From ``due_ns`` to before ``until_ns`` nothing reaches a client, and it reaches nothing."""

    due_ns: int
    client: str
    kind: str
    until_ns: int


class Fabric:
    """The network of a scenario. Random draws come from streams that are named by seed, pair and purpose."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.topology = Topology(scenario, seed)
        self._seed = seed
        self._places = {name: i for i, name in enumerate(self.topology.links)}
        self._flows: dict[tuple[str, str], Connection] = {}
        self._states: dict[frozenset[str], ConnectionState] = {}
        self._agenda: list[tuple[int, int, int, int, Callable[[int], None], Callable[[], bool]]] = []
        self._planned = 0
        self._touched: dict[Resource, None] = {}
        self._events: list[LinkEvent] = []
        self._absences = {name: link.absences for name, link in self.topology.links.items() if link.absences}
        self._told_ns = -1  # absences that begin until then have been told
        self.next_absence_ns = 0 if self._absences else None  # when to ask for them again

    def post(self, source: str, destination: str, counter: int, wire_bytes: int, posted_ns: int) -> None:
        """A message for the connection; KeyError for a node that the scenario does not have."""
        flow = self._flow(source, destination)
        flow.waiting.append(QueuedMessage(counter, wire_bytes, posted_ns))
        if flow.current is None:
            self._take_next(flow)

    def next_ns(self) -> int | None:
        """The time of the next event, ns; None: nothing is planned."""
        while self._agenda and not self._agenda[0][5]():
            heapq.heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else None

    def advance(self) -> list[LinkEvent]:
        """The events at ``next_ns()``, in the order of ``LinkEvent``; the fabric's time is then that moment."""
        now_ns = self.next_ns()
        while now_ns is not None and self.next_ns() == now_ns:
            while self.next_ns() == now_ns:
                heapq.heappop(self._agenda)[4](now_ns)
            self._share(now_ns)
        happened, self._events = sorted(self._events), []
        return happened

    def absences(self, now_ns: int) -> list[BegunAbsence]:
        """The absences that have begun by ``now_ns`` and were not told before, in the order of their begins."""
        if self.next_absence_ns is None or now_ns < self.next_absence_ns:
            return []
        begun = sorted(
            BegunAbsence(from_ns, client, absences.kind, until_ns)
            for client, absences in self._absences.items()
            for from_ns, until_ns in absences.begun(self._told_ns, now_ns)
        )
        self._told_ns = now_ns
        changes = (absences.next_ns(now_ns) for absences in self._absences.values())
        self.next_absence_ns = min((ns for ns in changes if ns is not None), default=None)
        return begun

    def drop(self, node: str, now_ns: int) -> list[tuple[str, int]]:
        """A node is gone: what is on its way to or from it is withdrawn, and its shares are given back at once.

        Returns (source, counter) of each message that was withdrawn.
        """
        withdrawn: list[tuple[str, int]] = []
        for flow in self._flows.values():
            if node in (flow.source, flow.destination):
                under_way = [flow.current] if flow.current else []
                withdrawn += [(flow.source, message.counter) for message in (*under_way, *flow.waiting)]
                flow.waiting.clear()
                flow.current = flow.starts_ns = flow.ends_ns = None
                self._detach(flow)
        self._share(max([now_ns, *(resource.changed_ns for resource in self._touched)]))
        return withdrawn

    def _flow(self, source: str, destination: str) -> Connection:
        pair = (source, destination)
        if pair not in self._flows:
            links = self.topology.links
            has_tcp = all(links[name].network.transport == "tcp" for name in pair)
            state = self._states.setdefault(frozenset(pair), ConnectionState(has_tcp))
            self._flows[pair] = Connection(self._places[source], source, destination, links, state, self._seed)
        return self._flows[pair]

    def _plan(self, due_ns: int, rank: int, act: Callable[[int], None], holds: Callable[[], bool]) -> None:
        """``act`` at ``due_ns``, where ``holds`` still says so."""
        self._planned += 1
        heapq.heappush(self._agenda, (due_ns, rank, 0, self._planned, act, holds))

    def _plan_start(self, flow: Connection, due_ns: int) -> None:
        flow.starts_ns = due_ns
        self._plan(due_ns, STARTS, lambda now_ns: self._start(flow, now_ns), lambda: flow.starts_ns == due_ns)

    def _take_next(self, flow: Connection) -> None:
        if flow.waiting:
            flow.current = flow.waiting.popleft()
            self._plan_start(flow, max(flow.current.posted_ns, flow.free_ns))

    def _start(self, flow: Connection, now_ns: int) -> None:
        """A message begins, or goes on, if it can: else when it can."""
        message = flow.current
        assert message is not None
        ready_ns = self._ready_ns(flow, now_ns)
        if message.first_number < 0:
            message.first_number = flow.state.number
        elif flow.state.number - message.first_number > MOST_CONNECTIONS:
            raise _never_there(flow, message)
        if ready_ns > now_ns:
            self._plan_start(flow, ready_ns)
            return
        settled_ns = max(resource.changed_ns for resource in flow.path)
        if settled_ns > now_ns:
            message.moved_ns += settled_ns - now_ns
            self._plan_start(flow, settled_ns)
            return
        flow.starts_ns = None
        if message.start_ns < 0:
            message.start_ns = now_ns
            self._note(flow, message, now_ns, departs=False, arrival_ns=-1)
        burst_bytes = flow.window.allows(message.rest_bytes) if flow.state.tcp else message.rest_bytes
        flow.limit_q20 = flow.loss_limit_q20(now_ns)
        self._burst(flow, message, burst_bytes, now_ns)
        flow.attach()
        self._watch(flow, now_ns)

    def _ready_ns(self, flow: Connection, now_ns: int) -> int:
        """The time, ns, at which a message may begin or go on, as far as is known: by ends, set-up and window."""
        state = flow.state
        back_ns = flow.back_ns(now_ns)
        if back_ns > now_ns or flow.was_away(state.used_ns, now_ns):
            state.established_ns, state.used_ns = None, now_ns
            state.number += 1
            if back_ns > now_ns:
                return back_ns
        if not state.tcp:
            return now_ns
        rtt_ns = flow.rtt_ns(now_ns)
        if state.established_ns is None:
            state.established_ns = now_ns + rtt_ns
        if state.established_ns > now_ns:
            return state.established_ns
        if flow.number != state.number:
            flow.number, flow.window = state.number, tcp.Window()
        state.used_ns, window = now_ns, flow.window
        window.begin(now_ns, rtt_ns, flow.rto_ns(now_ns))
        if window.open or window.left_bytes:
            return now_ns
        return max(window.resumes_ns(rtt_ns), now_ns)

    def _burst(self, flow: Connection, message: QueuedMessage, burst_bytes: int, now_ns: int) -> None:
        """Put the next ``burst_bytes`` of the message on the link."""
        flow.burst_bytes, flow.unserved_q20_ns, flow.since_ns, flow.ends_ns = (
            burst_bytes,
            burst_bytes * BYTE_Q20_NS,
            now_ns,
            None,
        )
        message.rest_bytes -= burst_bytes
        flow.rate_q20 = 0
        self._touch(flow.path)

    def _end(self, flow: Connection, now_ns: int) -> None:
        """A burst has been served: the message has left, goes on, or waits for an ACK."""
        message = flow.current
        assert message is not None
        rate_q20, flow.ends_ns, flow.unserved_q20_ns = flow.rate_q20, None, 0
        if flow.state.tcp:
            flow.state.used_ns = now_ns
            flow.window.sent(
                flow.burst_bytes, now_ns, -(-min(flow.burst_bytes, tcp.SEGMENT_BYTES) * BYTE_Q20_NS // rate_q20)
            )
        if not message.rest_bytes:
            self._detach(flow)
            self._arrive(flow, message, now_ns)
            flow.free_ns, flow.current, flow.limit_until_ns = now_ns, None, -1
            self._take_next(flow)
            return
        rtt_ns, window = flow.rtt_ns(now_ns), flow.window
        if window.segments * tcp.SEGMENT_BYTES * BYTE_Q20_NS >= rate_q20 * rtt_ns:
            window.open = True
        elif now_ns >= window.resumes_ns(rtt_ns):
            window.next_round(now_ns)
        else:
            self._detach(flow)
            self._plan_start(flow, window.resumes_ns(rtt_ns))
            return
        self._burst(flow, message, window.allows(message.rest_bytes), now_ns)

    def _arrive(self, flow: Connection, message: QueuedMessage, now_ns: int) -> None:
        late_ns = sum(jitter.draw_ns() for jitter in flow.jitters)
        late_ns += flow.tail.draw_ns(message.wire_bytes, flow.loss_ppb(now_ns), flow.rto_ns(now_ns))
        flow.arrival_ns = max(now_ns + flow.delay_ns(now_ns) + late_ns, flow.arrival_ns)
        self._note(flow, message, now_ns, departs=True, arrival_ns=flow.arrival_ns)

    def _note(self, flow: Connection, message: QueuedMessage, now_ns: int, *, departs: bool, arrival_ns: int) -> None:
        acks = tcp.ack_bytes(message.wire_bytes) if flow.state.tcp else 0
        transmission = Transmission(message.start_ns, now_ns, arrival_ns, acks, message.resent_bytes)
        self._events.append(
            LinkEvent(
                now_ns,
                flow.place,
                message.counter,
                departs,
                flow.source,
                flow.destination,
                transmission,
                message.moved_ns,
            )
        )

    def _detach(self, flow: Connection) -> None:
        self._touch(flow.path)
        flow.detach()
        for channel in flow.path:
            if isinstance(channel, Channel) and not channel.flows:
                channel.watched_ns = -1

    def _touch(self, resources: Iterable[Resource]) -> None:
        for resource in resources:
            self._touched[resource] = None

    def _share(self, now_ns: int) -> None:
        """Recompute the shares of the resources that were touched, and of all that depend on them."""
        touched, self._touched = self._touched, {}
        done: dict[Resource, None] = {}
        for resource in touched:
            if resource not in done:
                resources, flows = connected_component((resource,))
                done.update(dict.fromkeys(resources))
                self._share_among(resources, flows, now_ns)

    def _share_among(self, resources: list[Resource], flows: list[Flow], now_ns: int) -> None:
        before = [flow.rate_q20 for flow in flows]
        share_max_min(resources, flows)
        for resource in resources:
            resource.changed_ns = now_ns
        first: Connection | None = None
        for flow, rate_q20 in zip(flows, before, strict=True):
            assert isinstance(flow, Connection)
            if flow.rate_q20 != rate_q20 or flow.ends_ns is None:
                flow.rate_q20, new = rate_q20, flow.rate_q20
                flow.serve(now_ns)
                flow.rate_q20 = new
                flow.ends_ns = now_ns - (-flow.unserved_q20_ns // new) if new else None
            if flow.ends_ns is not None and (first is None or flow.ends_ns < (first.ends_ns or 0)):
                first = flow
        # Ends of what is joined to the first can still move when it ends; they are planned then.
        for flow in flows:
            assert isinstance(flow, Connection)
            if first is not None and flow.ends_ns == first.ends_ns:
                self._plan_end(flow, first.ends_ns or 0)

    def _plan_end(self, flow: Connection, due_ns: int) -> None:
        self._plan(due_ns, ENDS, lambda now_ns: self._end(flow, now_ns), lambda: flow.ends_ns == due_ns)

    def _watch(self, flow: Connection, now_ns: int) -> None:
        """Be there when a capacity under this flow changes, or an end of it goes away."""
        for channel in flow.path:
            assert isinstance(channel, Channel)
            if channel.rates or channel.absences:
                channel.update(now_ns)
                self._watch_channel(channel, now_ns)
        self._watch_limit(flow, now_ns)
        message = flow.current
        for end in (flow.out, flow.into):
            if end.absences.kind == "away" and (gone_ns := end.absences.next_ns(now_ns)) is not None:
                self._plan(gone_ns, CHANGES, lambda at_ns: self._abort(flow, at_ns), lambda: flow.current is message)

    def _watch_channel(self, channel: Channel, now_ns: int) -> None:
        due_ns = channel.next_ns(now_ns)
        if due_ns is None or channel.watched_ns == due_ns:
            return
        channel.watched_ns = due_ns

        def change(at_ns: int) -> None:
            before = channel.capacity_q20
            channel.update(at_ns)
            if channel.capacity_q20 != before:
                self._touch((channel,))
            self._watch_channel(channel, at_ns)

        self._plan(due_ns, CHANGES, change, lambda: channel.watched_ns == due_ns and bool(channel.flows))

    def _watch_limit(self, flow: Connection, now_ns: int) -> None:
        """Be there when loss or delay allows another rate."""
        due_ns = flow.loss_limit_changes_ns(now_ns)
        if due_ns is None or flow.limit_until_ns == due_ns:
            return
        flow.limit_until_ns = due_ns

        def change(at_ns: int) -> None:
            before, flow.limit_q20 = flow.limit_q20, flow.loss_limit_q20(at_ns)
            if flow.limit_q20 != before:
                self._touch(flow.path)
            self._watch_limit(flow, at_ns)

        self._plan(due_ns, CHANGES, change, lambda: flow.limit_until_ns == due_ns and flow.current is not None)

    def _abort(self, flow: Connection, now_ns: int) -> None:
        """An end has gone away: what was being sent starts over when it is back."""
        message = flow.current
        assert message is not None
        flow.serve(now_ns)
        unserved_bytes = -(
            -max(flow.unserved_q20_ns, 0) // BYTE_Q20_NS
        )  # of the burst in hand, also while its rate is 0
        message.resent_bytes += message.wire_bytes - message.rest_bytes - unserved_bytes
        message.rest_bytes, flow.ends_ns, flow.unserved_q20_ns = message.wire_bytes, None, 0
        self._detach(flow)
        self._plan_start(flow, now_ns)


def _never_there(flow: Connection, message: QueuedMessage) -> UserError:
    """The error of a message that cannot arrive, since one of its ends is away too often."""
    gone = flow.source if flow.out.absences.kind == "away" else flow.destination
    return UserError(
        f"{gone}: a message of {message.wire_bytes} B from {flow.source} to {flow.destination} lost its connection"
        f" {MOST_CONNECTIONS} times, since it is away again too soon; give its absence a longer mean_present_s, or"
        ' kind = "outage", after which a message goes on'
    )
