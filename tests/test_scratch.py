"""What a run takes of the host: it is given back, whoever was killed, or refused by name before anything is started."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

import run
from algorithms.settings import LONGEST_S, Settings
from emulator import clock, launcher, memory, record, scratch
from emulator.errors import UserError
from emulator.memory import MemoryCap
from emulator.profile_reading import load_scenario


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def left_by(pid: int, began: float, where: Path) -> Path:
    folder = where / f"{scratch.PREFIX}{pid}"
    folder.mkdir()
    (folder / scratch.OWNER).write_text(f"{pid} {began}\n")
    (folder / "images.npy").write_bytes(b"data")
    return folder


def test_what_a_killed_run_left_is_removed_by_the_next_and_a_living_ones_is_not(temporary: Path) -> None:
    own = psutil.Process()
    living = left_by(own.pid, own.create_time(), temporary)
    killed = left_by(2**22 + 1, 0.0, temporary)  # above the largest process number
    others = temporary / "somebody-elses"
    others.mkdir()
    unknown = temporary / f"{scratch.PREFIX}unknown"
    unknown.mkdir()
    made = scratch.new()
    assert not killed.exists()
    assert all(folder.is_dir() for folder in (living, others, unknown, made))
    assert scratch.remove_abandoned(temporary) == []


def test_a_process_number_that_another_process_has_by_now_is_not_taken_for_the_run(temporary: Path) -> None:
    own = psutil.Process()
    folder = left_by(own.pid, own.create_time() - 100, temporary)
    assert scratch.remove_abandoned(temporary) == [folder]


def test_a_temporary_folder_too_deep_for_sockets_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(UserError, match=r"TMPDIR .*: is \d+ bytes long, and sockets below it leave \d+; say a shorter"):
        scratch.check()
    longest = "/" + "x" * (scratch.LONGEST - len(scratch.INSIDE) - 1)
    assert len(longest + scratch.INSIDE) == scratch.LONGEST


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _what, pair: found.append(pair))
    return found


def test_the_soft_limit_of_open_files_is_raised_where_clients_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = limits(monkeypatch, 1024, 65536)
    scratch.allow_open_files(100)
    assert found == []
    scratch.allow_open_files(1000)
    assert found == [(65536, 65536)]


def test_more_clients_than_open_files_are_refused_with_how_many_would_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits(monkeypatch, 128, 256)
    with pytest.raises(UserError, match=r"--clients 100: needs 306 open files .* allows 256 .* at most 75 clients"):
        scratch.allow_open_files(100)
    scratch.allow_open_files(75)


def test_nothing_is_started_where_the_host_has_too_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(launcher.forkserver, "ensure_running", lambda: started.append(1))
    limits(monkeypatch, 64, 64)
    out = tmp_path / "out"
    assert run.main(["--profile", "lan", "--no-dashboard", "--out", str(out)]) == 2
    assert (started, out.exists()) == ([], False)


def test_a_file_has_no_holes_and_a_full_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "images.npy"
    with path.open("wb") as file:
        file.truncate(10**6)
    assert path.stat().st_blocks * 512 < 10**6
    scratch.fill_holes(path)
    assert path.stat().st_blocks * 512 >= 10**6

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"TMPDIR .*: has no room for 1\.0 MiB of prepared data \(No space left"):
        scratch.fill_holes(path)


def test_runs_begun_in_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record.time, "strftime", lambda _form: "20261126-120000")
    found = [record.open_folder(None, "iot-4g", "fedavg").name for _ in range(3)]
    first = "20261126-120000-iot-4g-fedavg"
    assert found == [first, f"{first}-2", f"{first}-3"]


@pytest.mark.parametrize("name", ["deadline_s", "stop_after_s"])
@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e300, float("inf"), 1.1e9])
def test_seconds_beyond_any_clock_are_refused(name: str, seconds: float) -> None:
    with pytest.raises(UserError, match=rf"{name}: must be above 0 and at most 1000000000 seconds"):
        msgspec.structs.replace(Settings(), **{name: seconds}).check()
    msgspec.structs.replace(Settings(), **{name: LONGEST_S}).check()


def test_a_loop_sleeps_no_longer_than_the_system_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []
    monkeypatch.setattr(clock.select, "select", lambda _r, _w, _x, seconds: (asked.append(seconds), ([], [], []))[1])
    waiting = clock._Input.__new__(clock._Input)
    waiting._files, waiting._own = [], clock.selectors.SelectSelector()
    for seconds in (0.5, 1e10, None):
        waiting._sleep(seconds)
    assert asked == [0.5, clock.LONGEST_SLEEP_S, None]


def test_a_peak_that_cannot_begin_anew_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "no" / "clear_refs")
    with pytest.raises(UserError, match=r"clear_refs: cannot be written .* no peak of memory can be measured"):
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
