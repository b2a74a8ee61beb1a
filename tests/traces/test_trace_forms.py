"""What a trace's file does not say: units, Mahimahi, when a rate holds; JSON of periods; one direction alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic import WIDE, Sent, carry, fabric_of, link

import run
from emulator.errors import ProfileError
from emulator.network.fabric import Fabric
from emulator.piecewise import StepFunction
from emulator.profiles.reading import describe_profile, load_network
from emulator.profiles.scenario import Direction, Network
from emulator.tables.profiles import profile_lines
from emulator.testing.stage import MBIT, MS, SECOND
from emulator.traces.reading import Form, Trace, load_trace

S = SECOND
MILLISECONDS = "7.0 4600.0\n1053.0 4307.5\n4087.0 0\n4801.0 3542.0825\n"


def trace_of(tmp_path: Path, content: str, form: Form | None = None, name: str = "t.txt") -> Trace:
    path = tmp_path / name
    path.write_text(content)
    return load_trace(path, name, form)


def refused(tmp_path: Path, content: str, form: Form | None = None) -> str:
    with pytest.raises(ProfileError) as caught:
        trace_of(tmp_path, content, form)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# --- units ------------------------------------------------------------------------------------------------------------


def test_pairs_are_read_in_the_units_that_are_named(tmp_path: Path) -> None:
    starts, length = (0, 1046 * MS, 4080 * MS, 4794 * MS), (4794 + 1046) * MS
    read = trace_of(tmp_path, MILLISECONDS, Form(time="ms", rate="kbps"))
    assert read.up == read.down == StepFunction(starts, (4_600_000, 4_307_500, 0, 3_542_082), length)
    for rate, factor in (("bps", 1), ("mbps", 10**6), ("bytes_per_s", 8), ("kbytes_per_s", 8000)):
        assert trace_of(tmp_path, "0 1.5\n1 0\n", Form(time="us", rate=rate)).up.values[0] == int(1.5 * factor)  # type: ignore[arg-type]
    assert trace_of(tmp_path, "0 1\n3 2\n", Form(time="us", rate="kbps")).up.length_ns == 6000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (MILLISECONDS, "t.txt: read as s and mbps, its mean rate is 3,696 Mbit/s, above 1,000 Mbit/s"),
        ("0 0.0000001\n1 0.000001\n", "t.txt: read as s and mbps, its mean rate is 0 bit/s, below 1,000 bit/s"),
        ("0 4\n50000 3\n", "t.txt: read as s and mbps, it lasts 100,000 s, more than a day"),
        ("".join(f"{t}0000\n" for t in range(9000)), "t.txt: read as Mahimahi (ms of packets), it lasts 89,990 s"),
        ("1\n" * 10**5 + "100\n", "t.txt: read as Mahimahi (ms of packets), its mean rate is 12,000 Mbit/s"),
    ],
)
def test_what_is_implausible_in_units_that_nobody_named_is_refused(tmp_path: Path, content: str, said: str) -> None:
    message = refused(tmp_path, content)
    assert message.startswith(said)
    assert 'trace = { file = "t.txt", ' in message


def test_what_is_named_is_taken_at_its_word(tmp_path: Path) -> None:
    assert trace_of(tmp_path, "0 4000\n1 5000\n", Form(rate="mbps")).up.values == (4000 * MBIT, 5000 * MBIT)
    assert trace_of(tmp_path, "0 4\n50000 3\n", Form(time="s")).up.length_ns == 100_000 * S
    assert trace_of(tmp_path, "time_s,up_mbps,down_mbps\n0,4000,1\n50000,5000,2\n").up.values[0] == 4000 * MBIT
    assert "below 1,000 bit/s" in refused(tmp_path, "0 0.0001\n1 0.0002\n", Form(time="s"))


def test_a_csvs_columns_name_their_units(tmp_path: Path) -> None:
    read = trace_of(tmp_path, "time_ms,up_kbps,down_bytes_per_s\n0,26,1000\n500,30,2000\n")
    assert read.up == StepFunction((0, 500 * MS), (26_000, 30_000), S)
    assert read.down == StepFunction((0, 500 * MS), (8_000, 16_000), S)
    said = refused(tmp_path, "time_s,up_mbps,down_mbps\n0,1,2\n1,2,3\n", Form(time="ms", rate="kbps"))
    assert said == "t.txt: is read as CSV: its columns name their units (time_ms, up_kbps); leave time and rate out"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("time_s,up_MBps\n0,1\n1,2\n", 'unknown column "up_MBps"; did you mean up_mbytes_per_s? '),
        ("time_s,up_Mbps\n0,1\n1,2\n", 'unknown column "up_Mbps"; did you mean up_mbps? '),
        ("time_s,KBps\n0,1\n1,2\n", 'unknown column "KBps"; a B is a byte: multiply by 8 for bits. '),
        ('time_s,up_mbps\n0,"1,5"\n', "has 3 numbers, not 2; read as CSV, a line is time_s,up_mbps; a comma in a num"),
    ],
)
def test_a_units_capitals_are_told_apart_and_a_comma_is_named(tmp_path: Path, content: str, said: str) -> None:
    assert said in refused(tmp_path, content)


# --- Mahimahi ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["1\n", "1\n2\n3\n4\n5\n6\n7\n", "".join(f"{t}\n" for t in range(0, 1900, 100))])
def test_a_short_column_of_numbers_is_mahimahi_only_where_that_is_said(tmp_path: Path, content: str) -> None:
    said = refused(tmp_path, content)
    assert 'say format = "mahimahi"; run.py traces convert FILE --rate mbps --step 1s reads rates, one a line' in said
    assert trace_of(tmp_path, content, Form(format="mahimahi")).up.sums[-1] == content.count("\n") * 12_000 * S


def test_a_column_of_rates_is_told_what_reads_it(tmp_path: Path) -> None:
    assert "6 ms comes after 7; the file is read as Mahimahi" in refused(tmp_path, "5\n7\n6\n4\n9\n")
    assert "traces convert FILE --rate mbps --step 1s" in refused(tmp_path, "5\n7\n6\n4\n9\n")


def test_a_packet_each_millisecond_for_ever_is_a_link_of_12_mbit_at_its_cost(tmp_path: Path) -> None:
    """The same arrivals as the constant link, in as many steps of the fabric."""
    rates = trace_of(tmp_path, "1\n", Form(format="mahimahi")).up
    assert rates == StepFunction((0,), (12 * MBIT,), MS)
    followed = Network("t", *[Direction(12 * MBIT, 10 * MS, 0, rates=rates)] * 2, transport="tcp")
    constant = Network("c", *[Direction(12 * MBIT, 10 * MS, 0)] * 2, transport="tcp")
    sent = [Sent("client-0", "server", 15 * 10**6), Sent("server", "client-1", 15 * 10**5, 5 * S)]
    fabrics = [fabric_of(each, each) for each in (followed, constant)]
    assert carry(fabrics[0], sent) == carry(fabrics[1], sent)
    assert turns(fabric_of(followed), 15 * 10**6) == turns(fabric_of(constant), 15 * 10**6)


def turns(fabric: Fabric, size_bytes: int) -> int:
    """How many moments a message takes the fabric."""
    fabric.post("client-0", "server", 0, size_bytes, 0)
    count = 0
    while fabric.next_ns() is not None:
        fabric.advance()
        count += 1
    return count


def test_equal_neighbours_are_one_step_in_every_format(tmp_path: Path) -> None:
    assert trace_of(tmp_path, "0 1\n1 1\n2 5\n3 5\n").up == StepFunction((0, 2 * S), (MBIT, 5 * MBIT), 4 * S)
    read = trace_of(tmp_path, "time_s,up_mbps,down_mbps\n0,1,1\n1,1,2\n2,1,2\n")
    assert (read.up, read.down) == (StepFunction((0,), (MBIT,), 3 * S), StepFunction((0, S), (MBIT, 2 * MBIT), 3 * S))


def test_a_sparse_trace_is_long_and_exact() -> None:
    """A packet each 104 ms: k packets of 1500 bytes take k laps; 20 clients each have their own."""
    starts, values = (0, 84 * MS), (0, 600_000)
    rates = StepFunction(starts, values, 104 * MS)
    network = Network("t", *[Direction(600_000, 0, 0, rates=rates)] * 2, trace_start_ns=0)
    fabric = fabric_of(*[network] * 20)
    found = carry(fabric, [Sent(f"client-{i}", "server", 1500 * 1000) for i in range(20)])
    assert [transmission.left_ns for transmission in found] == [1000 * 104 * MS] * 20


TINY = "0.0 4.8e-05\n1.4636 0.701568\n2.8608 0.0\n4.3382 1.2388\n5.7544 0.633464\n"  # 48 bit/s at first; then 0, too


@pytest.mark.parametrize(("transport", "begin_ns"), [("ideal", 0), ("tcp", 100 * MS)])
@given(size=st.integers(1, 15_000))
def test_a_transfer_that_begins_at_48_bit_a_second_leaves_when_the_integral_says(
    folder: Path, transport: Any, begin_ns: int, size: int
) -> None:
    """The first ns by which the trace has carried every bit; before them TCP has its handshake of a round trip."""
    rates = trace_of(folder, TINY).up
    ways = [Direction(1_238_800, 50 * MS, 0, rates=rates)] * 2
    network = Network("t", *ways, transport=transport, trace_start_ns=0)
    fabric = fabric_of(network, server=link(WIDE, transport=transport))
    (transmission,) = carry(fabric, [Sent("client-0", "server", size)])
    left_ns = transmission.left_ns
    assert rates.integral(begin_ns, left_ns) >= size * 8 * S > rates.integral(begin_ns, left_ns - 1)
    assert transmission.arrival_ns == left_ns + 50 * MS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


# --- when a rate holds ------------------------------------------------------------------------------------------------


def test_a_rate_may_hold_until_the_time_of_its_row(tmp_path: Path) -> None:
    """The first row only begins the trace, whose length is that from its first time to its last."""
    rows = "10 1\n11 2\n14 3\n15 4\n"
    assert trace_of(tmp_path, rows).up == StepFunction(
        (0, S, 4 * S, 5 * S), (MBIT, 2 * MBIT, 3 * MBIT, 4 * MBIT), 6 * S
    )
    before = trace_of(tmp_path, rows, Form(holds="before")).up
    assert before == StepFunction((0, S, 4 * S), (2 * MBIT, 3 * MBIT, 4 * MBIT), 5 * S)


# --- JSON of periods --------------------------------------------------------------------------------------------------


def periods(*rows: tuple[Any, Any, Any]) -> str:
    names = ("duration_ms", "bandwidth_kbps", "latency_ms")
    return json.dumps([dict(zip(names, row, strict=True)) for row in rows])


def test_periods_are_read_as_they_are_and_their_latency_is_a_round_trip(tmp_path: Path) -> None:
    read = trace_of(tmp_path, periods((725, 36014, 20), (1000, 0, 20), (1001, 0.5, 45.5)))
    assert read.up == read.down == StepFunction((0, 725 * MS, 1725 * MS), (36_014_000, 0, 500), 2726 * MS)
    assert read.delays == StepFunction((0, 1725 * MS), (10 * MS, 22_750_000), 2726 * MS)
    (tmp_path / "n.toml").write_text('kind = "network"\ndescription = ""\ntrace = "t.txt"\n')
    network = load_network(str(tmp_path / "n.toml"))
    assert (network.up.delays, network.down.delays) == (read.delays, read.delays)
    assert trace_of(tmp_path, '[{"duration_s": 2, "bandwidth_mbps": 3}]').up == StepFunction((0,), (3 * MBIT,), 2 * S)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "[]",
            "t.txt: must be a list of periods in JSON, each with duration_ms, bandwidth_kbps and perhaps latency_ms",
        ),
        ('{"a": 1}', "t.txt: must be a list of periods in JSON"),
        ("[1]", "t.txt: [0]: must be a period, with duration_ms"),
        ("[{\n}\n,]", "t.txt:3: is no JSON ("),
        ("[" * 10**6 + "]" * 10**6, "t.txt: is no list of periods in JSON"),
        (
            periods((1, 2, 3)).replace("latency_ms", "latency"),
            't.txt: [0].latency: unknown key "latency"; a period has',
        ),
        (periods((1, 2, 3)).replace("bandwidth_kbps", "latency_ms"), "t.txt: latency_ms: is there twice in one period"),
        ('[{"duration_ms": 1}]', "t.txt: [0].bandwidth_kbps: missing; a period has"),
        (periods((1, "2", 3)), "t.txt: [0].bandwidth_kbps: must be a number such as 2.5, without quotes"),
        (periods((1, 2, 3), (0, 2, 3)), "t.txt: [1].duration_ms: must be above 0; leave the period out"),
        (periods((1, -2, 3)), 't.txt: [0]: bandwidth_kbps is "-2"; it must be 0 or more'),
        (periods((1, 2, 10**7)), 't.txt: [0]: latency_ms is "10000000", above 120000 ms; give the round trip in ms'),
        (periods((1, 1, 1), (1, 1, 1))[:-1] + ', {"duration_ms": 3}]', "t.txt: [2].bandwidth_kbps: is in some periods"),
        ('[{"duration_ms": NaN, "bandwidth_kbps": 1}]', "t.txt: NaN is no finite number"),
        ('[{"duration_ms": 1e999999999999999999999, "bandwidth_kbps": 1}]', "t.txt: is no list of periods in JSON, or"),
        (periods((1, 0, 3)), "t.txt: up is 0 from beginning to end, nothing could ever be sent"),
    ],
)
def test_a_mistake_in_periods_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    assert refused(tmp_path, content).startswith(said)


# --- in profiles ------------------------------------------------------------------------------------------------------


def network_of(tmp_path: Path, lines: str) -> Network:
    path = tmp_path / "n.toml"
    path.write_text(f'kind = "network"\ndescription = "d"\n{lines}\n')
    return load_network(str(path))


def test_a_profile_names_a_traces_units(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(MILLISECONDS)
    network = network_of(tmp_path, 'trace = { file = "t.txt", time = "ms", rate = "kbps" }\none_way_ms = 1')
    assert network.up.rates == load_trace(tmp_path / "t.txt", "", Form(time="ms", rate="kbps")).up
    assert network.up.rate_bps == 4_600_000
    shown = "\n".join(profile_lines(describe_profile(str(tmp_path / "n.toml")), 100))
    assert "trace.time         ms" in shown
    assert "follows t.txt (5.84 s), mean 3.696 up, 3.696 down" in shown
    with pytest.raises(ProfileError, match=r"n\.toml: trace\.time: must be one of s, ms, us, not \"min\""):
        network_of(tmp_path, 'trace = { file = "t.txt", time = "min" }\none_way_ms = 1')
    with pytest.raises(ProfileError, match=r"n\.toml: trace\.unit: unknown key"):
        network_of(tmp_path, 'trace = { file = "t.txt", unit = "ms" }\none_way_ms = 1')


@pytest.mark.parametrize(("traced", "other"), [("up", "down"), ("down", "up")])
def test_one_direction_may_follow_a_trace_and_the_other_have_a_number(tmp_path: Path, traced: str, other: str) -> None:
    """8 Mbit over 2 then 6 Mbit/s take 2 s; the other way 8 Mbit at 4 Mbit/s take 2 s, whatever the trace does."""
    (tmp_path / "t.csv").write_text(f"time_s,{traced}_mbps\n0,2\n1,6\n")
    lines = f'{traced}_trace = "t.csv"\n{other}_mbps = 4\none_way_ms = 0\ntransport = "ideal"\ntrace_start_s = 0'
    network = network_of(tmp_path, lines)
    assert getattr(network, traced).rates == StepFunction((0, S), (2 * MBIT, 6 * MBIT), 2 * S)
    assert getattr(network, other).rates is None
    up, down = carry(fabric_of(network), [Sent("client-0", "server", 10**6), Sent("server", "client-0", 10**6)])
    assert (up.left_ns, down.left_ns) == (2 * S, 2 * S)
    view = "\n".join(profile_lines(describe_profile(str(tmp_path / "n.toml")), 100))
    assert "follows t.csv (2 s), mean 4 up, 4 down" in view
    with pytest.raises(ProfileError) as caught:
        network_of(tmp_path, 'trace = "t.csv"\none_way_ms = 0')
    assert f"t.csv has rates {traced} alone; write {traced}_trace = … for what it has, and {other}_mbps" in str(
        caught.value
    )


def test_round_trips_of_one_directions_trace_are_those_of_both(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("time_s,up_mbps,rtt_ms\n0,2,40\n1,6,60\n")
    network = network_of(tmp_path, 'up_trace = "t.csv"\ndown_mbps = 4')
    assert network.up.delays == network.down.delays == StepFunction((0, S), (20 * MS, 30 * MS), 2 * S)
    own = network_of(tmp_path, 'up_trace = "t.csv"\ndown_mbps = 4\ndown_one_way_ms = 7')
    assert (own.up.delays, own.down.delays, own.down.one_way_ns) == (network.up.delays, None, 7 * MS)


@pytest.mark.parametrize("line", ["rtt_ms = 40", "one_way_ms = 20", "up_one_way_ms = 20", "loss_percent = 1"])
def test_a_number_for_what_the_trace_says_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.csv").write_text("time_s,up_mbps,down_mbps,rtt_ms,loss\n0,2,2,40,0\n1,6,6,60,0.1\n")
    network_of(tmp_path, 'trace = "t.csv"')
    with pytest.raises(ProfileError, match=r"t\.csv has a column (rtt_ms|loss); leave one of the two out$"):
        network_of(tmp_path, f'trace = "t.csv"\n{line}')


def test_a_cell_names_units_too(tmp_path: Path) -> None:
    from emulator.profiles.reading import load_scenario

    (tmp_path / "t.txt").write_text(MILLISECONDS)
    (tmp_path / "s.toml").write_text(
        'kind = "scenario"\ndescription = "d"\n[server]\ndevice = "edge-server"\nnetwork = "ethernet-1g"\nworkers = 1\n'
        '[[cells]]\nname = "mast"\nup_trace = { file = "t.txt", time = "ms", rate = "kbps" }\ndown_mbps = 3\n'
        '[[clients]]\ncount = 1\ndevice = "pi-4b"\nnetwork = "wifi5"\ncell = "mast"\n'
    )
    (cell,) = load_scenario(str(tmp_path / "s.toml")).cells
    assert (cell.up_bps, cell.down_bps, cell.down_rates) == (4_600_000, 3 * MBIT, None)
    assert cell.up_rates is not None


def test_traces_show_names_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.txt").write_text(MILLISECONDS)
    shown = ["traces", "show", str(tmp_path / "t.txt")]
    assert run.main([*shown, "--time", "ms", "--rate", "kbps"]) == 0
    assert "5.84 s in 4 steps" in capsys.readouterr().out
    assert run.main(shown) == 2
    assert "--time ms --rate kbps for traces show" in capsys.readouterr().err
    (tmp_path / "m").write_text("1\n")
    assert run.main(["traces", "show", str(tmp_path / "m"), "--format", "mahimahi"]) == 0


def test_a_half_duplex_link_of_a_trace_and_a_number_has_the_larger_of_the_two_at_each_moment(tmp_path: Path) -> None:
    """Up 1 then 20 Mbit/s, down 5: 5 Mbit down take the first second, 25 Mbit up from then on 1.25 s."""
    (tmp_path / "t.csv").write_text("time_s,up_mbps\n0,1\n1,20\n20,20\n")
    lines = 'up_trace = "t.csv"\ndown_mbps = 5\none_way_ms = 0\ntransport = "ideal"\ntrace_start_s = 0\nduplex = "half"'
    fabric = fabric_of(network_of(tmp_path, lines))
    down, up = carry(fabric, [Sent("server", "client-0", 625_000), Sent("client-0", "server", 3_125_000, S)])
    assert (down.left_ns, up.left_ns) == (S, S + 5 * S // 4)
