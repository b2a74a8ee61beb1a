"""What a run records is the model's arithmetic, through real processes; and a child loads what it needs.

Links have no jitter here, so every time of a message follows from the scenario's numbers to the nanosecond, however
slow the host is.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from processes import BATCH, ROUNDS, SERVER_BOARD, SERVER_WIRE, Board, Played, Wire, play

from emulator.analysis.summarize import summarize
from emulator.analysis.summary import to_json
from emulator.checks.invariants import conserved, in_order, whole_ledgers, within_links
from emulator.ledger import run_folder
from emulator.ledger.events import Clamped, Computed, Posted, Received, Reported, Started, Transmitted
from emulator.report import record

pytestmark = pytest.mark.processes

CLIENTS = 3
ALGORITHMS = ("fedavg", "splitfed-v1", "cse-fsl")
MS, SECOND = 10**6, 10**9

# The default model: sizes in bytes of the client half, the server half, a linear auxiliary, and of z and y a sample.
CLIENT, SERVER, AUX, Z, Y = 10_176, 156_424, 10_280, 1024, 8
SAMPLES = 1500 // CLIENTS
STEPS = -(-SAMPLES // BATCH)
Q = 5


def arrivals(
    transmitted: list[Transmitted], wire: Wire, server_wire: Wire
) -> dict[tuple[str, int], tuple[int, int, int]]:
    """The closed form: (start, left, arrival) of each message, from its post, its size and the scenario's links."""
    expected = {}
    free: dict[tuple[str, str], int] = defaultdict(int)
    for message in sorted(transmitted, key=lambda m: (m.source, m.counter)):
        ends = (server_wire, wire) if message.source == "server" else (wire, server_wire)
        mbps = min(ends[0].up_mbps, ends[1].down_mbps)
        delay_ns = (ends[0].up_one_way_ms + ends[1].down_one_way_ms) * MS
        start = max(message.posted_ns, free[message.source, message.destination])
        left = start + -(-message.wire_bytes * 8 * SECOND // (mbps * 10**6))
        free[message.source, message.destination] = left
        expected[message.source, message.counter] = (start, left, left + delay_ns)
    return expected


def recorded(transmitted: list[Transmitted]) -> dict[tuple[str, int], tuple[int, int, int]]:
    return {(m.source, m.counter): (m.start_ns, m.due_ns, m.arrival_ns) for m in transmitted}


@pytest.fixture(scope="module")
def three_clients(three_clients_real: Played) -> Played:
    """Here on the real clock, which has to keep the model's times too."""
    return three_clients_real


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_message_leaves_and_arrives_when_its_link_says(algorithm: str, three_clients: Played) -> None:
    transmitted = three_clients.events(algorithm, Transmitted)
    assert recorded(transmitted) == arrivals(transmitted, Wire(), SERVER_WIRE)
    assert len(transmitted) == len(three_clients.events(algorithm, Posted))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_message_is_received_at_its_arrival(algorithm: str, three_clients: Played) -> None:
    arrival = {(m.source, m.counter): m.arrival_ns for m in three_clients.events(algorithm, Transmitted)}
    clamps = defaultdict(set)
    for clamp in three_clients.events(algorithm, Clamped):
        clamps[clamp.node].add(clamp.by_ns)
    for message in three_clients.events(algorithm, Received):
        moved_ns = message.due_ns - arrival[message.source, message.counter]
        assert moved_ns == 0 or moved_ns in clamps[message.node], message


def test_without_the_throttle_the_same_messages_arrive_sooner(three_clients: Played, unthrottled: Played) -> None:
    wire = Wire(up_mbps=20_000, down_mbps=40_000)
    transmitted = unthrottled.events("fedavg", Transmitted)
    assert recorded(transmitted) == arrivals(transmitted, wire, Wire(10**6, 10**6, 1, 1))
    assert recorded(transmitted) != arrivals(transmitted, Wire(), SERVER_WIRE)
    slow, fast = (played.events("fedavg", Transmitted)[0] for played in (three_clients, unthrottled))
    assert (slow.wire_bytes, slow.kind, slow.posted_ns) == (fast.wire_bytes, fast.kind, fast.posted_ns)
    assert fast.due_ns == -(-slow.due_ns // 1000), "40 Mbit/s are a thousandth of 40 Gbit/s"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_computation_lasts_as_long_as_its_work_takes_on_the_device(algorithm: str, three_clients: Played) -> None:
    spans = three_clients.events(algorithm, Computed)
    for span in spans:
        board = SERVER_BOARD if span.node == "server" else Board()
        expected_ns = span.operations * board.dispatch_us * 1000
        expected_ns += -(-span.dense_flops * SECOND // int(board.dense_gflops * 10**9))
        expected_ns += -(-span.depthwise_flops * SECOND // int(board.depthwise_gflops * 10**9))
        expected_ns += -(-span.moved_bytes * SECOND // int(board.memory_gbps * 10**9))
        assert span.due_ns - span.start_ns == expected_ns
    assert {span.node for span in spans} == {"server", *(f"client-{i}" for i in range(CLIENTS))}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_time_0_is_the_first_post_of_the_server(algorithm: str, three_clients: Played) -> None:
    posted = three_clients.events(algorithm, Posted)
    assert min(message.due_ns for message in posted) == 0
    assert {message.kind for message in posted if message.due_ns == 0} == {"initial"}
    for client in (f"client-{i}" for i in range(CLIENTS)):
        first = three_clients.events(algorithm, Received, client)[0]
        assert first.due_ns > 0
        assert three_clients.events(algorithm, Computed, client)[0].start_ns == first.due_ns


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_bytes_are_conserved_across_processes_and_links_keep_their_rate(algorithm: str, three_clients: Played) -> None:
    timeline, manifest = three_clients.timeline(algorithm), three_clients.manifest
    assert conserved(timeline, "finished") == ([], [])
    assert whole_ledgers(timeline) + within_links(manifest, timeline) + in_order(timeline) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_payload_of_each_kind_is_the_closed_form(algorithm: str, three_clients: Played) -> None:
    each = CLIENTS * ROUNDS
    steps = [min(BATCH, SAMPLES - BATCH * step) for step in range(STEPS)] * ROUNDS  # samples in each step of a client
    uploaded = sum(steps[::Q])
    expected = {
        "fedavg": {"initial": CLIENTS * (CLIENT + SERVER)}
        | dict.fromkeys(("update", "global"), each * (CLIENT + SERVER)),
        "splitfed-v1": {
            "initial": CLIENTS * CLIENT,
            "smashed": each * SAMPLES * (Z + Y),
            "gradient": each * SAMPLES * Z,
            **dict.fromkeys(("update", "global"), each * CLIENT),
        },
        "cse-fsl": {
            "initial": CLIENTS * (CLIENT + AUX),
            "smashed": CLIENTS * uploaded * (Z + Y),
            **dict.fromkeys(("update", "global"), each * (CLIENT + AUX)),
        },
    }[algorithm]
    labels = expected.get("smashed", 0) * Y // (Z + Y)
    result = three_clients.summary["algorithms"][algorithm]
    assert {kind: row["payload"] for kind, row in result["by_kind"].items()} == expected
    # The official accounting leaves out labels and initial weights.
    assert result["official_bytes"] == sum(expected.values()) - expected["initial"] - labels
    both_ways = result["bytes"]["payload"]
    assert both_ways["up"] + both_ways["down"] == sum(expected.values())


def test_all_processes_of_a_timeline_are_recorded_and_each_is_a_process_of_its_own(three_clients: Played) -> None:
    started = three_clients.events("fedavg", Started)
    roles = sorted(event.role for event in started)
    assert roles == ["client"] * CLIENTS + ["evaluator", "network", "server"]
    assert len({event.pid for event in started}) == len(started)


# --- what a run leaves ------------------------------------------------------------------------------------------------


def test_a_run_leaves_manifest_ledger_summary_and_tables(three_clients: Played) -> None:
    names = {path.name for path in three_clients.folder.iterdir()} - {"abandoned"}  # attempts of a host that was late
    assert names == {"manifest.json", "ledger", *record.WRITTEN, "clients-data.csv"}
    lines = [json.loads(line) for line in (three_clients.folder / "ledger.jsonl").read_text().splitlines()]
    for algorithm in ALGORITHMS:
        assert sum(line["algorithm"] == algorithm for line in lines) == len(three_clients.timeline(algorithm))
        assert algorithm in (three_clients.folder / "tables.md").read_text()
        assert algorithm in (three_clients.folder / "tables.csv").read_text()


def test_the_manifest_holds_what_is_needed_to_run_it_again(three_clients: Played) -> None:
    manifest = three_clients.manifest
    assert manifest.command[0] == "run.py"
    assert manifest.settings["cse-fsl"]["task"]["batch"] == BATCH
    assert len(manifest.profile_files) == 5
    assert manifest.versions and manifest.host and manifest.threads and manifest.memory.malloc


def test_the_summary_has_every_field_that_its_readers_count_on(three_clients: Played) -> None:
    summary = three_clients.summary
    assert {"schema", "profile", "clock", "seed", "health", "algorithms"} <= summary.keys()
    assert summary["health"]["verdict"] in ("good", "bad")
    for name in ALGORITHMS:
        result = summary["algorithms"][name]
        fields = "outcome rounds seconds accuracy loss official_bytes bytes by_kind history to_target server clients"
        assert set(fields.split()) <= result.keys()
        assert result["bytes"].keys() == {"payload", "framed", "wire"}
        assert all(ways.keys() == {"up", "down"} for ways in result["bytes"].values())
        assert all({"messages", "payload", "framed", "wire"} <= row.keys() for row in result["by_kind"].values())
        fields = "round due_s actual_s accuracy loss official_bytes payload_up payload_down"
        assert all(set(fields.split()) <= row.keys() for row in result["history"])
        assert [row["round"] for row in result["history"]] == list(range(ROUNDS))
        assert result["to_target"].keys() == {"0.85", "0.9"}
        reached = [target for target in result["to_target"].values() if target]
        assert all({"round", "seconds", "bytes"} <= target.keys() for target in reached)
        assert {"device", "busy_s", "align_s", "queue_wait_s", "peak_mib"} <= result["server"].keys()
        fields = "name device network outcome budget_mib baseline_mib peak_mib compute_s transfer_s wait_s"
        assert all(set(fields.split()) <= client.keys() for client in result["clients"])
        assert [client["outcome"] for client in result["clients"]] == ["fits"] * CLIENTS
        assert (result["outcome"], result["rounds"]) == ("finished", ROUNDS)


def test_the_summary_is_a_function_of_manifest_and_ledger(three_clients: Played) -> None:
    manifest = three_clients.manifest
    again = summarize(manifest, run_folder.read_timelines(three_clients.folder, manifest))
    recorded = {key: value for key, value in three_clients.summary.items() if key != "made_by"}  # the views' own source
    assert {key: value for key, value in json.loads(to_json(again)).items() if key != "made_by"} == recorded


# --- children ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["server", "client-0"])
def test_a_child_loads_neither_rich_nor_views(node: str, three_clients: Played) -> None:
    (census,) = three_clients.events("census", Reported, node)
    modules = census.values.keys()
    views = {f"emulator.{view}" for view in ("analysis", "checks", "dashboard", "plots", "report", "tables")}
    assert not {"rich", "matplotlib", "pytest", *views}.intersection(modules)
    assert {"torch", "emulator.runtime.worker"} <= modules, "the census counts what is there"


@pytest.mark.parametrize("node", ["server", "client-0", "client-2"])
def test_a_posted_tensor_that_is_overwritten_afterwards_arrives_as_it_was(node: str, three_clients: Played) -> None:
    reports = [event.values for event in three_clients.events("overwrite", Reported, node)]
    assert {"unchanged": 1.0} in reports
    assert {"unchanged": 0.0} not in reports
    assert {"overwritten": 1.0} in reports, "the test did overwrite it"


def test_a_run_can_be_started_from_any_folder(tmp_path: Path) -> None:
    """The fork server finds the project where it is neither installed nor the working directory."""
    arguments = "--profile", "lan", "--algorithm", "fedavg", "--clients", 1, "--rounds", 1, "--clock", "virtual"
    played = play(tmp_path / "run", *arguments, program="run.py", cwd=tmp_path)
    assert (played.status, played.err) == (0, "")
    assert played.summary["algorithms"]["fedavg"]["outcome"] == "finished"
