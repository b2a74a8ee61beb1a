"""Scenarios: cells, absences and traces of their links; one clear line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.errors import ProfileError
from emulator.profiles.availability import Absence
from emulator.profiles.reading import load_network, load_scenario
from emulator.profiles.scenario import Cell
from emulator.testing.stage import SECOND

HEAD = """
kind = "scenario"
description = "a test"
[server]
device = "edge-server"
network = "ethernet-1g"
workers = 2
"""
CELL = """
[[cells]]
name = "mast"
up_mbps = 5
down_mbps = 10
"""
CLIENTS = """
[[clients]]
count = 3
device = "pi-5"
network = "5g"
cell = "mast"
"""
AWAY = """
[clients.absence]
kind = "away"
mean_present_s = 60
mean_absent_s = 2.5
"""


def write(folder: Path, text: str, **others: str) -> str:
    (folder / "s.toml").write_text(HEAD + text)
    for name, content in others.items():
        (folder / f"{name}.csv").write_text(content)
    return str(folder / "s.toml")


def test_a_cell_and_who_is_in_it(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, CELL + CLIENTS + CLIENTS.replace("3", "1").replace('cell = "mast"', "")))
    assert scenario.cells == (Cell("mast", 5 * 10**6, 10 * 10**6),)
    assert [client.cell for client in scenario.clients] == ["mast"] * 3 + [""]


def test_an_absence_by_its_means(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, CELL + CLIENTS + AWAY))
    assert scenario.clients[0].absence == Absence("away", (), 60 * SECOND, 5 * SECOND // 2)


def test_an_absence_from_a_file_beside_the_scenario(tmp_path: Path) -> None:
    absence = AWAY.replace("mean_present_s = 60\nmean_absent_s = 2.5", 'file = "a.csv"').replace("away", "outage")
    path = write(tmp_path, CELL + CLIENTS + absence, a="# tunnels\nfrom_s,to_s\n1.5,2\n\n10,12.25\n")
    scenario = load_scenario(path)
    spans = ((3 * SECOND // 2, 2 * SECOND), (10 * SECOND, 49 * SECOND // 4))
    assert scenario.clients[0].absence == Absence("outage", spans)
    assert str(tmp_path / "a.csv") in scenario.files


def test_a_link_that_follows_a_trace_has_its_rates_and_its_hash() -> None:
    scenario = load_scenario("trace-driving")
    up = scenario.clients[0].network.up
    assert up.rates is not None
    assert up.rate_bps == max(up.rates.values)
    assert "traces/lte-driving.csv" in scenario.files
    starlink = load_network("starlink-trace").down
    assert starlink.delays is not None
    assert starlink.losses is not None


BAD = [
    (CLIENTS, ["clients[0].cell", "no [[cells]]"]),
    (CELL + CLIENTS.replace("mast", "must"), ["clients[0].cell", 'no cell "must"; cells here: mast']),
    (CELL + CLIENTS.replace('cell = "mast"', ""), ["cells[0].name", "no client is in"]),
    (CELL + CLIENTS + CLIENTS.replace("mast", "must"), ["clients[1].cell", "cells here: mast"]),
    (CELL + CELL + CLIENTS, ["cells[1].name", "is a cell already"]),
    ((CELL + CLIENTS).replace('"mast"', '""'), ["cells[0].name", "must not be empty"]),
    (CELL.replace('"mast"', '"mast"\nduplex = "semi"') + CLIENTS, ["cells[0].duplex", "one of full, half"]),
    (CELL + CLIENTS + "absence = 3\n", ["clients[0].absence", "begins with [clients.absence], not 3"]),
    (CELL.replace("up_mbps = 5", "") + CLIENTS, ["cells[0].up_mbps: missing", "in Mbit/s"]),
    (CELL.replace("up_mbps = 5", "up_kbps = 5") + CLIENTS, ["cells[0].up_kbps", "up_mbps, in Mbit/s"]),
    (CELL + CLIENTS + AWAY.replace("mean_absent_s = 2.5", ""), ["clients[0].absence", "mean_absent_s"]),
    (CELL + CLIENTS + AWAY.replace("away", "asleep"), ["clients[0].absence.kind", "one of outage, away"]),
    (CELL + CLIENTS + AWAY + 'file = "a.csv"\n', ["clients[0].absence", "not both"]),
    (CELL + CLIENTS + '[clients.absence]\nkind = "away"\nfile = "none.csv"\n', ["absence.file", "cannot read"]),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_a_mistake_is_refused_by_key_with_a_remedy(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(ProfileError) as caught:
        load_scenario(write(tmp_path, text))
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("1,2\n", 1, "from_s,to_s"),
        ("from_s,to_s\n2,1\n", 2, "must end after it begins"),
        ("from_s,to_s\n1,2\n1.5,3\n", 3, "before the span above"),
        ("from_s,to_s\n1,2\n\nx,3\n", 4, "two numbers"),
        ("from_s,to_s\n1\n", 2, "two numbers"),
        ("from_s,to_s\n-1,2\n", 2, "from 0"),
        ("from_s,to_s\n1,inf\n", 2, "two numbers"),
        ("from_s,to_s\n1,1_0\n", 2, '"1,1_0" must be two numbers'),
        ("from_s,to_s\n1;2\n", 2, "two numbers"),
        ("from_s,to_s\n1,20000000\n", 2, "from 0"),
        ("from_s,to_s\n", 1, "no spans"),
    ],
)
def test_a_mistake_in_a_file_of_absences_is_refused_by_line(tmp_path: Path, content: str, line: int, said: str) -> None:
    text = CELL + CLIENTS + '[clients.absence]\nkind = "away"\nfile = "a.csv"\n'
    with pytest.raises(ProfileError, match=rf"a\.csv:{line}: .*{said}"):
        load_scenario(write(tmp_path, text, a=content))
