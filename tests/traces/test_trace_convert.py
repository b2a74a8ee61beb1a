"""Logs made into traces: columns, times, repeats, gaps, units; what was done is told."""

from __future__ import annotations

from pathlib import Path

import pytest

import run
from emulator.errors import UserError
from emulator.piecewise import StepFunction
from emulator.traces.convert import Converted, ConvertOptions, convert
from emulator.traces.reading import load_trace

S, MS, MBIT = 10**9, 10**6, 10**6
LOG = (  # date and time in one field, several rows a second, kbit/s, "-" for what is missing
    "Timestamp,Speed,State,DL_bitrate,UL_bitrate,PING\n"
    "2024.03.01_23.59.58,59,D,60000,5000,-\n"
    "2024.03.01_23.59.58,52,D,20000,7000,-\n"
    "2024.03.01_23.59.59,59,D,8000,-,-\n"
    "2024.03.02_00.00.01,2,D,7927.0005,2740,-\n"
    "2024.03.02_00.00.02,2,D,-,-,-\n"
    "2024.03.02_00.00.03,2,D,100,200,-\n"
)
PHONE = ConvertOptions(
    time="Timestamp", time_format="%Y.%m.%d_%H.%M.%S", down="DL_bitrate", up="UL_bitrate", rate="kbps", missing="hold"
)


def made(text: str, **choice: object) -> Converted:
    return convert("log.csv", text, ConvertOptions(**choice))  # type: ignore[arg-type]


def refused(text: str, **choice: object) -> str:
    with pytest.raises(UserError) as caught:
        made(text, **choice)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_log_of_many_columns_becomes_a_trace_by_the_names_of_three(tmp_path: Path) -> None:
    """Repeats are averaged, midnight is no jump, a value that is missing is the one before."""
    done = convert("log.csv", LOG, PHONE)
    starts = (0, S, 3 * S, 5 * S)
    assert done.steps["down"] == StepFunction(starts, (40_000_000, 8_000_000, 7_927_000, 100_000), 6 * S)
    assert done.steps["up"] == StepFunction((0, 3 * S, 5 * S), (6_000_000, 2_740_000, 200_000), 6 * S)
    assert done.notes[0] == "log.csv: 6 rows; 1 repeat of a time averaged; 2 without a value: hold."
    assert done.notes[1].startswith("5 rows over 6 s, in the mean 3.947 Mbit/s up and 1")
    (tmp_path / "x.csv").write_text(done.text)
    again = load_trace(tmp_path / "x.csv", "x.csv")
    assert (again.up, again.down) == (done.steps["up"], done.steps["down"])
    assert done.text.splitlines()[0].endswith("from log.csv: up_mbps is UL_bitrate, down_mbps is DL_bitrate")


def test_missing_values_are_refused_dropped_held_or_zero() -> None:
    text = "t,r\n0,-\n1,8\n2,NaN\n3,4\n"
    common = {"time": "t", "time_format": "s", "down": "r", "rate": "mbps"}
    assert refused(text, **common) == (
        "log.csv:2: r is missing, as 2 of 4 rows lack a value; say --missing drop, hold (the value before) or zero"
    )
    assert made(text, missing="zero", **common).steps["down"].values == (0, 8 * MBIT, 0, 4 * MBIT)
    assert made(text, missing="hold", **common).steps["down"] == StepFunction((0, 2 * S), (8 * MBIT, 4 * MBIT), 3 * S)
    assert made(text, missing="drop", **common).steps["down"] == StepFunction((0, 2 * S), (8 * MBIT, 4 * MBIT), 4 * S)
    assert made(text, drop_bad=True, **common).steps == made(text, missing="drop", **common).steps


def test_bad_rows_are_refused_by_line_or_left_out_and_counted() -> None:
    text = "0.0\t1\n1.5\t-2.1\n3.0\t3\n2\t3\n4.5 x\n4.5\t0x\n6\t2\n"
    assert refused(text) == 'log.csv:2: 2 is "-2.1", below 0; --drop-bad leaves such rows out'
    done = made(text, drop_bad=True)
    assert done.steps["up"] == done.steps["down"] == StepFunction((0, 3 * S, 6 * S), (MBIT, 3 * MBIT, 2 * MBIT), 9 * S)
    assert done.notes[0] == (
        "log.csv: 7 rows; 1 left out: negative; 1 left out: time goes back; 1 left out: other number of cells;"
        " 1 left out: no number."
    )


@pytest.mark.parametrize(
    ("form", "times"),
    [
        ("s", ("1700000000.5", "1700000001", "1700000002.5")),
        ("ms", ("500", "1000", "2500")),
        ("us", ("1700000000000000", "1700000000500000", "1700000002000000")),
        ("iso", ("2024-03-01T10:00:00.5", "2024-03-01T10:00:01", "2024-03-01T10:00:02.500")),
        ("iso", ("2024-03-01T23:59:59+01:00", "2024-03-01 22:59:59.5Z", "2024-03-02T00:00:01+01:00")),
        ("%d/%m/%y %H:%M:%S.%f", ("01/03/24 10:00:00.5", "01/03/24 10:00:01.0", "01/03/24 10:00:02.5")),
    ],
)
def test_times_are_read_in_the_form_that_is_said(form: str, times: tuple[str, ...]) -> None:
    text = "when,rate\n" + "".join(f"{t},{i}\n" for i, t in enumerate(times, 1))
    read = made(text, time="when", time_format=form, down="rate", rate="mbps").steps["down"]
    assert read == StepFunction((0, 500 * MS, 2 * S), (MBIT, 2 * MBIT, 3 * MBIT), 2 * S + 500 * MS)


def test_numbers_or_rows_are_a_step_apart() -> None:
    text = "protocol,seq_num,A_mbps,B_mbps\nTCP,1,5,1\nTCP,2,7,1\nTCP,4,9,2\n"
    done = made(text, time="seq_num", step="1s", down="A_mbps")
    assert done.steps == {"down": StepFunction((0, S, 3 * S), (5 * MBIT, 7 * MBIT, 9 * MBIT), 4 * S)}
    assert done.notes[-1] == "Rates down alone: a profile takes down_trace = FILE and up_mbps = NUMBER."
    rows = made("5\n7\n\n6\n", step="500ms", rate="mbps")
    assert (
        rows.steps["up"]
        == rows.steps["down"]
        == StepFunction((0, S // 2, S), (5 * MBIT, 7 * MBIT, 6 * MBIT), 3 * S // 2)
    )


def test_columns_are_by_name_or_number_and_separated_by_what_the_first_line_has() -> None:
    named = {"time": "t", "time_format": "s", "up": "up", "down": "2", "rate": "kbps"}
    for mark in (",", ";", "\t", " "):
        text = "# a phone\r\n" + "t,down,up\r\n0,1,2\r\n1,3,4\r\n".replace(",", mark)
        done = made(text, **named)
        assert (done.steps["up"].values, done.steps["down"].values) == ((2000, 4000), (1000, 3000)), mark
    quoted = made('t,"down, in kbps","up"\n"0","1","2"\n1,3,4\n', **named)
    assert quoted.steps["down"].values == (1000, 3000)


@pytest.mark.parametrize("name", ["DL_kbps", "DL (kbps)", "DL [kbit/s]", "rate kbps"])
def test_a_columns_name_may_say_its_unit(name: str) -> None:
    assert made(f"time_ms,{name}\n0,1\n500,2\n", time="time_ms", down=name).steps["down"] == StepFunction(
        (0, S // 2), (1000, 2000), S
    )


def test_round_trips_come_too() -> None:
    done = made("t,r,ping\n0,1,40\n1,2,50.5\n", time="t", time_format="s", up="r", down="r", rtt="ping", rate="mbps")
    assert done.steps["rtt"] == StepFunction((0, S), (20 * MS, 25_250_000), 2 * S)


def test_a_recording_that_paused_is_told_and_the_pause_can_be_taken_out() -> None:
    text = "t,r\n0,1\n1,2\n2,3\n90000,4\n90001,5\n"
    common = {"time": "t", "time_format": "s", "down": "r", "rate": "mbps"}
    assert "lasts 90,002 s, more than a day; say --gap 10s to take longer pauses out" in refused(text, **common)
    done = made(text, gap="10s", **common)
    assert done.steps["down"].starts_ns == (0, S, 2 * S, 3 * S, 4 * S)
    assert "1 pause above 10s taken out" in done.notes[0]
    short = made(text.replace("9000", "9"), **common)
    assert short.notes[2] == "1 gap above 10 times the usual 1 s, up to 88 s: the rate before it holds through each."


@pytest.mark.parametrize(
    ("text", "choice", "said"),
    [
        ("a,b\n1,2\n2,3\n", {}, "log.csv: say which column is the rate: --down COLUMN, --up COLUMN. Columns: a, b"),
        ("a,b\n1,2\n2,3\n", {"down": "b"}, "log.csv: say which column is the time: --time COLUMN, or --step 1s"),
        ("a,b\n1,2\n", {"down": "b", "time": "a"}, 'log.csv: say the unit of "b": --rate, one of bps, kbps, mbps'),
        (
            "a,b\n1,2\n",
            {"down": "b", "time": "a", "rate": "mbps"},
            'log.csv: say what "a" is: --time-format s, ms, us, iso or a pattern',
        ),
        ("time,rate\n1,2\n", {"down": "rates"}, "log.csv: say which column is the time"),
        (
            "time,rate\n1,2\n",
            {"down": "rates", "time": "time"},
            "log.csv: --down rates: there is no such column; did you mean rate? Columns: time, rate",
        ),
        (
            "r,r\n1,2\n",
            {"down": "r", "step": "1s"},
            "log.csv: --down r: is there twice; say 1 and 2 instead of the name",
        ),
        (
            "r\n1\n",
            {"down": "r", "step": "1", "rate": "bps"},
            "--step 1: say a time with its unit, such as 1s, 0.5s or 20ms",
        ),
        ("r\n1\n", {"down": "r", "step": "0s", "rate": "bps"}, "--step 0s: say a time with its unit"),
        (
            "t,r\n1,1\n",
            {"time": "t", "step": "1s", "time_format": "s", "down": "r"},
            "--step: the time has a --time-form",
        ),
        (
            "t,r_bps\nx,1\n",
            {"time": "t", "time_format": "%H", "down": "r_bps"},
            'log.csv:2: t is "x", not of the form %H',
        ),
        (
            "t,r_bps\n1,1\n",
            {"time": "t", "time_format": "%Q", "down": "r_bps"},
            "--time-format %Q: 'Q' is a bad directive",
        ),
        ("t,r_bps\n1,1\n", {"time": "t", "time_format": "%Y%Y", "down": "r_bps"}, "--time-format %Y%Y: "),
        ("0 1,5\n1 2,5\n", {"step": "1s", "rate": "mbps"}, "log.csv"),
        (
            't,r_bps\n0,"1,234"\n',
            {"time": "t", "time_format": "s", "down": "r_bps"},
            'log.csv:2: r_bps is "1,234", which',
        ),
        (
            "t,r_bps\n0,1\n",
            {"time": "t", "time_format": "s", "down": "r_bps"},
            "log.csv: has 1 row that can be used; two",
        ),
        ("", {}, "log.csv: has no lines; write a row for each time"),
        ("0 5000000\n1 4000000\n", {}, 'log.csv:1: 2 is "5000000", above 1000000; is it in another unit?'),
        ("0 5000\n1 4000\n", {}, "log.csv: read as s and mbps, its mean rate is 4,500 Mbit/s"),
        (
            "t,r_bps\n0,0\n1,0\n",
            {"time": "t", "time_format": "s", "down": "r_bps"},
            "log.csv: down is 0 from beginning",
        ),
        (
            "t,r_bps\n0,1\n1,1e99\n",
            {"time": "t", "time_format": "s", "down": "r_bps"},
            'log.csv:3: r_bps is "1e99", above 1000000000000; is',
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_remedy(text: str, choice: dict[str, str], said: str) -> None:
    assert refused(text, **choice).startswith(said)


def test_the_command_writes_a_new_file_and_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, out = tmp_path / "log.csv", tmp_path / "mine.csv"
    log.write_bytes(b"\xff\xfe" + LOG.encode("utf-16-le"))
    flags = ["--time", "Timestamp", "--time-format", "%Y.%m.%d_%H.%M.%S", "--down", "DL_bitrate", "--missing", "drop"]
    words = ["traces", "convert", str(log), *flags, "--rate", "kbps"]
    assert run.main([*words, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{log}: 6 rows; ")
    assert load_trace(out, "").down is not None
    assert run.main(words) == 0
    piped = capsys.readouterr()
    assert piped.out == out.read_text()
    assert piped.err == said.out
    for wrong in (["--out", str(out)], ["--out", str(tmp_path / "no" / "x.csv")]):
        assert run.main([*words, *wrong]) == 2
        assert "name a new file" in capsys.readouterr().err
    assert run.main(["traces", "convert", str(tmp_path)]) == 2
    assert "cannot be read (Is a directory); name a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "bits"),
    [("DL MB/s", 8 * MBIT), ("DL Mb/s", MBIT), ("DL MBps", 8 * MBIT), ("DL Mbps", MBIT), ("dl_kBps", 8000)],
)
def test_a_capital_b_in_a_columns_name_is_a_byte(name: str, bits: int) -> None:
    done = made(f"t,{name}\n0,1\n1,2\n2,4\n", time="t", time_format="s", down=name)
    assert done.steps["down"].values == (bits, 2 * bits, 4 * bits)


def test_a_column_whose_name_says_another_unit_than_the_flag_and_one_that_nobody_knows_are_refused() -> None:
    common = {"time": "t", "time_format": "s", "down": "2"}
    with pytest.raises(UserError, match=r'"DL MB/s" says mbytes_per_s, and --rate kbps; say one'):
        made("t,DL MB/s\n0,1\n1,2\n", rate="kbps", **common)
    with pytest.raises(UserError, match=r'say the unit of "DL MBPS"'):
        made("t,DL MBPS\n0,1\n1,2\n", **common)
