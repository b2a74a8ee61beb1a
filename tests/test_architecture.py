"""The layers: a module imports only from those above it in the map of its package."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from algorithms import ALGORITHMS

ROOT = Path(__file__).parent.parent
LONGEST = 400
TARGETS = {"child": {"worker", "evaluator"}}  # what a child process runs is loaded in it alone
VIEWS = {
    *(
        "tables",
        "memory_sheets",
        "communication_sheets",
        "clients_data",
        "computations",
        "profile_views",
        "trace_views",
        "summary",
        "sheets",
        "verify",
        "digest",
    ),
    *(
        "plot_data",
        "plot_style",
        "charts",
        "gantt",
        "plots",
        "report",
        "compare",
        "perfetto_trace",
        "figures",
        "bench_tables",
    ),
    *("activity", "seen", "progress", "following", "glyphs", "client_view", "screen"),
    *("plain_lines", "terminal", "dashboard", "display"),
}
EMULATOR = {path.stem: path for path in sorted((ROOT / "emulator").glob("*.py")) if path.stem != "__init__"}
SOURCES = [ROOT / "run.py", *EMULATOR.values(), *sorted((ROOT / "algorithms").glob("*.py"))]
TESTS = sorted((ROOT / "tests").glob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, wherever in it; ``from a import b`` gives a and a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path.name}: a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def layers(path: Path) -> list[str]:
    """The modules of a package's map, from the ground up."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    block = next(part for part in docstring.split("\n\n") if part.startswith("errors "))
    return [name for line in block.splitlines() for name in re.match(r"\w+(, \w+)*", line)[0].split(", ")]


MAP = layers(ROOT / "emulator" / "__init__.py")


def test_the_map_lists_every_module_once() -> None:
    assert sorted(MAP) == sorted(EMULATOR)


@pytest.mark.parametrize("name", EMULATOR)
def test_a_module_of_the_emulator_imports_only_from_those_above_it_and_never_an_algorithm(name: str) -> None:
    used = {module.split(".")[1] for module in imports(EMULATOR[name]) if module.startswith("emulator.")}
    below = (used & set(EMULATOR)) - set(MAP[: MAP.index(name)]) - TARGETS.get(name, set())
    assert not below, f"{name} imports {below}, which the map lists after it"
    assert not packages(EMULATOR[name]) & {"algorithms", "run", "tests", "benchmarks"}


ARITHMETIC = ["errors", "steps", "profile_files", "traces", "trace_maker", "profiles", "link", "fabric", "device"]


@pytest.mark.parametrize("name", [*ARITHMETIC, "dilation"])
def test_arithmetic_knows_no_clock_no_socket_and_no_tensor(name: str) -> None:
    assert not packages(EMULATOR[name]) & {"asyncio", "time", "datetime", "threading", "socket", "zmq", "torch", "os"}


def test_the_ledger_knows_no_clock_no_socket_and_no_tensor() -> None:
    assert not packages(EMULATOR["ledger"]) & {"asyncio", "time", "datetime", "zmq", "torch"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_only_views_and_the_command_line_draw(path: Path) -> None:
    assert "rich" not in packages(path) or path.stem in VIEWS | {"run"}


@pytest.mark.parametrize("name", ["conservation", "health", "latency", *sorted(VIEWS)])
def test_views_load_no_tensors_and_no_sockets(name: str) -> None:
    assert not packages(EMULATOR[name]) & {"torch", "zmq"}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_knows_the_node_and_no_clock_no_socket_and_no_other_algorithm(name: str) -> None:
    path = ROOT / (ALGORITHMS[name].replace(".", "/") + ".py")
    assert not packages(path) & {"time", "zmq", "random", "os", "threading", "socket"}
    emulator = {module for module in imports(path) if module.count(".") == 1 and module.startswith("emulator.")}
    assert emulator - {"emulator.errors"} == {"emulator.node.node", "emulator.transport.messages"}
    assert not (set(imports(path)) & set(ALGORITHMS.values()))


@pytest.mark.parametrize(
    "name",
    [
        *("data", "vision", "partition", "shard", "models", "split", "cuts", "auxiliaries", "parts", "task"),
        *("settings", "experiment_files", "steps", "zeroth_order"),
    ],
)
def test_what_algorithms_share_knows_no_node(name: str) -> None:
    used = set(imports(ROOT / "algorithms" / f"{name}.py"))
    assert not used & {"emulator.node.node", "emulator.clock.loop", "asyncio", "time", "random", *ALGORITHMS.values()}


@pytest.mark.parametrize("name", ["rounds", "warm_start"])
def test_what_algorithms_share_of_a_round_knows_the_node_and_no_algorithm(name: str) -> None:
    used = set(imports(ROOT / "algorithms" / f"{name}.py"))
    assert "emulator.node.node" in used
    assert not used & {
        "emulator.clock.loop",
        "emulator.transport.endpoint",
        "time",
        "random",
        "zmq",
        *ALGORITHMS.values(),
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_is_unpickled(path: Path) -> None:
    assert not packages(path) & {"pickle", "cPickle", "dill", "marshal", "shelve"}


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=lambda path: path.stem)
def test_a_file_has_one_subject(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("run", {"torch", "torchvision", "numpy", "rich", "zmq", "psutil", "asyncio", "msgspec"}),
        ("algorithms", {"torch", "numpy", "msgspec"}),
        (
            "emulator.runtime.child",
            {"torch", "torchvision", "rich", "zmq", "emulator.dashboard.app", "emulator.tables.run"},
        ),
        (
            "emulator.runtime.worker",
            {"rich", "emulator.dashboard.app", "emulator.tables.run", "emulator.checks.health"},
        ),
        (
            "emulator.transport.router",
            {"rich", "emulator.dashboard.app", "emulator.tables.run", "emulator.checks.health"},
        ),
    ],
)
def test_a_child_process_loads_nothing_that_it_does_not_need(module: str, heavy: set[str]) -> None:
    """Children of the fork server import ``run`` again, too."""
    program = f"import {module}, json, sys; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(answer.stdout))
    assert module in loaded
    assert not loaded & heavy


CLOCKS = {"coordinator": "the clocks", "health": "limits by clock", "verify": "which clocks", "run_flags": "the flag"}
CLOCKS |= {"fit": "which clock", "bench": "which clock", "report": "what can be repeated"}


def branches(tree: ast.AST) -> Iterator[ast.AST]:
    """Whatever a program branches on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
            yield node.test
        elif isinstance(node, ast.Compare):
            yield node
        elif isinstance(node, ast.Match):
            yield node.subject
            yield from (case.pattern for case in node.cases)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_branches_on_the_clock_and_only_few_know_their_names(path: Path) -> None:
    """Both clocks use the same link, device, wire and ledger code: no ``if virtual`` outside clock and coordinator."""
    tree = ast.parse(path.read_text())
    names = {"real", "virtual"}
    for test in branches(tree):
        words = {part.value for part in ast.walk(test) if isinstance(part, ast.Constant)}
        assert not words & names, ast.unparse(test)
    if path.stem not in CLOCKS:
        assert not {part.value for part in ast.walk(tree) if isinstance(part, ast.Constant)} & names
