"""Profiles, experiments, traces, logs and absences, damaged at random: read, or refused in one line; never else."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from mutations import FILES, LOG, mutated, nasty_value
from rich.console import Console

from algorithms.experiments import reading
from emulator.errors import UserError
from emulator.network.topology import Topology
from emulator.profiles.reading import describe_profile, load_scenario
from emulator.tables.profiles import profile_lines
from emulator.tables.traces import show_trace
from emulator.traces.convert import ConvertOptions, convert
from emulator.traces.reading import Form, load_trace

EXAMPLES = int(os.environ.get("SPLITBED_EXAMPLES", "100"))  # of each kind


def look_at_profile(folder: Path, name: str) -> None:
    """What a profile comes to, as it is shown and as the network is built of it."""
    profile_lines(describe_profile(str(folder / name)), 80)
    if name not in ("n.toml", "d.toml", "t.txt"):
        scenario = load_scenario(str(folder / "s.toml"))
        assert len(scenario.clients) < 50 or Topology(scenario, 1).links
        load_scenario(str(folder / "s.toml"), 2)


def look_at_trace(folder: Path, name: str) -> None:
    for form in (Form(), Form(time="ms", rate="kbps", holds="before"), Form(format="mahimahi")):
        try:
            show_trace(load_trace(folder / name, name, form), Console(file=io.StringIO(), width=80))
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
                convert(name, text, ConvertOptions(missing=missing, gap="10s" if missing else "", **choice))  # type: ignore[arg-type]
            except UserError as error:
                one_line(error)


LOOKS: dict[str, Callable[[Path, str], object]] = {
    "n.toml": look_at_profile,
    "d.toml": look_at_profile,
    "s.toml": look_at_profile,
    "e.toml": lambda folder, name: reading.find_experiment(str(folder / name)),
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
            ConvertOptions(**first),
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
