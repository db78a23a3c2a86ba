"""The plan of a run that records layers: the main graph with functions inlined, and exports.

A tensor inside a subgraph is exported by one more output of the node that owns the subgraph.  For
an If, the other branch gives an empty tensor; for a Loop or a Scan, the iterations are stacked.
Where their shapes turn out to differ, a Loop carries all values from iteration to iteration
instead, one behind the other, with their shapes beside them; a Scan cannot.  The written model has
none of these outputs.

Some layers have inputs that exist only while their own node runs: those inside a subgraph, and
recurrent weights, which read the hidden states.  They are recorded by a *probe*, a copy of that
node which runs before it and has the exports alone as outputs.  In a cascade, one run of the probe
records all layers inside the node: they read the pruned network's tensors, while the other layers
inside are still dense.  After they are pruned, the node itself runs with their new weights.  Where
no weights change (the parallel scheme), node and probe are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.flat_graph import Subgraph
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Layer, Site
from nettrim_cli.graph.ops import Unsupported

SHAPES = "#shapes"
"""End of the name of an output with the shapes of another."""

SubgraphKey = tuple[int, int]
"""The key of a subgraph: number of its owner, and its position among the owner's."""


@dataclass(frozen=True)
class Export:
    """An inner tensor that leaves a subgraph.

    Attributes
    ----------
    inner, outer
        Its name in the subgraph, and the owner's output.
    innermost
        Whether it is the tensor itself, not the export of an inner node.
    shapes
        The owner's output with the shapes of its values where these are carried; empty for a tensor
        that cannot be carried.
    """

    inner: str
    outer: str
    innermost: bool
    shapes: str


@dataclass(frozen=True)
class Tap:
    """The place where the values of a tensor can be read while a plan runs.

    Attributes
    ----------
    name
        Tensor in the graph that runs; empty for a stored constant.
    source
        The tensor's own name.
    stacked
        Number of leading axes that count iterations.
    """

    name: str
    source: str
    stacked: int = 0


@dataclass(frozen=True)
class ScheduledNode:
    """A node of the main graph, or its probe.

    Attributes
    ----------
    node
        Number of the node.
    reads, outputs
        Tensors that it reads, and those that it makes for others.
    probe
        Whether it is the node's probe.
    """

    node: int
    reads: frozenset[str]
    outputs: tuple[str, ...]
    probe: bool = False


class CapturePlan:
    """A schedule of all nodes in dataflow order, and the tensors that sites read in it.

    Parameters
    ----------
    index
        The model.
    layers
        The layers to record.
    cascade
        Whether weights change on the way.

    Attributes
    ----------
    schedule
        The nodes and probes in the order in which they run.
    stored, constants
        Names of stored tensors, and of those that no sample changes.
    prefix
        Beginning of new names.
    exports
        Tensors that leave a subgraph, by its key.
    shapes
        For each exported tensor of the main graph the output with its shapes where values are
        carried (empty where they cannot be).
    iterated
        Exported tensors of nodes that iterate.
    unnamed_outputs
        New names of outputs that have none in the model, by node and slot.
    """

    def __init__(self, index: Index, layers: Iterable[Layer], *, cascade: bool) -> None:
        self.prefix = "shown:"
        while any(name.startswith(self.prefix) for name in index.all_names()):
            self.prefix += ":"
        self.stored = {*index.initializers, *index.sparse}
        self.constants = set(index.constants)
        self.cascade = cascade
        self.exports: dict[SubgraphKey, list[Export]] = {}
        self.shapes: dict[str, str] = {}
        self.iterated: set[str] = set()
        self.unnamed_outputs: dict[int, dict[int, str]] = {}
        self._index = index
        self._exported: dict[int, list[str]] = {}
        self._taps: dict[tuple[int, int], dict[str, Tap]] = {}
        for layer in layers:
            for site in layer.sites:
                self._taps[site.node, site.geometry.slot] = self._find_taps(site)
        self.schedule = list(self._list_schedule())

    def taps(self, site: Site) -> Mapping[str, Tap]:
        """Taps of the tensors that a site reads, by role."""
        return self._taps[site.node, site.geometry.slot]

    def computed_by(self, position: int) -> set[str]:
        """All tensors of the flat view that the node at a position of the schedule computes."""
        names: set[str] = set()
        pending = [self._index.nodes[self.schedule[position].node]]
        while pending:
            node = pending.pop()
            names.update(node.output)
            for subgraph in node.subgraphs:
                names.update(subgraph.inputs)
                pending.extend(subgraph.nodes)
        return names - {""}

    def _list_schedule(self) -> Iterator[ScheduledNode]:
        for node in self._index.flat.main_nodes:
            exported = tuple(dict.fromkeys(self._exported.get(node.number, ())))
            reads = node.reads
            if exported and self.cascade:
                yield ScheduledNode(node.number, reads, exported, probe=True)
                exported = ()
            results = tuple(name for name in node.output if name)
            exported = tuple(name for name in exported if name not in results)
            yield ScheduledNode(node.number, reads, results + exported)

    def _find_taps(self, site: Site) -> dict[str, Tap]:
        node = self._index.nodes[site.node]
        taps: dict[str, Tap] = {}
        for role, (kind, slot) in ops.reads(site.geometry).items():
            name = site.reads.get(role)
            if name is None:
                continue
            if kind == "output" and (slot >= len(node.output) or not node.output[slot]):
                self.unnamed_outputs.setdefault(node.number, {})[slot] = name
            # An output that has no name in the model depends on the same tensors as the named ones.
            unnamed = name in self.unnamed_outputs.get(node.number, {}).values()
            source = next(filter(None, node.output), name) if unnamed else name
            if self._is_stored(name):
                taps[role] = Tap("", name)
            elif node.parent is not None:
                taps[role] = replace(self._export(node.parent, name), source=source)
            elif kind == "output":
                exported = self.prefix + name if self.cascade else name
                self._exported.setdefault(node.number, []).append(exported)
                taps[role] = Tap(exported, source)
            else:
                self.constants.discard(name)  # a computed one is recorded as if it changed
                taps[role] = Tap(name, name)
        return taps

    def _is_stored(self, name: str) -> bool:
        """Whether the value of a tensor can be read without running any node."""
        if name not in self._index.constants:
            return False
        try:
            self._index.view(name)
        except Unsupported:
            return False
        return True

    def _export(self, subgraph: Subgraph, source: str) -> Tap:
        """Export a tensor from the subgraph in which it is read, through all that enclose it."""
        owners = [graph.owner for graph in subgraph.enclosing]
        carried = all(owner.carries or not owner.iterates for owner in owners)
        name = source
        for graph in subgraph.enclosing:
            exports = self.exports.setdefault(graph.key, [])
            export = next((export for export in exports if export.inner == name), None)
            if export is None:
                outer = f"{self.prefix}{len(self.exports)}.{len(exports)}:{source}"
                shapes = f"{outer}{SHAPES}" if carried else ""
                export = Export(name, outer, name == source, shapes)
                exports.append(export)
            name = export.outer
        stacked = sum(owner.iterates for owner in owners)
        self._exported.setdefault(owners[-1].number, []).append(name)
        self.shapes[name] = f"{name}{SHAPES}" if carried else ""
        if stacked:
            self.iterated.add(name)
        return Tap(name, source, stacked=stacked)
