"""However a run ends, it ends soon, leaves no process behind, and keeps what was recorded until then."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import Board, Command, Played, play, wait_for, write_scenario

from emulator.ledger.events import Computed, Ended, Started
from emulator.ledger.files import Tail
from emulator.report import record

pytestmark = pytest.mark.any_load  # kills on either clock

ENDS_WITHIN_S = 20.0  # a stopped process is seen 5 s after its last sign of life
CLIENTS = ("client-0", "client-1")
NODES = ("network", "evaluator", "server", *CLIENTS)


class Blow(NamedTuple):
    """A signal to a part of a run, and how the run is to end."""

    part: str
    signal: signal.Signals
    status: int
    outcome: str
    says: str


BLOWS = {
    "Ctrl-C": Blow("group", signal.SIGINT, 130, "interrupted", "by Ctrl-C"),
    "SIGTERM to the supervisor": Blow("supervisor", signal.SIGTERM, 130, "interrupted", "by SIGTERM"),
    "SIGHUP to the supervisor": Blow("supervisor", signal.SIGHUP, 130, "interrupted", "by SIGHUP"),
    "a killed client": Blow("client-1", signal.SIGKILL, 1, "failed", "client-1 was ended by SIGKILL"),
    "a killed server": Blow("server", signal.SIGKILL, 1, "failed", "server was ended by SIGKILL"),
    "a killed network": Blow("network", signal.SIGKILL, 1, "failed", "network process was ended by SIGKILL"),
    "a killed evaluator": Blow("evaluator", signal.SIGKILL, 1, "failed", "evaluator process was ended by SIGKILL"),
    "a killed fork server": Blow("fork server", signal.SIGKILL, 1, "failed", "the fork server was ended"),
    "a stopped client": Blow("client-0", signal.SIGSTOP, 1, "stuck", "client-0 shows no sign of life"),
}


def start(
    folder: Path, rounds: int = 10**6, clock: tuple[object, ...] = ("--dilation", 1), warm: bool = True
) -> Command:
    """A run that would go on for very long."""
    scenario = write_scenario(folder / "scenario", [(len(CLIENTS), Board())])
    arguments = "--profile", scenario, "--algorithm", "fedavg,sl", "--rounds", rounds, "--force", *clock
    return Command(folder / "run", *arguments, program="run.py", warm=warm)


@pytest.fixture
def playing(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Command]:
    """A run whose nodes have all started and whose clients compute; ``request.param``: flags of its clock."""
    with start(tmp_path, clock=getattr(request, "param", ("--dilation", 1))) as command:

        def computing() -> bool:
            assert command.process.poll() is None, command.err
            command.look()
            return all(command.events("fedavg", name, Computed) for name in CLIENTS)

        wait_for(computing, "every client has computed")
        wait_for(lambda: all(command.events("fedavg", node, Started) for node in NODES), "every node has started")
        seen = {process.pid for process in command.look()}
        assert seen.issuperset(command.process_of("fedavg", node).pid for node in NODES)
        yield command


def strike(command: Command, blow: Blow) -> None:
    if blow.part == "group":
        os.killpg(command.process.pid, blow.signal)  # what a terminal does
    elif blow.part == "supervisor":
        command.process.send_signal(blow.signal)
    elif blow.part == "fork server":
        command.fork_server("fedavg", "server").send_signal(blow.signal)
    else:
        command.process_of("fedavg", blow.part).send_signal(blow.signal)


def nothing_is_left(command: Command) -> Callable[[], bool]:
    return lambda: not command.left()


def assert_recorded(command: Command) -> Played:
    """What the nodes wrote before the end can be read."""
    played = Played(command.process.returncode, command.out, command.err, command.folder)
    for name in CLIENTS:
        assert played.events("fedavg", Computed, name)
    return played


@pytest.mark.parametrize("case", BLOWS)
def test_a_broken_run_ends_soon_says_why_leaves_nothing_running_and_keeps_its_record(
    case: str, playing: Command, record_property: Callable[[str, object], None]
) -> None:
    struck(BLOWS[case], playing, record_property)


@pytest.mark.parametrize("playing", [("--clock", "virtual")], indirect=True, ids=["virtual"])
@pytest.mark.parametrize("case", ["Ctrl-C", "a killed client", "a killed server", "a killed network"])
def test_so_does_one_on_the_virtual_clock(
    case: str, playing: Command, record_property: Callable[[str, object], None]
) -> None:
    struck(BLOWS[case], playing, record_property)
    assert playing.err == ""
    if BLOWS[case].part != "network":
        assert playing.events("fedavg", "network", Ended), "the network process had no last words"


def struck(blow: Blow, playing: Command, record_property: Callable[[str, object], None]) -> None:
    """Strike, and look at what is left."""
    begin_s = time.monotonic()
    strike(playing, blow)
    status = playing.finish(ENDS_WITHIN_S)
    record_property("seconds", round(time.monotonic() - begin_s, 2))
    wait_for(nothing_is_left(playing), "no process of the run is left", within_s=2.0)

    assert status == blow.status
    assert not list(playing.scratch.glob("splitbed-*")), "the scratch folder is still there"
    played = assert_recorded(playing)
    result = played.summary["algorithms"]["fedavg"]
    assert (result["outcome"], blow.says in result["detail"]) == (blow.outcome, True), result["detail"]
    assert list(played.summary["algorithms"]) == ["fedavg"], "no further algorithm is played"
    assert {"tables.md", "tables.csv", "ledger.jsonl"} <= {path.name for path in played.folder.iterdir()}
    assert blow.says in played.out.replace("\n", " ")
    assert "Traceback" not in played.out + played.err


def test_a_killed_supervisor_takes_every_process_with_it_and_the_ledger_is_readable(playing: Command) -> None:
    playing.process.kill()
    assert playing.finish(ENDS_WITHIN_S) == -signal.SIGKILL
    wait_for(nothing_is_left(playing), "no process of the run is left", ENDS_WITHIN_S)

    played = assert_recorded(playing)
    assert not (played.folder / "summary.json").exists()
    assert record.rebuild(played.folder).summary.algorithms["fedavg"].outcome == "partial"


def test_ctrl_c_before_anything_plays_is_silent_and_leaves_nothing(tmp_path: Path) -> None:
    with start(tmp_path, warm=False) as command:
        wait_for(lambda: bool(command.look()) or command.process.poll() is not None, "the first process is started")
        wait_for(lambda: bool(list(command.scratch.glob("splitbed-*"))), "the launcher is at work")
        os.killpg(command.process.pid, signal.SIGINT)
        assert command.finish(ENDS_WITHIN_S) == 130
        wait_for(nothing_is_left(command), "no process of the run is left", within_s=2.0)
        assert (command.out, command.err) == ("", "")
        assert not list(command.scratch.glob("splitbed-*"))
        assert not command.folder.exists()


def test_ctrl_c_ends_verify_and_the_run_inside_it_whose_record_is_kept(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path / "scenario", [(2, Board())])
    flags = "--profile", scenario, "--algorithm", "fedavg", "--rounds", 10**6, "--force"
    with Command(tmp_path / "run", "verify", *flags, program="run.py") as command:
        inner = tmp_path / "run" / "virtual"
        ledger = inner / "ledger" / "fedavg" / "client-0.jsonl"
        wait_for(lambda: bool(Tail(ledger).read()) or command.process.poll() is not None, "the virtual run plays")
        command.look()
        command.process.send_signal(signal.SIGINT)
        assert command.finish(ENDS_WITHIN_S) == 130
        wait_for(nothing_is_left(command), "no process of the run is left", within_s=2.0)
        assert (inner / "summary.json").exists()
        assert not list(command.scratch.glob("splitbed-*"))
        assert "verify: the virtual run ended with status 130" in command.out
        assert command.err == ""


def test_a_mistake_in_verify_is_one_line_and_leaves_no_folder(tmp_path: Path) -> None:
    with Command(tmp_path / "run", "verify", "--profile", "nowhere", program="run.py") as command:
        assert command.finish() == 2
        assert (command.out, command.err.count("\n")) == ("", 1)
        assert not command.folder.exists()


@pytest.mark.parametrize("clock", ["real", "virtual"])
def test_a_connection_that_breaks_ends_the_run_by_name(clock: str, tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path / "scenario", [(2, Board())])
    played = play(tmp_path / "run", "--profile", scenario, "--algorithm", "cut-off", "--clock", clock, warm=True)
    result = played.summary["algorithms"]["cut-off"]
    assert (played.status, result["outcome"]) == (1, "failed")
    assert "client-1" in result["detail"]
    assert "connection" in result["detail"]


@pytest.mark.parametrize("clock", ["real", "virtual"])
def test_a_deadlock_ends_the_run_and_says_who_waits_for_what(clock: str, tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path / "scenario", [(2, Board())])
    played = play(tmp_path / "run", "--profile", scenario, "--algorithm", "forgetful", "--clock", clock, warm=True)
    result = played.summary["algorithms"]["forgetful"]
    assert (played.status, result["outcome"]) == (1, "failed")
    assert result["detail"].startswith("deadlock: client-1 awaits hello since 0.000 s; server awaits hello since")
    assert "client-0 has ended" in result["detail"]


def test_an_evaluator_that_is_stopped_is_not_waited_for(tmp_path: Path) -> None:
    """The nodes finish, and it has not caught up."""
    with start(tmp_path, rounds=1) as command:
        wait_for(lambda: bool(command.events("fedavg", "evaluator", Started)), "the evaluator has started")
        command.process_of("fedavg", "evaluator").send_signal(signal.SIGSTOP)
        command.look()
        assert command.finish(ENDS_WITHIN_S) == 1
        wait_for(nothing_is_left(command), "no process of the run is left", within_s=2.0)
        result = Played(1, command.out, command.err, command.folder).summary["algorithms"]["fedavg"]
        assert result["outcome"] == "stuck"
        assert "evaluator" in result["detail"]
