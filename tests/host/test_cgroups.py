"""What the host lets a run have, read from trees of control groups as both versions write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from toy import make_manifest

from emulator.checks.health import _figures, _host
from emulator.dashboard.progress import Progress
from emulator.errors import UserError
from emulator.host import cgroups
from emulator.host import load as hostload
from emulator.host.load import HostLoad, cpu_pressure
from emulator.ledger.events import Host, Lifecycle
from emulator.ledger.files import Ledger, read_node
from emulator.ledger.timeline import Timeline, only
from emulator.preflight.dilation import (
    QUOTA_SHARE,
    AlgorithmEstimate,
    MemoryBreakdown,
    ProfilingResult,
    Span,
    choose_dilation,
)
from emulator.runtime.supervision import describe_exit
from emulator.testing.stage import MS, SECOND

MIB = 2**20
PERIOD_NS = 100 * MS
OWN = "/batch/job"
CONTROLLERS = ["cpu", "memory", "pids"]


class Tree:
    """A /proc/self and the control groups that it speaks of, mounted with the group ``root`` at their top."""

    def __init__(self, folder: Path, version: int, root: str = "/") -> None:
        self.proc, self.top, self.version, self.root = folder / "proc", folder / "cgroup tree", version, root
        self.proc.mkdir()
        kinds = ["cgroup2 none rw"] if version == 2 else [f"cgroup none rw,{name}" for name in CONTROLLERS]
        names = [""] if version == 2 else CONTROLLERS
        at = [str(self.top / name).replace(" ", "\\040") for name in names]
        mounts = [f"30 24 0:26 {root} {path} rw - {kind}\n" for path, kind in zip(at, kinds, strict=True)]
        (self.proc / "mountinfo").write_text("21 1 8:1 / / rw - ext4 /dev/sda rw\n" + "".join(mounts))
        groups = f"0::{OWN}\n" if version == 2 else f"8:pids:{OWN}\n4:memory:{OWN}\n1:cpu,cpuset:{OWN}\n0::/elsewhere\n"
        (self.proc / "cgroup").write_text(groups)
        for name in names:
            (self.top / name / OWN[1:]).mkdir(parents=True)

    def write(self, controller: str, group: str, **files: str) -> None:
        """Files of a group of this version, ``_`` for their dots."""
        for name, text in files.items():
            folder = self.top / ("" if self.version == 2 else controller) / group.lstrip("/")
            (folder / name.replace("_", ".", 1)).write_text(text)

    def quota(self, group: str, quota_us: int | None, period_us: int = 100_000) -> None:
        if self.version == 2:
            self.write("cpu", group, cpu_max=f"{'max' if quota_us is None else quota_us} {period_us}\n")
        else:
            quota = f"{-1 if quota_us is None else quota_us}\n"
            self.write("cpu", group, cpu_cfs_quota_us=quota, cpu_cfs_period_us=f"{period_us}\n")


@pytest.fixture(params=[1, 2], ids=["version 1", "version 2"])
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Tree:
    return Tree(tmp_path, request.param)


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))


def test_a_cpu_quota_counts_in_cores_wherever_above_the_process_it_is(tree: Tree) -> None:
    assert cgroups.cores(tree.proc) == 64
    tree.quota("/batch/job", None)
    assert cgroups.cores(tree.proc) == 64
    tree.quota("/batch", 200_000)
    assert cgroups.cores(tree.proc) == 2
    tree.quota("/batch/job", 25_000, period_us=50_000)
    assert cgroups.quota(tree.proc) == (0.5, 50 * MS, cgroups.folders("cpu", tree.proc)[0])
    tree.quota("/batch/job", 6_500_000)
    assert cgroups.cores(tree.proc) == 2


def test_a_quota_above_the_cores_that_may_be_used_is_none(tree: Tree) -> None:
    tree.quota("/batch", 6_500_000)
    assert (cgroups.cores(tree.proc), cgroups.quota(tree.proc)) == (64, None)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_that_sees_its_group_as_the_root_finds_its_own_quota(version: int, tmp_path: Path) -> None:
    tree = Tree(tmp_path, version, root=OWN)
    tree.quota("/", 50_000)
    assert cgroups.cores(tree.proc) == 0.5


def test_no_groups_mean_no_limits(tmp_path: Path) -> None:
    assert (cgroups.cores(tmp_path), cgroups.memory_kills(tmp_path)) == (64, 0)
    assert cgroups.memory_limit(tmp_path).limit_bytes == psutil.virtual_memory().total


def test_the_memory_limit_of_a_group_counts_and_pages_that_can_be_dropped_are_free(tree: Tree) -> None:
    endless, of_files = (
        ("max\n", "inactive_file") if tree.version == 2 else (f"{2**63 - 4096}\n", "total_inactive_file")
    )
    names = (
        ("memory_max", "memory_current") if tree.version == 2 else ("memory_limit_in_bytes", "memory_usage_in_bytes")
    )
    tree.write("memory", OWN, **dict(zip(names, (endless, f"{3 * MIB}\n"), strict=True)))
    assert cgroups.memory_limit(tree.proc).what == "this host"
    tree.write("memory", "/batch", **dict(zip(names, (f"{8 * MIB}\n", f"{5 * MIB}\n"), strict=True)))
    tree.write("memory", "/batch", memory_stat=f"cache {4 * MIB}\n{of_files} {MIB}\n")
    found = cgroups.memory_limit(tree.proc)
    assert (found.limit_bytes, found.free_bytes) == (8 * MIB, 4 * MIB)
    assert found.what.endswith("cgroup tree/batch" if tree.version == 2 else "cgroup tree/memory/batch")


def test_more_processes_than_a_group_allows_are_refused_with_how_many_clients_would_do(tree: Tree) -> None:
    """100 clients with eight threads each, and 30 besides."""
    cgroups.check_tasks(100, tree.proc)
    tree.write("pids", "/batch", pids_max="max\n", pids_current="12\n")
    cgroups.check_tasks(100, tree.proc)
    tree.write("pids", "/batch", pids_max="842\n")
    cgroups.check_tasks(100, tree.proc)
    tree.write("pids", "/batch", pids_max="841\n")
    with pytest.raises(UserError, match=r"--clients 100: needs 830 .* allows 829 more .* take at most 99 clients"):
        cgroups.check_tasks(100, tree.proc)


def test_what_the_kernel_killed_for_memory_is_counted(tree: Tree) -> None:
    counted = {"memory_events" if tree.version == 2 else "memory_oom_control": "low 0\noom 2\noom_kill 3\n"}
    tree.write("memory", OWN, **counted)
    assert cgroups.memory_kills(tree.proc) == 3


def test_the_load_under_a_quota_is_of_the_quota(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.3 of half a core used in two seconds; 5 of 20 periods came to the quota's end."""
    passed = iter([100.0, 102.0, 102.0])
    monkeypatch.setattr(hostload.time, "monotonic", lambda: next(passed))
    tree.quota(OWN, 50_000)

    def used(cpu_ms: int, periods: int, stopped: int) -> None:
        stat = f"nr_periods {periods}\nnr_throttled {stopped}\n"
        tree.write("cpu", OWN, cpu_stat=stat + (f"usage_usec {1000 * cpu_ms}\n" if tree.version == 2 else ""))
        if tree.version == 1:
            tree.write("cpu", OWN, cpuacct_usage=f"{MS * cpu_ms}\n")

    used(700, 10, 1)
    load = HostLoad(tree.proc)
    used(1000, 30, 6)
    found = load.read()
    assert found is not None
    assert (round(found.busy, 6), found.stopped) == (0.3, 0.25)


# --- what follows from them -------------------------------------------------------------------------------------------


def profiled(host_ns: int, spans_ns: int = SECOND) -> ProfilingResult:
    """One client that computes for ``host_ns`` in a second, in one span."""
    span = Span("board", "step", spans_ns, host_ns, times=10)
    return ProfilingResult({}, [span], SECOND, 0, {"board": host_ns}, {"board": 1})


def test_nodes_may_ask_for_their_share_of_a_quota() -> None:
    """20 clients at 10 ms a second are 0.2 cores: all that is allowed of half a core, and twice of a quarter."""
    assert QUOTA_SHARE == 0.4
    found = profiled(10 * MS)
    ample_ns = 10**6 * PERIOD_NS  # no burst uses it up
    for cores, expected in ((0.5, 1), (0.25, 2), (0.05, 10)):
        choice = choose_dilation(found, {"board": 20}, cores, quota_period_ns=ample_ns)
        assert choice.dilation == expected
    assert choice.because == "at most 40% of the CPU quota"
    assert choice.explain(0.05).endswith("ask for 0.20 of 0.05 cores; at most 40% of the CPU quota decides")


def test_a_stop_at_the_end_of_a_quota_is_10_ms_of_emulated_time_at_most() -> None:
    """Nine clients and the server on half a core: all stand still for 95 of 100 ms where 9 x 6 ms come at once."""
    quiet, burst = (
        choose_dilation(profiled(ns), {"board": 9}, 0.5, quota_period_ns=PERIOD_NS) for ns in (5 * MS, 6 * MS)
    )
    assert (quiet.dilation, burst.dilation) == (1, 10)
    assert burst.because == "the stop when a CPU quota is used up"
    assert choose_dilation(profiled(6 * MS), {"board": 9}, 0.5).dilation == 1


def test_a_server_has_no_more_than_the_quota() -> None:
    """0.4 s a second of its thread: half a core allows 0.8 of 0.5."""
    found = ProfilingResult({}, [], SECOND, 400 * MS, {"board": 0}, {"board": 1})
    assert [choose_dilation(found, {"board": 1}, cores).dilation for cores in (1, 0.5, 0.25)] == [1, 1, 2]


# --- the pressure that the kernel tells -------------------------------------------------------------------------------


def test_pressure_is_unknown_where_the_kernel_tells_none(tmp_path: Path) -> None:
    assert cpu_pressure(tmp_path / "none") is None
    for text, share in (("some avg10=12.50 avg60=1.06 total=3\nfull avg10=0.00\n", 0.125), ("", None), ("?\n", None)):
        (tmp_path / "cpu").write_text(text)
        assert cpu_pressure(tmp_path / "cpu") == share


def host(pressure: float | None, stopped: float | None = None) -> Host:
    return Host(due_ns=0, actual_ns=0, node="supervisor", busy=0.5, steal=0.0, pressure=pressure, stopped=stopped)


def test_an_unknown_pressure_is_recorded_as_unknown_and_is_in_no_mean(tmp_path: Path) -> None:
    with Ledger(tmp_path, "supervisor") as ledger:
        for pressure in (None, 0.5, None, 0.7):
            ledger.write(host(pressure))
    events = Timeline(read_node(tmp_path / "supervisor.jsonl"))
    assert [event.pressure for event in only(events, Host)] == [None, 0.5, None, 0.7]
    assert _figures(events, []).host_pressure == 0.6
    assert _figures(Timeline([host(None)]), []).host_pressure is None
    assert "in 2 of 4 samples (PSI)" in _host({"fedavg": events})[0]
    assert _host({"fedavg": Timeline([host(None)])}) == []


def test_a_quota_that_runs_out_is_noted() -> None:
    timelines = {"fedavg": Timeline([host(None, 0.04), host(None, 0.06), host(None)])}
    (note,) = _host(timelines)
    assert note.startswith("host: the CPU quota ran out in over 5 % of its periods in 1 of 3 samples; allow more")


def test_so_does_the_dashboard_say() -> None:
    progress = Progress(make_manifest(0))
    progress.apply(Lifecycle(due_ns=0, actual_ns=0, outcome=""))
    progress.apply(host(None, None))
    assert progress.remarks() == []
    progress.apply(host(0.9, 0.5))
    assert progress.remarks() == ["work waits for a core", "the CPU quota runs out"]


def test_a_record_from_before_is_read(tmp_path: Path) -> None:
    line = (
        '{"event":"host","due_ns":0,"actual_ns":0,"node":"supervisor","seq":0,"busy":0.1,"steal":0.0,"pressure":0.0}\n'
    )
    (tmp_path / "supervisor.jsonl").write_text(line)
    (event,) = only(read_node(tmp_path / "supervisor.jsonl"), Host)
    assert (event.pressure, event.stopped) == (0.0, None)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_run_that_needs_more_memory_than_is_free_is_warned_of_by_both_numbers(tree: Tree) -> None:
    """800 MiB once, and for each of ten clients 22 MiB and its account of 28 MiB."""
    account = MemoryBreakdown("board", {}, "", 28 * MIB)
    needed = AlgorithmEstimate(ProfilingResult(), 0, 0, True, [account]).host_memory_bytes({"board": 10})
    assert needed == (800 + 10 * (22 + 28)) * MIB
    limit, used = (("memory_max", "memory_current"), ("memory_limit_in_bytes", "memory_usage_in_bytes"))[
        tree.version == 1
    ]
    tree.write("memory", "/batch", **{limit: f"{1310 * MIB}\n", used: f"{10 * MIB}\n"})
    assert cgroups.warning(needed, tree.proc) == ""
    tree.write("memory", "/batch", **{used: f"{286 * MIB}\n"})
    said = cgroups.warning(needed, tree.proc)
    assert said.startswith("memory: this run will need about 1.3 GiB of this host, and the memory limit of the group ")
    assert "leaves 1.0 GiB" in said
    assert "--clients" in said


class Killed:
    """A process that was ended by SIGKILL."""

    exitcode = -9


def test_a_process_that_the_kernel_ends_for_memory_is_told_from_one_that_somebody_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process: Any = Killed()
    monkeypatch.setattr(cgroups, "memory_kills", lambda _proc: 3)
    monkeypatch.setattr(
        cgroups, "memory_limit", lambda _proc: cgroups.MemoryLimit(900 * MIB, 0, "the memory limit of the group /batch")
    )
    assert describe_exit(process, 3) == "was ended by SIGKILL"
    assert describe_exit(process, 2) == (
        "was ended by the kernel because memory ran out (the memory limit of the group /batch has 900 MiB);"
        " take fewer --clients or a smaller --batch"
    )
