"""How much each output of a layer matters to the network's outputs: an estimate.

An error of variance v in one channel of a tensor makes some error in the model's outputs; the
*energy* of the channel is how much of it for a v of 1, to first order, with activations taken as
passing everything on and signals as independent.  It is handed back through the graph: a layer
with weights U gives its input i the energy ``sum over m of U_im^2 energy_m``, a tensor with several
readers gets the sum of what they give it.  Only the relative sizes within one layer are used: they
decide in which outputs the kept weights do most good.

Where channels cannot be followed, all get the mean.  One more op is one more line in ``RULES``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.ir.flatten import ENTER, STANDARD, Node
from nettrim_cli.graph.ir.index import Index, attributes
from nettrim_cli.graph.layer import Layer, Site
from nettrim_cli.graph.ops import Unsupported

if TYPE_CHECKING:
    from nettrim_cli.graph.model import Model

Energy = NDArray[np.float64]  # of each channel, or (1,) for all alike
Rule = Callable[[Index, Node, Sequence[Energy | None]], Mapping[int, Energy]]

ONE = np.ones(1)
LEAST = 1e-2  # of the root mean square influence, that every output has


def output_importance(model: Model) -> dict[str, list[NDArray[np.float64]]]:
    """Influence of each output of the prunable layers, block by block, with mean square 1.

    Returns
    -------
    dict
        By name, an array (M,) for each block: the root of the energy behind what the layer's
        outputs are scaled with.  Layers whose outputs matter alike, as far as is known, are not
        in it.
    """
    energies = _Energies(model)
    energies.hand_back()
    found = {}
    for layer in model.layers:
        if layer.prunable and (blocks := _of_layer(layer, energies.at_sites(layer))):
            found[layer.name] = blocks
    return found


def blended(
    one: Mapping[str, Sequence[NDArray[np.float64]]],
    two: Mapping[str, Sequence[NDArray[np.float64]]],
) -> dict[str, list[NDArray[np.float64]]]:
    """Geometric means of the influences in two versions of a model, with mean square 1 again.

    Of a layer that is in one of them only, that one's.
    """
    found = {**one, **two}
    for name in one.keys() & two.keys():
        joint = [np.sqrt(a * b) for a, b in zip(one[name], two[name])]
        size = np.sqrt(np.mean(np.square(np.concatenate(joint))))
        found[name] = [each / size for each in joint]
    return {name: list(each) for name, each in found.items()}


def _of_layer(layer: Layer, energy: Energy) -> list[NDArray[np.float64]]:
    if energy.size == 1 or not np.isfinite(energy).all():
        return []
    scale = layer.response.scale
    if scale is not None:  # solvers apply it themselves
        squares = np.square(scale, dtype=np.float64)
        energy = np.divide(energy, squares, out=np.zeros_like(energy), where=squares > 0)
    mean = float(energy.mean())
    if not 0 < mean < np.inf:
        return []
    return layer.cut(np.maximum(np.sqrt(energy / mean), LEAST))


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
            made = [self.of.get(name) for name in node.output]
            if all(each is None for each in made):
                continue
            if node.bodies:
                for body in node.bodies:  # what else a Loop's hand out is its condition
                    for name, energy in zip(reversed(body.outputs), reversed(made)):
                        self._add(name, energy)
            elif node.number in self.sites:
                for layer, site in self.sites[node.number]:
                    self._through_layer(layer, site)
            else:
                for slot, energy in self._before(node, made).items():
                    if slot < len(node.input):
                        self._add(node.input[slot], energy)

    def at_sites(self, layer: Layer) -> Energy:
        """Energy of a layer's outputs, over all places that read its weight."""
        return _sum([self._at(layer, site) for site in layer.sites])

    def _at(self, layer: Layer, site: Site) -> Energy:
        energy, outputs = self.of.get(site.output, ONE), layer.shape[1]
        taps = outputs // energy.size
        if layer.op == "ConvTranspose" and taps * energy.size == outputs and energy.size > 1:
            return np.repeat(energy, taps)
        return fitted(energy, outputs)

    def _through_layer(self, layer: Layer, site: Site) -> None:
        """What the input gets; of a convolution, from all taps of a channel."""
        if list(site.reads) != ["x"]:
            return
        energies = layer.cut(np.broadcast_to(self._at(layer, site), layer.shape[1]))
        weights, _ = self.model.weight(layer)
        parts = [np.square(U, dtype=np.float64) @ e for U, e in zip(weights, energies)]
        taps = math.prod(layer.geometry.attributes.get("kernel_shape", ()))
        if "group" in layer.geometry.attributes:
            whole = np.concatenate(parts)
            if layer.op != "ConvTranspose":
                whole = whole.reshape(-1, taps).sum(axis=1)
        else:
            whole = np.sum(parts, axis=0)
        self._add(site.reads["x"], whole)

    def _before(self, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
        """What each input of another node gets."""
        if node.domain == ENTER:
            return {slot: each for slot, each in enumerate(made) if each is not None}
        if node.op_type == "Concat":
            return self._parted(node, made)
        rule = RULES.get(node.op_type) if node.domain in STANDARD else None
        with suppress(Unsupported):
            return (rule or _alike)(self.index, node, made)
        return _alike(self.index, node, made)

    def _parted(self, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
        """Of joined channels each input gets its own."""
        widths = [self.widths.get(name, 0) for name in node.input]
        energy = made[0]
        if energy is None or not all(widths) or sum(widths) != energy.size:
            return _alike(self.index, node, made)
        return dict(enumerate(np.split(energy, np.cumsum(widths)[:-1])))

    def _add(self, name: str, energy: Energy | None) -> None:
        if name and energy is not None and name not in self.index.constants:
            self.of[name] = _sum([self.of[name], energy] if name in self.of else [energy])


def fitted(energy: Energy, channels: int) -> Energy:
    """Energy of so many channels; flattened ones of several entries each are summed up."""
    if energy.size in (1, channels):
        return energy
    if energy.size % channels == 0:
        return np.asarray(energy.reshape(channels, -1).sum(axis=1))
    return np.asarray(energy.mean(keepdims=True))


def _sum(energies: Sequence[Energy]) -> Energy:
    total = energies[0]
    for each in energies[1:]:
        few = min(max(total.size, 1), max(each.size, 1))
        if few > 1:
            total, each = fitted(total, few), fitted(each, few)
        total = total + each
    return total


def _widths(index: Index, sites: Mapping[int, list[tuple[Layer, Site]]]) -> dict[str, int]:
    """Channels of tensors, as far as layers and what passes them on tell."""
    widths: dict[str, int] = {}
    for node in index.nodes:
        for layer, site in sites.get(node.number, ()):
            if site.output and layer.op != "ConvTranspose":
                widths[site.output] = layer.shape[1]
        known = [widths[name] for name in node.input if name in widths]
        if node.op_type == "Concat" and len(known) == len(node.input):
            widths.setdefault(node.output[0], sum(known))
        elif known and node.op_type in (*ELEMENTWISE, *SUMS, "Mul", "BatchNormalization"):
            widths.setdefault(node.output[0], max(known))
    return widths


# ---- what a node hands back, by op


def _alike(index: Index, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
    """Every input gets the mean: the channels cannot be followed."""
    mean = np.mean([each.mean() for each in made if each is not None])
    return dict.fromkeys(range(len(node.input)), mean * ONE)


def _passed(index: Index, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
    """Every input gets what the first output has."""
    return dict.fromkeys(range(len(node.input)), _first(made))


def _first(made: Sequence[Energy | None]) -> Energy:
    if made[0] is None:
        raise Unsupported("only another output is read")
    return made[0]


def _times(index: Index, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
    """A constant's square; two signals that gate each other get the same."""
    factors = [_constant(index, name) for name in node.input]
    known = next((each for each in factors if each is not None), ONE)
    return dict.fromkeys((0, 1), _scaled(made, known))


def _divided(index: Index, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
    """By a constant; a divisor that is a signal is taken as steady."""
    below = _constant(index, node.input[1])
    with np.errstate(divide="ignore"):
        return {0: _scaled(made, ONE if below is None else 1 / below)}


def _normalised(index: Index, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
    """By gamma, and by the variance where it is a constant."""
    gamma = _constant(index, node.input[1])
    factor = ONE if gamma is None else gamma
    if node.op_type == "BatchNormalization":
        variance = _constant(index, node.input[4])
        if variance is not None:
            factor = factor / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
    return {0: _scaled(made, factor)}


def _averaged(index: Index, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
    """Over positions channels stay; over the channels themselves next to nothing comes through."""
    axes = attributes(node).get("axes") or index.integers("".join(node.input[1:2])) or ()
    last = {-1, (index.rank(node.input[0]) or 0) - 1}
    return {} if len(axes) == 1 and axes[0] in last else {0: _first(made)}


def _chosen(index: Index, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
    """The condition of a Where gets nothing."""
    return dict.fromkeys((1, 2), _first(made))


def _product(index: Index, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
    """Of two signals the second has the channels of the result (attention's values)."""
    energy = _first(made)
    return {0: energy.mean(keepdims=True), 1: energy}


def _split(index: Index, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
    """The parts together, where all of them are known by channel."""
    parts = [each for each in made if each is not None and each.size > 1]
    if len(parts) < len(made):
        return _alike(index, node, made)
    return {0: np.concatenate(parts)}


def _only(index: Index, node: Node, made: Sequence[Energy | None]) -> Mapping[int, Energy]:
    """The first input gets what the first output has."""
    return {0: _first(made)}


def _scaled(made: Sequence[Energy | None], factor: Energy) -> Energy:
    energy, squares = _first(made), np.square(factor)
    if energy.size > 1 and squares.size > 1:
        energy = fitted(energy, squares.size)
    return np.asarray(energy * squares)


def _constant(index: Index, name: str) -> Energy | None:
    """Values of a constant as a row of channels; None for a signal or what cannot be read."""
    if name not in index.constants:
        return None
    try:
        values = np.asarray(index.view(name).values(), np.float64).reshape(-1)
    except Unsupported:
        return None
    return values if values.size else None


ELEMENTWISE = (
    *("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "HardSwish", "Mish"),
    *("Sigmoid", "HardSigmoid", "Tanh", "Erf", "Exp", "Sqrt", "Abs", "Neg", "Softplus", "Swish"),
    *("Identity", "Dropout", "Cast", "Pow", "LRN"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "Upsample", "Pad"),
    *("QuantizeLinear", "DequantizeLinear"),
)
SUMS = ("Add", "Sub", "Sum", "Mean", "Max", "Min")
RULES: dict[str, Rule] = {
    **dict.fromkeys(SUMS, _passed),
    **dict.fromkeys(ELEMENTWISE, _only),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand"), _only),
    "Mul": _times,
    "Div": _divided,
    "Where": _chosen,
    "MatMul": _product,
    "Split": _split,
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax"), _averaged),
    **dict.fromkeys(
        ("BatchNormalization", "LayerNormalization", "InstanceNormalization"), _normalised
    ),
}
