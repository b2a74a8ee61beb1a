"""What the network process can carry when no link limits it: bytes a second, and messages a second."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.report import Section
from benchmarks.scenes import MIB, UNTHROTTLED_BPS, device, link, scene
from benchmarks.stage import Stage
from emulator.ledger.events import Posted, Received


class Flood(NamedTuple):
    """What all pairs together send."""

    name: str
    payload_bytes: int
    messages: int


FLOODS = (Flood("1 MiB", MIB, 2000), Flood("16 MiB", 16 * MIB, 128), Flood("100 B", 100, 12_000))
PAIRS = (1, 4)


def run(stage: Stage, quick: bool) -> Section:
    """Each flood with one and with four pairs of a sender and a receiver."""
    rows = [["payload", "pairs", "messages", "s", "MB/s", "messages/s", "network, core", "senders", "receivers"]]
    figures: list[dict[str, object]] = []
    unthrottled = link("unthrottled", UNTHROTTLED_BPS, UNTHROTTLED_BPS)
    for flood in FLOODS:
        for pairs in PAIRS:
            ends = [(device("sender"), unthrottled), (device("receiver"), unthrottled)]
            scenario = scene("relay", ends * pairs)
            each = flood.messages // pairs // (10 if quick else 1)
            settings = {"messages": each, "payload_bytes": flood.payload_bytes}
            name = f"relay-{flood.payload_bytes}-{pairs}"
            played = stage.perform(name, scenario, "benchmarks.players.flood", settings)
            first_ns = min(event.actual_ns for event in played.events if isinstance(event, Posted))
            last_ns = max(event.actual_ns for event in played.events if isinstance(event, Received))
            seconds, messages = (last_ns - first_ns) / 1e9, each * pairs
            figure = {
                "payload_bytes": flood.payload_bytes,
                "pairs": pairs,
                "messages": messages,
                "seconds": seconds,
                "mb_per_s": messages * flood.payload_bytes / 1e6 / seconds,
                "messages_per_s": messages / seconds,
            }
            cores = {
                "network_core": played.core_share("network"),
                "senders_cores": sum(played.core_share(f"client-{i}") for i in range(0, 2 * pairs, 2)),
                "receivers_cores": sum(played.core_share(f"client-{i}") for i in range(1, 2 * pairs, 2)),
            }
            figures.append({**figure, **cores})
            row = [flood.name, str(pairs), str(messages), f"{seconds:.2f}", f"{figure['mb_per_s']:.1f}"]
            rows.append([*row, f"{messages / seconds:.0f}", *(f"{100 * share:.0f} %" for share in cores.values())])
    return Section(
        "relay",
        "throughput through the network process over links that limit nothing, first post to last arrival",
        rows,
        {"floods": figures},
        remarks=["Cores: share of one core while at work, of all senders and of all receivers together."],
    )
