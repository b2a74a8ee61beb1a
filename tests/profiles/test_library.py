"""What ships: complete, sourced, what its presets are called after, and able to reach its own rates."""

from __future__ import annotations

import re

import pytest
from traffic import WIDE, Sent, carry

from algorithms.commands import profiles
from emulator.inputs.shipped import ROOT
from emulator.network.fabric import Fabric
from emulator.profiles.reading import describe_profile, load_device, load_network, load_scenario
from emulator.profiles.scenario import ClientSpec, Direction, Network, Scenario, ServerSpec
from emulator.profiles.schema import shipped_profiles
from emulator.testing.stage import SECOND, make_device

WPT = {  # WebPageTest's connectivity.ini: down and up in kbit/s, round trip in ms
    "cable": (5000, 1000, 28),
    "dsl": (1500, 384, 50),
    "3gslow": (400, 400, 400),
    "3g": (1600, 768, 300),
    "3gfast": (1600, 768, 150),
    "4g": (9000, 9000, 170),
    "lte": (12000, 12000, 70),
    "edge": (240, 200, 840),
    "2g": (280, 256, 800),
    "dial": (49, 30, 120),
    "fios": (20000, 5000, 4),
}
SHIPPED = {
    "network": (
        "nb-iot lte-m iot-4g iot-4g-cat4 4g-phone 4g-poor 3g-hspa edge-2g 5g 5g-redcap wifi4 wifi5 wifi6 ethernet-100m "
        "ethernet-1g adsl cable ftth starlink geo-sat ble-2m lorawan lte-walking lte-driving nb-iot-trace "
        "starlink-trace"
    ),
    "device": (
        "pi-zero-2w pi-3bplus pi-4b pi-5 jetson-nano orin-nano coral-dev phone-low phone-mid phone-high laptop "
        "edge-server edge-server-cpu edge-server-gpu"
    ),
    "scenario": (
        "farm-nb-iot iot-4g iot-4g-cell lan smart-home-wifi factory-5g-redcap phones-4g-5g ship-satellite hospital-lan "
        "straggler trace-driving"
    ),
}
LOADERS = {"network": load_network, "device": load_device, "scenario": load_scenario}
TRANSFER_BYTES = 20_000_000
REACHED = 0.85  # of its rate: what slow start and headers may cost so large a transfer


@pytest.mark.parametrize("kind", SHIPPED)
def test_what_ships_is_complete_and_loads(kind: str) -> None:
    presets = {f"wpt-{name}" for name in WPT} if kind == "network" else set()
    assert {*SHIPPED[kind].split(), *presets} <= set(shipped_profiles(kind))
    for name in shipped_profiles(kind):
        assert LOADERS[kind](name).name == name


@pytest.mark.parametrize("kind", SHIPPED)
def test_every_shipped_number_has_grade_source_and_date(kind: str) -> None:
    for name in shipped_profiles(kind):
        rows = [row for profile in describe_profile(name) for row in profile.rows if not row.key.endswith("trace")]
        assert rows
        for row in rows:
            assert row.grade in {"A", "B", "C", "R"}, (name, row.key)
            assert len(row.source) > 4, (name, row.key)
            assert row.source != "no source given", (name, row.key)
            assert row.date, (name, row.key)


@pytest.mark.parametrize("name", WPT)
def test_webpagetests_presets_keep_its_convention_of_round_trips(name: str) -> None:
    network = load_network(f"wpt-{name}")
    down_kbps, up_kbps, rtt_ms = WPT[name]
    assert (network.down.rate_bps, network.up.rate_bps) == (down_kbps * 1000, up_kbps * 1000)
    assert network.up.one_way_ns + network.down.one_way_ns == rtt_ms * 10**6


def reached(name: str, upward: bool) -> float:
    """What share of a link's rate one large transfer reaches, from its first byte to its arrival, payload alone."""
    network = load_network(name)
    server = Network("s", Direction(WIDE, 0, 0), Direction(WIDE, 0, 0), transport="tcp")
    specs = (ClientSpec("client-0", 0, make_device(), network),)
    fabric = Fabric(Scenario("x", "", ServerSpec("server", make_device(), server, 1), specs, {}), 1)
    ends = ("client-0", "server") if upward else ("server", "client-0")
    wire_bytes = TRANSFER_BYTES + -(-TRANSFER_BYTES // 1448) * 52
    (transmission,) = carry(fabric, [Sent(*ends, wire_bytes)])
    rate_bps = (network.up if upward else network.down).rate_bps
    return 8 * TRANSFER_BYTES * SECOND / (transmission.left_ns - transmission.start_ns) / rate_bps


@pytest.mark.parametrize("name", [name for name in shipped_profiles("network") if load_network(name).up.rates is None])
def test_a_20_mb_transfer_reaches_the_rate_of_a_profile_or_the_profile_says_why_not(name: str) -> None:
    slow = [share for share in (reached(name, upward) for upward in (True, False)) if share < REACHED]
    note = (ROOT / f"networks/{name}.toml").read_text()
    said = re.search(r"A 20 MB transfer reaches (\d+) % of the rate", note.replace("\n#", ""))
    assert bool(slow) == bool(said), (name, slow)
    if said:
        assert int(said[1]) == round(100 * min(slow))


@pytest.mark.parametrize("name", shipped_profiles("device"))
def test_the_page_states_each_training_budget(name: str) -> None:
    device = load_device(name)
    parts = (device.memory_bytes, device.os_reserved_bytes, device.runtime_bytes, device.budget_bytes)
    row = " | ".join([f"| {name}", *(str(part // 2**20) for part in parts)])
    assert f"{row} |" in (ROOT.parent / "docs" / "profiles.md").read_text(encoding="utf-8")


def shown(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What ``profiles NAME`` prints, as one line of words."""
    profiles.show_profiles(name)
    return " ".join(capsys.readouterr().out.split())


def test_a_link_is_shown_with_its_trace_and_the_means_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("lte-driving", capsys)
    network = load_network("lte-driving")
    assert network.up.rates is not None
    seconds = network.up.rates.length_ns // SECOND
    assert f"follows lte-driving ({seconds} s), mean 3 up, 7 down Mbit/s; each client begins at a place" in text
    assert "on lte-driving (3 up, 7 down Mbit/s, a trace's mean); link gone" in shown("trace-driving", capsys)


def test_absences_are_shown_as_a_share_of_presence_and_absence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "away 10 s of every 70 s, in the mean" in shown("phones-4g-5g", capsys)


def test_a_cell_is_shown_with_who_is_in_it_and_half_duplex_as_one_capacity(capsys: pytest.CaptureFixture[str]) -> None:
    assert "cell mast: 10 clients share 6 Mbit/s up and 15 down" in shown("iot-4g-cell", capsys)
    assert "6 clients share 40 Mbit/s, both directions together" in shown("smart-home-wifi", capsys)


def test_the_listing_names_all_that_ships_once_and_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    profiles.show_profiles(None)
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert sorted(names) == sorted(name for kind in SHIPPED for name in shipped_profiles(kind))
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", sorted({name for kind in SHIPPED for name in shipped_profiles(kind)}))
def test_a_profile_is_shown_with_every_source_uncut(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    profiles.show_profiles(name)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    words = " ".join(text.split())
    for profile in describe_profile(name):
        assert f"{profile.kind} {name}: {profile.description}" in words
        for row in profile.rows:
            assert f"{row.key} {row.value}" in words
            assert row.source in words
