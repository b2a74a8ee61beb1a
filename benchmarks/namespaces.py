"""Network namespaces, links between them and CPU quotas, made by the kernel; everything is gone when we are.

Needs root. Interfaces are born inside namespaces of our own, so none of the host's is ever touched. All names begin
with ``splitbed`` and our process id. A guardian, a shell that waits for the end of its input, tidies up: at the end of
the context, or when this process is killed, however that happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from emulator.errors import UserError

MTU_BYTES = 1500
ETHERNET_BYTES = 14
LEAST_BURST_S = 0.002  # some timer lateness, which tbf makes up for out of its bucket
LIMIT_BYTES = 32 * 10**6  # room for every message of ours: nothing is ever dropped
NETNS = Path("/run/netns")
CGROUP = Path("/sys/fs/cgroup/cpu")
TUN = "/dev/net/tun"
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

# Plain TCP as every connection finds it for the first time: no memory of earlier ones, windows that never limit, and
# a congestion window that survives the pauses of the measurement.
SYSCTLS = (
    "net.ipv4.tcp_no_metrics_save=1",
    "net.ipv4.tcp_slow_start_after_idle=0",
    "net.ipv4.tcp_rmem=4096 8388608 33554432",
    "net.ipv4.tcp_wmem=4096 4194304 8388608",
)

GUARDIAN = """
cat >/dev/null
for n in $(ip netns list | cut -d' ' -f1 | grep '^{prefix}-'); do
  ip netns pids $n | xargs -r kill -9
done
for d in {cgroup}/{prefix}-*/; do
  [ -d "$d" ] && xargs -r kill -9 < $d/cgroup.procs
done
sleep 0.2
for n in $(ip netns list | cut -d' ' -f1 | grep '^{prefix}-'); do ip netns del $n; done
for d in {cgroup}/{prefix}-*/; do [ -d "$d" ] && rmdir $d; done
rm -rf {scratch}/{prefix}-*
exit 0
"""


def burst_bytes(rate_bps: int, packet_bytes: int = MTU_BYTES) -> int:
    """The least bucket that keeps the rate: two packets, or what 2 ms bring.

    A bucket lets its content through at once, so it is small; but what flows in while it is full is lost, so it must
    outlast the lateness of the kernel's timers.
    """
    return max(2 * packet_bytes, int(rate_bps * LEAST_BURST_S / 8))


def tbf_command(namespace: str, interface: str, rate_bps: int, link_header_bytes: int) -> list[str]:
    """Shape what leaves ``interface``; ``stab`` makes the rate that of IP packets, without the link's header."""
    stab = ["stab", "overhead", str(-link_header_bytes), "linklayer", "ethernet"] if link_header_bytes else []
    shape = ["rate", f"{rate_bps}bit", "burst", str(burst_bytes(rate_bps)), "limit", str(LIMIT_BYTES)]
    return ["tc", "-n", namespace, "qdisc", "add", "dev", interface, "root", *stab, "tbf", *shape]


def up_commands(namespace: str, interface: str, address: str, peer: str = "") -> list[list[str]]:
    """Address an interface and bring it up, without super-packets: tbf would wait for a whole one to fit its bucket."""
    addressed = ["ip", "-n", namespace, "addr", "add", address, *(["peer", peer] if peer else []), "dev", interface]
    quiet = ["ip", "-n", namespace, "link", "set", interface, "gso_max_segs", "1", "up"]
    return [addressed, quiet]


def missing() -> str:
    """Why the kernel's links cannot be laid here, in one line; or nothing."""
    if os.geteuid():
        return "needs root: it makes network namespaces and CPU quotas of its own (as root: make kernel-check)"
    for tool in ("ip", "tc"):
        if not shutil.which(tool):
            return f"needs the command {tool}: install iproute2"
    return ""


def no_tun() -> str:
    """Why there can be no interface of a process's own; or nothing."""
    try:
        os.close(os.open(TUN, os.O_RDWR))
    except OSError as error:
        return str(error.strerror)
    return ""


class Laboratory:
    """Use as a context. Namespaces are named by short names, which are unique in it."""

    def __init__(self) -> None:
        self.prefix = f"splitbed{os.getpid()}"

    def __enter__(self) -> Laboratory:
        script = GUARDIAN.format(prefix=self.prefix, cgroup=CGROUP, scratch=tempfile.gettempdir())
        self._guardian = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        self._guardian.wait(30)

    def namespace(self, name: str) -> str:
        """A new one with TCP as in ``SYSCTLS``; its full name."""
        full = f"{self.prefix}-{name}"
        run(["ip", "netns", "add", full])
        run(["ip", "-n", full, "link", "set", "lo", "up"])
        for setting in SYSCTLS:
            run(["ip", "netns", "exec", full, "sysctl", "-q", "-w", setting])
        return full

    def drop(self, namespace: str) -> None:
        """Its interfaces go with it."""
        run(["ip", "netns", "del", namespace])

    def veth(self, left: str, right: str, number: int, up_bps: int, down_bps: int) -> tuple[str, str]:
        """A pair of interfaces: ``up_bps`` leaves ``left``, ``down_bps`` leaves ``right``; their addresses."""
        device, addresses = f"v{number}", (f"10.77.{number}.1", f"10.77.{number}.2")
        run(["ip", "link", "add", device, "netns", left, "type", "veth", "peer", "name", device, "netns", right])
        for namespace, address, rate_bps in zip((left, right), addresses, (up_bps, down_bps), strict=True):
            for command in up_commands(namespace, device, f"{address}/24"):
                run(command)
            run(tbf_command(namespace, device, rate_bps, ETHERNET_BYTES))
        return addresses

    def quota(self, name: str, share: float, period_us: int = 10_000) -> Path:
        """A control group that has ``share`` of one core, dealt out every ``period_us``."""
        folder = CGROUP / f"{self.prefix}-{name}"
        folder.mkdir()
        (folder / "cpu.cfs_period_us").write_text(str(period_us))
        (folder / "cpu.cfs_quota_us").write_text(str(int(share * period_us)))
        return folder


def run(command: list[str]) -> None:
    """UserError with what the command complained about."""
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        said = (found.stderr.strip() or f"exit status {found.returncode}").splitlines()[-1]
        raise UserError(f"kernel-check: '{' '.join(command)}' failed: {said}")


_libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace: str) -> None:
    """Move the calling thread into a namespace: sockets that it makes from now on are there, for good."""
    _set((NETNS / namespace).as_posix())


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Visit a namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    enter(namespace)
    try:
        yield
    finally:
        _set_by(home)
        os.close(home)


def _set(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        _set_by(handle)
    finally:
        os.close(handle)


def _set_by(handle: int) -> None:
    if _libc.setns(handle, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def tun(namespace: str, device: str) -> int:
    """A new interface in a namespace, whose packets are read from and written to the handle that is returned."""
    with inside(namespace):
        handle = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(handle, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    return handle


def join(quota: Path) -> None:
    """Put the calling process under a quota."""
    (quota / "cgroup.procs").write_text(str(os.getpid()))
