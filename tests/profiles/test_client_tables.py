"""Clients from a table: a row a client, columns in units over keys of device and network; mistakes are one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.commands.sweep.dependencies import scenario_digest
from emulator.errors import ProfileError
from emulator.profiles.reading import describe_profile, load_device, load_network, load_scenario
from emulator.profiles.scenario import Scenario
from emulator.runtime.run_manifest import make_manifest
from emulator.tables.profiles import profile_lines

PAPER = (  # long decimals, an identifier, a column that is none of ours
    "client,flop_per_s,distance_km,rate_bit_per_s\n"
    "0,3897894735.92771,0.6083754840266261,25948858.23931885\n"
    "1,9013802066.105328,0.2831153426857548,64992952\n"
    "2,3897894735.92771,0.1,25948858.5\n"
)


def scenario_of(tmp_path: Path, table: str, more: str = "", clients: int | None = None, group: str = "") -> Scenario:
    (tmp_path / "clients.csv").write_text(table)
    (tmp_path / "s.toml").write_text(
        'kind = "scenario"\ndescription = "d"\n[server]\ndevice = "edge-server"\nnetwork = "ethernet-1g"\nworkers = 1\n'
        f'[[clients]]\ntable = "clients.csv"\ndevice = "pi-4b"\nnetwork = "iot-4g"\n{more}\n{group}'
    )
    return load_scenario(str(tmp_path / "s.toml"), clients)


def refused(tmp_path: Path, table: str, more: str = "", clients: int | None = None) -> str:
    with pytest.raises(ProfileError) as caught:
        scenario_of(tmp_path, table, more, clients)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_a_papers_table_is_played_as_it_is(tmp_path: Path) -> None:
    """Rates in bit/s and FLOP/s to the nearest whole; depthwise in the board's proportion; the rest is the board's."""
    scenario = scenario_of(tmp_path, PAPER, 'ignore = ["distance_km"]')
    board, modem = load_device("pi-4b"), load_network("iot-4g")
    assert [client.device.dense_flops for client in scenario.clients] == [3897894736, 9013802066, 3897894736]
    assert [client.network.up.rate_bps for client in scenario.clients] == [25948858, 64992952, 25948858]
    first, second, third = scenario.clients
    assert first.network.down.rate_bps == first.network.up.rate_bps
    assert first.device.depthwise_flops == round(board.depthwise_flops * 3897894736 / board.dense_flops)
    assert first.device.memory_rate_bytes == board.memory_rate_bytes
    assert first.network.up.one_way_ns == modem.up.one_way_ns
    assert (first.device, first.network) == (third.device, third.network)
    assert (first.device.name, second.device.name, second.network.name) == ("pi-4b#0", "pi-4b#1", "iot-4g#1")
    assert scenario.notes == (
        f"{tmp_path}/clients.csv: numbers were rounded: 3 to a whole number of FLOP/s, 2 to a whole number of bit/s",
    )


@pytest.mark.parametrize(
    ("column", "cell", "found"),
    [
        ("up_mbps", "0.026", 26_000),
        ("up_kbps", "26", 26_000),
        ("up_bps", "26000", 26_000),
        ("rate_mbit_per_s", "0.026", 26_000),
    ],
)
def test_a_column_names_its_unit(tmp_path: Path, column: str, cell: str, found: int) -> None:
    (client,) = scenario_of(tmp_path, f"{column}\n{cell}\n").clients
    assert client.network.up.rate_bps == found


def test_every_quantity_of_a_device_and_a_network_can_be_a_clients_own(tmp_path: Path) -> None:
    table = (
        "name;memory_gib;os_reserved_mib;runtime_mib;dense_gflops;depthwise_mflops;memory_gbps;dispatch_ns;jitter_us;"
        "loss_percent;rtt_ms\r\nfield 1;0.5;100;50;2;30;1.5;1500;7;0.25;41\r\n"
    )
    (client,) = scenario_of(tmp_path, table).clients
    device, network = client.device, client.network
    assert (device.memory_bytes, device.budget_bytes) == (512 * 2**20, 362 * 2**20)
    assert (device.dense_flops, device.depthwise_flops) == (2 * 10**9, 30 * 10**6)
    assert (device.memory_rate_bytes, device.dispatch_ns) == (1_500_000_000, 1500)
    assert (network.up.jitter_ns, network.down.loss_ppb) == (7000, 2_500_000)
    assert (network.up.one_way_ns, network.down.one_way_ns) == (20_500_000, 20_500_000)
    assert (network.up.rate_bps, device.name, network.name) == (
        load_network("iot-4g").up.rate_bps,
        "pi-4b#0",
        "iot-4g#0",
    )


def test_a_delay_of_one_direction_leaves_the_other_as_it_was(tmp_path: Path) -> None:
    (client,) = scenario_of(tmp_path, "up_one_way_ms\n7\n").clients
    assert client.network.up.one_way_ns == 7_000_000
    assert client.network.down.one_way_ns == load_network("iot-4g").down.one_way_ns


def test_a_row_that_changes_nothing_keeps_the_names(tmp_path: Path) -> None:
    memory_mib = load_device("pi-4b").memory_bytes / 2**20
    client, other = scenario_of(tmp_path, f"memory_mib\n{memory_mib}\n1024\n").clients
    assert (client.device.name, client.network.name, other.device.name) == ("pi-4b", "iot-4g", "pi-4b#1")
    assert other.network is client.network


def test_a_table_stands_beside_other_groups_and_its_first_rows_are_taken(tmp_path: Path) -> None:
    table = "up_mbps\n1\n2\n3\n4\n"
    other = '[[clients]]\ncount = 2\ndevice = "pi-5"\nnetwork = "iot-4g"\n'
    names = [client.device.name for client in scenario_of(tmp_path, table, group=other).clients]
    assert names == ["pi-4b"] * 4 + ["pi-5"] * 2
    few = scenario_of(tmp_path, table, clients=3, group=other)
    assert [client.network.up.rate_bps for client in few.clients[:2]] == [1_000_000, 2_000_000]
    assert len(few.clients) == 3
    assert refused(tmp_path, table, clients=5) == (
        "--clients 5: asks for 5 clients of clients.csv, which has 4 rows, a row each; write more rows, or take fewer"
        " clients"
    )


def test_the_tables_content_is_in_the_manifest_in_a_results_key_and_in_the_view(tmp_path: Path) -> None:
    keys = set()
    for flops in ("3897894735.9", "4897894735.9"):
        scenario = scenario_of(tmp_path, PAPER.replace("3897894735.92771", flops), 'ignore = ["distance_km"]')
        played = {"fedavg": {"rounds": 1, "stop_after_s": None, "task": {"clients": 3}}}
        manifest = make_manifest(scenario, played, argv=[], clock="virtual", seed=1, dilation=None)
        assert manifest.profile_files[str(tmp_path / "clients.csv")]
        assert manifest.profile_notes == list(scenario.notes)
        keys.add(scenario_digest(scenario))
    assert len(keys) == 2
    view = "\n".join(profile_lines(describe_profile(str(tmp_path / "s.toml")), 300))
    assert "2 clients: pi-4b#0 (4.898 GFLOP/s, 3576 MiB to train in) on iot-4g#0 (25.95 up" in view
    assert "numbers were rounded" in view


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            PAPER,
            'clients.csv: first line: unknown column "distance_km"; A column is a key of devices or networks; to pass',
        ),
        ("up_mpbs\n1\n", 'clients.csv: first line: unknown column "up_mpbs"; did you mean up_mbps? A column is'),
        ("Up_mbps\n1\n", 'clients.csv: first line: unknown column "Up_mbps"; did you mean up_mbps?'),
        ("up_Mbps\n1\n", 'clients.csv: first line: unknown column "up_Mbps"; did you mean up_mbps?'),
        ("up_MBps\n1\n", 'clients.csv: first line: unknown column "up_MBps"; a B is a byte: multiply by 8'),
        ("up_mbps\n5 Mbps\n", "clients.csv:2: has 2 cells, not 1 as the first line; a comma or a unit in a number?"),
        ("1,2\n3,4\n", "clients.csv: first line: begins with numbers; write the names of the columns"),
        ("client\n0\n", "clients.csv: first line: has no column that overrides anything; write count = NUMBER"),
        ("up_mbps\n", "clients.csv: has no rows; write a row for each client"),
        ("", "clients.csv: has no lines; write"),
        ("up_mbps,up_bps\n1,2\n", "clients.csv: first line: up_mbps and up_bps both say up_mbps; leave one out"),
        ("up_mbps,up_mbps\n1,2\n", "clients.csv: first line: up_mbps and up_mbps both say up_mbps; leave one out"),
        (
            "rate_bps,down_bps\n1,2\n",
            "clients.csv: first line: rate_bps and down_bps both say down_mbps; leave one out",
        ),
        ("gflops,dense_gflops\n1,2\n", "clients.csv: first line: gflops and dense_gflops both say dense_gflops"),
        ("up_mbps\n1\n0\n", "clients.csv:3: up_mbps: must be above 0, not 0"),
        ("up_mbps\n-0.0\n", "clients.csv:2: up_mbps: must be above 0, not 0"),
        ("up_bps\n0.4\n", "clients.csv:2: up_mbps: must be above 0, not 0"),
        ("up_mbps\n-1\n", "clients.csv:2: up_mbps: must be above 0, not -1"),
        ("up_mbps\nnan\n", 'clients.csv:2: up_mbps: is "nan"; it must be a finite number such as 2.5'),
        ("up_mbps\n1e400\n", 'clients.csv:2: up_mbps: is "1e400"; it must be a finite number'),
        ("up_mbps\n1e99\n", "clients.csv:2: up_mbps: must be at most 1000000000 Mbit/s"),
        (
            "up_mbps;name\n0,5;a\n",
            'clients.csv:2: up_mbps: is "0,5"; it must be a finite number such as 2.5; write a point',
        ),
        (
            'up_bps,name\n"25,948,858",a\n',
            'clients.csv:2: up_bps: is "25,948,858"; it must be a finite number such as 2.5; write',
        ),
        (
            "up_mbps,down_mbps\n0,5,1\n",
            "clients.csv:2: has 3 cells, not 2 as the first line; a comma or a unit in a number? write a point",
        ),
        ("one_way_s\n100\n", "clients.csv:2: one_way_ms: must be at most 60000 ms, not 100000; a delay is in ms"),
        ("memory_mib\n100\n", "clients.csv:2: memory_mib: 100 - 300 - 220 MiB leave no memory to train in"),
        ("loss_percent\n100\n", "clients.csv:2: loss_percent: must be below 100: nothing would ever arrive"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_column(tmp_path: Path, table: str, said: str) -> None:
    assert refused(tmp_path, table).startswith(said)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("count = 2", "s.toml: clients[0].count: a table has a row for each client; leave one of the two out"),
        ('ignore = ["distance"]', "clients.csv: ignore distance: there is no such column; did you mean distance_km?"),
        ('ignore = "distance_km"', "s.toml: clients[0].ignore: "),
        ("ignore = [1]", "s.toml: clients[0].ignore[0]: must be text in quotes"),
        ('network = "lte-driving"', "s.toml: is not TOML"),
    ],
)
def test_a_mistake_in_the_group_is_one_line(tmp_path: Path, more: str, said: str) -> None:
    assert refused(tmp_path, PAPER, more).startswith(said)


def test_a_rate_and_a_trace_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "clients.csv").write_text("up_mbps\n1\n")
    scenario_of(tmp_path, "memory_mib\n2048\n")
    text = (tmp_path / "s.toml").read_text().replace('"iot-4g"', '"lte-driving"')
    (tmp_path / "s.toml").write_text(text)
    assert load_scenario(str(tmp_path / "s.toml")).clients[0].network.name == "lte-driving"
    (tmp_path / "clients.csv").write_text("up_mbps\n1\n")
    with pytest.raises(ProfileError, match=r"clients\.csv:2: up_mbps: the rate comes from the trace"):
        load_scenario(str(tmp_path / "s.toml"))


def test_a_group_says_how_many_clients_it_has(tmp_path: Path) -> None:
    scenario_of(tmp_path, PAPER, 'ignore = ["distance_km"]')
    text = (tmp_path / "s.toml").read_text()
    named = 'table = "clients.csv"\n'
    for line, said in (
        ("count = 1\n", "ignore: names columns of a table"),
        ('table = "no.csv"\n', "table: cannot read"),
    ):
        (tmp_path / "s.toml").write_text(text.replace(named, line))
        with pytest.raises(ProfileError, match=said):
            load_scenario(str(tmp_path / "s.toml"))
    (tmp_path / "s.toml").write_text(text.replace(named, ""))
    with pytest.raises(ProfileError, match=r'clients\[0\]\.count: missing; write count = NUMBER, or table = "cl'):
        load_scenario(str(tmp_path / "s.toml"))


CELL = st.one_of(st.text(max_size=12), st.floats().map(str), st.sampled_from(["", "1", "1e400", "1e-400", "9" * 80]))
NAMES = st.sampled_from(
    ["up_mbps", "rate_bps", "memory_mib", "gflops", "client", "", "x\ny", "rtt_ms", "up_one_way_ms"]
)


@settings(max_examples=100)
@given(st.lists(NAMES, max_size=4), st.lists(st.lists(CELL, max_size=4), max_size=3), st.sampled_from(",;\t "))
def test_whatever_a_table_holds_it_is_read_or_refused_in_one_line(
    folder: Path, names: list[str], rows: list[list[str]], mark: str
) -> None:
    text = "\n".join(mark.join(row) for row in [names, *rows])
    try:
        scenario_of(folder, text.encode(errors="replace").decode())
    except ProfileError as error:
        assert "\n" not in str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")
