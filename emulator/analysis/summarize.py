"""A run's summary: a pure function of the manifest and the ledger."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from emulator.analysis import communication
from emulator.analysis.client_memory import (
    MIB,
    MemorySource,
    client_memory,
    does_not_fit,
    how_memory_is_known,
    measured,
)
from emulator.analysis.communication import both_ways, by_kind
from emulator.analysis.computations import computations
from emulator.analysis.energy import add_energy
from emulator.analysis.latency import CAUSES, latency_splits
from emulator.analysis.summary import (
    AlgorithmSummary,
    AlignmentErrors,
    ClientSpread,
    ClientSummary,
    KindsBothWays,
    ServerSummary,
    Summary,
    WorkloadSummary,
)
from emulator.checks import divergence
from emulator.checks.digest import numerics_digest, timeline_digest
from emulator.checks.findings import Divergence
from emulator.checks.health import check_health
from emulator.checks.send_queues import held_peak_bytes
from emulator.energy.powers import PowerFiles
from emulator.ledger.events import (
    AnyEvent,
    Computed,
    Ended,
    Evaluated,
    Lifecycle,
    MemoryEstimated,
    Posted,
    Reported,
    RoundEnded,
)
from emulator.ledger.manifest import Manifest, NodeFacts
from emulator.ledger.timeline import Timeline, timelines_of

SECOND_NS = 10**9


def summarize(
    manifest: Manifest, recorded: Mapping[str, Iterable[AnyEvent]], power: PowerFiles | None = None
) -> Summary:
    """The run, its verdict on itself, and one entry for each algorithm.

    ``recorded`` are the events of each algorithm, as ``emulator.ledger.files.read_timeline`` gives them; ``power``
    stands in for the power numbers of the manifest.
    """
    timelines = timelines_of(recorded)
    algorithms = {name: _algorithm(manifest, events) for name, events in timelines.items()}
    absent = [name for name in manifest.algorithms if name not in timelines]
    health = check_health(manifest, timelines)
    cut = absent or any(each.outcome in ("partial", "interrupted") for each in algorithms.values())
    if not algorithms:
        health = msgspec.structs.replace(health, verdict="unplayed")
    elif health.verdict == "good" and cut:
        health = msgspec.structs.replace(health, verdict="partial")
    return Summary(
        schema=manifest.schema,
        profile=manifest.profile,
        clock=manifest.clock,
        seed=manifest.seed,
        dilation=max((events.dilation for events in timelines.values()), default=1),
        health=health,
        workload=_workload(manifest),
        data=manifest.data,
        not_played=absent,
        algorithms=algorithms,
        energy=add_energy(manifest, timelines, algorithms, power),
    )


def _workload(manifest: Manifest) -> WorkloadSummary | None:
    """None where the record does not say."""
    task: Mapping[str, Any] = next((own.get("task", {}) for own in manifest.settings.values()), {})
    return msgspec.convert(task, WorkloadSummary) if {"model", "cut", "batch"} <= task.keys() else None


def _algorithm(manifest: Manifest, events: Timeline) -> AlgorithmSummary:
    how = how_memory_is_known(manifest)
    accounts = {event.device: event for event in events.of(MemoryEstimated)}
    named = {node.name: node for node in manifest.clients}
    ends_ns = [event.due_ns for event in events.of(RoundEnded)]
    splits, in_rounds = latency_splits(named, events, events.length_ns, max(ends_ns, default=0))
    came: dict[str, list[Posted]] = defaultdict(list)
    for message in events.of(Posted):
        came[message.destination].append(message)
    clients = [
        _client(node, events, came[name], splits[name], accounts.get(node.device), how) for name, node in named.items()
    ]
    posted, timelines, names = events.of(Posted), events.of(Lifecycle), set(named)
    diverged = divergence.find_non_finite(events)
    history = communication.history(events, names, diverged)
    evaluated = [row for row in history if row.loss is not None and not diverged]
    last = evaluated[-1] if evaluated else None
    own_scores = _client_scores(list(named), events, last.round) if last else {}
    for client in clients:
        client.score = own_scores.get(client.name)
    timeline, no_timeline = timeline_digest(events)
    outcome, detail = _outcome(events, clients, diverged)
    until_ns = max(ends_ns, default=None)  # what shares of a round count, of which these are taken off
    initial = [message for message in posted if message.round < 0 and (until_ns is None or message.due_ns <= until_ns)]
    acks, resent_bytes = communication.besides(events, names)
    criteria = manifest.criteria
    reached = {
        metric.name: {goal.value: communication.to_target(evaluated, goal) for goal in criteria.of(metric)}
        for metric in criteria.shown
    }
    return AlgorithmSummary(
        outcome=outcome,
        detail=detail,
        foreseen=how.foreseen,
        diverged=diverged,
        dilation=events.dilation,
        dilation_why=next((event.why for event in timelines if event.why), ""),
        abandoned=[text for event in timelines for text in event.abandoned],
        does_not_fit=does_not_fit(events, clients),
        timeline_digest=timeline,
        no_timeline_digest=no_timeline,
        numerics_digest=numerics_digest(events),
        wall_s=next((event.wall_s for event in timelines if event.wall_s is not None), None),
        rounds=len(history),
        seconds=history[-1].actual_s if history else None,
        length_s=events.length_ns / SECOND_NS,
        latency_s=_seconds([*splits.values()]) if splits else None,
        round_latency_s=_seconds([*in_rounds.values()], len(history)) if splits and history else None,
        accuracy=last.accuracy if last else None,
        balanced_accuracy=last.balanced_accuracy if last else None,
        loss=last.loss if last else None,
        scores=last.scores if last else {},
        client_spread=_spread(manifest, own_scores),
        official_bytes=sum(message.official_bytes for message in posted),
        bytes=both_ways(posted, names),
        total_bytes=communication.total(posted),
        initial_bytes=both_ways(initial, names),
        client_rounds=communication.client_rounds(events, names),
        by_kind=by_kind(posted),
        ack_bytes=acks,
        resent_bytes=resent_bytes,
        history=history,
        to_target=reached.pop(criteria.metric.name),
        to_other_targets=reached,
        alignment=[
            AlignmentErrors(round=event.round, before=before, after=after)
            for event in events.of(Reported)
            if (before := event.values.get("align_error_before")) is not None
            and (after := event.values.get("align_error_after")) is not None
        ],
        computations=computations(manifest.nodes, events, foreseen=how.foreseen),
        server=next((_server(node, events) for node in manifest.servers), None),
        clients=clients,
    )


# --- outcomes -----------------------------------------------------------------------------------------------------


def _outcome(events: Timeline, clients: Sequence[ClientSummary], diverged: Divergence | None) -> tuple[str, str]:
    """finished, does-not-fit, refused, failed, stuck, interrupted or partial (nobody saw an end), and a detail.

    would-not-fit: it finished, above a cap that was only accounted; diverged: it finished, and its model is none.
    """
    ending = events.ending
    details = [event.detail for event in events.of(Lifecycle) if event.outcome and event.detail]
    if any(client.outcome == "does-not-fit" for client in clients):
        ending = "does-not-fit"
    elif ending == "finished" and any(client.outcome == "would-not-fit" for client in clients):
        ending = "would-not-fit"
    elif ending == "finished" and diverged:
        ending = "diverged"
    elif ending not in ("finished", "does-not-fit", "refused", "stuck", "interrupted", "partial"):
        ending = "failed"
    return ending, details[-1] if details else ""


# --- nodes --------------------------------------------------------------------------------------------------------


def _server(node: NodeFacts, events: Timeline) -> ServerSummary:
    spans = events.of(Computed, node.name)
    align = [span for span in spans if "align" in span.function.lower() or "refresh" in span.function.lower()]
    known = all(span.source is not None for span in spans)
    return ServerSummary(
        device=node.device,
        busy_s=sum(span.due_ns - span.start_ns for span in spans) / SECOND_NS,
        align_s=sum(span.due_ns - span.start_ns for span in align) / SECOND_NS,
        queue_wait_s=sum(span.queued_ns for span in spans) / SECOND_NS if known else None,
        align_wait_s=sum(span.queued_ns for span in align) / SECOND_NS if known else None,
        workers=node.workers,
        peak_mib=measured(node, events).peak_mib,
        held_mib=held_peak_bytes(node.name, events) / MIB,
    )


def _client(
    node: NodeFacts,
    events: Timeline,
    came: Sequence[Posted],
    split: Mapping[str, int],
    account: MemoryEstimated | None,
    how: MemorySource,
) -> ClientSummary:
    """``came``: what was posted to the client; ``split``: its latency by cause in ns."""
    name, sent = node.name, events.of(Posted, node.name)
    ends = [event.outcome for event in events.of(Ended, name)]
    spent_ns = split_time(split)
    return ClientSummary(
        name=name,
        device=node.device,
        network=node.network,
        **client_memory(node, events, ends, account, how)._asdict(),
        compute_s=spent_ns["compute"] / SECOND_NS,
        transfer_s=spent_ns["transfer"] / SECOND_NS,
        wait_s=spent_ns["wait"] / SECOND_NS,
        latency_s=_seconds([split]),
        bytes=both_ways([*sent, *(message for message in came if message.node != name)], {name}),
        by_kind=KindsBothWays(up=by_kind(sent), down=by_kind(came)),
    )


def _client_scores(names: Sequence[str], events: Timeline, round: int) -> dict[str, float]:
    """The metric of the model of ``round`` for each client that has one."""
    judged = next((event.clients for event in events.of(Evaluated) if event.round == round), [])
    return {name: score for name, score in zip(names, judged, strict=False) if score is not None}


def _spread(manifest: Manifest, scores: Mapping[str, float]) -> ClientSpread | None:
    judged = manifest.data.judged if manifest.data else None
    if not scores or judged is None:
        return None
    worst = (min if judged.better == "higher" else max)(scores, key=lambda name: scores[name])
    return ClientSpread(
        metric=judged.metric,
        by=judged.by_client,
        clients=len(scores),
        mean=statistics.fmean(scores.values()),
        std=statistics.pstdev(scores.values()),
        worst=scores[worst],
        worst_client=worst,
    )


# --- how a client spends its time ---------------------------------------------------------------------------------


def split_time(split: Mapping[str, int]) -> dict[str, int]:
    """A client's latency by cause, in three: it computes; else a message of its own is under way; else it waits.

    A message, either way, is under way from its first bit to its arrival.
    """
    transfer_ns = split["serialisation"] + split["propagation"]
    return {"compute": split["compute"], "transfer": transfer_ns, "wait": split["queueing"] + split["waiting"]}


def _seconds(splits: Sequence[Mapping[str, int]], rounds: int = 1) -> dict[str, float]:
    """Seconds of each cause, mean over clients and rounds."""
    each = len(splits) * rounds * SECOND_NS
    return {cause: sum(split[cause] for split in splits) / each for cause in CAUSES}
