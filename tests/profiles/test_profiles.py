"""Profiles: exact conversion, sources for all that ships, and one clear line for every mistake."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.commands import profiles
from emulator.errors import ProfileError
from emulator.inputs.shipped import ROOT
from emulator.profiles.reading import describe_profile, load_device, load_network, load_scenario, share_out
from emulator.profiles.scenario import Network
from emulator.profiles.schema import find_profile, shipped_profiles

NETWORK = {"kind": '"network"', "description": '"a test"', "up_mbps": "2", "down_mbps": "5", "one_way_ms": "35"}
DEVICE = {
    "kind": '"device"',
    "description": '"a test"',
    "memory_mib": "512",
    "os_reserved_mib": "130",
    "runtime_mib": "220",
    "dense_gflops": "4",
    "depthwise_gflops": "0.04",
    "memory_gbps": "1.1",
    "dispatch_us": "170",
    "send_queue_mib": "8",
}
SCENARIO = """
kind = "scenario"
description = "a test"
[server]
device = "edge-server"
network = "ethernet-1g"
workers = 2
[[clients]]
count = 3
device = "pi-5"
network = "5g"
"""
PATIENT = settings(deadline=None)  # the host's speed is not what is tested
LOADERS = {"network": load_network, "device": load_device, "scenario": load_scenario}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all examples of a property share."""
    return tmp_path_factory.mktemp("profiles")


def network_of(folder: Path, changes: dict[str, str | None]) -> Network:
    path = folder / "property.toml"
    path.write_text(toml(NETWORK, changes))
    return load_network(str(path))


def toml(table: dict[str, str], changes: dict[str, str | None]) -> str:
    """``table`` with keys changed, added, or (None) left out."""
    rows = {**table, **changes}
    return "".join(f"{key} = {value}\n" for key, value in rows.items() if value is not None)


def refused(load: Callable[[str], object], path: Path, content: str | bytes) -> str:
    """The error that ``load`` raises for a file of this content; it must be one line that names the file."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ProfileError) as caught:
        load(str(path))
    message = str(caught.value)
    assert message.isprintable(), message
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}: ")


def test_a_bare_number_is_shown_without_a_source(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(toml(NETWORK, {}))
    (profile,) = describe_profile(str(path))
    assert {row.source for row in profile.rows} == {"no source given"}


def test_iot_4g_is_eight_small_boards_and_two_larger_ones_on_links_of_their_own() -> None:
    scenario = load_scenario("iot-4g")
    assert [client.device.name for client in scenario.clients] == ["pi-zero-2w"] * 8 + ["pi-4b"] * 2
    assert {client.network.name for client in scenario.clients} == {"iot-4g"}
    assert [(client.name, client.index) for client in scenario.clients] == [(f"client-{i}", i) for i in range(10)]
    assert (scenario.server.device.name, scenario.server.network.name) == ("edge-server", "ethernet-1g")
    assert scenario.server.workers == 2


def test_files_are_the_hashes_of_all_that_was_read() -> None:
    scenario = load_scenario("iot-4g")
    names = ["scenarios/iot-4g", "devices/edge-server", "devices/pi-zero-2w", "devices/pi-4b"]
    names += ["networks/ethernet-1g", "networks/iot-4g"]
    hashes = {f"{name}.toml": hashlib.sha256((ROOT / f"{name}.toml").read_bytes()).hexdigest() for name in names}
    assert scenario.files == hashes


def test_a_pi_zero_has_162_mib_to_train_in() -> None:
    assert load_device("pi-zero-2w").budget_bytes == 162 * 2**20


def test_a_server_step_lasts_longer_than_a_small_host_needs_for_it() -> None:
    assert 155 * load_scenario("iot-4g").server.device.dispatch_ns > 2 * 2_100_000


@PATIENT
@given(st.integers(1, 10**15))
def test_rates_convert_exactly(folder: Path, bps: int) -> None:
    text = f"{Decimal(bps).scaleb(-6):f}"
    assert network_of(folder, {"up_mbps": text}).up.rate_bps == bps


@PATIENT
@given(st.integers(0, 6 * 10**10), st.integers(0, 6 * 10**10))
def test_delays_convert_exactly_and_apply_to_both_directions_or_to_each(folder: Path, up_ns: int, down_ns: int) -> None:
    up, down = (f"{Decimal(value).scaleb(-6):f}" for value in (up_ns, down_ns))
    both = network_of(folder, {"one_way_ms": up, "jitter_ms": down})
    assert (both.up.one_way_ns, both.down.one_way_ns) == (up_ns, up_ns)
    assert (both.up.jitter_ns, both.down.jitter_ns) == (down_ns, down_ns)
    each = network_of(folder, {"one_way_ms": None, "up_one_way_ms": up, "down_one_way_ms": down})
    assert (each.up.one_way_ns, each.down.one_way_ns, each.up.jitter_ns) == (up_ns, down_ns, 0)


def test_nb_iot_down_is_26_000_bits_a_second() -> None:
    assert load_network("nb-iot").down.rate_bps == 26_000


def test_units_of_a_device(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(toml(DEVICE, {"memory_mib": "512.5"}))
    device = load_device(str(path))
    assert (device.memory_bytes, device.send_queue_bytes) == (512 * 2**20 + 2**19, 8 * 2**20)
    assert (device.dense_flops, device.depthwise_flops) == (4 * 10**9, 4 * 10**7)
    assert (device.memory_rate_bytes, device.dispatch_ns) == (1_100_000_000, 170_000)


BAD_NETWORKS = [
    ({"up_kbps": "2"}, ["up_kbps", "up_mbps, in Mbit/s"]),
    ({"up": "2"}, ["up: unknown", "up_mbps, in Mbit/s"]),
    ({"up_one_way_s": "2"}, ["up_one_way_s", "up_one_way_ms, in ms"]),
    ({"rtt_ms": "70"}, ["rtt_ms", "one_way_ms", "not both"]),
    ({"rtt": "70"}, ["rtt: unknown", "write rtt_ms"]),
    ({"loss": "0.01"}, ["loss: unknown", "loss_percent, in %"]),
    ({"loss_percent": "100"}, ["loss_percent", "below 100"]),
    ({"up_loss_percent": "0", "down_loss_percent": "100"}, ["down_loss_percent", "below 100"]),
    ({"up_loss_percent": "3"}, ["down_loss_percent: missing", "loss_percent = NUMBER, in %"]),
    ({"duplex": '"semi"'}, ["duplex", 'one of full, half, not "semi"']),
    ({"transport": '"udp"'}, ["transport", 'one of tcp, ideal, not "udp"']),
    ({"rate_kind": "[1]"}, ["rate_kind", "one of goodput, link, not a list"]),
    ({"up_mbps": None, "down_mbps": None, "trace": '""'}, ["trace", '"" no such trace', "starlink"]),
    ({"trace": '"starlink"'}, ["up_mbps", "comes from the trace"]),
    ({"up_mbps": None, "down_mbps": None, "trace": '"starlnk"'}, ["trace", "did you mean starlink?"]),
    ({"up_mbps": None, "down_mbps": None, "up_trace": '"nb-iot"'}, ["down_mbps: missing; write down_mbps = NUMBER"]),
    ({"up_mbps": None, "trace": '"nb-iot"'}, ["down_mbps: the rate comes from the trace", "up_trace for the other"]),
    ({"up_mbps": None, "up_trace": '"starlink"'}, ["one_way_ms: netprofiles/traces/starlink.csv has a column rtt_ms"]),
    ({"trace_start_s": "3"}, ["trace_start_s", "follows no trace"]),
    ({"one_way_ms": "35000000"}, ["one_way_ms: must be at most 60000 ms, not 35000000; a delay is in ms"]),
    ({"one_way_ms": None, "rtt_ms": "120000.001"}, ["rtt_ms: must be at most 120000 ms, not 120000.001; a round trip"]),
    ({"one_way_ms": "-1"}, ["one_way_ms: must be 0 or more, not -1"]),
    ({"jitter_ms": "1e6"}, ["jitter_ms: must be at most 60000 ms"]),
    ({"jiter_ms": "2"}, ["jiter_ms: unknown", "did you mean jitter_ms, in ms?"]),
    ({"colour": "2"}, ["colour: unknown", "up_mbps, down_mbps, trace"]),
    ({'"a\\nb"': "2"}, ["a\\nb: unknown"]),
    ({"up_mbps": None}, ["up_mbps: missing", "in Mbit/s"]),
    ({"one_way_ms": None}, ["one_way_ms: missing"]),
    ({"one_way_ms": None, "up_one_way_ms": "3"}, ["down_one_way_ms: missing"]),
    ({"up_one_way_ms": "3"}, ["one_way_ms", "not both"]),
    ({"down_jitter_ms": "3"}, ["up_jitter_ms: missing"]),
    ({"up_mbps": "-2.0"}, ["up_mbps", "above 0, not -2.0"]),
    ({"up_mbps": "0"}, ["up_mbps", "above 0, not 0"]),
    ({"one_way_ms": "-1"}, ["one_way_ms", "0 or more, not -1"]),
    ({"up_mbps": "nan"}, ["up_mbps", "finite"]),
    ({"up_mbps": "inf"}, ["up_mbps", "finite"]),
    ({"up_mbps": "1e999999999"}, ["up_mbps", "at most"]),
    ({"up_mbps": "1e-999999999"}, ["up_mbps", "no whole number of bit/s"]),
    ({"up_mbps": "0.0000001"}, ["up_mbps", "no whole number of bit/s"]),
    ({"up_mbps": '"2"'}, ["up_mbps", "without quotes"]),
    ({"up_mbps": "true"}, ["up_mbps", "must be a number", "true"]),
    ({"up_mbps": "[2]"}, ["up_mbps", "must be a number", "a list"]),
    ({"up_mbps": '{ grade = "R" }'}, ["up_mbps.value: missing"]),
    ({"up_mbps": '{ value = 2, grade = "Z" }'}, ["up_mbps.grade", "one of A, B, C, R"]),
    ({"up_mbps": '{ value = 2, date = "today" }'}, ["up_mbps.date", "YYYY-MM"]),
    ({"up_mbps": '{ value = 2, sauce = "x" }'}, ["up_mbps.sauce", "did you mean source?"]),
    ({"up_mbps": "{ value = -2 }"}, ["up_mbps", "above 0"]),
    ({"description": "3"}, ["description", "text in quotes"]),
    ({"kind": '"device"'}, ["kind", 'is "device"', 'must be "network"']),
    ({"kind": None}, ["kind: missing", 'must be "network"']),
    ({"kind": "[1]"}, ["kind: is a list", 'must be "network"']),
]


@pytest.mark.parametrize(("changes", "said"), BAD_NETWORKS)
def test_a_bad_network_is_refused_by_key_with_a_remedy(
    tmp_path: Path, changes: dict[str, str | None], said: list[str]
) -> None:
    message = refused(load_network, tmp_path / "n.toml", toml(NETWORK, changes))
    assert message.startswith(said[0])
    assert all(part in message for part in said), message


BAD_DEVICES = [
    ({"memory_gb": "4"}, ["memory_gb: unknown", "memory_mib, in MiB", "memory_gbps"]),
    ({"dense_flops": "4"}, ["dense_flops", "dense_gflops, in GFLOP/s"]),
    ({"os_reserved_mib": "300"}, ["memory_mib", "512 - 300 - 220", "no memory to train in"]),
    ({"dispatch_us": "-1"}, ["dispatch_us", "0 or more"]),
    ({"dense_gflops": "0"}, ["dense_gflops", "above 0"]),
    ({"send_queue_mib": "0"}, ["send_queue_mib", "above 0"]),
    ({"dispatch_us": None}, ["dispatch_us: missing", "in µs"]),
]


@pytest.mark.parametrize(("changes", "said"), BAD_DEVICES)
def test_a_bad_device_is_refused_by_key_with_a_remedy(
    tmp_path: Path, changes: dict[str, str | None], said: list[str]
) -> None:
    message = refused(load_device, tmp_path / "d.toml", toml(DEVICE, changes))
    assert message.startswith(said[0])
    assert all(part in message for part in said), message


BAD_SCENARIOS = [
    ('"pi-5"', '"pi-6"', ["clients[0].device", '"pi-6" no such device', "did you mean pi-5?", "pi-zero-2w"]),
    ('"5g"', '"6g"', ["clients[0].network", "no such network", "nb-iot"]),
    ('"5g"', '"pi-4b"', ["clients[0].network", "is a device, not a network"]),
    ('"5g"', '"mine.toml"', ["clients[0].network", "mine.toml", "No such file", "nb-iot"]),
    ('"5g"', "5", ["clients[0].network", "text in quotes"]),
    ("count = 3", "count = 0", ["clients[0].count", "above 0, not 0"]),
    ("count = 3", "count = -1", ["clients[0].count", "above 0, not -1"]),
    ("count = 3", "count = 2.5", ["clients[0].count", "no whole number of clients"]),
    ("count = 3", "count = 10001", ["clients[0].count", "at most 10000"]),
    ("count = 3", "size = 3", ["clients[0].size: unknown key", "count, table, ignore, device, network"]),
    ("workers = 2", "workers = 0", ["server.workers", "above 0"]),
    ("workers = 2", "worker = 2", ["server.worker", "did you mean workers?"]),
    ("[server]", "[serve]", ["serve: unknown key; did you mean server?"]),
    ("[[clients]]", "[clients]", ["clients: must be a list of groups, not a table", "[[clients]]"]),
    (SCENARIO[SCENARIO.index("[[") :], "", ["clients: missing", "[[clients]]"]),
    ("[server]", "clients = 0\n[server]", ["is not TOML"]),
]


@pytest.mark.parametrize(("old", "new", "said"), BAD_SCENARIOS)
def test_a_bad_scenario_is_refused_by_key_with_a_remedy(tmp_path: Path, old: str, new: str, said: list[str]) -> None:
    assert old in SCENARIO
    message = refused(load_scenario, tmp_path / "s.toml", SCENARIO.replace(old, new))
    assert message.startswith(said[0])
    assert all(part in message for part in said), message


@pytest.mark.parametrize("clients", ["0", "[]"])
def test_a_scenario_without_clients_is_refused(tmp_path: Path, clients: str) -> None:
    text = SCENARIO[: SCENARIO.index("[[")].replace("[server]", f"clients = {clients}\n[server]")
    assert "clients: must be a list of groups" in refused(load_scenario, tmp_path / "s.toml", text)


@pytest.mark.parametrize(
    "content",
    ["up_mbps 2", "<html>\n</html>", "a = " + "[" * 100_000, "a = 1e99999999999999999999"],
    ids=["no-equals", "html", "nested", "overflow"],
)
def test_what_is_not_toml_is_refused(tmp_path: Path, content: str) -> None:
    assert refused(load_scenario, tmp_path / "s.toml", content).startswith("is not TOML: ")


@PATIENT
@given(st.text() | st.binary())
def test_any_content_is_refused_with_one_line(folder: Path, content: str | bytes) -> None:
    refused(load_network, folder / "any.toml", content if isinstance(content, bytes) else content.encode())


@PATIENT
@given(
    st.sampled_from(sorted(NETWORK)),
    st.recursive(
        st.integers().map(str) | st.floats().map(str) | st.booleans().map(lambda b: str(b).lower()),
        lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    ),
)
def test_any_value_of_a_key_is_taken_or_refused_with_that_key(folder: Path, key: str, value: str) -> None:
    path = folder / "value.toml"
    path.write_text(toml(NETWORK, {key: value}))
    try:
        network = load_network(str(path))
    except ProfileError as error:
        assert str(error).startswith(f"{path}: {key}")
    else:
        given_bps = {"up_mbps": network.up.rate_bps, "down_mbps": network.down.rate_bps}
        assert given_bps.get(key, network.up.one_way_ns) == Fraction(Decimal(value)) * 10**6


def test_a_network_is_no_scenario_and_the_message_says_which_there_are() -> None:
    with pytest.raises(
        ProfileError,
        match=r"^--profile nb-iot: is a network, not a scenario; .*: factory-5g-redcap, .*, trace-driving$",
    ):
        load_scenario("nb-iot")


@pytest.mark.parametrize("name", ["iot-5g", "", "nowhere/x.toml", "/", "a\nb", "a\0b/"])
def test_an_unknown_profile_is_refused_with_those_that_exist(name: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_scenario(name)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith("--profile ")
    assert message.endswith(", ".join(shipped_profiles("scenario")))


def test_paths_in_a_scenario_are_relative_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "modem.toml").write_text(toml(NETWORK, {}))
    path = tmp_path / "field.toml"
    path.write_text(SCENARIO.replace('"5g"', '"nets/modem.toml"'))
    scenario = load_scenario(str(path))
    assert (scenario.name, scenario.clients[0].network.name) == ("field", "modem")
    assert set(scenario.files) >= {str(path), str(tmp_path / "nets" / "modem.toml"), "devices/pi-5.toml"}


@pytest.mark.parametrize("clients", [0, -3, 10_001])
def test_no_scenario_has_that_many_clients(clients: int) -> None:
    with pytest.raises(ProfileError, match=rf"^--clients {clients}: .* from 1 to 10000$"):
        load_scenario("iot-4g", clients)


@pytest.mark.parametrize(("clients", "devices"), [(1, (1, 0)), (3, (2, 1)), (5, (4, 1)), (10, (8, 2)), (50, (40, 10))])
def test_scaling_keeps_proportion_and_order(clients: int, devices: tuple[int, int]) -> None:
    scenario = load_scenario("iot-4g", clients)
    assert [client.device.name for client in scenario.clients] == ["pi-zero-2w"] * devices[0] + ["pi-4b"] * devices[1]
    assert [client.name for client in scenario.clients] == [f"client-{i}" for i in range(clients)]


@PATIENT
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.integers(1, 10_000))
def test_shares_add_up_and_miss_proportion_by_less_than_one(counts: list[int], total: int) -> None:
    shares = share_out(counts, total)
    assert sum(shares) == total
    assert all(
        abs(Fraction(count * total, sum(counts)) - share) < 1 for count, share in zip(counts, shares, strict=True)
    )
    assert share_out(counts, sum(counts)) == counts


def test_showing_an_unknown_profile_says_which_there_are() -> None:
    with pytest.raises(
        ProfileError,
        match=r"^profiles pi-9: no profile of this name; did you mean pi-.*\?; scenarios: factory.*; networks",
    ):
        profiles.show_profiles("pi-9")


def test_a_file_that_is_named_without_its_ending_is_found_for_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the working directory for a command, beside the scenario for a scenario."""
    (tmp_path / "lan2.toml").touch()
    found = "there is a file of this name: write lan2.toml"
    with pytest.raises(ProfileError, match=rf"^--host-device: no such device; {found}; give a path"):
        find_profile("device", "lan2", "--host-device", base=tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProfileError, match=rf"^profiles lan2: no profile of this name; {found}; scenarios"):
        profiles.show_profiles("lan2")
