"""What a run came to, ``summary.json``: its types, and the one reader of it.

Seconds are actual times: what the run's clock showed. On the real clock that is wall time divided by the dilation, on
the virtual clock it is the due time. ``due_s`` and ``actual_s`` of the history say both. Bytes are payload unless a
name says otherwise; ``up`` is what clients sent, ``down`` what they received. 1 MiB is 2^20 bytes. Fields are None
where there is nothing to say, and those with a default are not in every record of an older version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from emulator.checks.findings import Divergence, Health, findings_of
from emulator.ledger.census import Census, criteria_of
from emulator.ledger.criteria import Criteria, Goal

Way = Literal["up", "down"]
Size = Literal["payload", "framed", "wire"]


class BothWays(msgspec.Struct, kw_only=True):
    """Bytes that clients sent and received."""

    up: int = 0
    down: int = 0


class ByteSizes(msgspec.Struct, kw_only=True):
    """Bytes of messages: tensors, with headers, and as links carry them (estimated)."""

    payload: int = 0
    framed: int = 0
    wire: int = 0


class ByteSizesBothWays(msgspec.Struct, kw_only=True):
    """The same by way."""

    payload: BothWays
    framed: BothWays
    wire: BothWays


class KindBytes(ByteSizes, kw_only=True):
    """Messages of one kind; ``official``: bytes as papers count them, without labels and initial weights."""

    messages: int = 0
    official: int = 0


class KindsBothWays(msgspec.Struct, kw_only=True):
    """A client's messages by kind: what it sent, and what it received."""

    up: dict[str, KindBytes] = {}
    down: dict[str, KindBytes] = {}


class RoundSummary(msgspec.Struct, kw_only=True):
    """A finished round, from 0, and the bytes that were posted from the beginning until its end; ``scores``: the task's
    metrics by name."""

    round: int
    started_s: float
    due_s: float
    actual_s: float
    accuracy: float | None
    balanced_accuracy: float | None = None
    loss: float | None
    scores: dict[str, float] = {}
    official_bytes: int
    payload_bytes: int
    payload_up: int
    payload_down: int
    joules: float | None = None  # of all clients whose power is known, until its end


class TargetReached(msgspec.Struct, kw_only=True):
    """The first round that reached a target, its end, and the bytes of all messages that were posted until then."""

    round: int
    seconds: float
    bytes: int
    official_bytes: int


class AlignmentErrors(msgspec.Struct, kw_only=True):
    """Error of the gradients that auxiliaries estimate, before and after an alignment in a round from 0."""

    round: int
    before: float
    after: float


class ComputationSummary(msgspec.Struct, kw_only=True):
    """What was computed of one function on one device: sums over all ``times``; ``host_ms`` a median."""

    device: str
    function: str
    times: int
    operations: int
    dense_flops: int
    depthwise_flops: int
    moved_bytes: int
    seconds: float
    host_ms: float | None


class Unfit(msgspec.Struct, kw_only=True):
    """The first client that did not fit, when, and how much it asked for; ``clients``: all that do not."""

    client: str
    device: str
    phase: str
    budget_mib: float | None
    peak_mib: float | None
    needed_mib: float | None = None
    outcome: str = "does-not-fit"
    asked_mib: float | None = None
    clients: list[str] = []


class ServerSummary(msgspec.Struct, kw_only=True):
    """The server's spans, each in full although ``workers`` of them may overlap; align_s is a part of busy_s, and
    align_wait_s of queue_wait_s. These two are None in a record that does not say for which message a computation was.
    """

    device: str = ""
    busy_s: float
    align_s: float
    queue_wait_s: float | None
    align_wait_s: float | None = None
    workers: int | None = None
    peak_mib: float | None = None
    held_mib: float | None = None


class ClientSummary(msgspec.Struct, kw_only=True):
    """A client over the whole run. ``latency_s``: due seconds by the causes of ``latency``; ``account_mib``: its
    tensors when they were most, by kind; ``beside_mib``: what of the peak those do not explain; ``score``: the last
    judged model's metric for this client (``ClientSpread``); ``joules``: until the last round's end, by cause;
    ``battery_days``: how long its battery lasts at one mean round an hour (``analysis.energy``)."""

    name: str
    device: str = ""
    network: str = ""
    outcome: str
    budget_mib: float | None = None
    baseline_mib: float | None = None
    peak_mib: float | None = None
    account_mib: dict[str, float] | None = None
    account_during: str = ""
    tensors_mib: float | None = None
    beside_mib: float | None = None
    needed_mib: float | None = None
    compute_s: float
    transfer_s: float
    wait_s: float
    latency_s: dict[str, float] | None = None
    bytes: ByteSizesBothWays
    by_kind: KindsBothWays = msgspec.field(default_factory=KindsBothWays)
    score: float | None = None
    joules: dict[str, float] | None = None
    battery_days: float | None = None


class ClientSpread(msgspec.Struct, kw_only=True):
    """The last judged model's ``metric`` over the clients that have a ``score``, of what ``by`` says
    (``Judged.by_client``): mean, standard deviation over these clients (not of a sample), the worst and whose it is."""

    metric: str
    by: str
    clients: int
    mean: float
    std: float
    worst: float
    worst_client: str


class EnergySummary(msgspec.Struct, kw_only=True):
    """Joules of a method's clients until the last round's end, of the ``clients`` whose power is known: nominal, and
    the least and the most over the uncertainty of all power numbers; by cause (``energy.consumption.CAUSES``).
    ``grade``: the worst of a number that went in."""

    clients: int
    joules: float
    least_joules: float
    most_joules: float
    causes: dict[str, float]
    grade: str
    worst_client: str
    worst_joules: float


class MissingPower(msgspec.Struct, kw_only=True):
    """A device or network of ``clients`` clients whose profile has no power numbers."""

    kind: Literal["device", "network"]
    name: str
    clients: int


class RunEnergy(msgspec.Struct, kw_only=True):
    """What of a run's energy is not known; the finished method with the fewest joules a round ("": none or one), and
    those that power numbers do not tell apart from it: their difference has no one sign over all ends of them."""

    missing: list[MissingPower] = []
    least: str = ""
    alike: list[str] = []


class AlgorithmSummary(msgspec.Struct, kw_only=True):
    """A method's run. ``total_bytes`` has each message once; ``history`` and ``to_target`` count what was posted until
    a round's end (``communication``). ``client_rounds``: in how many rounds clients took part, that is sent something,
    added up over clients. ``latency_s`` is where a client's time goes, by the causes of ``latency``, over the whole
    timeline, mean over clients; ``round_latency_s`` is that of a mean round, until the last one's end. ``scores``: the
    task's metrics by name; ``accuracy`` and ``balanced_accuracy``: those two of them, None in a task that has not.
    ``to_target``: of the metric that the run is judged by (``data.judged``), by value; ``to_other_targets``: of others,
    by name. ``diverged``: from which round (from 0) on no model is judged, and where that began
    (``checks.divergence``); then metrics, ``loss`` and targets are None. ``foreseen``: by a dry run, so that nothing
    was trained, and no memory and no time of the host was measured.
    """

    outcome: str
    detail: str = ""
    foreseen: bool = False
    diverged: Divergence | None = None
    dilation: int = 1
    dilation_why: str = ""
    abandoned: list[str] = []  # attempts at smaller dilations, of which no figure is made
    does_not_fit: Unfit | None = None
    timeline_digest: str | None = None
    no_timeline_digest: str = ""
    numerics_digest: str | None = None
    wall_s: float | None = None
    rounds: int
    seconds: float | None
    length_s: float
    latency_s: dict[str, float] | None = None
    round_latency_s: dict[str, float] | None = None
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    loss: float | None = None
    scores: dict[str, float] = {}
    client_spread: ClientSpread | None = None
    official_bytes: int
    bytes: ByteSizesBothWays
    total_bytes: ByteSizes
    initial_bytes: ByteSizesBothWays
    client_rounds: int = 0
    by_kind: dict[str, KindBytes]
    ack_bytes: BothWays = msgspec.field(default_factory=BothWays)
    resent_bytes: int = 0
    history: list[RoundSummary]
    to_target: dict[float, TargetReached | None] = {}
    to_other_targets: dict[str, dict[float, TargetReached | None]] = {}
    alignment: list[AlignmentErrors] = []
    computations: list[ComputationSummary] = []
    server: ServerSummary | None = None
    energy: EnergySummary | None = None
    clients: list[ClientSummary]

    def reached(self, goal: Goal) -> TargetReached | None:
        """Its first round that reached a target; None where none has."""
        return self.to_other_targets.get(goal.metric.name, self.to_target).get(goal.value)


class WorkloadSummary(msgspec.Struct, kw_only=True):
    """What every method trains."""

    model: str
    cut: str
    batch: int


class Summary(msgspec.Struct, kw_only=True):
    """A run, its verdict on itself, and what each method came to; ``made_by``: a digest of what made it."""

    schema: str
    profile: str | None
    clock: str | None
    seed: int | None
    dilation: int = 1
    health: Health  # verdict: good | bad | partial (consistent, but cut short) | unplayed | none (a dry run)
    workload: WorkloadSummary | None = None
    data: Census | None = None
    not_played: list[str] = []
    algorithms: dict[str, AlgorithmSummary]
    energy: RunEnergy | None = None
    made_by: str = ""

    @property
    def criteria(self) -> Criteria:
        """What models are judged by; of older records, accuracy."""
        return criteria_of(self.data.judged if self.data else None)


Algorithms = Mapping[str, AlgorithmSummary]


def read_summary(path: Path) -> Summary:
    """A ``summary.json``; ValueError or LookupError where it is none. In one of an older version, what it lacks is told
    from the rest of it where it can be."""
    found: dict[str, Any] = json.loads(path.read_text())
    health = found["health"]
    health["findings"] = msgspec.to_builtins(findings_of(health))
    found["data"] = found.get("data") or None
    for algorithm in found["algorithms"].values():
        kinds = algorithm["by_kind"].values()
        algorithm.setdefault("total_bytes", {size: sum(kind[size] for kind in kinds) for size in get_args(Size)})
        for row in algorithm["history"]:
            row.setdefault("payload_bytes", row["payload_up"] + row["payload_down"])
        for row in (algorithm, *algorithm["history"]):
            known = {name: row.get(name) for name in ("accuracy", "balanced_accuracy")}
            row["scores"] = row.get("scores") or {name: value for name, value in known.items() if value is not None}
    return msgspec.convert(found, Summary, str_keys=True)


def to_json(summary: Summary) -> str:
    """What ``summary.json`` holds."""
    return json.dumps(msgspec.to_builtins(summary, str_keys=True), indent=1) + "\n"
