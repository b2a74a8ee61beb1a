"""A client's memory: baseline, cap, peak growth.

Order in a client process: sockets and threads first, one tiny training step on a throw-away layer, then ``MemoryCap``:
unused heap goes back, the peak is reset and the baseline read. What grows above it is the training's. The peak growth
is VmHWM - VmRSS at the reset, with file pages subtracted at both ends. No sampler can miss it; it can be too low by the
file pages first touched between the peak and the next reading, which comes after every computation.

A tight allocator gives freed tensors back at once, which makes the peak repeat and costs page faults in every step. So
a client is measured tightly for two rounds, and later what it does for the first or second time: each computation by
its cost key and each message by kind and size, with the computation after it. What is known then goes on under a roomy
allocator, and the peak stays what was measured. The kernel's own peak is looked at now and then meanwhile: what grows
is measured tightly again.

*Fits* is decided by this peak against the budget, after every computation and receipt. The soft ``RLIMIT_DATA`` stops
what would go far beyond within one of them: it makes PyTorch raise a catchable error, needs no privilege, and can be
lifted again for the last words. It lies above the budget, because it counts address space and not pages. With the cap
``account`` nothing is stopped: the same peak says afterwards whether it would have fitted.

Sources: proc(5) (status: VmHWM, VmRSS, RssFile, VmData; clear_refs 5 resets the peak), setrlimit(2), mallopt(3).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import re
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from emulator.errors import DoesNotFit, UserError

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")  # 5: the peak begins anew, proc(5)
MIB = 2**20
LIMIT_FACTOR = 1.10
TIGHT_ROUNDS = 2  # what they hold is known after them, but for what a method does in a later round for the first time
TIGHT_TIMES = 2  # the second time a computation finds the optimizer's state, and the model as the first one left it
LARGEST_PLUG_BYTES = 64 * MIB
LOOK_EVERY = 32  # computations and messages under the roomy allocator, until its peak is looked at
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


class MemoryCap:
    """The growth of this process above its baseline, and the limit on it (``budget_bytes`` None: no limit).

    ``enforced`` False: the growth is only measured. ``allocator``: the one that is at work, ``tight`` or ``roomy``.
    """

    allocator = "roomy"

    def __init__(self, budget_bytes: int | None, *, enforced: bool = True) -> None:
        self.budget_bytes = budget_bytes
        limited = enforced and budget_bytes is not None
        self.limit_bytes = int((budget_bytes or 0) * LIMIT_FACTOR) + LIMIT_SPARE_BYTES if limited else None
        _trim()
        reset_peak()
        usage = read_usage()
        self.baseline_bytes = usage.resident
        self._growth_bytes = self._peak_bytes = 0  # of all readings: file pages after the peak must not lower it
        self._limit(usage.data, self.limit_bytes)

    def expect(self, what: str, *, round: int | None = None, computing: bool = False) -> None:
        """Be told, before it is done, of a computation, or of a message of a ``round`` that is sent or received, maybe
        while the host is ``computing``."""

    def growth_bytes(self) -> tuple[int, int]:
        """Growth above the baseline now, and at its peak so far."""
        usage = read_usage()
        self._growth_bytes = usage.resident - self.baseline_bytes
        self._peak_bytes = max(self._peak_bytes, usage.peak - self.baseline_bytes)
        return self._growth_bytes, self._peak_bytes

    def reading(self) -> dict[str, Any]:
        """The fields of a ledger's memory line."""
        growth_bytes, peak_bytes = self.growth_bytes()
        fields = {"growth_bytes": growth_bytes, "peak_bytes": peak_bytes, "budget_bytes": self.budget_bytes}
        return {**fields, "allocator": self.allocator}

    def _limit(self, data_bytes: int, more_bytes: int | None) -> None:
        """Let the data segment grow by so much above ``data_bytes``, as it is now; None: as it likes."""
        if more_bytes is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (data_bytes + max(more_bytes, 0), hard))

    def lift(self) -> None:
        """Remove the limit, for the last words."""
        if self.limit_bytes is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


class ClientMemoryCap(MemoryCap):
    """The cap of a client's process, which is to be under the tight allocator when it is made.

    What the client does is measured for ``TIGHT_ROUNDS`` rounds and ``TIGHT_TIMES`` times under the tight allocator,
    and goes on under the roomy one. Growth and peak are always those of the last tight reading.
    """

    allocator = "tight"

    def __init__(self, budget_bytes: int | None, *, enforced: bool = True) -> None:
        super().__init__(budget_bytes, enforced=enforced)
        self._times: Counter[str] = Counter()
        self._expected = 0
        self._round = -1  # the latest of a message
        self._tight_left = TIGHT_TIMES  # computations that are still to be measured
        self._roomy_peak_bytes: int | None = None  # at the last look
        self._roomy_once = False
        self._plugs: list[int] = []  # holes of the heap that are taken while the tight allocator is at work

    def expect(self, what: str, *, round: int | None = None, computing: bool = False) -> None:
        """Choose the allocator for ``what``: the tight one where it was not measured ``TIGHT_TIMES`` times. A message
        is measured with the computation after it, too; what is being computed ends as it began."""
        self._times[what] += 1
        self._expected += 1
        self._round = max(self._round, -1 if round is None else round)
        if self._times[what] <= TIGHT_TIMES or (self._expected % LOOK_EVERY == 0 and self._grows()):
            self._tight_left = 2
        if computing:
            return
        if self._tight_left or self._round < TIGHT_ROUNDS:
            self._tighten()
            self._tight_left = max(self._tight_left - (round is None), 0)
        else:
            self._loosen()

    def _grows(self) -> bool:
        """Whether the peak under the roomy allocator is higher than at the last look."""
        if self.allocator == "tight":
            return False
        before, now = self._roomy_peak_bytes, read_usage().peak
        self._roomy_peak_bytes = max(before or 0, now)
        return before is not None and now > before + MIB

    def growth_bytes(self) -> tuple[int, int]:
        return super().growth_bytes() if self.allocator == "tight" else (self._growth_bytes, self._peak_bytes)

    def _loosen(self) -> None:
        if self.allocator == "roomy":
            return
        self.growth_bytes()
        for place in self._plugs:
            _C_LIBRARY.free(ctypes.c_void_p(place))
        self._plugs = []
        self.allocator, self._roomy_once = "roomy", True
        tune_malloc(ROOMY)
        tune_malloc(ROOMIER)
        if self.limit_bytes is not None:  # holes of the heap count as data
            self._limit(read_usage().data, 2 * self.limit_bytes)

    def _tighten(self) -> None:
        """Back to the tight allocator: the peak begins anew above what is in use."""
        if self._roomy_once:  # what was freed since leaves holes, too
            self._plugs += plug_holes()
        if self.allocator == "tight":
            return
        self.allocator = "tight"
        reset_peak()
        usage = read_usage()
        if self.limit_bytes is not None:
            self._limit(usage.data, self.limit_bytes - (usage.resident - self.baseline_bytes))


def plug_holes() -> list[int]:
    """Give the heap's free pages back, and take its holes of 128 KiB and more without touching them; returns their
    addresses.

    Whatever is larger then gets a map of its own, as under an allocator that was tight all the time: malloc looks for a
    hole first.
    """
    if getattr(_C_LIBRARY, "mallopt", None) is None:
        return []
    _C_LIBRARY.malloc.restype = _C_LIBRARY.sbrk.restype = ctypes.c_void_p
    tune_malloc(ROOMIER | {"M_TRIM_THRESHOLD": MALLOC["M_TRIM_THRESHOLD"]})
    _trim()
    plugs = []
    size = LARGEST_PLUG_BYTES
    while size >= MALLOC["M_MMAP_THRESHOLD"]:
        end = _C_LIBRARY.sbrk(0)
        place = _C_LIBRARY.malloc(ctypes.c_size_t(size))
        if place and place + size < end:
            plugs.append(place)
        else:
            _C_LIBRARY.free(ctypes.c_void_p(place))
            size //= 2
    tune_malloc(MALLOC)
    return plugs


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
