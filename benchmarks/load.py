"""Lateness with ten and with fifty clients that offer 80 % of their links' rates, both ways, and compute in between."""

from __future__ import annotations

from benchmarks.lateness import MS, spread, transfers
from benchmarks.links import spread_cells
from benchmarks.report import Section, Target, size_text
from benchmarks.scenes import device, link, scene
from benchmarks.stage import Stage
from emulator.ledger.events import Computed

CLIENTS = (10, 50)
JUDGED = 10
UP_BPS, DOWN_BPS, ONE_WAY_NS = 2_000_000, 5_000_000, 35 * MS  # as an LTE Cat-1bis modem
SIZES_BYTES = (4_000, 16_000, 64_000, 256_000)
SHARE = 0.8
STEPS_PER_S = 400  # training steps of all clients together: some 2 ms of a host core each
SECONDS = 30.0
SPARE_NS = 3 * MS
TARGET_PERCENT = 95.0


def run(stage: Stage, quick: bool) -> Section:
    """Streams and steps for half a minute with each number of clients."""
    seconds = SECONDS / 6 if quick else SECONDS
    rows = [["clients", "transfers", "p50, ms", "p95, ms", "max, ms", "left p95, ms", "in time"]]
    rows[0] += ["offered", "steps", "step on host, ms", "network, core", "server, core", "host busy"]
    figures: dict[str, object] = {}
    targets: list[Target] = []
    for clients in CLIENTS:
        scenario = scene("load", [(device("board"), link("modem", UP_BPS, DOWN_BPS, ONE_WAY_NS))] * clients)
        settings = {"seconds": seconds, "share": SHARE, "up_bps": UP_BPS, "down_bps": DOWN_BPS, "sizes": SIZES_BYTES}
        settings["step_every_s"] = clients / STEPS_PER_S
        played = stage.perform(f"load-{clients}", scenario, "benchmarks.players.streams", settings)
        found = transfers(played.events, scenario)
        late = spread(found, SPARE_NS)
        offered = sum(8 * t.wire_bytes for t in found) / ((UP_BPS + DOWN_BPS) * clients * seconds)
        steps_ns = sorted(event.host_ns for event in played.events if isinstance(event, Computed))
        shares = {name: played.core_share(name) for name in ("network", "server")}
        rows.append(
            [str(clients), *spread_cells(late), f"{100 * offered:.0f} %", str(len(steps_ns))]
            + [f"{steps_ns[len(steps_ns) // 2] / MS:.2f}"]
            + [f"{100 * share:.0f} %" for share in (*shares.values(), played.host_busy())]
        )
        wrong = sum(not transfer.exact for transfer in found)
        figures[str(clients)] = late._asdict() | {
            "offered": offered,
            "steps": len(steps_ns),
            "step_host_ms": steps_ns[len(steps_ns) // 2] / MS,
            "core_share": shares,
            "host_busy": played.host_busy(),
            "not_by_closed_form": wrong,
        }
        if clients == JUDGED:
            what = f"{clients} clients, within 3 ms + 1 % of the due duration"
            targets.append(Target(what, 100 * late.share, "%", TARGET_PERCENT, True))
        what = f"{clients} clients, carried at other times than the closed form's"
        targets.append(Target(what, wrong, "transfers", 1, False))
    sizes = ", ".join(map(size_text, SIZES_BYTES))
    return Section(
        "load",
        f"lateness while clients offer {SHARE:.0%} of {UP_BPS / 1e6:g} Mbit/s up and {DOWN_BPS / 1e6:g} down"
        f" ({sizes} at random) and compute {STEPS_PER_S} steps a second together, {seconds:.0f} s",
        rows,
        figures,
        targets,
        ["The 1 % is of a transfer's due duration without what it waited for transfers before it."],
    )
