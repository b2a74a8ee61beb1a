"""What a run takes of the host before it begins: a scratch folder of its own, and enough open files.

Prepared data, sockets, snapshots and heartbeats of a run are in one folder (mode 0700) of the temporary folder, which
is removed at its end. One that a killed run left is removed by the next run of the same user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import tempfile
from pathlib import Path

import psutil

from emulator.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PREFIX = "splitbed-"
OWNER = "owner"  # the file that says whose folder it is
LONGEST = 107  # bytes in the path of a Unix socket: unix(7), sun_path less its end
INSIDE = "/splitbed-12345678/tmp12345678/network.line"  # the longest path of a socket below the temporary folder
SAME_S = 1.0  # two begins of a process that are as close are of the same process
FILES_A_PROCESS = 2  # here: its sentinel and the other end of its life line; in the network: its two sockets
FILES_BESIDES = 100  # ledgers, pipes, libraries


def check() -> None:
    """UserError where sockets in the temporary folder would have too long a path."""
    where = tempfile.gettempdir()
    if len(os.fsencode(where)) + len(INSIDE) > LONGEST:
        raise UserError(
            f"TMPDIR {where}: is {len(os.fsencode(where))} bytes long, and sockets below it leave"
            f" {LONGEST - len(INSIDE)}; say a shorter one, such as TMPDIR=/tmp"
        )


def new() -> Path:
    """A new scratch folder, after those of runs that are gone were removed."""
    where = Path(tempfile.gettempdir())
    remove_abandoned(where)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        (folder / OWNER).write_text(f"{os.getpid()} {psutil.Process().create_time()}\n")
    except OSError as error:
        raise full(error, where) from None
    return folder


def full(error: OSError, where: Path | str) -> UserError:
    """What to say of a temporary folder that takes nothing, or nothing more."""
    return UserError(f"TMPDIR {where}: cannot be written ({error.strerror}); say a folder that can, with more room")


def remove_abandoned(where: Path) -> list[Path]:
    """Remove scratch folders of this user whose run is gone; those that were removed."""
    removed = []
    for folder in sorted(where.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError, ValueError):
            if folder.stat().st_uid == os.getuid() and not folder.is_symlink() and not _lives(folder / OWNER):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    return removed


def _lives(owner: Path) -> bool:
    """Whether the process that made it is there; OSError or ValueError where it does not say."""
    pid, began = owner.read_text().split()
    try:
        return bool(abs(psutil.Process(int(pid)).create_time() - float(began)) < SAME_S)
    except psutil.NoSuchProcess:
        return False


def allow_open_files(clients: int) -> None:
    """Raise the limit of open files as far as this user may; UserError where the run needs more."""
    needed = FILES_A_PROCESS * (clients + 3) + FILES_BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        most = (hard - FILES_BESIDES) // FILES_A_PROCESS - 3
        raise UserError(
            f"--clients {clients}: needs {needed} open files in one process, and this host allows {hard} (ulimit -Hn);"
            f" take at most {max(most, 0)} clients, or allow more"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def fill_holes(path: Path) -> None:
    """Give all bytes of a file their place on the disk; UserError where there is no room.

    Else a write into a map of the file would end the process, by SIGBUS, where the folder is full.
    """
    size_bytes = path.stat().st_size
    try:
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
    except OSError as error:
        if error.errno not in FULL:
            return  # a file system that cannot say
        raise UserError(
            f"TMPDIR {tempfile.gettempdir()}: has no room for {size_bytes / 2**20:.1f} MiB of prepared data"
            f" ({error.strerror}); say a folder with more"
        ) from None
