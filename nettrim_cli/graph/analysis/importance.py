"""How much each output of a layer matters to the network's outputs: an estimate.

An error of variance v in one channel of a tensor makes some error in the model's outputs; the
*energy* of the channel is how much of it for a v of 1, to first order, with activations taken as
passing everything on and signals as independent.  It is handed back through the graph: a layer
with weights U gives its input i the energy ``sum over m of U_im^2 energy_m``, a tensor with several
readers gets the sum of what they give it.  Only the relative sizes within one layer are used: they
decide in which outputs the kept weights do most good.

Where channels cannot be followed, all get the mean.  How each op hands it back is its entry's
``importance`` (``nettrim_cli.graph.ops``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.flat_graph import ENTER, Node
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Layer, Site
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.ops.context import Energy, ImportanceContext
from nettrim_cli.graph.ops.importance_rules import ONE, fitted, mean

if TYPE_CHECKING:
    from nettrim_cli.graph.model import Model

LEAST = 1e-2  # of the root mean square importance, that every output has


def output_importance(model: Model) -> dict[str, list[NDArray[np.float64]]]:
    """Importance of each output of the prunable layers, block by block, with mean square 1.

    Returns
    -------
    dict
        By name, an array (M,) for each block: the root of the energy behind what the layer's
        outputs are scaled with.  Layers whose outputs matter alike, as far as is known, are not
        in it.
    """
    energies = _Energies(model)
    energies.hand_back()
    importance = {}
    for layer in model.layers:
        if layer.prunable and (blocks := _of_layer(layer, energies.at_sites(layer))):
            importance[layer.name] = blocks
    return importance


def blended(
    first: Mapping[str, Sequence[NDArray[np.float64]]],
    second: Mapping[str, Sequence[NDArray[np.float64]]],
) -> dict[str, list[NDArray[np.float64]]]:
    """Geometric means of the importance in two versions of a model, with mean square 1 again.

    Of a layer that is in one of them only, that one's: an array (M,) for each block.
    """
    result = {**first, **second}
    for name in first.keys() & second.keys():
        pairs = zip(first[name], second[name], strict=True)
        joint = [np.sqrt(a * b) for a, b in pairs]
        size = np.sqrt(np.mean(np.square(np.concatenate(joint))))
        result[name] = [block / size for block in joint]
    return {name: list(blocks) for name, blocks in result.items()}


def _of_layer(layer: Layer, energy: Energy) -> list[NDArray[np.float64]]:
    """The importance (M,) of each block's outputs; [] where all are alike."""
    if energy.size == 1 or not np.isfinite(energy).all():
        return []
    scale = layer.response.scale
    if scale is not None:  # solvers apply it themselves
        squares = np.square(scale, dtype=np.float64)
        energy = np.divide(energy, squares, out=np.zeros_like(energy), where=squares > 0)
    average = float(energy.mean())
    if not 0 < average < np.inf:
        return []
    return layer.split_blocks(np.maximum(np.sqrt(energy / average), LEAST))


class _Energies:
    """Energy of each tensor's channels, summed up from its readers."""

    def __init__(self, model: Model) -> None:
        self.model, self.index = model, model.index
        self.of: dict[str, Energy] = {}
        self.sites: dict[int, list[tuple[Layer, Site]]] = {}
        for layer in model.layers:
            for site in layer.sites if layer.prunable else ():
                self.sites.setdefault(site.node, []).append((layer, site))
        self.widths = _widths(self.index, self.sites)

    def hand_back(self) -> None:
        """From the outputs of the model to its inputs."""
        for name in self.index.outputs:
            self._add(name, np.ones(1))
        for node in reversed(self.index.nodes):
            energies = [self.of.get(name) for name in node.output]
            if all(energy is None for energy in energies):
                continue
            if node.subgraphs:
                # The further outputs of a Loop's body are its condition.
                for body in node.subgraphs:
                    pairs = zip(reversed(body.outputs), reversed(energies), strict=False)
                    for name, energy in pairs:
                        self._add(name, energy)
            elif node.number in self.sites:
                for layer, site in self.sites[node.number]:
                    self._through_layer(layer, site)
            else:
                for slot, energy in self._before(node, energies).items():
                    if slot < len(node.input):
                        self._add(node.input[slot], energy)

    def at_sites(self, layer: Layer) -> Energy:
        """Energy of a layer's outputs, over all places that read its weight."""
        return _sum([self._at(layer, site) for site in layer.sites])

    def _at(self, layer: Layer, site: Site) -> Energy:
        return fitted(self.of.get(site.output, ONE), layer.shape[1])

    def _through_layer(self, layer: Layer, site: Site) -> None:
        """The energy of a layer's input: ``sum over m of U_im^2 energy_m``."""
        if list(site.reads) != ["x"]:
            return
        energies = layer.split_blocks(np.broadcast_to(self._at(layer, site), layer.shape[1]))
        weights, _ = self.model.weight(layer)
        pairs = zip(weights, energies, strict=True)
        blocks = [np.square(U, dtype=np.float64) @ energy for U, energy in pairs]
        op = ops.weight_op(layer.geometry)
        self._add(site.reads["x"], op.input_importance(blocks, layer.geometry))

    def _before(self, node: Node, energies: Sequence[Energy | None]) -> Mapping[int, Energy]:
        """The energy of each input of another node."""
        if node.domain == ENTER:
            return {slot: energy for slot, energy in enumerate(energies) if energy is not None}
        context = ImportanceContext(self.index, node, energies, self.widths)
        with suppress(Unsupported):
            return context.spec.importance(context)
        return mean(context)

    def _add(self, name: str, energy: Energy | None) -> None:
        if name and energy is not None and name not in self.index.constants:
            self.of[name] = _sum([self.of[name], energy] if name in self.of else [energy])


def _sum(energies: Sequence[Energy]) -> Energy:
    total = energies[0]
    for energy in energies[1:]:
        channels = min(max(total.size, 1), max(energy.size, 1))
        if channels > 1:
            total, energy = fitted(total, channels), fitted(energy, channels)
        total = total + energy
    return total


def _widths(index: Index, sites: Mapping[int, list[tuple[Layer, Site]]]) -> dict[str, int]:
    """Channels of tensors, as far as layers and what passes them on tell."""
    widths: dict[str, int] = {}
    for node in index.nodes:
        for layer, site in sites.get(node.number, ()):
            if site.output:
                widths[site.output] = layer.shape[1]
        rule = index.spec(node).width
        width = None if rule is None else rule([widths.get(name) for name in node.input])
        if width is not None:
            widths.setdefault(node.output[0], width)
    return widths
