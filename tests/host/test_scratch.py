"""What a run takes of the host: it is given back, whoever was killed, or refused by name before anything is started."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from processes import Board, play, write_scenario

import run
from algorithms.training.settings import LONGEST_S, Settings
from emulator import processes as preload
from emulator.clock import loop
from emulator.compute import memory
from emulator.compute.memory import MemoryCap
from emulator.errors import NoRoom, UserError
from emulator.host import resources
from emulator.ledger import run_folder
from emulator.profiles.reading import load_scenario
from emulator.runtime import evaluator, fork_server, launcher


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def left_by(where: Path, name: str) -> Path:
    """What a run has left that was killed: the kernel has taken its lock back."""
    folder = where / f"{resources.PREFIX}{name}"
    folder.mkdir()
    (folder / "images.npy").write_bytes(b"data")
    return folder


def test_what_a_killed_run_left_is_removed_by_the_next_and_a_living_ones_is_not(temporary: Path) -> None:
    living = resources.Scratch()
    killed = left_by(temporary, "killed")
    others = temporary / "somebody-elses"
    others.mkdir()
    link = temporary / f"{resources.PREFIX}link"
    link.symlink_to(others)
    next_one = resources.Scratch()
    assert not killed.exists()
    assert all(folder.is_dir() for folder in (living.folder, others, link, next_one.folder))
    assert resources.remove_abandoned(temporary) == []
    for each in (living, next_one):
        assert each.sockets.stat().st_mode & 0o777 == 0o700
        assert each.folder.stat().st_mode & 0o777 == 0o700
        each.close()
    assert sorted(temporary.iterdir()) == [others, link]


def test_another_users_folder_is_left_alone(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = left_by(temporary, "theirs")
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert resources.remove_abandoned(temporary) == []
    assert folder.is_dir()


def test_a_folder_that_another_run_removes_before_it_is_locked_is_made_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, removed = tempfile.mkdtemp, []

    def made_and_removed(**how: Any) -> str:
        folder = make(**how)
        if not removed:
            removed.append(folder)
            assert [str(path) for path in resources.remove_abandoned(temporary)] == [folder]
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", made_and_removed)
    found = resources.Scratch()
    assert str(found.folder) not in removed
    assert found.folder.is_dir()
    found.close()


LONG = "d" * 120


def test_sockets_find_a_shorter_path_than_that_of_a_long_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    long = tmp_path / LONG
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(resources, "SHORT", (str(tmp_path / "none"), str(folder)))
    made = resources.Scratch()
    assert (made.folder.parent, made.sockets.parent) == (long, folder)
    assert len(f"{made.sockets}{resources.INSIDE}") <= resources.LONGEST
    made.close()
    assert [*long.iterdir(), *folder.iterdir()] == []


def test_where_no_path_is_short_enough_the_temporary_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / LONG))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(resources, "SHORT", ())
    with pytest.raises(UserError, match=r"TMPDIR .*: is \d+ bytes long, and sockets below it leave \d+; say a shorter"):
        resources.Scratch()


def test_a_run_with_a_long_temporary_folder_plays_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    long = tmp_path / LONG
    long.mkdir()
    scenario = write_scenario(tmp_path / "scenario", [(1, Board())])
    flags = "--algorithm", "fedavg", "--rounds", 1, "--clock", "virtual", "--samples-per-client", 32
    played = play(tmp_path / "run", "--profile", scenario, *flags, program="run.py", TMPDIR=str(long))
    assert (played.status, played.err) == (0, "")
    assert not list(long.glob("splitbed-*"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 8804928 vs 8804824"),
    ],
)
def test_a_snapshot_for_which_there_is_no_room_is_one_line(
    error: Exception, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch, "save", fail)
    room = namedtuple("room", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: room(free=1000))
    for write in (
        lambda: evaluator.write_snapshot(temporary, 0, 0, 0, {}),
        lambda: evaluator.write_part(temporary, 0, "client", {}),
    ):
        with pytest.raises(NoRoom, match=r"TMPDIR .*: cannot be written \(No space left on device\); say a folder"):
            write()
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: room(free=10**9))
    if isinstance(error, RuntimeError):  # something else went wrong
        with pytest.raises(RuntimeError, match="unexpected pos"):
            evaluator.write_part(temporary, 0, "client", {})


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _what, pair: found.append(pair))
    return found


def test_the_soft_limit_of_open_files_is_raised_where_clients_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = limits(monkeypatch, 1024, 65536)
    resources.allow_open_files(100)
    assert found == []
    resources.allow_open_files(1000)
    assert found == [(65536, 65536)]


def test_more_clients_than_open_files_are_refused_with_how_many_would_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits(monkeypatch, 128, 256)
    with pytest.raises(UserError, match=r"--clients 100: needs 306 open files .* allows 256 .* at most 75 clients"):
        resources.allow_open_files(100)
    resources.allow_open_files(75)


def test_nothing_is_started_where_the_host_has_too_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(fork_server.forkserver, "ensure_running", lambda: started.append(1))
    limits(monkeypatch, 64, 64)
    out = tmp_path / "out"
    assert run.main(["--profile", "lan", "--no-dashboard", "--out", str(out)]) == 2
    assert (started, out.exists()) == ([], False)


def test_a_file_has_no_holes_and_a_full_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "images.npy"
    with path.open("wb") as file:
        file.truncate(10**6)
    assert path.stat().st_blocks * 512 < 10**6
    resources.fill_holes(path)
    assert path.stat().st_blocks * 512 >= 10**6

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"TMPDIR .*: has no room for 1\.0 MiB of prepared data \(No space left"):
        resources.fill_holes(path)


def test_runs_begun_in_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folder.time, "strftime", lambda _form: "20261126-120000")
    found = [run_folder.open_folder(None, "iot-4g", "fedavg").name for _ in range(3)]
    first = "20261126-120000-iot-4g-fedavg"
    assert found == [first, f"{first}-2", f"{first}-3"]


def test_of_two_runs_that_find_one_folder_empty_one_is_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "iterdir", lambda _folder: iter(()))  # as it was when either looked
    assert run_folder.open_folder(tmp_path / "x", "iot-4g", "sl") == tmp_path / "x"
    with pytest.raises(UserError, match="the folder is not empty and nothing recorded is overwritten"):
        run_folder.open_folder(tmp_path / "x", "iot-4g", "sl")


@pytest.mark.parametrize("name", ["deadline_s", "stop_after_s"])
@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e300, float("inf"), 1.1e9])
def test_seconds_beyond_any_clock_are_refused(name: str, seconds: float) -> None:
    with pytest.raises(UserError, match=rf"{name}: must be above 0 and at most 1000000000 seconds"):
        msgspec.structs.replace(Settings(), **{name: seconds}).check()
    msgspec.structs.replace(Settings(), **{name: LONGEST_S}).check()


def test_a_loop_sleeps_no_longer_than_the_system_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []
    monkeypatch.setattr(loop.select, "select", lambda _r, _w, _x, seconds: (asked.append(seconds), ([], [], []))[1])
    waiting = loop._Input.__new__(loop._Input)
    waiting._files, waiting._own = [], loop.selectors.SelectSelector()
    for seconds in (0.5, 1e10, None):
        waiting._sleep(seconds)
    assert asked == [0.5, loop.LONGEST_SLEEP_S, None]


@pytest.mark.parametrize("lacks", ["clear_refs", "VmHWM"])
def test_a_kernel_that_tells_no_peak_is_one_line_before_anything_is_started(
    lacks: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a sandbox; a dry run measures no memory and is played."""
    started: list[Any] = []
    monkeypatch.setattr(fork_server.forkserver, "ensure_running", lambda: started.append(1))
    if lacks == "clear_refs":
        monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "no" / "clear_refs")
    else:
        (tmp_path / "status").write_text("VmRSS:\t 100 kB\nRssFile:\t 1 kB\nRssShmem:\t 0 kB\nVmData:\t 1 kB\n")
        monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert run.main(["--profile", "lan", "--no-dashboard", "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert lacks in line
    assert "clear_refs: " in line
    assert "no peak of memory can be measured on this kernel; --dry-run foresees it" in line
    assert (started, (tmp_path / "out").exists()) == ([], False)
    with pytest.raises(UserError, match="no peak of memory"):
        MemoryCap(None)


def test_nodes_are_not_handed_traces_and_all_else_stays() -> None:
    whole = load_scenario("trace-driving")
    bare = whole.without_traces()
    assert any(client.network.up.rates for client in whole.clients)
    assert not any(
        way.rates or way.delays for client in bare.clients for way in (client.network.up, client.network.down)
    )
    assert [(c.name, c.index, c.device, c.network.name) for c in bare.clients] == [
        (c.name, c.index, c.device, c.network.name) for c in whole.clients
    ]
    assert bare.clients[0].network.up.rate_bps == whole.clients[0].network.up.rate_bps


def test_a_program_that_plays_a_run_keeps_its_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered: list[int] = []
    monkeypatch.setattr(os, "nice", lowered.append)
    monkeypatch.setattr(launcher.Launcher, "__enter__", lambda self: self)
    monkeypatch.setattr(launcher.Launcher, "__exit__", lambda *_: None)
    monkeypatch.setattr(launcher.Launcher, "prepare", lambda *_: (_ for _ in ()).throw(UserError("enough")))
    words = ["--profile", "lan", "--no-dashboard", "--out", str(tmp_path / "a")]
    assert run.main(words) == 2
    assert lowered == []
    assert run.main(words, alone=True) == 2
    assert lowered == [10]


def test_the_environment_of_a_program_that_plays_a_run_stays_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    plan = launcher.Plan(load_scenario("lan", 2), 1, "virtual", None, "rlimit", "", "")
    with launcher.Launcher(Path("unused"), plan, []):
        assert dict(os.environ) == before
    with preload.environment():
        assert os.environ[preload.SUPERVISOR_VARIABLE] == str(os.getpid())
        assert {os.environ[name] for name in preload.THREAD_VARIABLES} == {"1"}
    assert dict(os.environ) == before
