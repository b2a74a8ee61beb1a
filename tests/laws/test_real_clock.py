"""No test plays the real clock without saying so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import real_clock


@pytest.mark.parametrize(("clock", "is_real"), [("real", True), ("virtual", False), ("dry-run", False)])
def test_a_command_that_played_the_real_clock_is_known_by_what_it_left(
    clock: str, is_real: bool, tmp_path: Path
) -> None:
    run = tmp_path / "sweep" / "run"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps({"clock": clock}))
    real_clock.played()
    assert real_clock.played() == []
    subprocess.run([sys.executable, "-c", "", "--out", "sweep"], cwd=tmp_path, check=True)
    assert real_clock.played() == ([run] if is_real else [])
    assert real_clock.played() == [], "each is named once"


TESTS = """
import json, subprocess, sys
import pytest

@pytest.fixture
def three_clients_real():
    pass

def play(folder):
    (folder / "manifest.json").write_text(json.dumps({"clock": "real"}))
    subprocess.run([sys.executable, "-c", "", "--out", str(folder)], check=True)

def test_unmarked(tmp_path):
    play(tmp_path)

@pytest.mark.any_load
def test_marked(tmp_path):
    play(tmp_path)
"""
ASKING = """
def test_asking(three_clients_real):
    pass
"""


@pytest.mark.parametrize(
    ("tests", "said"), [(TESTS, "2 passed, 1 error"), (TESTS + ASKING, "test_asking: plays the real clock")]
)
def test_an_unmarked_test_that_plays_the_real_clock_fails(tests: str, said: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    (tmp_path / "conftest.py").write_text((root / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(tests)
    paths = f"pythonpath={root} {root / 'tests/support'}"
    how = ["-c", str(root / "pyproject.toml"), "--rootdir", str(tmp_path), "-o", paths, "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *how, str(tmp_path / "test_it.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode, done.stdout
    assert said in done.stdout + done.stderr
    assert ("test_unmarked" in done.stdout) == ("test_asking" not in tests)
