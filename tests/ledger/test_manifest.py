"""A manifest holds the scenario whole, and is read as it was written; one of an older record says less, and no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from toy import make_manifest

from emulator.checks.invariants import within_links
from emulator.checks.round_limits import RoundLimits, round_limits
from emulator.errors import UserError
from emulator.ledger.events import Posted, Transmitted
from emulator.ledger.manifest import Manifest, read_manifest, write_manifest
from emulator.ledger.timeline import Timeline
from emulator.network.topology import Topology
from emulator.profiles.reading import load_scenario
from emulator.profiles.scenario import Scenario
from emulator.runtime import run_manifest

SCENARIOS = ("iot-4g", "iot-4g-cell", "straggler", "trace-driving", "phones-4g-5g", "smart-home-wifi")
SETTINGS: dict[str, dict[str, Any]] = {"fedavg": {"rounds": 3, "stop_after_s": None}}


def made(scenario: Scenario) -> Manifest:
    return run_manifest.make_manifest(scenario, SETTINGS, argv=["--seed", "7"], clock="real", seed=7, dilation=2)


def again(folder: Path, manifest: Manifest) -> Manifest:
    write_manifest(folder, manifest)
    return read_manifest(folder)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_scenario_of_a_manifest_is_the_one_that_was_played_to_the_last_number(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name)
    manifest = made(scenario)
    found = again(tmp_path, manifest)
    assert found == manifest
    assert found.scenario == scenario


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_capacities_of_a_manifest_are_those_of_the_network(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name)
    found, topology = again(tmp_path, made(scenario)), Topology(scenario, 7)
    for number, channel in enumerate(topology.channels):
        rates = found.rates_of(number)
        assert rates == channel.rates if channel.rates else rates.at(0) == channel.peak_bps
    for node in found.nodes:
        link = topology.links[node.name]
        assert [found.channels[i].name for i in node.up_channels] == [channel.name for channel in link.up.channels]


def test_devices_links_and_traces_stand_in_it_once_however_many_clients_have_them(tmp_path: Path) -> None:
    found = again(tmp_path, made(load_scenario("trace-driving", 200)))
    assert found.parts is not None
    assert (len(found.parts.devices), len(found.parts.networks), len(found.traces)) == (2, 2, 2)
    assert (tmp_path / "manifest.json").stat().st_size < 400_000


def older(**changes: Any) -> dict[str, Any]:
    """A manifest as records had it before there were numbers of devices in it."""
    manifest: dict[str, Any] = json.loads(msgspec.json.encode(made(load_scenario("iot-4g", 2))))
    for node in manifest["nodes"]:
        del node["device_number"], node["network_number"]
    return {key: value for key, value in manifest.items() if key not in ("scenario", "depends")} | changes


def test_of_an_older_record_what_it_does_not_say_is_none_and_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(older()))
    found = read_manifest(tmp_path)
    assert (found.scenario, found.depends, found.data) == (None, None, None)
    assert found.clients[0].up_bps == load_scenario("iot-4g").clients[0].network.up.rate_bps
    bare = [{"name": "server", "role": "server"}, {"name": "client-0", "role": "client"}]
    (tmp_path / "manifest.json").write_text(json.dumps(older(nodes=bare, settings={}, rounds=4, stop_after_s=9.5)))
    found = read_manifest(tmp_path)
    (node,) = found.clients
    assert (node.up_bps, node.down_one_way_ns, node.budget_bytes, node.workers) == (None, None, None, None)
    assert round_limits(found, "fedavg") == RoundLimits(4, 9.5)


def test_a_link_whose_rate_is_not_known_breaks_no_law() -> None:
    sizes = {"payload_bytes": 10**6, "wire_bytes": 10**6}
    ends = {"destination": "server", "kind": "update", "counter": 0}
    sent = Posted(
        due_ns=0, actual_ns=0, node="client-0", seq=0, round=0, official_bytes=0, framed_bytes=0, **ends, **sizes
    )
    left = Transmitted(due_ns=1, actual_ns=1, source="client-0", posted_ns=0, start_ns=0, arrival_ns=2, **ends, **sizes)
    assert within_links(make_manifest(1), Timeline([sent, left])) != []
    unknown = [{"name": "server", "role": "server"}, {"name": "client-0", "role": "client"}]
    assert within_links(make_manifest(nodes=unknown), Timeline([sent, left])) == []


@pytest.mark.parametrize("key", ["device_number", "network_number"])
def test_numbers_that_belong_to_no_node_are_refused(key: str, tmp_path: Path) -> None:
    manifest = msgspec.to_builtins(made(load_scenario("iot-4g", 2)))
    manifest["nodes"][1][key] = 9
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest\.json: scenario: does not belong to the nodes: restore it"):
        read_manifest(tmp_path)
