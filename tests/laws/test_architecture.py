"""What no contract of imports says: sizes, private names, what a process loads, who knows the clocks by name."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from imported import MODULES, PACKAGES, ROOT, SOURCES, imported_packages, imports

LONGEST = 400  # lines of a file
MOST_MODULES, MOST_LINES = 14, 2500  # of a package
LONGEST_CHAIN = 9
TESTS = sorted((ROOT / "tests").rglob("*.py"))


@functools.cache
def chain(name: str) -> tuple[str, ...]:
    """The longest chain of imports, lazy ones too, from a module of the emulator down."""
    below = {module for module in imports(MODULES[name]) if module in MODULES and module not in PACKAGES}
    return (name, *max((chain(module) for module in below - {name}), key=len, default=()))


def test_the_longest_chain_of_imports_in_the_emulator_is_short() -> None:
    longest = max((chain(name) for name in MODULES if name.startswith("emulator.") and name not in PACKAGES), key=len)
    print("\n".join(longest))
    assert len(longest) <= LONGEST_CHAIN, longest


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_has_one_subject_and_says_which(name: str) -> None:
    files = sorted(PACKAGES[name].glob("*.py"))
    assert len(files) - 1 <= MOST_MODULES
    assert sum(len(path.read_text().splitlines()) for path in files) <= MOST_LINES
    docstring = ast.get_docstring(ast.parse(MODULES[name].read_text())) or ""
    assert docstring
    if name not in ("emulator", "algorithms"):  # whose modules are described by their packages
        listed = re.findall(r"^(\w+)  ", docstring, re.MULTILINE)
        assert listed == [path.stem for path in files if path.stem != "__init__"], "a line for each module"


def test_nobody_imports_another_packages_private_names() -> None:
    for path in SOURCES:
        own = ".".join(path.relative_to(ROOT).parent.parts)
        ours = [name for name in imports(path) if name.partition(".")[0] in ("emulator", "algorithms")]
        assert [name for name in ours if "._" in name and not name.startswith(f"{own}.")] == [], path


FACES = """
import importlib, os, sys
import torch  # once for all; each face is asked in a process that has loaded nothing else of ours
for name in sys.argv[1:]:
    if not os.fork():
        face = importlib.import_module(name)
        missing = [one for one in face.__all__ if not hasattr(face, one)]
        os.write(1, f"{name} {missing}\\n".encode())
        os._exit(0)
    os.wait()
"""


def test_every_name_of_a_packages_face_is_there() -> None:
    faces = [name for name in PACKAGES if "__all__" in MODULES[name].read_text()]
    command = [sys.executable, "-c", FACES, *faces]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == [f"{name} []" for name in faces] != []


def test_nothing_is_unpickled() -> None:
    for path in SOURCES:
        assert not imported_packages(path) & {"pickle", "cPickle", "dill", "marshal", "shelve"}, path


def test_a_file_has_one_subject() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in (*SOURCES, *TESTS)}
    assert {path: count for path, count in lines.items() if count > LONGEST} == {}


VIEWS = {"emulator.dashboard", "emulator.tables", "emulator.checks", "emulator.analysis", "emulator.report"}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("run", {"torch", "torchvision", "numpy", "rich", "zmq", "psutil", "asyncio", "msgspec", "argparse"}),
        ("algorithms", {"torch", "numpy", "msgspec"}),
        ("algorithms.commands.run", {"torch", "torchvision", "zmq"}),
        ("emulator.runtime.targets", {"torch", "torchvision", "rich", "zmq", *VIEWS}),
        ("emulator.runtime.worker", {"rich", *VIEWS}),
        ("emulator.transport.router", {"rich", *VIEWS}),
    ],
)
def test_a_process_loads_nothing_that_it_does_not_need(module: str, heavy: set[str]) -> None:
    """Children of the fork server import ``run`` again, too."""
    program = f"import {module}, json, sys; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(answer.stdout))
    assert module in loaded
    assert not loaded & heavy


CLOCKS = {
    "emulator.clock.conductors": "the clocks",
    "emulator.checks.clock_limits": "limits by clock",
    "emulator.ledger.manifest": "which clocks",
    "emulator.analysis.clock_agreement": "both clocks",
    "emulator.report.html": "what can be repeated",
    "algorithms.experiments.run_config": "the flag",
    "algorithms.commands.fit": "which clock",
    "algorithms.commands.sweep.bench": "which clock",
}


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


def test_nothing_branches_on_the_clock_and_only_few_know_their_names() -> None:
    """Both clocks use the same link, device, message and ledger code: no ``if virtual`` outside the clocks."""
    names = {"real", "virtual"}
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text())
        for test in branches(tree):
            words = {part.value for part in ast.walk(test) if isinstance(part, ast.Constant)}
            assert not words & names, f"{name}: {ast.unparse(test)}"
        if name not in CLOCKS:
            assert not {part.value for part in ast.walk(tree) if isinstance(part, ast.Constant)} & names, name
