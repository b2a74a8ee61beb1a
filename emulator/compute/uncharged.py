"""Tensor work of a method outside ``node.compute``, which takes no emulated time: seen while it is profiled.

A ``TorchDispatchMode`` sees what is dispatched between computations, in the coroutines of the method and in what they
call. What the emulator does for itself (copies of what is posted, of weights for the evaluator) is not the method's,
nor is what is done before the first wait without FLOPs, when models and data are built, nor what is declared
``uncounted``. Views cost nothing, nor does a look at a few values. What is left is charged to the line of the method
that asked for it, at the speed of the node's device: FLOPs always, bytes where they are a notable part of what the node
computes. What profiling does not come to is not seen.
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

from emulator.compute.counting import is_uncounted
from emulator.compute.device import Work, duration_ns
from emulator.compute.operators import work_of
from emulator.compute.tensor_account import owner_now
from emulator.profiles.scenario import Device

LEAST_SHARE = 0.01  # of a node's computations: fewer bytes than that move no figure
FEW_BYTES = 256  # less is a look at a loss
MOST = 3  # lines that are named, and operators of each
_TORCH = str(Path(torch.__file__).parent)


class Uncharged(TorchDispatchMode):
    """Use as a context, around all that ``devices`` (by node) do in one thread. ``source``: the method's file."""

    def __init__(self, devices: Mapping[str, Device], source: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._devices, self._source = devices, source
        self._armed = False
        self._found: dict[tuple[str, str], dict[str, Work]] = defaultdict(lambda: defaultdict(Work))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        node = owner_now()
        if node not in self._devices or is_uncounted():
            return out
        work = work_of(func, args, kwargs or {}, out)
        notable = _flops(work) or (self._armed and work.moved_bytes >= FEW_BYTES)
        real = not any(leaf.is_meta for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
        if notable and real and (line := _line_of(self._source)):
            self._found[node, line][func.overloadpacket.__name__] += work
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
        """The lines that cost most, each with its operators and with the node that it relieves most of all.

        ``computed_ns``: by node, what its computations took.
        """
        worst: dict[str, tuple[float, str]] = {}
        moved_ns = {node: 0 for node, _ in self._found}
        for (node, _), works in self._found.items():
            moved_ns[node] += sum(duration_ns(work, self._devices[node]) for work in works.values())
        for (node, line), works in self._found.items():
            beside_ns = computed_ns.get(node, 0)
            if moved_ns[node] < LEAST_SHARE * beside_ns and not any(map(_flops, works.values())):
                continue
            device = self._devices[node]
            costs = {name: duration_ns(work, device) for name, work in works.items()}
            names = sorted(costs, key=lambda name: -costs[name])
            more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
            total_ns = sum(costs.values())
            text = (
                f"{line} ({', '.join(names[:MOST])}{more}), {total_ns / 1e6:.2f} ms of {device.name} beside"
                f" {beside_ns / 1e6:.2f} ms that count"
            )
            worst[line] = max(worst.get(line, (0.0, "")), (total_ns / max(beside_ns, 1), text))
        return [text for _, text in sorted(worst.values(), reverse=True)[:MOST]]


def _flops(work: Work) -> int:
    return work.dense_flops + work.depthwise_flops


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
