"""The network as arithmetic: messages in, and when each begins to leave, has left and arrives; no clock, no I/O.

Every ordered pair (source, destination) is a FIFO connection: one message at a time is a *flow* over the capacities
between the two (``topology``), which flows share max-min fairly (``sharing``). Shares change the moment a flow begins
or ends or a capacity changes; between such moments everything is linear, so the fabric goes from one to the next:

    post(...)     a message is handed over, with the time of its stamp
    next_ns()     when something happens next; None: nothing, until something is posted
    advance()     let it happen, and say what did: a message begins to leave, or has left and arrives then

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
from emulator.network.connection import BYTE, Link, Pipe, Transfer
from emulator.network.fairness import Flow, Resource, fill, together
from emulator.network.jitter import Carriage
from emulator.network.topology import Channel, Topology
from emulator.profiles.scenario import Scenario

CHANGES, ENDS, STARTS = range(3)  # at one moment: capacities change, flows end, flows begin

MOST_CONNECTIONS = 10_000  # that one message may lose


class Happening(NamedTuple):
    """Something that happened to a message: it began to leave (no carriage), or it has left.

    Ordered by time, sender (by its place among the nodes), the sender's counter. ``moved_ns``: its start was moved.
    """

    due_ns: int
    place: int
    counter: int
    departs: bool
    source: str
    destination: str
    carriage: Carriage
    moved_ns: int = 0


class Fabric:
    """The network of a scenario. Random draws come from streams that are named by seed, pair and purpose."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.topology = Topology(scenario, seed)
        self._seed = seed
        self._places = {name: i for i, name in enumerate(self.topology.ends)}
        self._pipes: dict[tuple[str, str], Pipe] = {}
        self._links: dict[frozenset[str], Link] = {}
        self._agenda: list[tuple[int, int, int, int, Callable[[int], None], Callable[[], bool]]] = []
        self._planned = 0
        self._touched: dict[Resource, None] = {}
        self._happened: list[Happening] = []

    def post(self, source: str, destination: str, counter: int, wire_bytes: int, posted_ns: int) -> None:
        """A message for the connection; KeyError for a node that the scenario does not have."""
        pipe = self._pipe(source, destination)
        pipe.waiting.append(Transfer(counter, wire_bytes, posted_ns))
        if pipe.current is None:
            self._take_next(pipe)

    def next_ns(self) -> int | None:
        """When something happens next."""
        while self._agenda and not self._agenda[0][5]():
            heapq.heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else None

    def advance(self) -> list[Happening]:
        """Let everything happen that happens at ``next_ns()``, in the order of ``Happening``."""
        now_ns = self.next_ns()
        while now_ns is not None and self.next_ns() == now_ns:
            while self.next_ns() == now_ns:
                heapq.heappop(self._agenda)[4](now_ns)
            self._share(now_ns)
        happened, self._happened = sorted(self._happened), []
        return happened

    def drop(self, node: str, now_ns: int) -> list[tuple[str, int]]:
        """A node is gone: what is on its way to or from it is withdrawn, and its shares are given back at once.

        Returns (source, counter) of each message that was withdrawn.
        """
        withdrawn: list[tuple[str, int]] = []
        for pipe in self._pipes.values():
            if node in (pipe.source, pipe.destination):
                under_way = [pipe.current] if pipe.current else []
                withdrawn += [(pipe.source, transfer.counter) for transfer in (*under_way, *pipe.waiting)]
                pipe.waiting.clear()
                pipe.current = pipe.starts_ns = pipe.ends_ns = None
                self._leave(pipe)
        self._share(max([now_ns, *(resource.changed_ns for resource in self._touched)]))
        return withdrawn

    def _pipe(self, source: str, destination: str) -> Pipe:
        pair = (source, destination)
        if pair not in self._pipes:
            ends = self.topology.ends
            has_tcp = all(ends[name].network.transport == "tcp" for name in pair)
            link = self._links.setdefault(frozenset(pair), Link(has_tcp))
            self._pipes[pair] = Pipe(self._places[source], source, destination, ends, link, self._seed)
        return self._pipes[pair]

    def _plan(self, due_ns: int, rank: int, act: Callable[[int], None], holds: Callable[[], bool]) -> None:
        """``act`` at ``due_ns``, where ``holds`` still says so."""
        self._planned += 1
        heapq.heappush(self._agenda, (due_ns, rank, 0, self._planned, act, holds))

    def _plan_start(self, pipe: Pipe, due_ns: int) -> None:
        pipe.starts_ns = due_ns
        self._plan(due_ns, STARTS, lambda now_ns: self._start(pipe, now_ns), lambda: pipe.starts_ns == due_ns)

    def _take_next(self, pipe: Pipe) -> None:
        if pipe.waiting:
            pipe.current = pipe.waiting.popleft()
            self._plan_start(pipe, max(pipe.current.posted_ns, pipe.free_ns))

    def _start(self, pipe: Pipe, now_ns: int) -> None:
        """A message begins, or goes on, if it can: else when it can."""
        transfer = pipe.current
        assert transfer is not None
        ready_ns = self._ready_ns(pipe, now_ns)
        if transfer.connection < 0:
            transfer.connection = pipe.link.number
        elif pipe.link.number - transfer.connection > MOST_CONNECTIONS:
            raise _never_there(pipe, transfer)
        if ready_ns > now_ns:
            self._plan_start(pipe, ready_ns)
            return
        settled_ns = max(resource.changed_ns for resource in pipe.path)
        if settled_ns > now_ns:
            transfer.moved_ns += settled_ns - now_ns
            self._plan_start(pipe, settled_ns)
            return
        pipe.starts_ns = None
        if transfer.start_ns < 0:
            transfer.start_ns = now_ns
            self._tell(pipe, transfer, now_ns, departs=False, arrival_ns=-1)
        burst_bytes = pipe.window.allows(transfer.rest_bytes) if pipe.link.tcp else transfer.rest_bytes
        pipe.limit = pipe.limit_at(now_ns)
        self._burst(pipe, transfer, burst_bytes, now_ns)
        pipe.join()
        self._watch(pipe, now_ns)

    def _ready_ns(self, pipe: Pipe, now_ns: int) -> int:
        """When a message may begin or go on, as far as is known: ends are there, connection set up, window open."""
        link = pipe.link
        back_ns = pipe.back_ns(now_ns)
        if back_ns > now_ns or pipe.was_away(link.used_ns, now_ns):
            link.established_ns, link.used_ns = None, now_ns
            link.number += 1
            if back_ns > now_ns:
                return back_ns
        if not link.tcp:
            return now_ns
        rtt_ns = pipe.rtt_ns(now_ns)
        if link.established_ns is None:
            link.established_ns = now_ns + rtt_ns
        if link.established_ns > now_ns:
            return link.established_ns
        if pipe.number != link.number:
            pipe.number, pipe.window = link.number, tcp.Window()
        link.used_ns, window = now_ns, pipe.window
        window.begin(now_ns, rtt_ns, pipe.rto_ns(now_ns))
        if window.open or window.left_bytes:
            return now_ns
        return max(window.resumes_ns(rtt_ns), now_ns)

    def _burst(self, pipe: Pipe, transfer: Transfer, burst_bytes: int, now_ns: int) -> None:
        """The next so many bytes are on the link."""
        pipe.burst_bytes, pipe.unserved, pipe.since_ns, pipe.ends_ns = burst_bytes, burst_bytes * BYTE, now_ns, None
        transfer.rest_bytes -= burst_bytes
        pipe.rate = 0
        self._touch(pipe.path)

    def _end(self, pipe: Pipe, now_ns: int) -> None:
        """A burst has been served: the message has left, goes on, or waits for an ACK."""
        transfer = pipe.current
        assert transfer is not None
        rate, pipe.ends_ns, pipe.unserved = pipe.rate, None, 0
        if pipe.link.tcp:
            pipe.link.used_ns = now_ns
            pipe.window.sent(pipe.burst_bytes, now_ns, -(-min(pipe.burst_bytes, tcp.SEGMENT_BYTES) * BYTE // rate))
        if not transfer.rest_bytes:
            self._leave(pipe)
            self._arrive(pipe, transfer, now_ns)
            pipe.free_ns, pipe.current, pipe.limit_until_ns = now_ns, None, -1
            self._take_next(pipe)
            return
        rtt_ns, window = pipe.rtt_ns(now_ns), pipe.window
        if window.segments * tcp.SEGMENT_BYTES * BYTE >= rate * rtt_ns:
            window.open = True
        elif now_ns >= window.resumes_ns(rtt_ns):
            window.next_round(now_ns)
        else:
            self._leave(pipe)
            self._plan_start(pipe, window.resumes_ns(rtt_ns))
            return
        self._burst(pipe, transfer, window.allows(transfer.rest_bytes), now_ns)

    def _arrive(self, pipe: Pipe, transfer: Transfer, now_ns: int) -> None:
        late_ns = sum(jitter.draw_ns() for jitter in pipe.jitters)
        late_ns += pipe.tail.draw_ns(transfer.wire_bytes, pipe.loss_ppb(now_ns), pipe.rto_ns(now_ns))
        pipe.arrival_ns = max(now_ns + pipe.delay_ns(now_ns) + late_ns, pipe.arrival_ns)
        self._tell(pipe, transfer, now_ns, departs=True, arrival_ns=pipe.arrival_ns)

    def _tell(self, pipe: Pipe, transfer: Transfer, now_ns: int, *, departs: bool, arrival_ns: int) -> None:
        acks = tcp.ack_bytes(transfer.wire_bytes) if pipe.link.tcp else 0
        carriage = Carriage(transfer.start_ns, now_ns, arrival_ns, acks, transfer.resent_bytes)
        self._happened.append(
            Happening(
                now_ns,
                pipe.place,
                transfer.counter,
                departs,
                pipe.source,
                pipe.destination,
                carriage,
                transfer.moved_ns,
            )
        )

    def _leave(self, pipe: Pipe) -> None:
        self._touch(pipe.path)
        pipe.leave()
        for channel in pipe.path:
            if isinstance(channel, Channel) and not channel.flows:
                channel.watched_ns = -1

    def _touch(self, resources: Iterable[Resource]) -> None:
        for resource in resources:
            self._touched[resource] = None

    def _share(self, now_ns: int) -> None:
        """Share anew what was touched, and all that flows join it with."""
        touched, self._touched = self._touched, {}
        done: dict[Resource, None] = {}
        for resource in touched:
            if resource not in done:
                resources, flows = together((resource,))
                done.update(dict.fromkeys(resources))
                self._share_among(resources, flows, now_ns)

    def _share_among(self, resources: list[Resource], flows: list[Flow], now_ns: int) -> None:
        before = [flow.rate for flow in flows]
        fill(resources, flows)
        for resource in resources:
            resource.changed_ns = now_ns
        first: Pipe | None = None
        for flow, rate in zip(flows, before, strict=True):
            assert isinstance(flow, Pipe)
            if flow.rate != rate or flow.ends_ns is None:
                flow.rate, new = rate, flow.rate
                flow.serve(now_ns)
                flow.rate = new
                flow.ends_ns = now_ns - (-flow.unserved // new) if new else None
            if flow.ends_ns is not None and (first is None or flow.ends_ns < (first.ends_ns or 0)):
                first = flow
        # Ends of what is joined to the first can still move when it ends; they are planned then.
        for flow in flows:
            assert isinstance(flow, Pipe)
            if first is not None and flow.ends_ns == first.ends_ns:
                self._plan_end(flow, first.ends_ns or 0)

    def _plan_end(self, pipe: Pipe, due_ns: int) -> None:
        self._plan(due_ns, ENDS, lambda now_ns: self._end(pipe, now_ns), lambda: pipe.ends_ns == due_ns)

    def _watch(self, pipe: Pipe, now_ns: int) -> None:
        """Be there when a capacity under this flow changes, or an end of it goes away."""
        for channel in pipe.path:
            assert isinstance(channel, Channel)
            if channel.rates or channel.absences:
                channel.update(now_ns)
                self._watch_channel(channel, now_ns)
        self._watch_limit(pipe, now_ns)
        transfer = pipe.current
        for end in (pipe.out, pipe.into):
            if end.absences.kind == "away" and (gone_ns := end.absences.next_ns(now_ns)) is not None:
                self._plan(gone_ns, CHANGES, lambda at_ns: self._abort(pipe, at_ns), lambda: pipe.current is transfer)

    def _watch_channel(self, channel: Channel, now_ns: int) -> None:
        due_ns = channel.next_ns(now_ns)
        if due_ns is None or channel.watched_ns == due_ns:
            return
        channel.watched_ns = due_ns

        def change(at_ns: int) -> None:
            before = channel.capacity
            channel.update(at_ns)
            if channel.capacity != before:
                self._touch((channel,))
            self._watch_channel(channel, at_ns)

        self._plan(due_ns, CHANGES, change, lambda: channel.watched_ns == due_ns and bool(channel.flows))

    def _watch_limit(self, pipe: Pipe, now_ns: int) -> None:
        """Be there when loss or delay allows another rate."""
        due_ns = pipe.limit_changes_ns(now_ns)
        if due_ns is None or pipe.limit_until_ns == due_ns:
            return
        pipe.limit_until_ns = due_ns

        def change(at_ns: int) -> None:
            before, pipe.limit = pipe.limit, pipe.limit_at(at_ns)
            if pipe.limit != before:
                self._touch(pipe.path)
            self._watch_limit(pipe, at_ns)

        self._plan(due_ns, CHANGES, change, lambda: pipe.limit_until_ns == due_ns and pipe.current is not None)

    def _abort(self, pipe: Pipe, now_ns: int) -> None:
        """An end has gone away: what was being sent starts over when it is back."""
        transfer = pipe.current
        assert transfer is not None
        pipe.serve(now_ns)
        unserved_bytes = -(-max(pipe.unserved, 0) // BYTE)  # of the burst in hand, also while its rate is 0
        transfer.resent_bytes += transfer.wire_bytes - transfer.rest_bytes - unserved_bytes
        transfer.rest_bytes, pipe.ends_ns, pipe.unserved = transfer.wire_bytes, None, 0
        self._leave(pipe)
        self._plan_start(pipe, now_ns)


def _never_there(pipe: Pipe, transfer: Transfer) -> UserError:
    """Who is away too often for a message ever to arrive."""
    gone = pipe.source if pipe.out.absences.kind == "away" else pipe.destination
    return UserError(
        f"{gone}: a message of {transfer.wire_bytes} B from {pipe.source} to {pipe.destination} lost its connection"
        f" {MOST_CONNECTIONS} times, since it is away again too soon; give its absence a longer mean_present_s, or"
        ' kind = "outage", after which a message goes on'
    )
