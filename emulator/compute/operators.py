"""Work of an operator of torch: FLOPs by a formula, or the bytes of its operands; names of those known by neither.

Bytes by decision: what torch tags as pointwise or as a reduction, and ``BY_BYTES``: a few operations for each value are
less than its way from and to memory. Views cost neither. Anything else is counted by its bytes too, but named: nothing
is known of its arithmetic. What a user registers with ``torch.utils.flop_counter.register_flop_formula`` is known.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from emulator.compute.device import Work
from emulator.compute.formulas import FORMULAS, RESULT, Formula, Given, tensor_bytes


def work_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Work:
    """The work of one dispatched operator, from its arguments and the value that it returned."""
    kind = _kind(func)
    if callable(kind):
        return kind({**_given(func, args, kwargs), RESULT: out})
    if kind == "query":
        return Work()
    if kind == "view":
        return Work(operations=1)
    if func.overloadpacket in flop_registry:
        flops = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out)
        return Work(operations=1, dense_flops=int(flops))
    unknown = (_name(func),) if kind == "unknown" else ()
    return Work(operations=1, moved_bytes=tensor_bytes((args, kwargs, out)), unknown=unknown)


def is_composite(func: Any) -> bool:
    """Whether it is taken apart into operators that cost something: in inference mode it is seen before that."""
    return _kind(func) == "composite"


def _name(func: Any) -> str:
    """As in a schema, without the overload: ``aten::addmm``."""
    return str(func._schema.name)


@functools.cache
def _kind(func: Any) -> Formula | str:
    name = _name(func)
    space, _, operator = name.partition("::")
    if space == "prim":  # asked of a tensor without a device of its own; an ordinary one answers undispatched
        return "query"
    has = functools.partial(torch._C._dispatch_has_kernel_for_dispatch_key, func.name())
    if has("CompositeImplicitAutograd") and not has("CPU"):
        return "composite"
    if formula := FORMULAS.get(name) or FORMULAS.get(name.removesuffix("_")):
        return formula
    if func.is_view:
        return "view"
    if space == "profiler" or (space == "aten" and _by_bytes(func, operator)):
        return "bytes"
    return "unknown"


def _by_bytes(func: Any, operator: str) -> bool:
    base = operator.removeprefix("_foreach_").removesuffix("_")
    packets = [packet for name in (operator, base) if (packet := getattr(torch.ops.aten, name, None))]
    tags = {tag for packet in packets for overload in packet.overloads() for tag in getattr(packet, overload).tags}
    if tags & {torch.Tag.pointwise, torch.Tag.reduction, torch.Tag.view_copy}:
        return True
    if not any("Tensor" in str(argument.type) for argument in func._schema.arguments if not argument.is_out):
        return True  # makes values from nothing
    stem = re.sub(r"(_backward(_data)?|_forward)$", "", base.removeprefix("_"))
    return any(pattern.fullmatch(stem) for pattern in PATTERNS)


def _given(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
    arguments = func._schema.arguments
    given = {argument.name: argument.default_value for argument in arguments if argument.has_default_value()}
    return {**given, **dict(zip((argument.name for argument in arguments), args, strict=False)), **kwargs}


# Operators without a tag that count by their bytes, by the reason: patterns of names, without "_" around them,
# "backward" and "foreach".
BY_BYTES = {
    "copies, makes or places values": r"""
        clone copy to_copy fill zero .*_like new_.* empty.* full cat stack hstack vstack
        unsafe_(view|split.*|(masked_)?index.*) split_with_sizes.* chunk_cat select slice .*_scatter diag.*
        block_diag flip roll repeat repeat_interleave rot90 index.* gather scatter.* take put
        masked_(fill|scatter|select) nonzero.* embedding_(dense|renorm) one_hot
        (constant|reflection|replication|circular)?_?pad.* (pixel|channel|native_channel)_(un)?shuffle
        (im2col|col2im) tri[lu].* unfold as_strided resize.* set.* detach view (t|transpose|(un)?squeeze|swap.*)
        lift.* max_unpool.* upsample_nearest.* (un)?pack_padded_sequence pad_packed_sequence nested_.*
        to_padded_tensor.* to_dense fused_dropout local_scalar_dense item equal is_.* record_stream assert_.*
        validate_.* efficientzerotensor complex polar conj.* (lin|log)space allclose isin pin_memory
        reshape_copy
    """,
    "draws values": r"""
        bernoulli normal.* uniform random.* exponential geometric cauchy log_normal multinomial randperm
        native_dropout poisson binomial standard_gamma sample_dirichlet dirichlet_grad
    """,
    "normalises: a few operations for each value": r"""
        native_.*norm.* batch_norm.* .*softmax fused_rms_norm renorm (fused_)?weight_norm.* norm.* dist
        linalg_vector_norm var.* std.* log_?cumsumexp logsumexp
    """,
    "an activation or a loss: a few operations for each value": r"""
        (?!linear).*_loss.* binary_cross_entropy.* (elu|glu|swish) (hard|soft)(shrink|sigmoid|swish|tanh)
        log_sigmoid tanh leaky_relu add_relu rrelu.* mish softplus prelu_kernel infinitely_differentiable_gelu
        threshold floor_divide linalg_cross masked_scale
    """,
    "compares or adds what is in a window: once for each value of a window": r"""
        .*(max|avg)_pool.*
    """,
    "orders values, or adds them in passing": r"""
        sort.* argsort topk kthvalue (nan)?median mode unique.* searchsorted bucketize histc histogram.*
        bincount cum.* .*cum(sum|prod|max|min).* (arg)?(min|max) aminmax trace segment_reduce
    """,
    "an optimizer's step: a few operations for each value": r"""
        fused_(adam.*|adagrad|sgd) amp_.*
    """,
}
PATTERNS = [re.compile("|".join(words.split())) for words in BY_BYTES.values()]
