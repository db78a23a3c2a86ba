"""Two versions of a network cut at the same tensors, so that one can go on where the other stops.

A *cut* is all that is alive before a node of the dense graph.  The changed graph can go on there
if it has tensors of these names, and needs no others; that they mean the same is not asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nettrim_cli.graph.analysis.difference import differing_nodes
from nettrim_cli.graph.capture.plan import CapturePlan
from nettrim_cli.graph.capture.segments import Segment, Segments, build
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.graph.layers.paths import response_path
from nettrim_cli.graph.model import Model


@dataclass(frozen=True)
class Cut:
    """A place before which both networks are the dense one.

    Attributes
    ----------
    position
        Of the node of the dense graph before which the cut is.
    titles
        Layers that differ between this cut and the next, and nodes before the first of them.
    """

    position: int
    titles: tuple[str, ...]


def find_cuts(dense: Model, changed: Model) -> list[Cut]:
    """A cut before each layer that differs; what differs between two layers counts with the first.

    There are none where nothing differs.
    """
    differing, layers = differing_nodes(dense.index, changed.index), _layers_of_nodes(dense)
    cuts: list[Cut] = []
    for position, node in enumerate(dense.index.flat.main_nodes):
        if node.number not in differing:
            continue
        title = layers.get(node.number) or ("" if cuts else node.title)
        if title and (not cuts or title not in cuts[-1].titles):
            cuts.append(Cut(position, (title,)))
    return cuts


def merged(cuts: Sequence[Cut], starts: Collection[int]) -> list[Cut]:
    """Only the cuts of these numbers; what differs behind the others counts with the last before.

    Where the first one goes, there is a cut before all nodes in its place.
    """
    kept: list[Cut] = []
    for number, cut in enumerate(cuts):
        if number in starts:
            kept.append(cut)
        elif not kept:
            kept.append(replace(cut, position=0))
        else:
            titles = dict.fromkeys([*kept[-1].titles, *cut.titles])
            kept[-1] = replace(kept[-1], titles=tuple(titles))
    return kept


def grouped(cuts: Sequence[Cut], most: int) -> list[Cut]:
    """As many cuts at most, with about equal numbers of layers between them."""
    groups = np.array_split(np.arange(len(cuts)), min(most, len(cuts)) or 1)
    return merged(cuts, {int(group[0]) for group in groups if len(group)})


class Splices:
    """Both networks in pieces between cuts; piece 0 comes before the first one.

    Parameters
    ----------
    dense, changed
        The two versions of the network.
    cuts
        Where to cut; a cut at which the changed network cannot go on is left out.

    Attributes
    ----------
    cuts
        Those that remain.
    outputs
        Names of the outputs that depend on the samples in both networks.
    """

    def __init__(self, dense: Model, changed: Model, cuts: Sequence[Cut]) -> None:
        self._models = dense, changed
        self._plans = [CapturePlan(model.index, (), cascade=False) for model in self._models]
        names = [output.name for output in dense.outputs]
        computed = [
            _computed(model, plan) for model, plan in zip(self._models, self._plans, strict=True)
        ]
        self.outputs = [name for name in names if all(name in tensors for tensors in computed)]
        self.inputs = {tensor.name for tensor in dense.inputs}
        self.cuts = list(cuts)
        while not self._fits(computed[1]):
            pass

    @property
    def same_shapes(self) -> bool:
        """Whether both networks have the same nodes, and constants of the same shapes."""
        dense, changed = (model.index for model in self._models)
        return _shapes(dense) == _shapes(changed) and (
            [node.output for node in dense.nodes] == [node.output for node in changed.nodes]
        )

    def piece(self, number: int, *, changed: bool) -> Segment:
        """A piece of one of the networks."""
        return self._pieces[changed][number]

    def runnable(
        self, number: int, kinds: Mapping[str, tuple[Any, Any]], *, changed: bool
    ) -> Runnable:
        """A model of a piece; ``kinds`` are those of its inputs (see ``segments.build``)."""
        model, plan = self._models[changed], self._plans[changed]
        return build(model.index, plan, self.piece(number, changed=changed), kinds)

    def _fits(self, computed: Set[str]) -> bool:
        """Cut both networks; leaves out the first cut where the changed one needs other tensors."""
        alive = [*_alive(self._plans[0], self.outputs, [cut.position for cut in self.cuts])]
        stops = [[*map(sorted, alive), self.outputs], []]
        stops[1] = [[name for name in stop if name in computed] for stop in stops[0]]
        self._pieces = [
            Segments(plan, stop).pieces for plan, stop in zip(self._plans, stops, strict=True)
        ]
        for number, names in enumerate(alive):
            needed = self._pieces[1][number].needed
            if self.cuts[number].position and not needed <= names <= computed:
                self.cuts = merged(self.cuts, {*range(len(self.cuts))} - {number})
                return False
        return True


def _alive(
    plan: CapturePlan, outputs: Sequence[str], positions: Sequence[int]
) -> Iterator[frozenset[str]]:
    """For each position the tensors from before it that the outputs need from there on."""
    (needed,) = Segments(plan, [outputs]).pieces
    alive, before = set(outputs), {}
    for position in reversed(range(len(plan.schedule))):
        node = plan.schedule[position]
        if position in needed.positions and not plan.constants.issuperset(node.outputs):
            alive.difference_update(node.outputs)
            alive.update(node.reads - plan.stored - plan.constants)
        before[position] = frozenset(alive) if position in positions else frozenset()
    return (before[position] for position in positions)


def _computed(model: Model, plan: CapturePlan) -> set[str]:
    """Tensors of the main graph that depend on the samples."""
    names = {name for node in plan.schedule for name in node.outputs}
    return (names | {tensor.name for tensor in model.inputs}) - plan.constants


def _shapes(index: Index) -> dict[str, tuple[int, ...]]:
    """Shapes of stored tensors."""
    return {name: tuple(tensor.dims) for name, tensor in index.initializers.items()}


def _layers_of_nodes(model: Model) -> dict[int, str]:
    """The layer that a node of the main graph belongs to, or the first of those inside of it."""
    index = model.index
    names: dict[int, str] = {}
    for layer in model.layers:
        for site in layer.sites:
            node = index.nodes[site.node]
            path: tuple[int, ...] = (site.node,)
            if layer.prunable and node.parent is None:
                path, _ = response_path(index, layer, site)
            for number in path:
                names.setdefault(index.nodes[number].outermost.number, layer.name)
    return names
