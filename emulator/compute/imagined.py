"""A CPU without values: what is dispatched there, and so what is counted, is what a run dispatches, at no cost.

On the meta device torch takes attention and recurrent layers apart, and lays results out otherwise.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only

# torch's own notion of these results has the layout of a gradient; that of the CPU's kernels is always dense
_DENSE = frozenset({"aten::native_layer_norm_backward", "aten::mkldnn_rnn_layer_backward"})


class Imagined(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """In it operations on tensors of the CPU compute nothing: results have their shapes, and memory that is never
    touched, so that the system gives them none. What depends on values is undefined, or raises where a shape does.

    Not torch's fake tensors: autograd deals with in-place operations on views of such in other operations.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, schema = kwargs or {}, func._schema
        if func.is_view or torch.Tag.inplace_view in func.tags or func.namespace == "profiler":
            return func(*args, **kwargs)
        given = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | kwargs
        if all(result.alias_info is not None and result.alias_info.is_write for result in schema.returns):
            written = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
            found = [given[name] for name in written[: len(schema.returns)]]
            return tuple(found) if len(found) > 1 else next(iter(found), None)
        shapes = func(*tree_map(_as_shape, args), **tree_map(_as_shape, kwargs))
        results = tree_map_only(torch.Tensor, partial(_untouched, dense=schema.name in _DENSE), shapes)
        if asked := given.get("output_mask"):  # of a backward pass
            return tuple(result if wanted else None for result, wanted in zip(results, asked, strict=True))
        return results


def _as_shape(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    return torch.device("meta") if isinstance(value, torch.device) else value


def _untouched(shape: torch.Tensor, *, dense: bool) -> torch.Tensor:
    if dense:
        return torch.empty(shape.shape, dtype=shape.dtype)
    return torch.empty_strided(shape.shape, shape.stride(), dtype=shape.dtype)
