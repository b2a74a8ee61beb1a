"""Trace files: three formats read exactly, every mistake one line with the file, the line and a remedy; statistics."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ProfileError
from emulator.piecewise import StepFunction
from emulator.traces.mahimahi import BIN_MS
from emulator.traces.reading import Form, Trace, find_trace, load_trace, shipped_traces
from emulator.traces.statistics import spread, statistics

S, MS = 10**9, 10**6
Read = Callable[..., Trace]
CSV = "time_s,up_mbps,down_mbps\n"
MAHIMAHI = Form(format="mahimahi")
NAMED = Form(time="s", rate="mbps")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all examples of a property share."""
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def read(folder: Path) -> Read:
    """Reads a text as a trace file, which errors call x.csv."""

    def from_text(content: str | bytes, form: Form | None = None) -> Trace:
        path = folder / "x.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_trace(path, "x.csv", form)

    return from_text


def test_a_csv_is_read_in_any_order_of_its_columns(read: Read) -> None:
    trace = read("loss,down_mbps,rtt_ms,time_s,up_mbps\n0.02,5,45,0,1.5\n0,0.026,45.000001,0.5,0\n1e-3,7,0,2,.25\n")
    length = 2 * S + S // 2  # and the lower of the two gaps
    starts = (0, S // 2, 2 * S)
    assert trace.up == StepFunction(starts, (1_500_000, 0, 250_000), length)
    assert trace.down == StepFunction(starts, (5_000_000, 26_000, 7_000_000), length)
    assert trace.delays == StepFunction((0, 2 * S), (22_500_000, 0), length)
    assert trace.losses == StepFunction(starts, (20_000_000, 0, 1_000_000), length)


def test_pairs_are_rates_of_both_directions_and_begin_at_their_first_time(read: Read) -> None:
    trace = read("1700000000.25 5\n1700000001.25\t6.5\n 1700000002.25   0\n1700000009.25 1\n")
    assert trace.up == StepFunction((0, S, 2 * S, 9 * S), (5_000_000, 6_500_000, 0, 1_000_000), 10 * S)
    assert trace.down == trace.up
    assert trace.delays is None
    assert trace.losses is None


@pytest.mark.parametrize("body", ["0,1,2\n1,3,4\n", "0,1,2\n1,3,4"], ids=["line end", "none"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("\n", "  \t\n"),
        lambda text: text.replace("\n", "\n\n\n"),
        lambda text: "# made on Møn\n\n" + text.replace("\n", " # said\n"),
        lambda text: text.replace(",", " , "),
    ],
    ids=["byte order mark", "Windows", "old Mac", "spaces at the end", "blank lines", "comments", "spaces"],
)
def test_how_a_file_is_laid_out_changes_nothing(read: Read, body: str, change: Callable[[str], str]) -> None:
    plain, changed = read(CSV + body), read(change(CSV + body))
    assert (changed.up, changed.down) == (plain.up, plain.down)
    assert plain.up.values == (1_000_000, 3_000_000)


def test_numbers_may_be_in_quotes_and_zero_may_be_negative(read: Read) -> None:
    assert read('"time_s","up_mbps","down_mbps"\n"0","-0.0","2"\n"1",2,"3"\n').up.values == (0, 2_000_000)


def test_a_trace_is_named_after_its_file_and_knows_its_bytes(tmp_path: Path) -> None:
    content = b"5\n5\n27\n"
    for file, name in (("verizon.up", "verizon.up"), ("lte.csv", "lte"), ("lte.2.trace", "lte.2")):
        (tmp_path / file).write_bytes(content)
        trace = load_trace(tmp_path / file, f"shown/{file}", MAHIMAHI)
        assert (trace.name, trace.file) == (name, f"shown/{file}")
        assert trace.sha256 == hashlib.sha256(content).hexdigest()


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60).map(sorted).filter(lambda times: times[-1] > 0))
def test_mahimahis_bytes_arrive_bin_by_bin_and_start_over(read: Read, times: list[int]) -> None:
    """By the end of each bin, the opportunities up to then; over a lap, every bit."""
    trace = read("".join(f"{t}\n" for t in times), MAHIMAHI)
    length = times[-1]
    assert trace.up == trace.down
    assert trace.up.length_ns == length * MS
    for end in {*range(BIN_MS, length, BIN_MS), length}:
        assert trace.up.integral(0, end * MS) == sum(t <= end for t in times) * 12_000 * S
    laps = trace.up.integral(0, 7 * length * MS)
    assert laps == 7 * len(times) * 12_000 * S


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60).map(sorted))
def test_mahimahis_rate_in_a_whole_bin_is_its_count(read: Read, times: list[int]) -> None:
    trace, counts = read("\n".join(map(str, times)), MAHIMAHI), Counter((t - 1) // BIN_MS for t in times)
    for number in range(times[-1] // BIN_MS):
        for t in (number * BIN_MS * MS, (number + 1) * BIN_MS * MS - 1):
            assert trace.up.at(t) == counts[number] * 600_000


def test_mahimahis_long_silence_is_one_step(read: Read) -> None:
    assert read("20\n9000000\n", MAHIMAHI).up == StepFunction(
        (0, 20 * MS, 8_999_980 * MS), (600_000, 0, 600_000), 9_000_000 * MS
    )


def test_mahimahis_bins_of_one_rate_are_one_step(read: Read) -> None:
    times = [*range(10, 1001, 10), 1001, 1020]
    assert read("\n".join(map(str, times))).up == StepFunction((0,), (1_200_000,), 1020 * MS)


RATES = st.decimals(0, 10**6, places=9)


@given(st.lists(st.integers(0, 10**15), min_size=2, max_size=9, unique=True).map(sorted), st.data())
def test_numbers_are_exact_and_rounded_down(read: Read, times: list[int], data: st.DataObject) -> None:
    rates = [data.draw(RATES) for _ in times]
    trace = read("".join(f"{t}.999e-9 {rate:f}\n" for t, rate in zip(times, rates, strict=True)) + "2e6 1\n", NAMED)
    for t, rate in zip(times, rates, strict=True):
        assert trace.up.at(t - times[0]) == math.floor(Fraction(rate) * 10**6)
        if t > times[0] and trace.up.at(t - times[0] - 1) != trace.up.at(t - times[0]):
            assert trace.up.next_ns(t - times[0] - 1) == t - times[0]


def test_what_a_link_carries_by_a_moment_is_the_traces_integral(read: Read) -> None:
    """Closed form: 2 Mbit/s for 1 s, nothing for 1 s, 8 Mbit/s for 1 s, and again."""
    up = read("0 2\n1 0\n2 8\n").up
    for t, bits in ((0, 0), (0.5, 1e6), (1, 2e6), (1.75, 2e6), (2.25, 4e6), (3, 10e6), (3.5, 11e6), (30, 100e6)):
        assert up.integral(0, int(t * S)) == bits * S


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "x.csv: has no lines; write"),
        ("# nothing\n\n", "x.csv: has no lines; write"),
        ("hello\n", 'x.csv:1: "hello" begins no trace; write whole numbers of ms (Mahimahi)'),
        ("1 2 3\n", 'x.csv:1: "1 2 3" begins no trace; write'),
        ("1.5\n2\n", 'x.csv:1: "1.5" has no time beside it; run.py traces convert FILE --rate mbps --step 1s reads'),
        ("time_s;up_mbps\n0;1\n", 'x.csv:1: "time_s;up_mbps" is separated by semicolons; write commas (and points'),
        ("time_s\tup_mbps\n0\t1\n", 'x.csv:1: "time_s\\tup_mbps" is separated by tabs; write commas (and points'),
        ("0 1,5\n1 2,5\n", 'x.csv:1: "1,5" has a comma; write a point, as in 2.5'),
        (CSV + "0,1,234,5\n", "x.csv:2: has 4 numbers, not 3; read as CSV"),
        ("1700000000000 5\n1700000001000 6\n", 'x.csv:1: time_s is "1700000000000", above 100000000000 s; name the un'),
        ("time (ms),up (kbps)\n0,1\n", "x.csv:1: has 2 columns (time (ms), up (kbps)) and none of time_s, up_mbps"),
        ("# a\n5\n\n4\n", "x.csv:4: 4 ms comes after 5; the file is read as Mahimahi"),
        ("5\n6.5\n", 'x.csv:2: "6.5" is no whole number of ms; the file is read as Mahimahi'),
        ("5\n-6\n", 'x.csv:2: "-6" is no whole number of ms; the file is read as Mahimahi'),
        ("5\n5 6\n", 'x.csv:2: "5 6" is no whole number of ms; the file is read as Mahimahi'),
        ("5\n²\n", 'x.csv:2: "²" is no whole number of ms; the file is read as Mahimahi'),
        ("0\n0\n", "x.csv: ends at 0 ms; the last number of a Mahimahi trace is its length"),
        ("1\n10000000001\n", "x.csv:2: 10000000001 ms are more than 10000000 s; a Mahimahi"),
        ("0 1\n1 2\n1 3\n", "x.csv:3: 1 s is not after the time before it; rows must be in order"),
        ("0 1\n1 2\n1.0000000001 3\n", "x.csv:3: 1.0000000001 s is not after the time before it; rows"),
        ("0 1\n2 2\n1 3\n", "x.csv:3: 1 s is not after the time before it; rows must be in order"),
        ("0 1\n1 -2\n", 'x.csv:2: Mbit/s is "-2"; it must be 0 or more'),
        ("-1 1\n1 2\n", 'x.csv:1: time_s is "-1"; it must be 0 or more'),
        ("0 1\n1 nan\n", 'x.csv:2: Mbit/s is "nan"; it must be a finite number'),
        ("0 1\n1 1e999\n", 'x.csv:2: Mbit/s is "1e999"; it must be a finite number'),
        ("0 1\n1 1_0\n", 'x.csv:2: Mbit/s is "1_0"; it must be a finite number'),
        ("0 1\n1 5000000\n", 'x.csv:2: Mbit/s is "5000000", above 1000000 Mbit/s; give Mbit/s, not bit/s'),
        (f"0 1\n1 {'9' * 999}\n", 'x.csv:2: Mbit/s is "9999999999999999999999999999999999999999…"; it must'),
        ("0 1\n1 2 3\n", "x.csv:2: has 3 numbers, not 2; read as pairs of seconds and Mbit/s, a line is time_s Mbit/s"),
        ("0 1\n", "x.csv: has 1 row; give two or more"),
        ("0 1\n1 1\n99999999 1\n", "x.csv: lasts longer than 10000000 s; times must be in the unit named"),
        ("0 0\n1 0\n", "x.csv: up is 0 from beginning to end, nothing could ever be sent; give it a rate"),
        ("0,1,2\n1,2,3\n", "x.csv:1: a CSV begins with its columns' names; write time_s,up_mbps,down_mbps"),
        ("time,up_mbps,down_mbps\n", 'x.csv:1: unknown column "time"; did you mean time_s? Columns: time_s, up_'),
        ("up_mbps,down_mbps\n0,1\n", "x.csv:1: column time_s is missing; write time_s,up_mbps,down_mbps"),
        ("time_s,loss\n0,1\n", "x.csv:1: columns up_mbps and down_mbps are missing; write time_s,up_mbps,down_mbps"),
        ("time_s,time_ms,up_bps\n0,1,2\n", "x.csv:1: has time in 2 units; leave all but one out"),
        ("time_s,loss,up_mbps,loss\n", "x.csv:1: column loss is there twice; leave one out"),
        (CSV, "x.csv: has no rows; give two or more"),
        (CSV + "0,1,2\n1,2\n", "x.csv:3: has 2 numbers, not 3; read as CSV, a line is time_s,up_mbps,down_mbps"),
        (CSV + "0,1,2\n1,,3\n", 'x.csv:3: up_mbps is ""; it must be a finite number'),
        (CSV + "0,1,0\n1,2,0\n", "x.csv: down is 0 from beginning to end, nothing could ever be received"),
        ("time_s,up_mbps,down_mbps,loss\n0,1,2,2\n", 'x.csv:2: loss is "2", above 1; loss is a fraction from 0 to 1'),
        ("time_s,up_mbps,down_mbps,loss\n0,1,2,1\n1,1,2,1\n", "x.csv: loss is 1 from beginning to end, nothing would"),
        ("time_s,up_mbps,down_mbps,rtt_ms\n0,1,2,-3\n", 'x.csv:2: rtt_ms is "-3"; it must be 0 or more'),
        (b"\x1f\x8b\x08\x00abc", "x.csv: is not text: it is compressed by gzip; unpack it first: gunzip"),
        ("0 1\n1 2\n".encode("utf-16-le"), "x.csv:1: is not text; save it as text in UTF-8"),
        (b"0 1\n1 2\n# caf\xe9\n", "x.csv:3: byte 0xe9 is not UTF-8 text; save it as text in UTF-8"),
    ],
)
def test_a_mistake_is_one_line_with_the_file_the_line_and_a_remedy(read: Read, content: str | bytes, said: str) -> None:
    with pytest.raises(ProfileError) as caught:
        read(content)
    assert str(caught.value).startswith(said)
    assert "; " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@given(st.text(max_size=60) | st.binary(max_size=60) | st.text("0123456789 .,-\n#e", max_size=60))
def test_whatever_a_file_holds_it_is_a_trace_or_one_line(read: Read, content: str | bytes) -> None:
    raw = content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
    try:
        trace = read(raw)
    except ProfileError as error:
        assert str(error).startswith("x.csv:")
        assert len(str(error).splitlines()) == 1
    else:
        assert trace.up.sums[-1] > 0


def test_a_trace_is_found_by_name_or_by_a_path_beside_its_asker(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("0 1\n1 2\n")
    assert find_trace("mine.txt", "net.toml", "trace", tmp_path).file == str(tmp_path / "mine.txt")
    assert find_trace("lte-driving", "net.toml", "trace", tmp_path).file == "netprofiles/traces/lte-driving.csv"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("starlnk", 'net.toml: trace: "starlnk" no such trace; did you mean starlink?; give a path'),
        ("./none.csv", "net.toml: trace: cannot read none.csv (No such file or directory); give a trace's path, or"),
        ("./", "net.toml: trace: cannot read . (Is a directory); give a trace's path, or one of the shipped"),
        ("a\0.csv", "net.toml: trace: cannot read a\\x00.csv (it is no file name); give a trace's path"),
    ],
)
def test_a_trace_that_is_not_there_is_told_where_it_was_asked_for(name: str, said: str) -> None:
    with pytest.raises(ProfileError) as caught:
        find_trace(name, "net.toml", "trace")
    assert str(caught.value).startswith(said)
    assert all(other in str(caught.value) for other in shipped_traces())


def test_statistics_of_two_levels_are_their_closed_forms(read: Read) -> None:
    """10 Mbit/s for a quarter of the time, nothing for the rest: mean 2.5, deviation 10 sqrt(1/4 3/4), CV sqrt(3)."""
    facts = statistics(
        read("time_s,up_mbps,down_mbps,rtt_ms,loss\n0,0,4,40,0\n1,10,4,50,0\n2,0,4,40,0\n3,0,4,50,0.04\n")
    )
    up, down = facts.up_mbps, facts.down_mbps
    assert (up.length_s, up.steps, up.mean, up.least, up.most) == (4, 3, 2.5, 0, 10)
    assert up.std == pytest.approx(10 * math.sqrt(3 / 16), rel=1e-12)
    assert up.variation == pytest.approx(math.sqrt(3), rel=1e-12)
    assert (up.p5, up.p50, up.p95) == (0, 0, 10)
    assert (up.zero_share, up.longest_zero_s) == (0.75, 3)  # over the wrap
    assert up.autocorrelation == pytest.approx(-1 / 3)  # (0 - 2.5^2) / 18.75
    assert (down.mean, down.std, down.variation, down.autocorrelation) == (4, 0, 0, None)
    assert facts.rtt_ms is not None
    assert facts.loss is not None
    assert (facts.rtt_ms.mean, facts.rtt_ms.std, facts.rtt_ms.autocorrelation) == (45, 5, -1)
    assert (facts.loss.mean, facts.loss.most) == (0.01, 0.04)


SIZES = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20)), min_size=1, max_size=9)


@given(SIZES, st.integers(0, 8))
def test_statistics_are_those_of_equal_samples_however_the_steps_lie(parts: list[tuple[int, int]], turned: int) -> None:
    """Against the textbook sums over one sample each 0.5 s; a lap that begins elsewhere has the same."""
    samples = [value for count, value in parts for _ in range(count)]
    starts, at = [], 0
    for count, _ in parts:
        starts.append(at)
        at += count * S // 2
    facts = spread(StepFunction(tuple(starts), tuple(value for _, value in parts), at), 1, 1)
    n, mean = len(samples), sum(samples) / len(samples)
    variance = sum((value - mean) ** 2 for value in samples) / n
    assert (facts.mean, facts.length_s) == (pytest.approx(mean), n / 2)
    assert facts.std == pytest.approx(math.sqrt(variance), abs=1e-6)
    ordered = sorted(samples)
    for share, value in ((5, facts.p5), (50, facts.p50), (95, facts.p95)):
        assert value == ordered[-(-n * share // 100) - 1]
    assert facts.zero_share == pytest.approx(samples.count(0) / n)
    lagged = sum((samples[i] - mean) * (samples[(i + 2) % n] - mean) for i in range(n)) / n
    if variance:
        assert facts.autocorrelation == pytest.approx(lagged / variance, abs=1e-9)
    turned %= n
    each = [*samples[turned:], *samples[:turned]]
    again = spread(StepFunction(tuple(i * S // 2 for i in range(n)), tuple(each), n * S // 2), 1, 1)
    assert again.longest_zero_s == facts.longest_zero_s
    assert (again.mean, again.std, again.p50) == (facts.mean, facts.std, facts.p50)
    assert again.autocorrelation == pytest.approx(facts.autocorrelation)
