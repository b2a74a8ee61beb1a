"""Installed, not from a clone: the wheel has all that a run needs, and its command is ``run.py`` under another name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from imported import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content alone; what it depends on is there already."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    only = ["--no-deps", "--no-build-isolation", "--no-index"]
    build = ["wheel", *only, "-w", str(folder / "wheels"), str(clone(folder / "source"))]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = (folder / "wheels").glob("splitbed-*.whl")
    subprocess.run([*pip, "install", *only[:1], "--no-index", "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def clone(folder: Path) -> Path:
    """What git has of the project, where building leaves its traces."""
    folder.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if name.split("/")[0] in ("emulator", "algorithms", "netprofiles") or name in ("pyproject.toml", "README.md"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def call(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(installed / "bin" / "splitbed"), *words]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_installed_command_plays_in_any_folder(installed: Path, tmp_path: Path) -> None:
    words = [
        "--profile",
        "iot-4g-cell",
        "--clients",
        "2",
        "--experiment",
        "fsl-sage-cifar10",
        "--dry-run",
        "--rounds",
        "1",
        "--out",
        "out",
    ]
    smaller = [
        "--algorithm",
        "sl",
        "--dataset",
        "digits",
        "--model",
        "cnn",
        "--cut",
        "conv2",
        "--normalise",
        "none",
        "--batch",
        "16",
    ]
    done = call(installed, tmp_path, *words, *smaller)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines()[-1] == "Next: splitbed report out"
    report = call(installed, tmp_path, "report", "out")
    assert (report.returncode, report.stderr) == (0, "")
    assert (tmp_path / "out" / "report.html").exists()


def test_it_speaks_of_itself_by_its_name(installed: Path, tmp_path: Path) -> None:
    help = call(installed, tmp_path, "--help").stdout
    assert help.startswith("usage: splitbed ") and "run.py" not in help
    refused = call(installed, tmp_path, "nothing")
    assert refused.returncode == 2
    assert refused.stderr.startswith("splitbed: nothing: there is no such command") and "run.py" not in refused.stderr
    assert "trace-driving" in call(installed, tmp_path, "profiles").stdout


def test_one_command_starts_another(installed: Path, tmp_path: Path) -> None:
    words = [
        "--profile",
        "lan",
        "--clients",
        "2",
        "--algorithm",
        "sl",
        "--rounds",
        "1",
        "--dry-run",
        "--seeds",
        "2",
        "--no-dashboard",
        "--out",
    ]
    done = call(installed, tmp_path, *words, "two")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert len(list((tmp_path / "two" / "runs").iterdir())) == 2
