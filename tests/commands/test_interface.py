"""``play`` and ``load``: what the command line says, from Python, with the same figures; the caller stays as it was."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import nbformat
import pyarrow.parquet
import pytest
from imported import ROOT
from nbclient import NotebookClient

import algorithms
import run
from algorithms import interface
from emulator.analysis.columns import TABLES
from emulator.errors import UserError
from emulator.ledger.events import Posted, RoundEnded

HOW: dict[str, Any] = {"clients": 2, "clock": "virtual", "rounds": 2, "force": True}
WORDS = ["--clients", "2", "--clock", "virtual", "--rounds", "2", "--force", "--no-dashboard"]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[interface.Run, list[str]]:
    said: list[str] = []
    folder = tmp_path_factory.mktemp("interface") / "run"
    found = algorithms.play(
        "lan", ["cse-fsl", "sl"], settings={"cse-fsl:q": 2}, progress=said.append, out=folder, **HOW
    )
    return found, said


def test_it_is_the_run_that_the_command_plays(played: tuple[interface.Run, list[str]], tmp_path: Path) -> None:
    words = [
        "--profile",
        "lan",
        "--algorithm",
        "cse-fsl,sl",
        "--set",
        "cse-fsl:q=2",
        *WORDS,
        "--out",
        str(tmp_path / "x"),
    ]
    assert run.main(words) == 0
    ours, theirs = played[0], algorithms.load(tmp_path / "x")
    assert ours.algorithms == theirs.algorithms == ["sl", "cse-fsl"]
    for digest in ("timeline_digest", "numerics_digest"):
        assert [getattr(each, digest) for each in ours.summary.algorithms.values()] == [
            getattr(each, digest) for each in theirs.summary.algorithms.values()
        ]
    assert ours.rounds() == theirs.rounds()
    assert ours.verdict == theirs.verdict == "good"
    assert repr(ours) == f"Run({str(ours.folder)!r}: sl, cse-fsl; verdict good)"


def test_progress_is_what_the_command_says(played: tuple[interface.Run, list[str]]) -> None:
    said = played[1]
    assert said[0].startswith("Data: digits")
    assert [line for line in said if line.endswith("sl: finished")]
    assert len([line for line in said if " ended at " in line]) == 4


def test_columns_add_up_to_the_summary(played: tuple[interface.Run, list[str]]) -> None:
    found = played[0]
    messages, rounds, clients = found.messages(), found.rounds(), found.clients()
    for name, algorithm in found.summary.algorithms.items():
        for way in ("up", "down"):
            rows = zip(messages["algorithm"], messages["direction"], messages["payload_bytes"], strict=True)
            assert sum(size for a, d, size in rows if (a, d) == (name, way)) == getattr(algorithm.bytes.payload, way)
        assert rounds["algorithm"].count(name) == algorithm.rounds
        last = max(i for i, each in enumerate(rounds["algorithm"]) if each == name)
        assert (rounds["end_s"][last], rounds["accuracy"][last]) == (algorithm.seconds, algorithm.accuracy)
    assert len(clients["client"]) == 4
    assert found.memory()["peak_mib"] == clients["peak_mib"]
    assert sum(found.computations()["times"]) > 0
    assert len(found.events(RoundEnded)["round"]) == 4
    assert sum(found.events(Posted)["payload_bytes"]) == sum(
        each.total_bytes.payload for each in found.summary.algorithms.values()
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"profile": "nokia"}, "--profile nokia"),
        ({"algorithms": "sl,nothing"}, "--algorithm nothing: there is none"),
        ({"rounds": 0}, "--rounds 0"),
        ({"round": 3}, "round: unknown key; did you mean rounds"),
        ({"seeds": 3}, "seeds: unknown key"),
        ({"settings": {"sl:q": 1}}, "--set for sl: q: unknown key"),
        ({"profile": None}, "profile=None: say a scenario's name"),
        ({"algorithms": 3}, "algorithms=3: say the name or the file of a method"),
        ({"algorithms": ["sl", 3]}, "algorithms=.*'sl', 3.*: say the name or the file"),
        ({"algorithms": Path("absent.py")}, "--algorithm absent.py: there is no such file"),
        ({"algorithms": ["sl", Path("absent.py")]}, "--algorithm absent.py: there is no such file"),
        ({"settings": 3}, "settings=3: say options with their values"),
        ({"settings": {"sl:client_lr": object()}}, "--set sl:client_lr=<object .*: say a number, a word"),
    ],
)
def test_a_mistake_is_the_command_s_line(tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        algorithms.play(**{"profile": "lan", "algorithms": "sl", **HOW, "out": tmp_path / "x", **arguments})
    assert not (tmp_path / "x").exists()
    with pytest.raises(UserError, match=r"no manifest\.json of a run"):
        algorithms.load(tmp_path)
    with pytest.raises(UserError, match=r"load\(3\): say a run's folder"):
        algorithms.load(3)  # type: ignore[arg-type]


def test_the_caller_stays_as_it_was(tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    before = dict(os.environ), os.nice(0), handlers, sys.modules["__main__"].__dict__.get("__file__")
    found: list[interface.Run] = []

    def elsewhere() -> None:
        found.append(algorithms.play("lan", "sl", dry_run=True, clients=2, rounds=1, out=tmp_path / "x"))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found[0].algorithms == ["sl"]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert before == (dict(os.environ), os.nice(0), handlers, sys.modules["__main__"].__dict__.get("__file__"))


def test_a_script_without_a_guard_is_executed_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from algorithms import play\nprint('begun')\n"
        f"print(play('lan', 'sl', dry_run=True, clients=2, rounds=1, out={str(tmp_path / 'x')!r}).algorithms)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("begun\n['sl']\n", "")


def test_a_notebook_plays_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells = [
        "from algorithms import load, play\n"
        f"found = play('lan', 'sl', dry_run=True, clients=2, rounds=1, out={str(tmp_path / 'x')!r})",
        "len(load(found.folder).messages()['client'])",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert int(notebook.cells[1].outputs[0]["data"]["text/plain"]) > 0


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_an_export_has_every_column(
    played: tuple[interface.Run, list[str]], to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = played[0]
    assert run.main(["export", str(found.folder), "--to", to]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(TABLES)
    for name in TABLES:
        columns, path = getattr(found, name)(), found.folder / "export" / f"{name}.{to}"
        if to == "parquet":
            assert pyarrow.parquet.read_table(path).to_pydict() == columns
        else:
            head, *rows = csv.reader(path.read_text().splitlines())
            assert head == list(columns)
            assert [row[0] for row in rows] == columns["algorithm"]
            assert all(len(row) == len(head) for row in rows)
