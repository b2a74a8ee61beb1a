"""How many bytes of tensors are alive, by the node that made them, where several nodes share one process.

Every tensor that an operation returns is looked at once; its storage counts from then until it is freed. What torch
and the allocator need besides (workspaces, rounding, fragments) is not in it. The idea is that of PyTorch's
``torch.distributed._tools.mem_tracker``, for owners instead of modules.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_owner: ContextVar[str] = ContextVar("owner", default="")


@contextmanager
def owned_by(name: str) -> Iterator[None]:
    """What is made in here, and by tasks that begin in here, belongs to ``name``."""
    token = _owner.set(name)
    try:
        yield
    finally:
        _owner.reset(token)


class TensorAccount(TorchDispatchMode):
    """Use as a context. ``live`` and ``peak``: bytes by owner; what nobody owns is under ""."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: dict[str, int] = defaultdict(int)
        self.peak: dict[str, int] = defaultdict(int)
        self._known: set[int] = set()

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
        key, size_bytes, owner = storage._cdata, storage.nbytes(), _owner.get()
        if key in self._known or tensor.is_meta:
            return
        self._known.add(key)
        self.live[owner] += size_bytes
        self.peak[owner] = max(self.peak[owner], self.live[owner])
        weakref.finalize(storage, self._forget, key, size_bytes, owner)

    def _forget(self, key: int, size_bytes: int, owner: str) -> None:
        self._known.discard(key)
        self.live[owner] -= size_bytes
