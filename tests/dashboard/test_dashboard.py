"""The dashboard's process on a terminal of its own: keys, refreshes, what is left behind; and it holds nothing up."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from processes import BATCH, HANG_S, ROOT, ROUNDS, Board, Played, wait_for, write_scenario
from toy import make_manifest, make_nodes, write_run

from emulator.dashboard import app
from emulator.dashboard.app import Dashboard
from emulator.dashboard.follow import Follower
from emulator.dashboard.launch import PROGRAM
from emulator.dashboard.progress import Progress
from emulator.dashboard.terminal import ENTER, LEAVE, Terminal
from emulator.ledger.files import Ledger
from emulator.ledger.manifest import write_manifest

CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOURS = re.compile(r"\x1b\[(?:[0-9]*;)*(?:3[0-7]|9[0-7]|4[0-9])(?:;[0-9]*)*m")
WATCHED = """import sys, time
from pathlib import Path
from emulator.dashboard.launch import DashboardProcess
with DashboardProcess({}, Path(sys.argv[1])) as view:
    while not Path(sys.argv[2]).exists():
        view.tick()
        time.sleep(0.02)
print("ended")
"""

SHELL = "import subprocess, sys; subprocess.run(sys.argv[1:]); sys.stdin.read()"


class Session:
    """A command in a session and on a terminal of its own; use as a context, which ends what is left of it."""

    def __init__(self, *command: object, size: tuple[int, int] = (80, 24), **variables: str) -> None:
        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, size[::-1])
        self._ours, self._theirs = ours, theirs
        self.before = termios.tcgetattr(theirs)
        self._written: list[bytes] = []
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        environment |= {"TERM": "xterm", "PYTHONPATH": str(ROOT)} | variables
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=ROOT, env=environment, preexec_fn=lambda: os.login_tty(theirs)
        )
        threading.Thread(target=self._drain, daemon=True).start()
        self._seen = {self.process.pid: psutil.Process(self.process.pid)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drawing()
        for process in self._seen.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(HANG_S)
        os.close(self._theirs)

    def _drain(self) -> None:
        with contextlib.suppress(OSError):  # the terminal is closed
            while found := os.read(self._ours, 65536):
                self._written.append(found)
        os.close(self._ours)

    @property
    def written(self) -> str:
        return b"".join(self._written).decode(errors="replace")

    @property
    def text(self) -> str:
        return CODES.sub("", self.written)

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, text: str, times: int = 1) -> None:
        wait_for(lambda: self.text.count(text) >= times, f"{text} on the terminal")

    def drawing(self) -> psutil.Process | None:
        """The process that draws for a run, where there is one by now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if PROGRAM in process.cmdline():
                        self._seen[process.pid] = process
                        return process
        return None

    def is_left(self) -> bool:
        """Whether the terminal is as it was found."""
        return self.modes == self.before and self.written.count(ENTER) == self.written.count(LEAVE)


def record(folder: Path) -> Path:
    write_run(folder, "fedavg", make_nodes())
    write_manifest(folder, make_manifest())
    return folder


@pytest.fixture
def toy_run(tmp_path: Path) -> Path:
    return record(tmp_path / "toy")


@pytest.fixture
def replayed(toy_run: Path) -> Iterator[Session]:
    with Session("run.py", "replay", toy_run) as session:
        session.wait_for("client-1")
        assert session.modes != session.before
        yield session


def test_keys_choose_view_and_order_and_q_leaves_a_replay(replayed: Session) -> None:
    replayed.wait_for("replay x1, over")
    for key, answer in (("v", "accuracy"), ("s", "sorted by slowest"), ("3", "peak MiB"), ("\t", "round 3 of 3 ended")):
        replayed.press(key)
        replayed.wait_for(answer)
    replayed.press("\x1b[A\x1b[3~+")  # what other keys send is none of ours
    replayed.wait_for("replay x2")
    assert replayed.process.poll() is None
    replayed.press("q")
    assert replayed.process.wait(HANG_S) == 0
    wait_for(replayed.is_left, "the terminal is as it was")


def test_a_paused_replay_stands_still(toy_run: Path) -> None:
    with Session("run.py", "replay", toy_run, "--speed", "0.001") as session:
        session.wait_for("client-1")
        session.press(" ")
        session.wait_for(" paused ")
        assert ", over" not in session.text
        session.press("n ")  # to the end, once it goes on
        session.wait_for(", over")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_leaves_the_terminal_as_it_was(replayed: Session, number: signal.Signals, status: int) -> None:
    replayed.process.send_signal(number)
    assert replayed.process.wait(HANG_S) == status
    wait_for(replayed.is_left, "the terminal is as it was")


def test_a_stopped_dashboard_gives_the_terminal_back_until_it_goes_on(replayed: Session) -> None:
    replayed.press("\x1a")
    wait_for(lambda: psutil.Process(replayed.process.pid).status() == psutil.STATUS_STOPPED, "it has stopped")
    wait_for(replayed.is_left, "the terminal is as it was")
    replayed.process.send_signal(signal.SIGCONT)
    wait_for(lambda: replayed.written.count(ENTER) == 2, "it draws again")
    replayed.press("q")
    assert replayed.process.wait(HANG_S) == 0
    wait_for(replayed.is_left, "the terminal is as it was")


def test_without_colour_nothing_is_coloured_and_with_it_no_background_is(toy_run: Path) -> None:
    found = {}
    for variables in ({}, {"NO_COLOR": "1"}):
        with Session("run.py", "replay", toy_run, "--speed", "100", size=(160, 50), **variables) as session:
            session.wait_for(", over")
            session.press("q")
            session.process.wait(HANG_S)
            found[bool(variables)] = set(COLOURS.findall(session.written))
            assert "█" in session.text
    assert found[True] == set()
    assert found[False]
    assert all(re.fullmatch(r"\x1b\[(?:[0-9];)*(3[0-7]|39)m", code) for code in found[False]), found[False]


def test_a_dumb_terminal_and_a_pipe_get_plain_lines(toy_run: Path) -> None:
    command = [sys.executable, "run.py", "replay", str(toy_run), "--speed", "100"]
    piped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=True)
    assert "[1/1] fedavg: round 3 of 3 ended at 0.30 s" in piped.stdout
    with Session("run.py", "replay", toy_run, "--speed", "100", TERM="dumb") as session:
        assert session.process.wait(HANG_S) == 0
        wait_for(lambda: session.text.replace("\r", "") == piped.stdout, "the same lines")
        assert "\x1b" not in session.written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: it has no manifest.json"),
        (["nowhere", "--speed", "0"], "--speed 0: say a number above 0"),
        (["nowhere", "--speed", "nan"], "--speed nan: say a number above 0"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: str) -> None:
    command = [sys.executable, "run.py", "replay", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert words in ended.stderr


# --- a run's own dashboard ----------------------------------------------------------------------------------------


@pytest.fixture
def watched(toy_run: Path) -> Iterator[Session]:
    """A program that shows a run until the file ``end`` is there."""
    with Session("-c", WATCHED, toy_run, toy_run / "end") as session:
        session.wait_for("client-1")
        assert session.modes != session.before
        assert session.drawing() is not None
        yield session


def test_q_and_interrupts_do_not_end_a_runs_dashboard_but_the_runs_end_does(watched: Session, toy_run: Path) -> None:
    drawing = watched.drawing()
    watched.press("q")
    watched.wait_for("q does not end the run")
    drawing.send_signal(signal.SIGINT)
    watched.press("4")
    watched.wait_for("round 3 of 3 ended")
    assert drawing.nice() == 19
    (toy_run / "end").touch()
    assert watched.process.wait(HANG_S) == 0
    wait_for(watched.is_left, "the terminal is as it was")
    assert "ended" in watched.written[watched.written.rindex(LEAVE) :]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dashboard_that_is_ended_gives_the_terminal_back_and_the_run_goes_on(
    watched: Session, toy_run: Path, number: signal.Signals
) -> None:
    watched.drawing().send_signal(number)
    watched.wait_for("The dashboard was ended.")
    assert watched.modes == watched.before
    assert watched.process.poll() is None
    (toy_run / "end").touch()
    assert watched.process.wait(HANG_S) == 0


def test_a_run_that_is_killed_leaves_the_terminal_as_it_was(toy_run: Path) -> None:
    """As in a shell, which is there before and after; the end of a session's first process hangs the terminal up."""
    with Session("-c", SHELL, sys.executable, "-c", WATCHED, toy_run, toy_run / "end") as session:
        session.wait_for("client-1")
        drawing = session.drawing()
        psutil.Process(drawing.ppid()).kill()
        drawing.wait(HANG_S)
        wait_for(session.is_left, "the terminal is as it was")


def test_a_dashboard_that_is_stopped_does_not_hold_up_the_end(watched: Session, toy_run: Path) -> None:
    watched.drawing().suspend()
    (toy_run / "end").touch()
    assert watched.process.wait(HANG_S) == 0
    assert watched.modes == watched.before


@pytest.mark.processes
def test_a_stopped_dashboard_changes_no_figure_under_the_real_clock(three_clients_real: Played, tmp_path: Path) -> None:
    """FedAvg of that run again, with a dashboard that is stopped at its first picture, then a paused one."""
    scenario = write_scenario(tmp_path / "three", [(3, Board())])
    flags = "--profile", scenario, "--algorithm", "fedavg", "--rounds", ROUNDS, "--batch", BATCH
    expected = three_clients_real.summary["algorithms"]["fedavg"]
    for how in ("stopped", "paused"):
        folder = tmp_path / how
        with Session("run.py", *flags, "--out", folder) as session:
            session.wait_for("client-1")
            if how == "stopped":
                session.drawing().suspend()
            else:
                session.press("p")
            assert session.process.wait(HANG_S) == 0
            assert session.modes == session.before
        summary = json.loads((folder / "summary.json").read_text())
        found = summary["algorithms"]["fedavg"]
        for figure in ("outcome", "rounds", "bytes", "numerics_digest", "accuracy"):
            assert found[figure] == expected[figure]
        moved_s = sum(
            played["health"]["algorithms"]["fedavg"]["clamped_ms"] / 1e3
            for played in (summary, three_clients_real.summary)
        )
        for one, other in zip(found["history"], expected["history"], strict=True):
            assert abs(one["due_s"] - other["due_s"]) <= moved_s + 1e-9


# --- refreshes ----------------------------------------------------------------------------------------------------


class Paper(Terminal):
    """A terminal that remembers what was painted when; its keys pass the time."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._measures, self.now_s, self.painted = size, 0.0, []
        self.is_open, self.drawn_size = False, (0, 0)

    def open(self) -> bool:
        self.is_open = True
        return True

    def close(self) -> None:
        self.is_open = False

    def size(self) -> tuple[int, int]:
        return self._measures

    def paint(self, _lines: Any, size: tuple[int, int]) -> int:
        self.drawn_size = size
        self.painted.append(self.now_s)
        return 0

    def keys(self, within_s: float) -> str:
        assert within_s > 0
        self.now_s += within_s
        return ""


@pytest.mark.parametrize(("size", "most"), [((80, 24), 2), ((81, 24), 1), ((160, 50), 1)])
def test_it_draws_at_most_so_often_a_second_and_not_at_all_while_nothing_changes(
    size: tuple[int, int], most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    paper, manifest = Paper(size), make_manifest()
    (tmp_path / "ledger" / "fedavg").mkdir(parents=True)
    ledger = Ledger(tmp_path / "ledger" / "fedavg", "client-0")
    view = Dashboard(Progress(manifest), Follower(tmp_path, manifest), paper, owned=True)
    events = make_nodes()["client-0"]
    for _ in range(10):
        ledger.write(events[0])
        view.step(lambda: paper.now_s)
    busy = list(paper.painted)
    assert len(busy) == 10
    assert all(later - sooner >= 1 / most for sooner, later in itertools.pairwise(busy))
    for _ in range(10):
        view.step(lambda: paper.now_s)
    assert paper.painted == busy
    ledger.close()


def test_only_lines_that_have_changed_are_written(tmp_path: Path) -> None:
    from rich.text import Text

    with (tmp_path / "screen").open("wb") as screen:
        terminal = Terminal(keyboard=screen.fileno(), screen=screen.fileno())
        lines = [Text("one"), Text("two", style="red"), Text("three")]
        assert terminal.paint(lines, (80, 24)) == 3
        assert terminal.paint([line.copy() for line in lines], (80, 24)) == 0
        assert terminal.paint([*lines[:2], Text("four")], (80, 24)) == 1
        assert terminal.paint([lines[0], Text("two"), Text("four")], (80, 24)) == 1
        assert terminal.paint(lines, (81, 24)) == 3
