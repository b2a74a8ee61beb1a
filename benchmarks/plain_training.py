"""Three rounds of two methods, trained by a plain script under kernel links and quotas, beside an emulated run.

No model stands between: real sockets, ``tbf`` and CPU quotas on one side, an emulated run with the same rates on the
other, on devices that were calibrated under the same quotas, in the same processes, just before the training.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import calibration
from benchmarks.namespaces import Laboratory, enter, join
from benchmarks.report import Section, Target, rate_text
from benchmarks.scenes import scenario_text
from emulator.errors import UserError
from emulator.spans import union

CLIENTS = 4
UP_BPS, DOWN_BPS = 2_000_000, 5_000_000  # those of iot-4g, without its delay
CLIENT_SHARE, SERVER_SHARE = 0.1, 0.4  # of a core
ROUNDS = 3
TASK = {"dataset": "synthetic:3x32x32:10:1600", "model": "simple_conv", "samples_per_client": 96, "batch": 16}
SCENARIO = scenario_text(CLIENTS, "client.toml", "link.toml", ("server.toml", "open.toml"), workers=1)
METHODS = ("splitfed-v2", "fsl-sage")
PORT = 7080
TARGET_PERCENT = 10.0
PATIENCE_S = 150.0
MEMORY = {"memory_mib": 8192, "os_reserved_mib": 1, "runtime_mib": 1, "depthwise_gflops": 1}


class Place(NamedTuple):
    """Where a process of the training is."""

    method: str
    rounds: int
    namespace: str
    quota: Path
    addresses: tuple[str, ...]  # the server's, one for each client


class Outcome(NamedTuple):
    """A training: its rounds' seconds, and what took them. ``spans`` as in ``plain_wire``, from the first round on."""

    rounds_s: list[float]
    spans: list[Any]


def settings(rounds: int) -> dict[str, Any]:
    """What becomes the ``Config`` of a method."""
    return {"rounds": rounds, "stop_after_s": None, "task": {**TASK, "clients": CLIENTS, "seed": 1}}


# --- processes --------------------------------------------------------------------------------------------------------


def play(place: Place, index: int | None, control: Connection) -> None:
    """A process: a client, or the server where ``index`` is None. Calibrates, says so, waits, trains, reports."""
    enter(place.namespace)
    import msgspec
    import torch

    from benchmarks import plain_methods
    from benchmarks.plain_wire import Node

    torch.set_num_threads(1)
    method, names = place.method, [f"client-{i}" for i in range(CLIENTS)]
    config: Any = msgspec.convert(settings(place.rounds), plain_methods.CONFIGS[method])
    cases = (calibration.server_cases if index is None else calibration.client_cases)(method, config)
    works = calibration.count(cases)
    node = Node("server" if index is None else names[index], "up" if index is None else "down")
    if index is None:
        listeners = [socket.create_server((address, PORT)) for address in place.addresses]
        control.send("listens")
        for name, listener in zip(names, listeners, strict=True):
            node.attach(name, listener.accept()[0])
    else:
        control.recv()
        node.attach("server", socket.create_connection((place.addresses[index], PORT)))
    names_or_index = names if index is None else index
    training = (plain_methods.SERVERS if index is None else plain_methods.CLIENTS)[method](node, config, names_or_index)
    join(place.quota)
    control.send(calibration.timed(cases, works))
    with contextlib.suppress(EOFError):
        if index is None:
            control.recv()
        rounds = training()
        control.send((node.log, rounds or []))
        control.recv()  # until everybody has ended: a connection would break off


class Processes:
    """Use as a context: the processes of a training, the server first."""

    def __init__(self, places: Sequence[Place]) -> None:
        context = multiprocessing.get_context("spawn")
        self.ends, self._all = list[Connection](), []
        for number, place in enumerate(places):
            ours, theirs = context.Pipe()
            index = number - 1 if number else None
            process = context.Process(target=play, args=(place, index, theirs), daemon=True)
            process.start()
            theirs.close()
            self.ends.append(ours)
            self._all.append(process)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self.ends:
            end.close()
        for process in self._all:
            process.kill()
            process.join()

    def hear(self, end: Connection) -> Any:
        """What a process has to say."""
        try:
            if end.poll(PATIENCE_S):
                return end.recv()
        except EOFError:
            pass
        raise UserError("kernel-check: a process of the plain training failed (see above) or did not go on in time")


def train(places: Sequence[Place]) -> tuple[Outcome, list[Any], list[Any]]:
    """A training; and what was timed on the server, and on each client."""
    with Processes(places) as processes:
        server, *clients = processes.ends
        processes.hear(server)
        for end in clients:
            end.send("connect")
        timed = [processes.hear(end) for end in processes.ends]
        server.send("begin")
        logs = [processes.hear(end) for end in processes.ends]
    rounds = logs[0][1]
    begun_s = rounds[0][0]
    spans = [
        span._replace(start_s=span.start_s - begun_s, end_s=span.end_s - begun_s)
        for log, _ in logs
        for span in log
        if span.start_s < rounds[-1][1]
    ]
    return Outcome([end_s - start_s for start_s, end_s in rounds], spans), timed[0], timed[1:]


# --- the emulated run -------------------------------------------------------------------------------------------------


def device_text(rates: Any) -> str:
    """A device's profile."""
    speed = {
        "dispatch_us": f"{rates.dispatch_us:.3f}",
        "dense_gflops": f"{rates.dense_gflops:.6f}",
        "memory_gbps": f"{rates.memory_gbps:.6f}",
    }
    lines = [f"{key} = {value}" for key, value in {**MEMORY, **speed}.items()]
    return "\n".join(['kind = "device"', 'description = "calibrated under a quota"', *lines]) + "\n"


def network_text(up_bps: int, down_bps: int) -> str:
    """A network's profile, without delay."""
    rates = [f"up_mbps = {up_bps / 1e6:g}", f"down_mbps = {down_bps / 1e6:g}", "one_way_ms = 0"]
    return "\n".join(['kind = "network"', 'description = "as tbf shapes it"', *rates]) + "\n"


def emulate(method: str, rounds: int, client: Any, server: Any, folder: Path) -> Outcome:
    """The same training, emulated in virtual time."""
    from benchmarks.plain_wire import Span
    from benchmarks.stage import Broken
    from benchmarks.virtual import play_virtual
    from emulator.ledger.events import Computed, RoundEnded, Transmitted
    from emulator.ledger.timeline import only

    folder.mkdir()
    open_text = network_text(10**12, 10**12)
    files = {"scenario": SCENARIO, "link": network_text(UP_BPS, DOWN_BPS), "open": open_text}
    for name, text in {**files, "client": device_text(client), "server": device_text(server)}.items():
        (folder / f"{name}.toml").write_text(text)
    flags = [word for key, value in TASK.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    flags += ["--profile", str(folder / "scenario.toml"), "--algorithm", method, "--rounds", str(rounds), "--seed", "1"]
    try:
        events = play_virtual(folder / "run", flags).timelines[method]
    except Broken as broken:
        raise UserError(f"kernel-check: the emulated run failed: {broken}") from None
    spans = [Span(e.node, "compute", e.function, e.start_ns / 1e9, e.due_ns / 1e9) for e in only(events, Computed)]
    for e in only(events, Transmitted):
        up = e.destination == "server"
        client_name = e.source if up else e.destination
        spans.append(Span(client_name, "up" if up else "down", e.kind, e.posted_ns / 1e9, e.arrival_ns / 1e9))
    ended_rounds = only(events, RoundEnded)
    last_s = ended_rounds[-1].due_ns / 1e9
    return Outcome(
        [(event.due_ns - event.started_ns) / 1e9 for event in ended_rounds],
        [span for span in spans if span.start_s < last_s],
    )


# --- the comparison ---------------------------------------------------------------------------------------------------


def covered_s(spans: Sequence[Any], length_s: float) -> float:
    """Seconds of 0 to ``length_s`` that lie in any of the spans."""
    spans_ns = [(round(span.start_s * 1e9), round(span.end_s * 1e9)) for span in spans]
    return sum(end_ns - start_ns for start_ns, end_ns in union(spans_ns, round(length_s * 1e9))) / 1e9


def parts_s(outcome: Outcome) -> dict[str, float]:
    """A client's seconds, mean over clients: computing, else with a message under way, else waiting for the server."""
    length_s = sum(outcome.rounds_s)
    names = sorted({span.node for span in outcome.spans} - {"server"})
    found = dict.fromkeys(("compute", "transfer", "waiting"), 0.0)
    for name in names:
        mine = [span for span in outcome.spans if span.node == name]
        compute_s = covered_s([span for span in mine if span.what == "compute"], length_s)
        either_s = covered_s(mine, length_s)
        shares_s = {"compute": compute_s, "transfer": either_s - compute_s, "waiting": length_s - either_s}
        for part, share_s in shares_s.items():
            found[part] += share_s / len(names)
    return found


def sums_s(outcome: Outcome) -> dict[tuple[str, str], tuple[int, float]]:
    """(server, client, up or down; function or kind of message) -> how many, and their seconds, all clients'."""
    grouped: dict[tuple[str, str], list[float]] = {}
    for span in outcome.spans:
        what = span.what if span.what != "compute" else "server" if span.node == "server" else "client"
        grouped.setdefault((what, span.name), []).append(span.end_s - span.start_s)
    return {key: (len(times), sum(times)) for key, times in sorted(grouped.items())}


def calls_s(server: list[Any], clients: list[list[Any]]) -> dict[tuple[str, str], float]:
    """The seconds of one call as calibrated, the mean over clients; keys as in ``sums_s``."""
    found = {("server", step.name): step.seconds for step in server}
    for steps in zip(*clients, strict=True):
        found["client", steps[0].name] = sum(step.seconds for step in steps) / len(steps)
    return found


def compare(method: str, plain: Outcome, emulated: Outcome, timed_s: dict[tuple[str, str], float]) -> list[list[str]]:
    """Rows: rounds, the total, a client's parts, then every kind of step and message.

    ``timed_s``: what the calibration has timed for one call of a step.
    """
    rows: list[list[str]] = []

    def row(what: str, count: str, plain_s: float, emulated_s: float, calibrated: str = "") -> None:
        off = f"{100 * (emulated_s / plain_s - 1):+.1f}" if plain_s else ""
        rows.append([f"{method}: {what}", count, f"{plain_s:.3f}", calibrated, f"{emulated_s:.3f}", off])

    for number, (plain_s, emulated_s) in enumerate(zip(plain.rounds_s, emulated.rounds_s, strict=True)):
        row(f"round {number}", "", plain_s, emulated_s)
    row("total", "", sum(plain.rounds_s), sum(emulated.rounds_s))
    here, there = parts_s(plain), parts_s(emulated)
    for part, plain_s in here.items():
        row(f"a client's {part}", "", plain_s, there[part])
    modelled = sums_s(emulated)
    for key, (count, plain_s) in sums_s(plain).items():
        other, emulated_s = modelled.get(key, (0, 0.0))
        often = str(count) if count == other else f"{count} / {other}"
        row(" ".join(key), often, plain_s, emulated_s, f"{count * timed_s[key]:.3f}" if key in timed_s else "")
    return rows


def rates_text(rates: Any) -> str:
    """What the terms of a device's time are."""
    arithmetic = ((rates.dense_gflops, "GFLOP/s"), (rates.memory_gbps, "GB/s"))
    said = [f"{rate:.2f} {unit}" if rate < calibration.FREE else f"no limit in {unit}" for rate, unit in arithmetic]
    return ", ".join([f"{rates.dispatch_us:.0f} us a dispatched operation", *said])


def run(laboratory: Laboratory, quick: bool) -> Section:
    """Both methods."""
    rounds = 1 if quick else ROUNDS
    rows = [["method and part", "count", "plain, s", "as timed, s", "emulated, s", "off, %"]]
    figures: dict[str, Any] = {}
    targets = list[Target]()
    remarks = [
        "A client's compute, transfer and waiting add up to the total; the rows below them are sums over all nodes.",
        "As timed: calls times the time of one alone under the quota, before the training. Plain against as timed is"
        " what the quota does in company; as timed against emulated is what the device's three terms cannot say.",
    ]
    hub = laboratory.namespace("server")
    spaces = [laboratory.namespace(f"client{i}") for i in range(CLIENTS)]
    addresses = tuple(laboratory.veth(space, hub, 100 + i, UP_BPS, DOWN_BPS)[1] for i, space in enumerate(spaces))
    quotas = [laboratory.quota("server", SERVER_SHARE)]
    quotas += [laboratory.quota(f"client{i}", CLIENT_SHARE) for i in range(CLIENTS)]
    with tempfile.TemporaryDirectory(prefix=f"{laboratory.prefix}-") as folder:
        for method in METHODS:
            places = [
                Place(method, rounds, space, quota, addresses)
                for space, quota in zip([hub, *spaces], quotas, strict=True)
            ]
            plain, server, clients = train(places)
            speeds = calibration.fit([step for steps in clients for step in steps]), calibration.fit(server)
            emulated = emulate(method, rounds, *speeds, Path(folder) / method)
            rows += compare(method, plain, emulated, calls_s(server, clients))
            off = 100 * abs(sum(emulated.rounds_s) / sum(plain.rounds_s) - 1)
            targets.append(Target(f"{method}: total off by", off, "%", TARGET_PERCENT, False))
            for who, rates in zip(("client", "server"), speeds, strict=True):
                remarks.append(f"{method}, {who}, as calibrated: {rates_text(rates)}.")
            figures[method] = {"plain_s": plain.rounds_s, "emulated_s": emulated.rounds_s}
    title = (
        f"a plain script, {CLIENTS} clients at {rate_text(UP_BPS)} up and {rate_text(DOWN_BPS)} down under a"
        f" {CLIENT_SHARE:.0%} quota, server under {SERVER_SHARE:.0%}, beside an emulated run"
    )
    return Section("training", title, rows, figures, targets, remarks)
