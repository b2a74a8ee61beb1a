"""Profiles, experiments, traces, logs and absences, damaged at random: read, or refused in one line; never else."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from algorithms.experiments import reading
from emulator.errors import UserError
from emulator.network.topology import Topology
from emulator.profiles.reading import describe, load_scenario
from emulator.tables.profiles import profile_lines
from emulator.tables.traces import show_trace
from emulator.traces.convert import Choice, convert
from emulator.traces.reading import Form, load

EXAMPLES = int(os.environ.get("SPLITBED_EXAMPLES", "100"))  # of each kind
NASTY = (
    *(
        "",
        "-",
        "-0.0",
        "0",
        "1e400",
        "1e-400",
        "1e99",
        "nan",
        "inf",
        "9" * 5000,
        "1_000",
        "1,5",
        "1;5",
        "²",
        "0x10",
        "1e9999999999",
    ),
    *(
        "true",
        '"',
        '""',
        "[]",
        "{}",
        "[[",
        "]",
        "=",
        "#",
        "\n",
        "\r",
        "\t",
        ",",
        ".",
        "..",
        "é",
        "\0",
        "\x1b[1m",
        "1970-01-01",
    ),
    *("null", "NaN", "{ file = 3 }", '{ file = "t.txt", time = "ms", rate = "kbps" }', '"t.csv"', '"../.."', "[1, 2]"),
)
NETWORK = (
    'kind = "network"\ndescription = "d"\nup_mbps = { value = 2.0, grade = "R", source = "s", date = "2026-11" }\n'
    'down_trace = { file = "t.txt", time = "ms", rate = "kbps", holds = "before" }\none_way_ms = 35\njitter_ms = 1.5\n'
    'loss_percent = 0.1\nduplex = "half"\ntransport = "tcp"\nrate_kind = "link"\ntrace_start_s = 3\n'
)
DEVICE = (
    'kind = "device"\ndescription = "d"\nmemory_mib = 512\nos_reserved_mib = 100\nruntime_mib = 100\n'
    "dense_gflops = 2.5\ndepthwise_gflops = 0.1\nmemory_gbps = 3\ndispatch_us = 20\nsend_queue_mib = 8\n"
)
SCENARIO = (
    'kind = "scenario"\ndescription = "d"\n[server]\ndevice = "edge-server"\nnetwork = "ethernet-1g"\nworkers = 2\n'
    '[[cells]]\nname = "mast"\nup_trace = "./t.csv"\ndown_mbps = 7\nduplex = "half"\n'
    '[[clients]]\ncount = 2\ndevice = "./d.toml"\nnetwork = "./n.toml"\ncell = "mast"\n'
    '[clients.absence]\nkind = "away"\nfile = "a.csv"\n'
    '[[clients]]\ntable = "c.csv"\nignore = ["km"]\ndevice = "pi-4b"\nnetwork = "iot-4g"\n'
    '[clients.absence]\nkind = "outage"\nmean_present_s = 60\nmean_absent_s = 2.5\n'
)
EXPERIMENT = (
    'kind = "experiment"\ndescription = "d"\nalgorithm = "fsl-sage,cse-fsl"\nrounds = 20\nclients = 3\n'
    'seed = 2\n[task]\ndataset = "digits"\nbatch = 16\n[settings]\nweight_decay = 1e-4\nbetas = [0.9, 0.99]\n'
    "deadline_s = 3.5\n[algorithms.fsl-sage]\nl = 10\nalign_lr = 1e-3\n"
)
CSV = "time_s,up_mbps,down_mbps,rtt_ms,loss\n0,1.5,2,40,0\n1,2,0,45.5,0.01\n2.5,1e-3,7,40,0\n"
PAIRS = "7.0 4600.0\n1053.0 4307.5\n4087.0 0\n4801.0 3542.0825\n"
PERIODS = (
    '[{"duration_ms": 725, "bandwidth_kbps": 36014, "latency_ms": 20},\n'
    ' {"duration_ms": 1000, "bandwidth_kbps": 0, "latency_ms": 20.5}]\n'
)
LOG = (
    "Timestamp,State,DL_kbps,UL (kbps),PING\n2024.03.01_23.59.58,D,60000,5000,-\n2024.03.02_00.00.01,D,-,7000,30\n" * 2
)
FILES = {
    "n.toml": NETWORK,
    "d.toml": DEVICE,
    "s.toml": SCENARIO,
    "e.toml": EXPERIMENT,
    "t.csv": CSV,
    "t.txt": PAIRS,
    "p.json": PERIODS,
    "m.trace": "".join(f"{t}\n" for t in range(0, 300, 7)),
    "log.csv": LOG,
    "a.csv": "from_s,to_s\n1.5,2\n\n10,12.25\n",
    "c.csv": "client,up_bps,km,gflops\n0,25948858.2,0.6,3.9\n1,64992952.1,0.2,2.25\n",
}


def look_at_profile(folder: Path, name: str) -> None:
    """What a profile comes to, as it is shown and as the network is built of it."""
    profile_lines(describe(str(folder / name)), 80)
    if name not in ("n.toml", "d.toml", "t.txt"):
        scenario = load_scenario(str(folder / "s.toml"))
        assert len(scenario.clients) < 50 or Topology(scenario, 1).ends
        load_scenario(str(folder / "s.toml"), 2)


def look_at_trace(folder: Path, name: str) -> None:
    for form in (Form(), Form(time="ms", rate="kbps", holds="before"), Form(format="mahimahi")):
        try:
            show_trace(load(folder / name, name, form), Console(file=io.StringIO(), width=80))
        except UserError as error:
            one_line(error)


def look_at_log(folder: Path, name: str) -> None:
    text = (folder / name).read_bytes().decode(errors="replace")
    choices: tuple[dict[str, Any], ...] = (
        {"time": "Timestamp", "time_format": "%Y.%m.%d_%H.%M.%S", "down": "DL_kbps", "up": "UL (kbps)", "rtt": "PING"},
        {"time": "1", "time_format": "iso", "down": "3", "rate": "kbps"},
        {"step": "1s", "down": "3", "rate": "mbytes_per_s", "drop_bad": True},
        {},
    )
    for choice in choices:
        for missing in ("", "hold", "zero"):
            try:
                convert(name, text, Choice(missing=missing, gap="10s" if missing else "", **choice))  # type: ignore[arg-type]
            except UserError as error:
                one_line(error)


LOOKS: dict[str, Callable[[Path, str], object]] = {
    "n.toml": look_at_profile,
    "d.toml": look_at_profile,
    "s.toml": look_at_profile,
    "e.toml": lambda folder, name: reading.find(str(folder / name)),
    "t.csv": look_at_trace,
    "t.txt": look_at_trace,
    "p.json": look_at_trace,
    "m.trace": look_at_trace,
    "log.csv": look_at_log,
    "a.csv": lambda folder, _name: look_at_profile(folder, "s.toml"),
    "c.csv": lambda folder, _name: look_at_profile(folder, "s.toml"),
}


def one_line(error: UserError) -> None:
    said = str(error)
    assert said
    assert "\n" not in said
    assert said.isprintable(), said
    assert len(said) < 2000


@st.composite
def mutated(draw: st.DrawFn, text: str) -> bytes:
    """With some words, lines or bytes exchanged, left out or there twice; perhaps in another encoding."""
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, max(len(text) - 1, 0)))
        end = min(begin + draw(st.sampled_from((0, 1, 3, 8, 40))), len(text))
        put = draw(st.sampled_from(NASTY) | st.text(max_size=4) | st.just(text[begin:end] * 2))
        text = text[:begin] + put + text[end:]
    content = text.encode(draw(st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "utf-16"))), "replace")
    if draw(st.booleans()):
        return content
    place = draw(st.integers(0, len(content)))
    return content[:place] + draw(st.binary(max_size=3)) + content[place:]


@st.composite
def nasty_value(draw: st.DrawFn, text: str) -> bytes:
    """One whole value of a line, or a cell, is something else."""
    lines = text.split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    mark = next((mark for mark in (" = ", ",", " ") if mark in lines[at]), "")
    parts = lines[at].split(mark) if mark else [lines[at]]
    parts[draw(st.integers(0, len(parts) - 1))] = draw(st.sampled_from(NASTY))
    lines[at] = mark.join(parts)
    return "\n".join(lines).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutations")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_what_is_damaged_here_is_sound_before(folder: Path, name: str) -> None:
    """Else nothing below would reach far."""
    LOOKS[name](folder, name)
    if name == "log.csv":
        first = {"time": "Timestamp", "time_format": "%Y.%m.%d_%H.%M.%S", "down": "DL_kbps", "up": "4"}
        assert convert(
            name,
            LOG.partition("\n")[0] + "\n2024.03.01_23.59.58,D,1,2,-\n2024.03.01_23.59.59,D,2,3,-\n",
            Choice(**first),
        ).steps  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FILES)
def test_what_is_damaged_is_read_or_refused_in_one_line(folder: Path, name: str) -> None:
    @settings(max_examples=EXAMPLES)
    @given(mutated(FILES[name]) | nasty_value(FILES[name]))
    def look(content: bytes) -> None:
        (folder / name).write_bytes(content)
        try:
            LOOKS[name](folder, name)
        except UserError as error:
            one_line(error)

    try:
        look()
    finally:
        (folder / name).write_text(FILES[name])
