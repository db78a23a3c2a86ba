"""What runs to record layers: the main graph with functions unfolded, inner tensors shown.

A tensor inside of a subgraph is shown by one more output of the node that owns the subgraph: of an
If the other branch gives an empty tensor, of a Loop or a Scan the iterations are stacked.  The
written model knows nothing of it.

Layers whose inputs are only there once their own node runs (those inside of a subgraph, and the
recurrent weights, which read the hidden states) are recorded by a *probe*: a copy of that node
which runs before it and hands out nothing but what it shows.  In a cascade all layers inside of one
node are recorded by one run of its probe: they read what the pruned network delivers to the node,
while the other layers inside of it are still dense; after they are pruned the node itself runs with
their new weights.  Where no weights change (the parallel scheme), node and probe are one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from nettrim_cli.graph import ops
from nettrim_cli.graph.flat import Body, Node
from nettrim_cli.graph.index import Index
from nettrim_cli.graph.layer import Layer, Site
from nettrim_cli.graph.ops import Refusal

Place = tuple[int, int]
"""A subgraph: number of its owner, and which of the owner's."""


@dataclass(frozen=True)
class Show:
    """An inner tensor on its way out: its name in the subgraph, and the owner's output."""

    inner: str
    outer: str
    cast: bool


@dataclass(frozen=True)
class Tap:
    """Where the values of a tensor come from, as a layer's columns want them.

    Attributes
    ----------
    name
        Tensor in the recording's graph; empty for one whose stored value it is.
    source
        The tensor's own name.
    stacked
        Leading axes that count iterations.
    """

    name: str
    source: str
    stacked: int = 0


@dataclass(frozen=True)
class Item:
    """A node of the main graph (its number), or its probe, with what it makes for others."""

    node: int
    reads: frozenset[str]
    outputs: tuple[str, ...]
    probe: bool = False


class Recording:
    """All that runs, in dataflow order, and where each site's tensors are then.

    Parameters
    ----------
    cascade
        Whether weights change on the way.

    Attributes
    ----------
    items
        What runs.
    stored, constants
        Names of stored tensors, and of those that no sample changes.
    """

    def __init__(self, index: Index, layers: Iterable[Layer], *, cascade: bool) -> None:
        self.mark = "shown:"
        while any(name.startswith(self.mark) for name in index.all_names()):
            self.mark += ":"
        self.stored = {*index.initializers, *index.sparse}
        self.constants = set(index.constants)
        self.cascade = cascade
        self.shows: dict[Place, list[Show]] = {}
        self.hidden: dict[int, dict[int, str]] = {}
        self._index = index
        self._shown: dict[int, list[str]] = {}
        self._taps: dict[tuple[int, int], dict[str, Tap]] = {}
        for layer in layers:
            for site in layer.sites:
                self._taps[site.node, site.geometry.slot] = self._find_taps(site)
        self.items = list(self._list_items())

    def taps(self, site: Site) -> Mapping[str, Tap]:
        """Where the tensors that a site reads come from, by role."""
        return self._taps[site.node, site.geometry.slot]

    def inside(self, at: int) -> set[str]:
        """All tensors of the flat view that an item computes."""
        names: set[str] = set()
        pending = [self._index.nodes[self.items[at].node]]
        while pending:
            node = pending.pop()
            names.update(node.output)
            for body in node.bodies:
                names.update(body.inputs)
                pending.extend(body.nodes)
        return names - {""}

    def _list_items(self) -> Iterator[Item]:
        for node in self._index.flat.top:
            shown = tuple(dict.fromkeys(self._shown.get(node.number, ())))
            reads = frozenset(node.reads)
            if shown and self.cascade:
                yield Item(node.number, reads, shown, probe=True)
                shown = ()
            own = tuple(name for name in node.output if name)
            added = tuple(name for name in shown if name not in own)
            yield Item(node.number, reads, own + added)

    def _find_taps(self, site: Site) -> dict[str, Tap]:
        node = self._index.nodes[site.node]
        found: dict[str, Tap] = {}
        for role, (kind, slot) in ops.reads(site.geometry).items():
            name = site.reads.get(role)
            if name is None:
                continue
            if kind == "output" and (slot >= len(node.output) or not node.output[slot]):
                self.hidden.setdefault(node.number, {})[slot] = name
            named = next(filter(None, node.output), name)
            # A result that has no name in the model depends on what the named ones do.
            source = name if name not in self.hidden.get(node.number, {}).values() else named
            if self._is_stored(name):
                found[role] = Tap("", name)
            elif node.body is not None:
                found[role] = replace(self._show(node.body, name), source=source)
            elif kind == "output":
                shown = self.mark + name if self.cascade else name
                self._shown.setdefault(node.number, []).append(shown)
                found[role] = Tap(shown, source)
            else:
                self.constants.discard(name)  # a computed one is recorded as if it changed
                found[role] = Tap(name, name)
        return found

    def _is_stored(self, name: str) -> bool:
        """Whether a tensor is a constant whose value is known without running anything."""
        if name not in self._index.constants:
            return False
        try:
            self._index.trace(name)
        except Refusal:
            return False
        return True

    def _show(self, body: Body, source: str) -> Tap:
        """Lead a tensor out of the subgraph in which it is read."""
        name, stacked, cast = source, 0, True
        for each in body.way:
            there = self.shows.setdefault(each.place, [])
            known = next((show for show in there if show.inner == name), None)
            if known is None:
                known = Show(name, f"{self.mark}{len(self.shows)}.{len(there)}:{source}", cast)
                there.append(known)
            name, cast = known.outer, False
            stacked += each.owner.iterates
            top = each.owner
        self._shown.setdefault(top.number, []).append(name)
        return Tap(name, source, stacked=stacked)


class Writer:
    """Writes nodes of the flat view as protobuf again, under flat names.

    Parameters
    ----------
    plan
        What is to be shown; nothing by default.
    rename
        Other names for tensors, those inside of subgraphs among them.
    """

    def __init__(
        self,
        index: Index,
        plan: Recording | None = None,
        rename: Callable[[str], str] = lambda name: name,
    ) -> None:
        self.index, self.plan, self.rename = index, plan, rename

    def model(self, name: str) -> onnx.ModelProto:
        """A model without nodes that knows the operators of this one."""
        made = onnx.ModelProto(ir_version=max(4, self.index.model.ir_version))
        for domain, version in self.index.flat.versions.items():
            made.opset_import.add(domain=domain, version=version)
        made.graph.name = name
        return made

    def node(self, node: Node, *, probe: bool = False) -> onnx.NodeProto:
        """A node; a probe hands its own results out under names that nobody reads."""
        outputs = self._outputs(node)
        if probe and self.plan is not None:
            outputs = [name and self.plan.mark + name for name in outputs]
        made = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        made.input.extend(self.rename(name) for name in node.input)
        shown = self._shown(node)
        if shown:
            wanted = len(node.bodies[0].graph.output) - (node.op_type == "Loop")
            outputs += [f"{shown[0].outer}#{at}" for at in range(len(outputs), wanted)]
            outputs = [name or f"{shown[0].outer}#{at}" for at, name in enumerate(outputs)]
            outputs += [show.outer for show in shown]
        made.output.extend(self.rename(name) for name in outputs)
        graphs = iter(enumerate(node.bodies))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                copy = made.attribute.add(name=attribute.name, type=attribute.type)
                copy.g.CopyFrom(self._graph(node, *next(graphs), shown))
            elif attribute.graphs:
                copy = made.attribute.add(name=attribute.name, type=attribute.type)
                copy.graphs.extend(
                    self._graph(node, *next(graphs), shown) for _ in attribute.graphs
                )
            else:
                made.attribute.append(attribute)
        if node.op_type == "Scan" and shown:
            for attribute in made.attribute:
                if attribute.name in ("scan_output_axes", "scan_output_directions"):
                    attribute.ints.extend([0] * len(shown))
        return made

    def _outputs(self, node: Node) -> list[str]:
        outputs = list(node.output)
        hidden = {} if self.plan is None else self.plan.hidden.get(node.number, {})
        for slot, name in hidden.items():
            outputs += [""] * (slot + 1 - len(outputs))
            outputs[slot] = name
        return outputs

    def _shown(self, node: Node) -> list[Show]:
        if self.plan is None:
            return []
        places = ((node.number, at) for at in range(len(node.bodies)))
        return [show for place in places for show in self.plan.shows.get(place, ())]

    def _graph(self, owner: Node, at: int, body: Body, shown: Sequence[Show]) -> onnx.GraphProto:
        """A subgraph under flat names; what another branch shows is empty here."""
        made = onnx.GraphProto(name=body.graph.name)
        for name, tensor in body.initializers.items():
            made.initializer.add().CopyFrom(tensor)
            made.initializer[-1].name = self.rename(name)
        for name, sparse in body.sparse.items():
            made.sparse_initializer.add().CopyFrom(sparse)
            made.sparse_initializer[-1].values.name = self.rename(name)
        for names, values, target in (
            (body.inputs, body.graph.input, made.input),
            (body.outputs, body.graph.output, made.output),
        ):
            for name, value in zip(names, values):
                target.add().CopyFrom(value)
                target[-1].name = self.rename(name)
        made.node.extend(self.node(node) for node in body.nodes)
        mine = () if self.plan is None else self.plan.shows.get((owner.number, at), ())
        for show in shown:
            out = f"{show.outer}~{at}"
            if show not in mine:
                empty = helper.make_tensor(out, TensorProto.FLOAT, [0], [])
                made.node.append(helper.make_node("Constant", [], [out], value=empty))
            elif show.cast:
                made.node.append(
                    helper.make_node("Cast", [show.inner], [out], to=TensorProto.FLOAT)
                )
            else:
                made.node.append(helper.make_node("Identity", [show.inner], [out]))
            made.output.append(onnx.ValueInfoProto(name=out))
        return made


def value_type(name: str, kind: Any, rank: int | None) -> onnx.TypeProto:
    """Type of a value by dtype and rank, or as the engine spells it: ``seq(tensor(float))``."""
    if not isinstance(kind, str):
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        axes = None if rank is None else [f"{name}.{axis}" for axis in range(rank)]
        return helper.make_tensor_type_proto(dtype, axes)
    outer, inner = kind.rstrip(")").split("(", 1)
    if outer == "seq":
        return helper.make_sequence_type_proto(value_type(name, inner, None))
    if outer == "optional":
        return helper.make_optional_type_proto(value_type(name, inner, None))
    return helper.make_tensor_type_proto(TensorProto.DataType.Value(inner.upper()), None)
