"""What runs to record layers: the main graph with functions unfolded, inner tensors shown.

A tensor inside of a subgraph is shown by one more output of the node that owns the subgraph: of an
If the other branch gives an empty tensor, of a Loop or a Scan the iterations are stacked.  Where
their shapes turn out to differ, a Loop hands all values on from turn to turn instead, one behind
the other, and their shapes beside them; a Scan cannot.  The written model knows nothing of it.

Layers whose inputs are only there once their own node runs (those inside of a subgraph, and the
recurrent weights, which read the hidden states) are recorded by a *probe*: a copy of that node
which runs before it and hands out nothing but what it shows.  In a cascade all layers inside of one
node are recorded by one run of its probe: they read what the pruned network delivers to the node,
while the other layers inside of it are still dense; after they are pruned the node itself runs with
their new weights.  Where no weights change (the parallel scheme), node and probe are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.flatten import Subgraph
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Layer, Site
from nettrim_cli.graph.ops import Unsupported

SHAPES = "#shapes"
NodeContext = tuple[int, int]
"""A subgraph: number of its owner, and which of the owner's."""


@dataclass(frozen=True)
class Export:
    """An inner tensor on its way out: its name in the subgraph, and the owner's output.

    Attributes
    ----------
    first
        Whether it is the tensor itself, not what an inner node shows of it.
    shapes
        Where its values are carried, the owner's output that has their shapes; empty for one that
        cannot be carried.
    """

    inner: str
    outer: str
    first: bool
    shapes: str


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
class ScheduledNode:
    """A node of the main graph (its number), or its probe, with what it makes for others."""

    node: int
    reads: frozenset[str]
    outputs: tuple[str, ...]
    probe: bool = False


class CapturePlan:
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
    shapes
        What comes out of a subgraph, and the output that has its shapes where values are carried
        (empty where they cannot be).
    turning
        Those of them that come out of an iterating node.
    """

    def __init__(self, index: Index, layers: Iterable[Layer], *, cascade: bool) -> None:
        self.mark = "shown:"
        while any(name.startswith(self.mark) for name in index.all_names()):
            self.mark += ":"
        self.stored = {*index.initializers, *index.sparse}
        self.constants = set(index.constants)
        self.cascade = cascade
        self.shows: dict[NodeContext, list[Export]] = {}
        self.shapes: dict[str, str] = {}
        self.turning: set[str] = set()
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

    def _list_items(self) -> Iterator[ScheduledNode]:
        for node in self._index.flat.top:
            shown = tuple(dict.fromkeys(self._shown.get(node.number, ())))
            reads = frozenset(node.reads)
            if shown and self.cascade:
                yield ScheduledNode(node.number, reads, shown, probe=True)
                shown = ()
            own = tuple(name for name in node.output if name)
            added = tuple(name for name in shown if name not in own)
            yield ScheduledNode(node.number, reads, own + added)

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
            self._index.view(name)
        except Unsupported:
            return False
        return True

    def _show(self, body: Subgraph, source: str) -> Tap:
        """Lead a tensor out of the subgraph in which it is read."""
        owners = [each.owner for each in body.way]
        carried = not any(owner.op_type == "Scan" for owner in owners)
        name = source
        for each in body.way:
            there = self.shows.setdefault(each.place, [])
            known = next((show for show in there if show.inner == name), None)
            if known is None:
                outer = f"{self.mark}{len(self.shows)}.{len(there)}:{source}"
                shapes = f"{outer}{SHAPES}" if carried else ""
                known = Export(name, outer, name == source, shapes)
                there.append(known)
            name = known.outer
        stacked = sum(owner.iterates for owner in owners)
        self._shown.setdefault(owners[-1].number, []).append(name)
        self.shapes[name] = f"{name}{SHAPES}" if carried else ""
        if stacked:
            self.turning.add(name)
        return Tap(name, source, stacked=stacked)
