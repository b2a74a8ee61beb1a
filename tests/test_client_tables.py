"""Clients as a table: a row a client, whose columns override its group's device and network; units in their names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import UserError
from emulator.profile_reading import load_scenario
from emulator.profiles import Scenario

SCENARIO = """kind = "scenario"
description = "a table of clients"
[server]
device = "edge-server"
network = "ethernet-1g"
workers = 2
[[clients]]
table = "clients.csv"
device = "pi-4b"
network = "ethernet-100m"
"""


def read(folder: Path, table: str, clients: int | None = None, more: str = "") -> Scenario:
    (folder / "clients.csv").write_text(table)
    (folder / "scenario.toml").write_text(SCENARIO + more)
    return load_scenario(str(folder / "scenario.toml"), clients)


def test_a_row_is_a_client_with_its_own_rate_and_speed(tmp_path: Path) -> None:
    """A whole bit/s and FLOP/s, rounded from long decimals, and said once for all of them."""
    scenario = read(
        tmp_path, "client,flop_per_s,rate_bit_per_s\n0,3897894735.92771,25948858.23931885\n1,9e9,64992952.138\n"
    )
    one, two = scenario.clients
    assert (one.network.up.rate_bps, one.network.down.rate_bps) == (25_948_858, 25_948_858)
    assert (one.device.dense_flops, two.device.dense_flops) == (3_897_894_736, 9_000_000_000)
    plain = load_scenario("lan").clients[0].device
    base = load_scenario("iot-4g")
    pi = next(client.device for client in base.clients if client.device.name == "pi-4b")
    ratio = pi.depthwise_flops / pi.dense_flops
    assert two.device.depthwise_flops == pytest.approx(ratio * 9e9, abs=1)
    (note,) = scenario.notes
    assert note.endswith("numbers were rounded: 1 to a whole number of FLOP/s, 2 to a whole number of bit/s")
    assert plain.name and set(scenario.files) >= {str(tmp_path / "clients.csv")}


def test_columns_are_keys_in_any_unit_and_rows_alike_share_a_device(tmp_path: Path) -> None:
    table = "name,up_kbps,one_way_ms,memory_mib\na,2500,10,1024\nb,2500,10,1024\nc,5000,20.5,2048\n"
    a, b, c = read(tmp_path, table).clients
    assert [each.network.up.rate_bps for each in (a, b, c)] == [2_500_000, 2_500_000, 5_000_000]
    assert [each.network.up.one_way_ns for each in (a, b, c)] == [10_000_000, 10_000_000, 20_500_000]
    assert (a.device, a.network) == (b.device, b.network) != (c.device, c.network)
    assert len({each.device.name for each in (a, b, c)}) == 2


def test_another_table_is_another_scenario_and_fewer_clients_are_its_first_rows(tmp_path: Path) -> None:
    table = "up_mbps\n1\n2\n3\n"
    whole, first = read(tmp_path, table), read(tmp_path, table, clients=2)
    assert [each.network.up.rate_bps for each in first.clients] == [1_000_000, 2_000_000]
    assert whole.files != read(tmp_path, "up_mbps\n1\n2\n4\n").files
    with pytest.raises(UserError, match=r"--clients 4: asks for 4 clients of .*clients.csv, which has 3 rows"):
        read(tmp_path, table, clients=4)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("up_mbsp\n1\n", r'first line: unknown column "up_mbsp"; did you mean up_mbps\?'),
        ("up_mbps,up_kbps\n1,1\n", "up_mbps and up_kbps both say up_mbps; leave one out"),
        ("1,2\n3,4\n", "begins with numbers; write the names of the columns"),
        ("up_mbps\n", "has no rows"),
        ("name\na\n", "no column that overrides anything"),
        ("up_mbps\n1,5\n", r'csv:2: up_mbps: is "1,5"; .*write a point'),
        ("up_mbps\nfast\n", r'csv:2: up_mbps: is "fast"; it must be a finite number'),
        ("up_mbps\n-1\n", "csv:2: up_mbps: must be above 0"),
        ("up_mbps\nnan\n", r'csv:2: up_mbps: is "nan"'),
        ("memory_mib\n1\n", r"csv:2: memory_mib: .*leave no memory"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_by_its_line(table: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path, table)
    assert "clients.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [("count = 3\n", "a table has a row for each client"), ('ignore = ["distance"]\n', "distance")],
)
def test_what_does_not_go_with_a_table_is_said(more: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        read(tmp_path, "up_mbps\n1\n", more=more)


CELL = st.one_of(st.text(max_size=12), st.floats().map(str), st.sampled_from(["", "1", "1e400", "1e-400", "9" * 80]))


@settings(max_examples=60)
@given(
    names=st.lists(st.sampled_from(["up_mbps", "rate_bps", "memory_mib", "gflops", "client", "", "x\ny"]), max_size=4),
    rows=st.lists(st.lists(CELL, max_size=4), max_size=3),
)
def test_whatever_a_table_holds_it_is_read_or_refused_in_one_line(
    names: list[str], rows: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "\n".join(",".join(row) for row in [names, *rows])
    try:
        read(tmp_path_factory.mktemp("table"), text.encode(errors="replace").decode())
    except UserError as error:
        assert "\n" not in str(error)
