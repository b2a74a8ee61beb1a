"""Cores and memory that the host lets this process have: of all limits the tightest.

A container or a batch system limits by control groups: a CPU quota (so many microseconds of cores in each period) and a
memory limit, each in the process's own group or in any above it. Version 1 has a tree for each controller, version 2
one for all; both may be mounted. Sources: cgroups(7), proc_pid_mountinfo(5), the kernel's cgroup-v2.rst, sched-bwc.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from emulator.errors import UserError

PROC = Path("/proc/self")
TASKS_A_CLIENT = 8  # main, watchdog, compute; ZeroMQ's two, and three of pyzmq's for sending without a copy
TASKS_BESIDES = 30  # supervisor, dashboard, fork server, network, evaluator, server
_ENDLESS_BYTES = 2**60  # version 1 says so, rounded to pages, where there is no limit


class Quota(NamedTuple):
    """A CPU quota: so many cores on average, in each period of so many ns; the folder of the group that has it."""

    cores: float
    period_ns: int
    folder: Path


class MemoryLimit(NamedTuple):
    """A limit of memory in bytes, what is still free of it, and what sets it."""

    limit_bytes: int
    free_bytes: int
    what: str


class QuotaUsage(NamedTuple):
    """CPU use of a group with a quota so far. ``stopped`` of ``periods`` came to the quota's end before their own;
    ``cpu_ns`` None: not told there."""

    periods: int
    stopped: int
    cpu_ns: int | None


def folders(controller: str, proc: Path = PROC) -> list[Path]:
    """The folders of the process's groups that may limit ``controller``, from its own up to the root of the tree."""
    try:
        mounts = (proc / "mountinfo").read_text().splitlines()
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
    except OSError:
        return []
    found: list[Path] = []
    for mount in mounts:
        about, _, kind = mount.partition(" - ")
        system, _, options = kind.partition(" ")
        if system == "cgroup2":
            paths = [path for number, _, path in groups if number == "0"]
        elif system == "cgroup" and controller in options.split()[-1].split(","):
            paths = [path for _, names, path in groups if controller in names.split(",")]
        else:
            continue
        root, point = (_unescaped(word) for word in about.split()[3:5])
        found += [folder for path in paths for folder in _upwards(Path(point), root, path)]
    return list(dict.fromkeys(found))


def _unescaped(word: str) -> str:
    return word.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _upwards(point: Path, root: str, path: str) -> Iterator[Path]:
    """From the group ``path`` up, in a tree whose group ``root`` is mounted at ``point``."""
    inside = Path(path).is_relative_to(root) and ".." not in Path(path).parts  # else it is that of another namespace
    folder = point / Path(path).relative_to(root) if inside else point
    while folder != point:
        yield folder
        folder = folder.parent
    yield point


def _numbers(path: Path) -> list[int]:
    """The numbers in a file of one line; [] where it is not there, or says that there is no limit."""
    try:
        return [int(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []


def _table(path: Path) -> dict[str, int]:
    """A file of names and numbers, one a line; empty where it is not there."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal()}


def quota(proc: Path = PROC) -> Quota | None:
    """The tightest CPU quota; None where it is no tighter than the cores that the process may run on."""
    found: list[Quota] = []
    for folder in folders("cpu", proc):
        limit = _numbers(folder / "cpu.max") or [
            number for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us") for number in _numbers(folder / name)
        ]
        if len(limit) == 2 and min(limit) > 0:
            found.append(Quota(limit[0] / limit[1], 1000 * limit[1], folder))
    tightest = min(found, default=None)
    return tightest if tightest and tightest.cores < len(os.sched_getaffinity(0)) else None


def cores(proc: Path = PROC) -> float:
    """The cores that this process and its children may use on average: those it may run on, or its quota."""
    limit = quota(proc)
    return limit.cores if limit else len(os.sched_getaffinity(0))


def usage(limit: Quota) -> QuotaUsage:
    """The use of the CPU so far by the group that has the quota ``limit``."""
    stat = _table(limit.folder / "cpu.stat")
    cpu_ns = [1000 * stat["usage_usec"]] if "usage_usec" in stat else _numbers(limit.folder / "cpuacct.usage")
    return QuotaUsage(stat.get("nr_periods", 0), stat.get("nr_throttled", 0), cpu_ns[0] if cpu_ns else None)


def memory_limit(proc: Path = PROC) -> MemoryLimit:
    """The tightest limit of memory: that of which least is free; pages of files that can be dropped are free."""
    host = psutil.virtual_memory()
    found = [MemoryLimit(host.total, host.available, "this host")]
    for folder in folders("memory", proc):
        limit = _numbers(folder / "memory.max") or _numbers(folder / "memory.limit_in_bytes")
        used = _numbers(folder / "memory.current") or _numbers(folder / "memory.usage_in_bytes")
        if limit and used and limit[0] < _ENDLESS_BYTES:
            stat = _table(folder / "memory.stat")
            idle = stat.get("total_inactive_file", stat.get("inactive_file", 0))
            found.append(
                MemoryLimit(limit[0], max(limit[0] - used[0] + idle, 0), f"the memory limit of the group {folder}")
            )
    return min(found, key=lambda each: each.free_bytes)


def check_tasks(clients: int, proc: Path = PROC) -> None:
    """UserError where a group allows fewer processes and threads than the run will have."""
    needed = TASKS_A_CLIENT * clients + TASKS_BESIDES
    for folder in folders("pids", proc):
        most, there = _numbers(folder / "pids.max"), _numbers(folder / "pids.current")
        if most and there and needed > most[0] - there[0]:
            fit = max((most[0] - there[0] - TASKS_BESIDES) // TASKS_A_CLIENT, 0)
            raise UserError(
                f"--clients {clients}: needs {needed} processes and threads, and the group {folder} allows"
                f" {most[0] - there[0]} more (pids.max); take at most {fit} clients, or allow more"
            )


def warning(needed_bytes: int, proc: Path = PROC) -> str:
    """The warning of a run that needs more memory than is free; "" where there is enough."""
    limit = memory_limit(proc)
    if needed_bytes <= limit.free_bytes:
        return ""
    return (
        f"memory: this run will need about {needed_bytes / 2**30:.1f} GiB of this host, and {limit.what} leaves"
        f" {limit.free_bytes / 2**30:.1f} GiB; where it runs out, the kernel ends a process: take fewer --clients or a"
        " smaller --batch"
    )


def memory_kills(proc: Path = PROC) -> int:
    """The number of processes of this one's groups, or of the host, that the kernel has killed for want of memory."""
    counts = [_table(proc.parent / "vmstat").get("oom_kill", 0)]
    for folder in folders("memory", proc):
        counts += [_table(folder / name).get("oom_kill", 0) for name in ("memory.events", "memory.oom_control")]
    return max(counts)


def for_memory(kills: int | None, proc: Path = PROC) -> str:
    """ " by the kernel because memory ran out …" where it has killed a process since there were ``kills``, else ""."""
    if kills is None or memory_kills(proc) <= kills:
        return ""
    limit = memory_limit(proc)
    return (
        f" by the kernel because memory ran out ({limit.what} has {limit.limit_bytes // 2**20} MiB); take fewer"
        " --clients or a smaller --batch"
    )
