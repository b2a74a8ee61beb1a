"""A client that a signal ended: its memory had run out where it computed under a cap that it may not fit, else it
crashed, and where is said."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, Board, play, write_scenario

from emulator.compute.memory import MIB, MemoryCap, is_out_of_memory
from emulator.ledger.events import AnyEvent, Ended, Memory, MemoryEstimated, Started
from emulator.ledger.files import Ledger, read_node
from emulator.runtime import postmortem
from emulator.runtime.postmortem import InterruptedCode

COMPUTING = InterruptedCode("train_step", "steps.py:70", False)
FOREIGN = InterruptedCode("", "", True)
WAITING = InterruptedCode("", "", False)
NOW = {"due_ns": 0, "actual_ns": 0}


def client(budget_mib: float, peak_mib: float = 1, *, enforced: bool = True) -> list[AnyEvent]:
    budget_bytes = int(budget_mib * MIB)
    limit_bytes = 2 * budget_bytes if enforced else None
    started = Started(**NOW, role="client", pid=1, budget_bytes=budget_bytes, limit_bytes=limit_bytes)
    return [started, Memory(**NOW, growth_bytes=0, peak_bytes=int(peak_mib * MIB))]


def account(needed_mib: float) -> MemoryEstimated:
    return MemoryEstimated(**NOW, device="board", kinds={}, during="", needed_bytes=int(needed_mib * MIB))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
@pytest.mark.parametrize(
    ("struck", "phase"), [(COMPUTING, "train_step"), (FOREIGN, "build the model"), (WAITING, ""), (None, "")]
)
def test_memory_ran_out_where_it_computed(number: int, struck: InterruptedCode | None, phase: str) -> None:
    ran = postmortem.ran_out(number, struck, client(90), account(200))
    assert (ran.phase if ran else "") == phase
    if ran:
        assert f"{signal.Signals(number).name}; needs 200.0 MiB by its account, the budget is 90.0 MiB" in ran.words


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGILL, 0, 4, -3])
def test_other_signals_and_statuses_are_no_lack_of_memory(number: int) -> None:
    assert postmortem.ran_out(number, COMPUTING, client(90), account(200)) is None


@pytest.mark.parametrize(
    ("needed_mib", "peak_mib", "ran"),
    [
        (120, 1, True),
        (90, 1, True),
        (81, 1, True),  # 81 x 1.1 + 1 = 90.1: the account may be off by so much
        (80, 1, False),  # 80 x 1.1 + 1 = 89
        (10, 85, True),  # what it held is near the budget, whatever the account foresaw
        (10, 40, False),
        (None, 85, True),
        (None, 40, False),
    ],
)
def test_memory_ran_out_where_account_or_peak_cannot_be_said_to_fit(
    needed_mib: float | None, peak_mib: float, ran: bool
) -> None:
    found = postmortem.ran_out(
        signal.SIGSEGV, COMPUTING, client(90, peak_mib), account(needed_mib) if needed_mib else None
    )
    assert (found is not None) == ran


def test_nothing_runs_out_under_a_cap_that_is_only_accounted() -> None:
    assert postmortem.ran_out(signal.SIGSEGV, COMPUTING, client(90, enforced=False), account(200)) is None
    assert postmortem.ran_out(signal.SIGSEGV, COMPUTING, [], account(200)) is None


STRUCK = """
import ctypes, os, signal, sys, threading, time
from pathlib import Path
from emulator.runtime import postmortem
from emulator.compute.counting import ComputeThread

def fall():
    def within():
        ctypes.string_at(0)
    within()

postmortem.install_crash_recorder(Path(sys.argv[1]), "client-0")
if sys.argv[2] == "computing":
    ComputeThread().submit(fall, time.monotonic_ns, lambda: None).settle()
else:
    os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.mark.parametrize(
    ("what", "struck"), [("computing", InterruptedCode("fall", "<string>:10", False)), ("waiting", WAITING)]
)
def test_what_the_struck_thread_did_is_read_from_what_it_left(
    what: str, struck: InterruptedCode, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", STRUCK, str(tmp_path), what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGSEGV
    assert postmortem.read_crash(tmp_path, "client-0") == struck
    assert postmortem.read_crash(tmp_path, "client-1") is None


def test_a_dead_clients_last_words_follow_its_last_whole_line(tmp_path: Path) -> None:
    with Ledger(tmp_path, "client-0") as ledger:
        ledger.write(Started(due_ns=0, actual_ns=0, role="client", pid=1))
        ledger.write(Memory(due_ns=7, actual_ns=8, growth_bytes=0, peak_bytes=0))
    with (tmp_path / "client-0.jsonl").open("ab") as file:
        file.write(b'{"type": "Memory", "due')  # as a death leaves it
    postmortem.speak_for(tmp_path, "client-0", postmortem.MemoryExhausted("fall", "does not fit in memory: fall"))
    events = read_node(tmp_path / "client-0.jsonl")
    assert [event.seq for event in events] == [0, 1, 2]
    assert events[-1] == Ended(
        due_ns=7,
        actual_ns=8,
        node="client-0",
        seq=2,
        outcome="does-not-fit",
        detail="does not fit in memory: fall",
        phase="fall",
    )


def test_a_client_that_fits_by_far_and_is_struck_crashed_and_says_where(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path / "scenario", [(1, Board(1024))])
    played = play(tmp_path / "run", "--profile", scenario, "--algorithm", "struck", "--clock", "virtual", warm=True)
    assert played.status == 1
    result = played.summary["algorithms"]["struck"]
    assert (result["outcome"], result["does_not_fit"]) == ("failed", None)
    assert "client-0 was ended by SIGSEGV in fall (struck.py:" in result["detail"]


# --- errors -----------------------------------------------------------------------------------------------------------

OF_ALLOCATORS = [
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
    ),
    RuntimeError("std::bad_alloc"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("Could not allocate memory to change Tensor SizesAndStrides!"),
]
OF_ONEDNN = [
    "could not create a primitive",
    "could not execute a primitive",
    "could not create a memory object",
    "could not create a memory",
    "could not create a stream",
]
OTHERS = [
    ValueError("std::bad_alloc"),
    OSError(28, "No space left on device"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    RuntimeError("could not create a primitive descriptor for the matmul primitive. Run workload with environment"),
    RuntimeError("could not create a memory descriptor from blob"),
]


class Limited(MemoryCap):
    """A cap that has set nothing."""

    def __init__(self, limit_bytes: int | None) -> None:
        self.limit_bytes = limit_bytes


@pytest.mark.parametrize("error", OF_ALLOCATORS, ids=str)
def test_an_allocation_that_failed_is_known_by_its_error_in_any_process(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert is_out_of_memory(error, Limited(None))


@pytest.mark.parametrize("text", OF_ONEDNN)
def test_onednn_gives_no_reason_and_is_believed_under_a_limit(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text), Limited(MIB))
    assert not is_out_of_memory(RuntimeError(text), Limited(None))
    assert not is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_are_none_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error, Limited(MIB))
