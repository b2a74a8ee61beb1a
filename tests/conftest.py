"""Settings of all tests: none may fail because the host is slow; one torch thread, as in a node. Sockets that must
not leak. Who plays the real clock says so. Commands whose records several tests read."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import real_clock
import torch
import zmq
import zmq.utils.garbage
from hypothesis import HealthCheck, settings
from processes import BATCH, NARROW_MIB, ROUNDS, Board, Played, Wire, options, play, write_scenario

for ignored in (signal.SIGHUP, signal.SIGINT):
    # Under nohup or in a script's background they are ignored, and commands would inherit that; a handler they do not.
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, lambda _number, _frame: None)
settings.register_profile("splitbed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("splitbed")
torch.set_num_threads(1)


# Where the long files are: they come first, so that no worker is left with one while the others have ended.
LONG = ("laws", "methods", "runtime", "commands", "preflight", "compute")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m processes`` the files without such a test, which would be loaded and rewritten for nothing."""
    if config.option.markexpr == "processes" and collection_path.suffix == ".py":
        return "mark.processes" not in collection_path.read_text() or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(name) if (name := item.path.parent.name) in LONG else len(LONG))
    for item in items:
        asked = real_clock.FIXTURES.intersection(getattr(item, "fixturenames", ()))
        if asked and not is_marked(item):
            raise pytest.UsageError(f"{item.nodeid}: plays the real clock by {asked.pop()}; {SAY}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    folders = real_clock.played()  # before they are removed
    yield
    if folders and not is_marked(item):
        pytest.fail(f"played the real clock ({folders[0]}); {SAY}", pytrace=False)


SAY = f"take the virtual one, or mark it with {' or '.join(real_clock.MARKS)}"


def is_marked(item: pytest.Item) -> bool:
    """Whether it says that it plays the real clock."""
    return any(item.get_closest_marker(mark) for mark in real_clock.MARKS)


@pytest.fixture
def no_leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails the test that leaves a ZeroMQ socket or context open."""
    opened: list[Any] = []

    def watch(kind: type) -> None:
        make = kind.__init__

        def init(self: Any, *args: Any, **options: Any) -> None:
            make(self, *args, **options)
            opened.append(self)

        monkeypatch.setattr(kind, "__init__", init)

    watch(zmq.Context)
    watch(zmq.Socket)
    yield
    own = zmq.utils.garbage.gc._context  # pyzmq's, for sending without a copy; lives as long as the process
    leaked = [thing for thing in opened if not thing.closed and own not in (thing, getattr(thing, "context", None))]
    assert not leaked, f"left open: {leaked}"


@pytest.fixture
def folder(no_leaks: None) -> Iterator[Path]:
    """A folder with a short path: that of a ZeroMQ socket has at most 107 bytes."""
    del no_leaks
    with tempfile.TemporaryDirectory(prefix="sb") as made:
        yield Path(made)


# --- commands whose records several tests read ------------------------------------------------------------------------

VIRTUAL = ("--clock", "virtual")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "all-workers"
    made.mkdir(exist_ok=True)
    return made


def finished(played: Played) -> Played:
    assert (played.status, played.err) == (0, ""), f"{played.out}\n{played.err}"
    return played


def play_three_clients(folder: Path, *flags: object) -> Played:
    scenario = write_scenario(folder / "three", [(3, Board())])
    names = "fedavg,splitfed-v1,cse-fsl,census,overwrite"
    arguments = "--profile", scenario, "--algorithm", names, "--rounds", ROUNDS, "--batch", BATCH, *flags
    return finished(play(folder / "three-run", *arguments))


@pytest.fixture(scope="session")
def three_clients(all_workers: Path) -> Played:
    """FedAvg, SplitFed V1 and CSE-FSL on three equal clients, without jitter; and nodes that list their modules.

    On the virtual clock, once for all workers: the first that asks plays, and the others wait for it.
    """
    with (all_workers / "three.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = all_workers / "three.json"
        if not said.exists():
            played = play_three_clients(all_workers, *VIRTUAL, "--force")
            said.write_text(json.dumps([played.out, str(played.folder)]))
        out, folder = json.loads(said.read_text())
    return Played(0, out, "", Path(folder))


@pytest.fixture(scope="session")
def three_clients_real(runs: Path) -> Played:
    """The same on the real clock."""
    return play_three_clients(runs)


@pytest.fixture(scope="session")
def unthrottled(runs: Path) -> Played:
    """FedAvg as in ``three_clients_real``, on links of a thousand times the rate."""
    wire, server = Wire(up_mbps=20_000, down_mbps=40_000), Wire(10**6, 10**6, 1, 1)
    scenario = write_scenario(runs / "unthrottled", [(3, Board())], wire, server)
    arguments = "--profile", scenario, "--algorithm", "fedavg", "--rounds", 1, "--batch", BATCH
    return finished(play(runs / "unthrottled-run", *arguments))


@pytest.fixture(scope="session")
def memory(runs: Path) -> Played:
    """A roomy client (client-0) and a narrow one (client-1), which hold what the settings say."""
    wire = Wire(up_mbps=10_000, down_mbps=10_000, up_one_way_ms=1, down_one_way_ms=1)
    scenario = write_scenario(runs / "memory", [(1, Board(1024)), (1, Board(NARROW_MIB))], wire, wire)
    fits: dict[str, object] = {"message_mib": 8, "step_mib": 6, "steps": 3}
    settings: dict[str, dict[str, object]] = {
        "over-model": {"model_mib": 60},
        "over-budget": {"step_mib": 60},
        "over-limit": {"step_mib": 200},
        "message": {"message_mib": 60},
        "large-message": {"message_mib": 90},
        "struck": {"model_mib": NARROW_MIB - 5, "whom": "client-1"},
        "aborted": {"model_mib": NARROW_MIB - 5, "whom": "client-1", "how": "SIGABRT"},
        "fits": fits,
        "fits-again": fits,
    }
    arguments = "--profile", scenario, "--algorithm", ",".join(settings)
    return finished(play(runs / "memory-run", *arguments, *VIRTUAL, *options(settings)))
