"""All that a module depends on is found without running it; a file's digest is of what it does, not of its words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import ROOT
from sweeps import forget

from algorithms import ALGORITHMS
from emulator import sources

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file of a user's, whose folder is where modules are looked for."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        forget()

    yield written
    forget()


METHOD = '''"""A method."""
from __future__ import annotations
from typing import TYPE_CHECKING
import mine.steps
import torch, json
from . import losses
from .deep import far
if TYPE_CHECKING:
    from mine.views import Figure

def client(node):
    """Learns."""
    from mine import late
    import importlib
    importlib.import_module("mine.by_name")
'''


def test_imports_are_followed_wherever_they_stand_and_not_into_what_is_installed(write: Write) -> None:
    write("mine/__init__.py", "import mine.begun")
    write("mine/method.py", METHOD)
    for name in ("steps", "losses", "begun", "late", "by_name", "views", "other"):
        write(f"mine/{name}.py", "x = 1")
    write("mine/deep/__init__.py", "")
    write("mine/deep/far.py", "from ..further import y")
    write("mine/further.py", "from mine import method  # in a circle")
    names = (
        "__init__",
        "begun",
        "by_name",
        "deep/__init__",
        "deep/far",
        "further",
        "late",
        "losses",
        "method",
        "steps",
    )
    assert list(sources.digests("mine.method")) == [f"mine/{name}.py" for name in names]
    assert sources.digests("mine.nowhere", "torch", "json") == {"mine/__init__.py": _digest("mine/__init__.py")} | {
        "mine/begun.py": _digest("mine/begun.py")
    }


def _digest(file: str) -> str:
    return sources.digests(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))[file]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("# Said.\ndef f(x):\n\n    return x + 1  # more\n", True),
        ('"""What it is."""\ndef f(x):\n    """One more."""\n    return (x+1)\n', True),
        ("def f(x):\n    return x + 2\n", False),
        ("def f(x):\n    assert x\n    return x + 1\n", False),
        ("def f(x: int):\n    return x + 1\n", False),
        ("def f(x):\n    return x +\n", False),
    ],
)
def test_comments_docstrings_and_layout_are_no_part_of_what_a_file_does(text: str, same: bool, write: Write) -> None:
    write("mine.py", "def f(x):\n    return x + 1\n")
    before = sources.digests("mine")
    write("mine.py", text)
    assert (sources.digests("mine") == before) == same


def test_the_project_is_all_of_its_files_in_packages_within_packages_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    for file in ("emulator/network/fabric.py", "algorithms/sub/deep/x.py", "tests/test_x.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("x = 1")
    found = []
    for file in (None, "algorithms/sub/deep/x.py", "emulator/network/fabric.py", "tests/test_x.py"):
        if file:
            (tmp_path / file).write_text("x = 2")
        forget()
        found.append(sources.project_digest())
    assert len(set(found)) == 3
    assert found[2] == found[3]
    forget()


VIEWS = tuple(f"emulator/{package}/" for package in ("checks", "analysis", "tables", "plots", "report", "dashboard"))


def test_what_takes_part_is_counted_and_no_view() -> None:
    counted = sources.digests(*sources.PLAYING, *ALGORITHMS.values())
    playing = ("runtime/worker", "runtime/evaluator", "runtime/targets", "runtime/launcher", "transport/router")
    playing += ("network/fabric", "node/node", "preflight/profiling", "preflight/dry_run")
    assert {f"emulator/{name}.py" for name in playing} <= counted.keys()
    assert not [file for file in counted if file.startswith((*VIEWS, "algorithms/commands/"))]
    assert "algorithms/__init__.py" not in counted


# Each method in a process of its own, forked from one that has loaded torch and nothing of ours.
PLAYED = """
import json, os, sys, tempfile
from pathlib import Path
import torch, numpy, msgspec, torchvision, torch._dynamo

def play(name, module_name):
    import importlib
    import msgspec
    from algorithms.data import identity
    from algorithms.workload import judging, task
    from emulator.runtime import targets, evaluator, launcher, worker
    from emulator.preflight import estimate
    from emulator.transport import router
    from emulator.preflight.dry_run import dry_run
    from emulator.profiles.reading import load_scenario
    from emulator.preflight.profiling import profile_costs
    module = importlib.import_module(module_name)
    with tempfile.TemporaryDirectory() as folder:
        made = task.prepare(task.Task(clients=2, samples_per_client=16), Path(folder))
        settings = {"task": msgspec.to_builtins(made), "rounds": 1, "stop_after_s": None}
        getattr(module, "try_out", lambda _config: None)(msgspec.convert(settings, module.Config))
        scenario = load_scenario("iot-4g", 2)
        profiled = profile_costs(module_name, settings, scenario, 1, budget_ns=10**6)
        dry_run(module_name, settings, scenario, 1, profiled, lambda _node: lambda _event: None)
        parts = {"client": made.client_half().state_dict(), "server": made.server_half().state_dict()}
        judging.judge(made, parts)

torch.set_num_threads(1)
found = {}
for name, module in json.loads(sys.argv[1]).items():
    reader, writer = os.pipe()
    if not os.fork():
        status = 1
        try:
            play(name, module)
            own = [name for name in sys.modules if name.partition(".")[0] in ("emulator", "algorithms")]
            os.write(writer, json.dumps(own).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader) as said:
        found[name] = json.load(said)
    assert os.wait()[1] == 0
print(json.dumps(found))
"""
# Loaded by what a test asks for, or described above: no part of playing.
BESIDE = {"emulator", "algorithms", "algorithms.data.identity", "emulator.inputs", "emulator.traces"}
BESIDE |= {f"emulator.profiles.{name}" for name in ("reading", "schema", "networks", "client_tables", "absence_files")}
BESIDE |= {"emulator.profiles.power_reading"}
BESIDE |= {f"emulator.inputs.{name}" for name in ("shipped", "text_files", "text_tables", "toml_files")}
BESIDE |= {f"emulator.traces.{name}" for name in ("format", "reading", "rows", "mahimahi", "periods")}


def test_everything_that_a_method_loads_as_it_is_played_was_found() -> None:
    command = [sys.executable, "-c", PLAYED, json.dumps(ALGORITHMS)]
    played = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert played.returncode == 0, played.stderr
    loaded = json.loads(played.stdout)
    for name, module in ALGORITHMS.items():
        files = sources.digests(*sources.PLAYING, "algorithms.workload.judging", module)
        counted = {file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in files}
        assert {
            module,
            "algorithms.training.steps",
            "algorithms.workload.loader",
            "emulator.preflight.in_process",
        } <= set(loaded[name])
        missed = set(loaded[name]) - counted - BESIDE
        assert sorted(missed) == [], name
