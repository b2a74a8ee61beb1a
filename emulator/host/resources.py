"""Resources a run takes of the host before it begins: a scratch folder of its own, and enough open files.

Prepared data, sockets, snapshots and heartbeats of a run are in one folder (mode 0700) of the temporary folder, which
is removed at its end. It is locked by the process that made it, and the kernel gives the lock back however that ends:
so the next run of the same user knows which folders nobody uses any more, and removes them. (A process number says
less: a container has its own, and when a process began depends on a clock that is set now and then.)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from emulator.errors import NoRoom, UserError

MIB = 2**20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PREFIX = "splitbed-run-"
NAMED = f"/{PREFIX}12345678"  # as mkdtemp makes it
LONGEST = 107  # bytes in the path of a Unix socket: unix(7), sun_path less its end
INSIDE = "/123456.network.line"  # the longest name of a socket in a folder, longer than multiprocessing's
SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # where sockets go when the temporary folder's path is too long
FILES_A_PROCESS = 2  # here: its sentinel and the other end of its life line; in the network: its two sockets
FILES_BESIDES = 100  # ledgers, pipes, libraries


class Scratch:
    """A new scratch ``folder``, and one for ``sockets``: the same, where its path is short enough."""

    def __init__(self) -> None:
        self._locks: list[int] = []
        self._made: list[Path] = []
        where = Path(tempfile.gettempdir())
        sockets = _short(where)
        self.folder = self._make(where)
        self.sockets = self.folder if sockets == where else self._make(sockets)

    def _make(self, where: Path) -> Path:
        remove_abandoned(where)
        while True:
            try:
                folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
            except OSError as error:
                raise full(error, where) from None
            lock = _locked(folder)
            if lock is not None:
                self._locks.append(lock)
                self._made.append(folder)
                return folder

    def new_folder(self) -> Path:
        """One more inside; UserError where the disk is full."""
        with filling():
            return Path(tempfile.mkdtemp(dir=self.folder))

    def close(self) -> None:
        """Remove all of it."""
        for folder in self._made:
            shutil.rmtree(folder, ignore_errors=True)
        while self._locks:
            os.close(self._locks.pop())


def _short(where: Path) -> Path:
    """``where``, or a folder for temporary files whose path leaves room for sockets; UserError where there is none."""
    most = LONGEST - len(NAMED) - len(INSIDE)
    for name in (str(where), os.environ.get("XDG_RUNTIME_DIR", ""), *SHORT):
        if name and len(os.fsencode(name)) <= most and os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    raise UserError(
        f"TMPDIR {where}: is {len(os.fsencode(where))} bytes long, and sockets below it leave {most}; say a shorter"
        f" one, or let {' or '.join(SHORT)} be written"
    )


def _locked(folder: Path) -> int | None:
    """A descriptor that locks ``folder`` until it is closed; None where another run was faster, and removes it.

    Where there are no locks nobody can lock it, and nobody removes it.
    """
    try:
        lock = _opened(folder)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), folder.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        return lock
    os.close(lock)
    return None


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def remove_abandoned(where: Path) -> list[Path]:
    """Remove scratch folders of this user that no process has locked; those that were removed."""
    removed = []
    for folder in sorted(where.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid != os.geteuid():
                continue
            lock = _opened(folder)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
            finally:
                os.close(lock)
    return removed


def full(error: OSError, where: Path | str) -> NoRoom:
    """The error of a temporary folder that cannot be written, or is full."""
    return NoRoom(f"TMPDIR {where}: cannot be written ({error.strerror}); say a folder that can, with more room")


@contextlib.contextmanager
def filling() -> Iterator[None]:
    """Around whatever writes temporary files: UserError where there is no room for them."""
    where = tempfile.gettempdir()
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise full(error, where) from None
    except RuntimeError as error:  # torch writes files of its own accord, and does not say what went wrong
        if "inline_container" not in str(error) or shutil.disk_usage(where).free >= MIB:
            raise
        raise full(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), where) from None


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
        raise NoRoom(
            f"TMPDIR {tempfile.gettempdir()}: has no room for {size_bytes / 2**20:.1f} MiB of prepared data"
            f" ({error.strerror}); say a folder with more"
        ) from None
