"""Bytes of live tensors, by the node that made them and by what they are for.

The second way to a client's memory, independent of what the system measures. Every tensor that an operation returns is
looked at once; its storage counts from then until it is freed. What torch and the allocator need besides (workspaces,
generated code, rounding, fragments) is not in it. The idea is that of PyTorch's
``torch.distributed._tools.mem_tracker``, for owners instead of modules.

What a storage is for may be known only later: a gradient when the optimizer asks for it, an activation when autograd
saves it. ``mark`` therefore corrects the peak as well, where the storage was alive at it.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from emulator.ledger.events import MEMORY_KINDS

PARAMETERS, GRADIENTS, OPTIMIZER, ACTIVATIONS, AUXILIARY, MESSAGES, RECEIVED, BATCH, TEMPORARIES = MEMORY_KINDS

_owner: ContextVar[tuple[str, str, str]] = ContextVar("owner", default=("", BATCH, ""))
_accounts: list[TensorAccount] = []


@contextmanager
def owned_by(name: str, kind: str = BATCH, during: str = "") -> Iterator[None]:
    """Tensors made in here, and by tasks that begin in here, belong to ``name``, and are of ``kind`` until marked.

    ``during``: the computation that makes them.
    """
    token = _owner.set((name, kind, during))
    try:
        yield
    finally:
        _owner.reset(token)


def owner_now() -> str:
    """The name of the node that owns tensors made now; "": none."""
    return _owner.get()[0]


def mark(tensors: Iterable[torch.Tensor | None], kind: str) -> None:
    """Say what these tensors are for; without effect, and without looking at them, where no account is kept."""
    if _accounts:
        for tensor in tensors:
            if tensor is not None:
                _accounts[-1].mark(tensor, kind)


class _LiveStorage(msgspec.Struct):
    """A storage that is alive; ``since`` counts storages."""

    size_bytes: int
    owner: str
    kind: str
    since: int


class Peak(msgspec.Struct):
    """An owner's tensors when they were most: bytes in all and by kind, and how many storages had been seen by then.

    ``during``: the computation in which that was; "": between two.
    """

    total_bytes: int = 0
    by_kind: dict[str, int] = {}
    seen: int = -1
    during: str = ""


class TensorAccount(TorchDispatchMode):
    """Use as a context. ``live``: bytes by owner, and ``peaks``; what nobody owns is under "".

    ``meta``: it counts tensors of the meta device, which take no memory, and no others.
    """

    def __init__(self, *, meta: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._meta = meta
        self.live: dict[str, int] = defaultdict(int)
        self.peaks: dict[str, Peak] = defaultdict(Peak)
        self._by_kind: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(MEMORY_KINDS, 0))
        self._held: dict[int, _LiveStorage] = {}
        self._seen = 0
        self._hooks = saved_tensors_hooks(self._saved, lambda tensor: tensor)

    def __enter__(self) -> TensorAccount:
        _accounts.append(self)
        self._hooks.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._hooks.__exit__(*error)
        _accounts.remove(self)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return result

    def see(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, where it is a new one."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._held or tensor.is_meta is not self._meta:
            return
        owner, kind, during = _owner.get()
        held = _LiveStorage(storage.nbytes(), owner, kind, self._seen)
        self._held[key] = held
        self._seen += 1
        self.live[owner] += held.size_bytes
        self._by_kind[owner][kind] += held.size_bytes
        if self.live[owner] > self.peaks[owner].total_bytes:
            self.peaks[owner] = Peak(self.live[owner], dict(self._by_kind[owner]), self._seen, during)
        weakref.finalize(storage, self._forget, key)

    def mark(self, tensor: torch.Tensor, kind: str) -> None:
        """Say what a tensor's storage is for, at the peak too where it was there."""
        self.see(tensor)
        held = self._held.get(tensor.untyped_storage()._cdata)
        if held is None or held.kind == kind:
            return
        counts = [self._by_kind[held.owner]]
        if held.since < self.peaks[held.owner].seen:
            counts.append(self.peaks[held.owner].by_kind)
        for by_kind in counts:
            by_kind[held.kind] -= held.size_bytes
            by_kind[kind] += held.size_bytes
        held.kind = kind

    def _saved(self, tensor: torch.Tensor) -> torch.Tensor:
        """Autograd keeps it for the backward pass."""
        held = self._held.get(tensor.untyped_storage()._cdata)
        if held is not None and held.kind == TEMPORARIES:
            self.mark(tensor, ACTIVATIONS)
        return tensor.detach()  # itself, an output would hold the graph that holds it

    def _forget(self, key: int) -> None:
        held = self._held.pop(key)
        self.live[held.owner] -= held.size_bytes
        self._by_kind[held.owner][held.kind] -= held.size_bytes
