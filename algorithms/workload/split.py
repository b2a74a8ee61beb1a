"""A model cut in two wherever one tensor alone is what the rest needs.

    x [B, C, H, W] -> client half -> z (the smashed batch) -> server half -> logits [B, classes]

The model is traced (``torch.fx``) into a graph of its computations, which is cut behind a node that everything from the
image to the logits passes. A cut has the name of the outermost module that ends there. Keys of state dicts stay the
model's, so the two halves' states together are the whole's. Tracing looks at no values: a skeleton can be cut.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torchvision.models.feature_extraction import DualGraphModule

from algorithms.data import user_objects
from algorithms.models.lora import Adapted
from algorithms.workload.models import first_line
from emulator.errors import UserError
from emulator.transport.messages import StateDict

HALVES = ("client", "server")
MOST_NAMED = 12  # cuts, in one line


NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


class Half(DualGraphModule):  # type: ignore[misc]
    """One part of a traced model, with the graph of the mode it is in."""

    def extra_repr(self) -> str:
        """The code of the graph: halves that compute different things differ in ``repr``, equal ones do not."""
        return str(self.code).strip()


class CutPoint(NamedTuple):
    """Where a model can be cut: behind the node ``node`` of its graphs."""

    name: str  # the outermost module that ends there
    aliases: tuple[str, ...]  # modules inside it that end there too
    node: str
    parameters: int
    server_parameters: int
    follower: str  # the module next to ``name`` that goes on with z, or ""
    before_norm: bool  # it is a normalisation: the cut is inside what is one layer to most people


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # else what is computed from a buffer would become a constant

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # torchvision's building blocks, as in its own feature extraction: stochastic depth depends on the mode
        # an adapted layer is one layer, as it is without
        by_itself = isinstance(m, Adapted) or m.__module__.startswith("torchvision.ops")
        return by_itself or super().is_leaf_module(m, module_qualified_name)


class Traced:
    """A model and its graphs; UserError, naming ``model``, where it has none. The model is left in train mode."""

    def __init__(self, module: nn.Module, model: str) -> None:
        self.module, self.model = module, model
        try:
            self.eval_graph = _Tracer().trace(module.eval())
            self.train_graph = _Tracer().trace(module.train())
        except Exception as error:  # whatever a model's forward makes of symbols
            raise UserError(f"model: {model} cannot be cut: it cannot be traced {_why(error, model)}") from None
        finally:
            module.train()
        if not isinstance(returned := _output(self.train_graph), fx.Node):
            kind = type(returned).__name__
            raise UserError(f"model: {model} returns a {kind}: its forward must return one tensor, the output alone")
        if _outline(self.train_graph) != _outline(self.eval_graph):
            raise UserError(f"model: {model} cannot be cut, since it is another in training: take another")
        self.points = _points(self.train_graph, module, model)

    def half(self, cut: str, which: str) -> Half:
        """The client's or the server's half; it shares parameters and buffers with the model."""
        node = named(self.model, cut, self.points).node
        graphs = (_part(graph, node, which) for graph in (self.train_graph, self.eval_graph))
        return Half(self.module, *graphs)


def _why(error: Exception, model: str) -> str:
    """What torch said of a model, and what to do; a user's model by its own line."""
    if not user_objects.is_named(model):
        return f"({first_line(error)}); take another"
    where, said = user_objects.where(error, model), user_objects.said(error)
    return (
        f"at {where}: {said}; write split(model, cut) -> (client, server) beside it, or make it an nn.Sequential,"
        " which is cut between its layers"
    )


def named(model: str, cut: str, points: Sequence[CutPoint]) -> CutPoint:
    """The point called ``cut``; UserError with those that exist."""
    for point in points:
        if cut == point.name or cut in point.aliases:
            return point
    names = [point.name for point in points]
    few = names if len(names) <= MOST_NAMED else [name for name in names if name.count(".") < 2][:MOST_NAMED]
    more = "" if len(few) == len(names) else f", ...: 'run.py cuts {model}' lists all {len(names)}"
    raise UserError(f"cut: {model} has no cut {cut!r}: say one of {', '.join(few)}{more}")


def divide_state(state: StateDict, client: set[str]) -> dict[str, StateDict]:
    """The state of a whole model as ``{"client": ..., "server": ...}``, the client's being the keys of ``client``.

    The tensors are shared, not copied.
    """
    parts: dict[str, StateDict] = {"client": {}, "server": {}}
    for key, tensor in state.items():
        parts["client" if key in client else "server"][key] = tensor
    return parts


def _outline(graph: fx.Graph) -> list[tuple[str, str, str]]:
    """What must be equal in both modes for a cut to be in the same place; arguments, such as ``training``, differ."""
    return [(node.op, str(node.target), node.name) for node in graph.nodes]


def _output(graph: fx.Graph) -> Any:
    (output,) = (node for node in graph.nodes if node.op == "output")
    return output.args[0]


def _result(graph: fx.Graph) -> fx.Node:
    result = _output(graph)
    assert isinstance(result, fx.Node)
    return result


def _before(result: fx.Node, source: fx.Node | None = None) -> set[fx.Node]:
    """``result`` and everything it is computed from, not looking behind ``source``."""
    found, left = {result}, [result]
    while left:
        node = left.pop()
        for other in node.all_input_nodes if node is not source else ():
            if other not in found:
                found.add(other)
                left.append(other)
    return found


def _part(graph: fx.Graph, cut: str, which: str) -> fx.Graph:
    """The part of ``graph`` up to the node ``cut``, or from it on with z as its input."""
    (node,) = (node for node in graph.nodes if node.name == cut)
    part, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    result, source = (node, None) if which == "client" else (_result(graph), node)
    wanted = _before(result, source)
    if source is not None:
        copies[source] = part.placeholder("z")
        wanted.discard(source)
    for other in graph.nodes:
        if other in wanted:
            copies[other] = part.node_copy(other, copies.__getitem__)
    part.output(copies[result])
    return part


def _points(graph: fx.Graph, module: nn.Module, model: str) -> list[CutPoint]:
    """Every cut with parameters on both sides, and no parameter or buffer on both, in order of execution."""
    needed = _before(_result(graph))
    path = _path(graph, needed)
    span = _spans(graph, path, needed, module)
    state = {id(tensor): key for key, tensor in module.state_dict(keep_vars=True).items()}
    unused = [state[tensor] for tensor in state.keys() - span.keys()]
    if unused or span.keys() - state.keys():
        what = f"{sorted(unused)[0]} is not used" if unused else "it has constants beside its weights"
        raise UserError(f"model: {model} cannot be cut, since {what}: take another")
    calls = [list((_call(node).meta.get("nn_module_stack") or {}).items()) for node in path]
    ends = {key: place for place, stack in enumerate(calls) for key, _ in stack}
    often = Counter({key: name for stack in calls for key, (name, _) in stack}.values())
    sizes = {id(parameter): parameter.numel() for parameter in module.parameters()}
    points = []
    for place in _bottlenecks(path):
        names = [name for key, (name, _) in calls[place] if ends[key] == place and often[name] == 1]
        crossed = any(first <= place < last for first, last in span.values())
        client = sum(size for tensor, size in sizes.items() if span[tensor][1] <= place)
        server = sum(size for tensor, size in sizes.items() if span[tensor][0] > place)
        if names and client and server and not crossed:
            follower = _beside(names[0], [name for _, (name, _) in calls[place + 1]])
            norm = isinstance(module.get_submodule(follower), NORMS)
            points.append(CutPoint(names[0], tuple(names[1:]), path[place].name, client, server, follower, norm))
    return points


def _call(node: fx.Node) -> fx.Node:
    """The call that a node's value is of: of a part of what a recurrent layer returned, that layer's. Not of a slice,
    such as a class token."""
    while node.target is operator.getitem and isinstance(node.args[0], fx.Node) and isinstance(node.args[1], int):
        node = node.args[0]
    return node


def _beside(name: str, candidates: list[str]) -> str:
    """The module of the same level as ``name`` among ``candidates``."""
    parent = name.rpartition(".")[0]
    return next((other for other in candidates if other.rpartition(".")[0] == parent), "")


def _path(graph: fx.Graph, needed: set[fx.Node]) -> list[fx.Node]:
    """The nodes between image and logits, in order of execution: what depends on the image and is ``needed``."""
    (image,) = (node for node in graph.nodes if node.op == "placeholder")
    path: dict[fx.Node, None] = {image: None}
    for node in graph.nodes:
        if node in needed and any(other in path for other in node.all_input_nodes):
            path[node] = None
    return list(path)


def _bottlenecks(path: list[fx.Node]) -> Iterator[int]:
    """Places on the path (but the image's and the last) after which the value there is all that is still needed."""
    on_path, alive = set(path), dict[fx.Node, int]()
    for place, node in enumerate(path[:-1]):
        for other in node.all_input_nodes:
            if other in alive:
                alive[other] -= 1
                if not alive[other]:
                    del alive[other]
        alive[node] = sum(user in on_path for user in node.users)
        if place and len(alive) == 1:
            yield place


def _spans(graph: fx.Graph, path: list[fx.Node], needed: set[fx.Node], module: nn.Module) -> dict[int, tuple[int, int]]:
    """Parameter or buffer, by id -> the first and the last place on the path that it is used for."""
    of_node = {node: (place, place) for place, node in enumerate(path)}
    found: dict[int, tuple[int, int]] = {}
    for node in reversed(graph.nodes):
        if node not in needed:
            continue
        if node not in of_node:  # computed from weights alone: where those are needed that need it
            spans = [of_node[user] for user in node.users if user in of_node]
            of_node[node] = (min(first for first, _ in spans), max(last for _, last in spans))
        tensors: list[torch.Tensor] = []
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            tensors = [*layer.parameters(), *layer.buffers()]
        elif node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            tensors = [getattr(module.get_submodule(owner), name)]
        for tensor in tensors:
            first, last = found.get(id(tensor), of_node[node])
            found[id(tensor)] = min(first, of_node[node][0]), max(last, of_node[node][1])
    return found
