"""A client's memory: baseline, cap, peak growth.

Order in a client process: sockets and threads first, one tiny training step on a throw-away layer, then ``MemoryCap``:
unused heap goes back, the peak is reset and the baseline read. What grows above it is the training's. The peak growth
is VmHWM - VmRSS at the reset, with file pages subtracted at both ends. No sampler can miss it; it can be too low by the
file pages first touched between the peak and the next reading, which comes after every computation.

A tight allocator gives freed tensors back at once, which makes the peak repeat and costs page faults in every step. So
what a client does is measured tightly the first two times, each computation by its cost key and each message by kind
and size, with the computation after it; what is known then goes on under a roomy allocator, and the peak stays what was
measured. In-use bytes are compared meanwhile (mallinfo2), so what grows from round to round is measured again.

*Fits* is decided by this peak against the budget, after every computation and receipt. The soft ``RLIMIT_DATA`` stops
what would go far beyond within one of them: it makes PyTorch raise a catchable error, needs no privilege, and can be
lifted again for the last words. It lies above the budget, because it counts address space and not pages. With the cap
``account`` nothing is stopped: the same peak says afterwards whether it would have fitted.

Sources: proc(5) (status: VmHWM, VmRSS, RssFile, VmData; clear_refs 5 resets the peak), setrlimit(2), mallopt(3),
mallinfo2(3).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import re
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from emulator.errors import DoesNotFit, UserError

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")  # 5: the peak begins anew, proc(5)
MIB = 2**20
LIMIT_FACTOR = 1.10
LOOK_EVERY = 32  # expectations under the roomy allocator, whose chunks take long to add up
TIGHT_TIMES = 2**62  # never roomy: a peak after a return to the tight allocator was 2.6 MiB too high in a small run
# Address space that is reserved and hardly touched: the code that oneDNN generates for each shape (26 MiB seen for
# ResNet-18), the allocator's rounding.
LIMIT_SPARE_BYTES = 36 * MIB

# One arena and fixed 128 KiB thresholds: freed tensors go back to the system at once, so that the peak repeats to
# within a percent from run to run.
MALLOC = {"M_ARENA_MAX": 1, "M_MMAP_THRESHOLD": 128 * 1024, "M_TRIM_THRESHOLD": 128 * 1024}
# The network process and the server keep what they have freed: chunk after chunk is received into the same pages.
KEEPING = {"M_MMAP_THRESHOLD": 32 * 2**20, "M_TRIM_THRESHOLD": 256 * 2**20}
# A client whose computations are all known: nothing goes back. The second of a kind replaces the first, where the C
# library takes it (before glibc 2.35 32 MiB are the most).
ROOMY = {"M_MMAP_THRESHOLD": 32 * 2**20, "M_TRIM_THRESHOLD": 2**30}
ROOMIER = {"M_MMAP_THRESHOLD": 2**30}
_MALLOPT = {"M_TRIM_THRESHOLD": -1, "M_MMAP_THRESHOLD": -3, "M_ARENA_MAX": -8}

_C_LIBRARY = ctypes.CDLL(None)
_STATUS = re.compile(rb"^(VmHWM|VmRSS|RssFile|RssShmem|VmData):\s+(\d+) kB", re.MULTILINE)
_TORCH_ASKED = re.compile(r"tried to allocate (\d+) bytes")

# Texts of a RuntimeError: torch's allocator and C++'s; and oneDNN's where its own allocation failed. It gives no
# reason, but what it cannot compute at all it says before, of a "primitive descriptor".
_NO_MEMORY = re.compile(
    r"(?:can't|cannot|could not|unable to|failed to) allocate|bad_alloc|(?:not enough|out of) memory", re.IGNORECASE
)
_NO_MEMORY_ONEDNN = re.compile(
    r"could not (?:create|execute|initialize) an? (?:primitive|memory|stream|engine|reorder)\b(?! descriptor)"
)


class MemoryUsage(msgspec.Struct, frozen=True):
    """One reading of /proc/self/status, in bytes. ``resident`` and ``peak`` are without file pages."""

    resident: int
    peak: int
    data: int


def read_usage() -> MemoryUsage:
    """Resident size, its peak since the last reset, and the size that RLIMIT_DATA counts."""
    fields = {name.decode(): int(value) * 1024 for name, value in _STATUS.findall(STATUS.read_bytes())}
    of_files = fields["RssFile"] + fields["RssShmem"]
    return MemoryUsage(fields["VmRSS"] - of_files, fields["VmHWM"] - of_files, fields["VmData"])


def reset_peak() -> None:
    """Let the peak of this process begin anew; UserError where the kernel has no peaks to tell."""
    try:
        CLEAR_REFS.write_text("5")
        read_usage()
    except (OSError, KeyError) as error:
        what = f"cannot be written ({error.strerror})" if isinstance(error, OSError) else f"{STATUS} has no {error}"
        raise UserError(
            f"{CLEAR_REFS}: {what}, so no peak of memory can be measured on this kernel; --dry-run foresees it, or play"
            " on a Linux that is no sandbox (it needs PROC_PAGE_MONITOR)"
        ) from None


Allocator = Literal["tight", "roomy"]


class MemoryCap:
    """The growth of this process above its baseline, and the limit on it (``budget_bytes`` None: no limit).

    ``enforced`` False: the growth is only measured. ``tight`` False: the process keeps the allocator that it has.
    ``allocator``: the one that is at work; a peak is always of the tight one.
    """

    def __init__(self, budget_bytes: int | None, *, enforced: bool = True, tight: bool = False) -> None:
        self.budget_bytes = budget_bytes
        self._tight = tight
        limited = enforced and budget_bytes is not None
        self.limit_bytes = int((budget_bytes or 0) * LIMIT_FACTOR) + LIMIT_SPARE_BYTES if limited else None
        self.allocator: Allocator = "tight" if tight else "roomy"
        self._known: Counter[str] = Counter()
        self._expected = 0
        self._tight_left = TIGHT_TIMES  # expectations that are still to be measured
        _trim()
        reset_peak()
        usage = read_usage()
        self.baseline_bytes = usage.resident
        self._peak_bytes = 0  # of all readings: file pages that come after the peak must not lower it
        self._growth_bytes = 0  # at the last tight reading, with what was in use then
        self._in_use_bytes = self._most_in_use_bytes = in_use_bytes()
        self._limit(usage.data, self.limit_bytes)

    def expect(self, what: str, *, computes: bool = True) -> None:
        """Before ``what`` is done: measure it tightly, unless that was done TIGHT_TIMES times.

        ``computes`` False: it is a message, and what is measured with it is the computation after it.
        """
        if not self._tight:
            return
        self._known[what] += 1
        self._expected += 1
        if self._known[what] <= TIGHT_TIMES:
            self._tight_left = max(self._tight_left, 2)
        elif self.allocator == "roomy" and self._expected % LOOK_EVERY == 0 and self._grows():
            self._tight_left = 2
        if self._tight_left:
            self._tighten()
            self._tight_left -= computes
        elif self.allocator == "tight":
            self._loosen()

    def _grows(self) -> bool:
        """Whether more is in use than was seen under the tight allocator."""
        return in_use_bytes() > self._most_in_use_bytes + MIB

    def peak_bytes(self) -> int:
        """The peak of the growth so far."""
        return self._peak_bytes if self._tight and self.allocator == "roomy" else self.growth_bytes()[1]

    def growth_bytes(self) -> tuple[int, int]:
        """Growth above the baseline now, and at its peak so far."""
        if self._tight and self.allocator == "roomy":
            return self._growth_bytes + in_use_bytes() - self._in_use_bytes, self._peak_bytes
        usage = read_usage()
        self._peak_bytes = max(self._peak_bytes, usage.peak - self.baseline_bytes)
        self._growth_bytes, self._in_use_bytes = usage.resident - self.baseline_bytes, in_use_bytes()
        self._most_in_use_bytes = max(self._most_in_use_bytes, self._in_use_bytes)
        return self._growth_bytes, self._peak_bytes

    def reading(self) -> dict[str, Any]:
        """The fields of a ledger's memory line."""
        growth_bytes, peak_bytes = self.growth_bytes()
        return {
            "growth_bytes": growth_bytes,
            "peak_bytes": peak_bytes,
            "budget_bytes": self.budget_bytes,
            "allocator": self.allocator,
        }

    def _loosen(self) -> None:
        self.growth_bytes()
        self.allocator = "roomy"
        tune_malloc(ROOMY)
        tune_malloc(ROOMIER)
        if self.limit_bytes is not None:  # holes of the heap count as data
            self._limit(read_usage().data, 2 * self.limit_bytes)

    def _tighten(self) -> None:
        """Back to the tight allocator: the peak begins anew above what is in use."""
        if self.allocator == "tight":
            return
        self.allocator = "tight"
        tune_malloc(MALLOC)
        _trim()
        reset_peak()
        usage = read_usage()
        self._most_in_use_bytes = max(self._most_in_use_bytes, in_use_bytes())
        if self.limit_bytes is not None:
            self._limit(usage.data, self.limit_bytes - (usage.resident - self.baseline_bytes))

    def _limit(self, data_bytes: int, more_bytes: int | None) -> None:
        """Let the data segment grow by so much above ``data_bytes``, as it is now."""
        if more_bytes is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (data_bytes + max(more_bytes, 0), hard))

    def lift(self) -> None:
        """Remove the limit, for the last words."""
        if self.limit_bytes is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def in_use_bytes() -> int:
    """Bytes that malloc has given out and not got back, in its heap and in maps of their own; 0 where the C library
    does not tell."""
    tell = _mallinfo2()
    if tell is None:
        return 0
    found = tell()
    return int(found.uordblks + found.hblkhd)


@functools.cache
def _mallinfo2() -> Callable[[], Any] | None:
    tell = getattr(_C_LIBRARY, "mallinfo2", None)
    if tell is not None:
        tell.restype = _Mallinfo
    return tell


def tune_malloc(options: dict[str, int] = MALLOC) -> None:
    """Apply ``options`` to this process; on a C library without mallopt it stays as it is."""
    mallopt = getattr(_C_LIBRARY, "mallopt", None)
    if mallopt is not None:
        for name, value in options.items():
            mallopt(_MALLOPT[name], value)


def _trim() -> None:
    trim = getattr(_C_LIBRARY, "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException, cap: MemoryCap | None = None) -> bool:
    """Whether an exception says that an allocation failed; ``cap``: of the process, which oneDNN's words need."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if not isinstance(error, RuntimeError):
        return False
    limited = cap is not None and cap.limit_bytes is not None
    return bool(_NO_MEMORY.search(str(error)) or (limited and _NO_MEMORY_ONEDNN.search(str(error))))


def bytes_asked(error: BaseException) -> int | None:
    """The size of the failed allocation in bytes; None where its error does not say it."""
    found = _TORCH_ASKED.search(str(error))
    return int(found.group(1)) if found else None


@contextlib.contextmanager
def out_of_memory_explained(phase: str, cap: MemoryCap | None) -> Iterator[None]:
    """An allocation that fails becomes DoesNotFit with its phase; any other error stays what it is."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error, cap):
            raise DoesNotFit(phase, bytes_asked(error)) from error
        raise
