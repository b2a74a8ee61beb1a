"""Tensor work of a method outside ``node.compute``, which takes no emulated time: seen while it is rehearsed.

A ``TorchDispatchMode`` sees what is dispatched between computations, in the coroutines of the method and in what they
call. What the emulator does for itself (copies of what is posted, of weights for the evaluator) is not the method's,
nor is what is done before the first wait, when models and data are built, nor what is declared ``uncounted``. Views
cost nothing, nor does a look at a few values. What is left is charged to the line of the method that asked for it, at
the speed of the node's device.
"""

from __future__ import annotations

import contextlib
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from emulator.device import Work, duration_ns
from emulator.operators import work_of
from emulator.profiles import Device
from emulator.tensor_account import owner_now
from emulator.work import is_uncounted

LEAST_SHARE = 0.01  # of a node's computations: less than that moves no figure
FEW_BYTES = 256  # less is a look at a loss
MOST = 3  # lines that are named
_TORCH = str(Path(torch.__file__).parent)


class Uncharged(TorchDispatchMode):
    """Use as a context, around all that ``devices`` (by node) do in one thread. ``source``: the method's file."""

    def __init__(self, devices: Mapping[str, Device], source: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._devices, self._source = devices, source
        self._armed = False
        self._found: dict[str, dict[str, Work]] = defaultdict(lambda: defaultdict(Work))  # by node and line

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        node = owner_now()
        if self._armed and node in self._devices and not is_uncounted() and (line := _line_of(self._source)):
            work = work_of(func, args, kwargs or {}, out)
            real = not any(leaf.is_meta for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
            if real and (work.moved_bytes >= FEW_BYTES or work.dense_flops or work.depthwise_flops):
                self._found[node][f"{line} ({func.overloadpacket.__name__})"] += work
        return out

    def arm(self) -> None:
        """From now on: all have built what they need."""
        self._armed = True

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """A computation, which is charged by itself."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            self.__enter__()  # type: ignore[no-untyped-call]

    def lines(self, computed_ns: Mapping[str, int]) -> list[str]:
        """Of each node the lines that cost most, where they are a notable part of the time that it computes."""
        said: dict[str, None] = {}
        for node, found in self._found.items():
            device = self._devices[node]
            costs = {line: duration_ns(work, device) for line, work in found.items()}
            least_ns = LEAST_SHARE * computed_ns[node]
            if sum(costs.values()) < least_ns:
                continue
            worst = sorted(costs, key=lambda line: -costs[line])[:MOST]
            said |= dict.fromkeys(
                f"{line}, {costs[line] / 1e6:.2f} ms of {device.name} beside {computed_ns[node] / 1e6:.2f} ms"
                " that count"
                for line in worst
            )
        return list(said)


def _line_of(source: str | None) -> str:
    """``FILE:LINE`` of the innermost frame in ``source``, else of the innermost that is not torch's; "" where that is
    the emulator's."""
    frame, line = sys._getframe(2), ""
    while frame is not None:
        file, module = frame.f_code.co_filename, frame.f_globals.get("__name__", "")
        if not line and not file.startswith((_TORCH, "<")):
            if module.startswith("emulator."):
                return ""
            line = f"{Path(file).name}:{frame.f_lineno}"
        if file == source:
            return f"{Path(file).name}:{frame.f_lineno}"
        if frame.f_back is None:
            return line
        frame = frame.f_back
    return line
