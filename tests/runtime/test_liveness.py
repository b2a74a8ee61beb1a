"""Signs of life: slow is not stuck, silence is, and what lasts long is named with its line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from processes import Board, play, wait_for, write_scenario
from toy import make_manifest

from algorithms.experiments.run_config import step_limit_s as asked_limit_s
from emulator.dashboard.progress import Progress
from emulator.errors import SplitbedError, UserError
from emulator.host import liveness
from emulator.host.liveness import (
    QUIET_S,
    SLOT_BYTES,
    STOPPED_S,
    Activity,
    DurationReporter,
    LivenessMonitor,
    LivenessReading,
    _state,
    lasting,
    slot,
    step_limit_s,
)
from emulator.ledger.events import Lasting, Lifecycle
from emulator.runtime.supervision import ChildTask, liveness_problem

SECOND = 10**9


class Clock:
    """CLOCK_MONOTONIC as the test sets it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def monotonic_ns(self) -> int:
        return int(self.now_s * SECOND)

    def sleep(self, _seconds: float) -> None:
        """Takes no time."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(liveness, "time", made)
    return made


class Watched(NamedTuple):
    """A process that has not ended."""

    pid: int = 1
    exitcode: int | None = None


class Ward:
    """Two processes and what is seen of them: CPU seconds, whether they are stopped, whether they want a core."""

    def __init__(self, clock: Clock, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.path = clock, path
        self.state = {1: (0.0, False, False), 2: (0.0, False, False)}
        self.doing: Activity | None = None
        path.write_bytes(bytes(2 * SLOT_BYTES))
        monkeypatch.setattr(liveness, "_state", self.state.__getitem__)
        self.watch = LivenessMonitor(path)

    def beat(self) -> None:
        """Both write their slots."""
        self.path.write_bytes(slot(None) + slot(self.doing))

    def silent(self, seconds: float = 0.0, every_s: float = 0.25, beats: bool = False) -> list[str]:
        """Who is silent at some time within the next seconds, looked at often."""
        found: list[str] = []
        for _ in range(max(int(seconds / every_s), 1)):
            self.clock.now_s += every_s
            if beats:
                self.beat()
            signs = self.watch.look({"first": Watched(1), "second": Watched(2)})
            found += [sign.name for sign in signs if sign.silent_s]
        return sorted(set(found))


@pytest.fixture
def ward(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ward:
    return Ward(clock, tmp_path / "slots", monkeypatch)


def test_a_stopped_process_is_silent_some_seconds_after_its_last_beat(ward: Ward) -> None:
    ward.beat()
    assert ward.silent(60, beats=True) == []
    ward.state[2] = (3.0, True, False)
    assert ward.silent(STOPPED_S) == []
    assert ward.silent(2) == ["second"]


def test_one_that_waits_for_a_disk_is_given_longer(ward: Ward) -> None:
    ward.beat()
    assert ward.silent(QUIET_S) == []
    assert ward.silent(2) == ["first", "second"]


def test_one_that_uses_a_core_or_wants_one_is_never_silent_whether_it_beats_or_not(ward: Ward) -> None:
    """Hundreds of processes that start, and one that keeps Python's lock for minutes."""
    ward.state[2] = (0.0, False, True)
    for second in range(600):
        ward.state[1] = (0.01 * second, False, False)
        assert ward.silent(1) == []


def test_a_late_first_beat_is_counted_from_when_its_own_process_is_there(ward: Ward) -> None:
    """Not from the first of all: the second begins an hour later, and is looked at for the first time then."""
    for _ in range(3600):
        ward.clock.now_s += 1
        ward.state[1] = (ward.clock.now_s, False, False)
        assert not any(sign.silent_s for sign in ward.watch.look({"first": Watched(1)}))
    ward.state[2] = (0.0, True, False)
    assert ward.silent(STOPPED_S - 0.5) == []


def test_time_in_which_the_supervisor_itself_stood_still_does_not_count(ward: Ward) -> None:
    """Ctrl-Z and back an hour later."""
    ward.beat()
    ward.state[1] = ward.state[2] = (1.0, True, False)
    assert ward.silent(every_s=3600) == []
    ward.state[1] = ward.state[2] = (1.0, False, False)
    assert ward.silent(60, beats=True) == []


def test_what_it_does_is_read_as_it_was_written_and_of_a_long_path_the_end(ward: Ward) -> None:
    ward.doing = Activity("computation", 77, "steps.py:88 train_step")
    ward.beat()
    first, second = ward.watch.look({"first": Watched(1), "second": Watched(2)})
    assert (first.doing, second.doing) == (None, ward.doing)
    ward.doing = Activity("coroutine", 5, f"/{'ö' * 300}/mine.py:3 client")
    ward.beat()
    _, second = ward.watch.look({"first": Watched(1), "second": Watched(2)})
    assert second.doing is not None
    assert second.doing.what == "coroutine"
    assert second.doing.where.startswith("..")
    assert second.doing.where.endswith("ö/mine.py:3 client")


def test_a_slow_step_is_told_and_ends_no_run_until_its_limit(clock: Clock) -> None:
    slow = Activity("computation", clock.monotonic_ns(), "steps.py:88 train_step")
    clock.now_s += 600
    assert liveness_problem([LivenessReading("client-0", 0.0, slow)], step_limit_s(None)) == ""
    said = liveness_problem([LivenessReading("client-0", 0.0, slow)], 599)
    assert said.startswith("client-0: a computation has been going on for 600 s, now in steps.py:88 train_step; ")
    assert "a step may take 599 s of this host" in said
    assert "--step-limit" in said
    assert liveness_problem([LivenessReading("client-1", 4.2, None)], 599) == (
        "client-1 shows no sign of life for 4 s (stopped, or frozen)"
    )


def test_the_limit_is_the_users_or_far_above_what_was_profiled() -> None:
    assert [step_limit_s(None), step_limit_s(None, 100.0), step_limit_s(60.0, 100.0)] == [3600.0, 5000.0, 60.0]
    assert [asked_limit_s("90"), asked_limit_s("none")] == [90.0, float("inf")]
    for text in ("0", "-1", "nan", "inf", "1e400", "soon", ""):
        with pytest.raises(UserError, match="--step-limit"):
            asked_limit_s(text)


def test_what_lasts_is_told_as_it_doubles_each_place_by_itself() -> None:
    teller = DurationReporter(30)
    told = [seconds for seconds in range(1, 1000) if teller.is_news("a.py:1", seconds)]
    assert told == [30, 60, 120, 240, 480, 960]
    assert not teller.is_news("a.py:1", 100)  # as slow as before
    assert teller.is_news("b.py:1", 100)


def test_the_log_of_a_run_tells_it() -> None:
    progress = Progress(make_manifest(0))
    progress.begin("fedavg")
    progress.take([Lifecycle(due_ns=0, actual_ns=0, outcome=""), Lasting(due_ns=0, actual_ns=0, what="client-0: slow")])
    assert progress.log[-1] == "[1/1] fedavg: client-0: slow"


def endless(begun: threading.Event, enough: threading.Event) -> None:
    begun.set()
    while not enough.is_set():
        sorted(range(3))


@pytest.fixture
def looping() -> Iterator[int]:
    begun, enough = threading.Event(), threading.Event()
    thread = threading.Thread(target=endless, args=(begun, enough))
    thread.start()
    begun.wait()
    assert thread.ident is not None
    yield thread.ident
    enough.set()
    thread.join()


def test_a_loop_is_named_with_its_file_line_and_function(looping: int) -> None:
    first = endless.__code__.co_firstlineno
    found = lasting("computation", 1, looping)
    assert found is not None
    path, _, line = found.where.removesuffix(" endless").rpartition(":")
    assert Path(path).name == Path(__file__).name
    assert int(line) in (first + 2, first + 3)
    assert lasting("computation", 0, looping) is None


def test_the_kernel_tells_of_a_process_what_it_used_and_whether_it_is_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: (_state(process.pid) or (0, False))[1], "it is stopped")
        process.kill()
    assert _state(process.pid) is None
    mine = _state(os.getpid())
    assert mine is not None
    assert mine[0] == pytest.approx(time.process_time(), abs=5)
    assert mine[1:] == (False, True)


# --- errands ----------------------------------------------------------------------------------------------------------


class Errandboy:
    """The child of an errand."""

    pid, exitcode = 1, -7

    def __init__(self) -> None:
        self.ended = False

    def join(self, _seconds: float) -> None:
        """It has ended."""

    def kill(self) -> None:
        self.ended = True


def errand(tmp_path: Path, child: Any, limit_s: float = 60.0) -> tuple[ChildTask, Any]:
    (tmp_path / "slots").write_bytes(bytes(SLOT_BYTES))
    answer, theirs = multiprocessing.Pipe(duplex=False)
    return ChildTask("profiling of fedavg", child, answer, tmp_path / "slots", limit_s), theirs


def never(_text: str) -> None:
    raise AssertionError("there is nothing to report")


def test_an_errand_that_dies_is_called_by_its_name(tmp_path: Path) -> None:
    waiting, theirs = errand(tmp_path, Errandboy())
    theirs.close()
    with pytest.raises(SplitbedError, match=r"^profiling of fedavg was ended by SIGBUS$"):
        waiting.wait(lambda: None, never)


def test_an_errand_may_take_for_ever_and_says_so_as_it_doubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours pass, a quarter of one at each look; it is done after ten of them."""
    from emulator.runtime import supervision

    now = Clock()
    monkeypatch.setattr(supervision, "time", now)
    monkeypatch.setattr(supervision, "TICK_S", 0.0)
    monkeypatch.setattr(
        LivenessMonitor, "look", lambda _watch, processes: (LivenessReading(name, 0.0, None) for name in processes)
    )
    waiting, theirs = errand(tmp_path, Errandboy())
    said: list[str] = []

    def each() -> None:
        now.now_s += 900
        if now.now_s >= 1000 + 36_000:
            theirs.send("an outlook")

    assert waiting.wait(each, said.append) == "an outlook"
    assert said == [f"profiling of fedavg: {s} s so far" for s in (900, 1800, 3600, 7200, 14400, 28800)]


def test_an_errand_is_broken_off_by_ctrl_c_at_once(tmp_path: Path) -> None:
    boy = Errandboy()
    waiting, _theirs = errand(tmp_path, boy)

    def each() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        waiting.wait(each, never)
    assert boy.ended


# --- whole commands ---------------------------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.parametrize(
    ("where", "profiling", "clock", "said"),
    [
        ("coroutine", False, "virtual", "client-1: a coroutine has been going on for "),
        ("computation", False, "real", "client-1: a computation has been going on for "),
        ("yielding", True, "virtual", "profiling of endless: a coroutine has been going on for "),
    ],
)
def test_an_endless_loop_ends_at_the_limit_and_is_named_with_its_line(
    where: str, profiling: bool, clock: str, said: str, tmp_path: Path, line_of: Callable[[str], range]
) -> None:
    scenario = write_scenario(tmp_path / "scenario", [(2, Board())])
    flags = "--algorithm", "endless", "--clock", clock, "--step-limit", 1, "--set", f"where={where}"
    played = play(tmp_path / "run", "--profile", scenario, *flags, "--set", f"profiling={str(profiling).lower()}")
    assert played.status == 1
    words = played.err if profiling else played.out.splitlines()[-1]
    assert said in words
    assert "players/endless.py:" in words
    assert int(words.partition("endless.py:")[2].split()[0]) in line_of(where)
    assert "--step-limit" in words
    assert "Traceback" not in played.err


@pytest.fixture
def line_of() -> Callable[[str], range]:
    lines = (Path(__file__).parents[1] / "support" / "players" / "endless.py").read_text().splitlines()

    def find(word: str) -> range:
        last = next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {word}"))
        return range(last - 1, last + 1)

    return find
