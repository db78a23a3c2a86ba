"""What ``inspect`` tells of a model, as plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nettrim_cli.report.plain import Facts
from nettrim_cli.report.saving import Saved

if TYPE_CHECKING:
    from nettrim_cli.graph.layer import Layer
    from nettrim_cli.report.document import Document

SHARES = (0.5, 0.7, 0.9)  # of zeros at which it is told what a layer costs
Axes = tuple[int | str | None, ...]


@dataclass(frozen=True)
class TensorFacts(Facts):
    """An input or output of a model.

    Attributes
    ----------
    name, dtype
        As in the model.
    shape
        Sizes; names or None stand for free axes, None alone for any shape.
    dataset
        Shape of the dataset that feeds an input, as ``nettrim prune`` reads it: ``samples`` stands
        for their number; None for an output.
    """

    name: str
    dtype: str
    shape: Axes | None
    dataset: Axes | None = None


@dataclass(frozen=True)
class PredictedCost(Facts):
    """What zeros in one layer alone would cost.

    Attributes
    ----------
    sparsity
        Share of zeros in the layer.
    error
        Relative error of the network's outputs, as it is predicted.
    """

    sparsity: float
    error: float


@dataclass(frozen=True)
class LayerFacts(Facts):
    """A layer of a model.

    Attributes
    ----------
    name, op
        Of its node, and the op type.
    shape
        Inputs and outputs of a block's matrix (N, M); zeros where it has none.
    weight_shape
        Of the tensor.
    weights, nonzeros
        Number of weights; and of those that are not zero, None for a layer that cannot be pruned.
    sparsity
        Share of zeros; None for a layer that cannot be pruned.
    has_bias
        Whether it has a bias.
    dtype
        Of its weights.
    follows
        Nodes behind the layer that belong to its response.
    prunable
        Whether it can be pruned.
    depthwise
        Whether it is a depthwise convolution, which is pruned only if it is named.
    refusal, reason
        Why it cannot be pruned, in words and as a code; empty where it can.
    costs
        What zeros would cost; empty where there were no samples.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    weights: int
    nonzeros: int | None
    sparsity: float | None
    has_bias: bool
    dtype: str
    follows: str
    prunable: bool
    depthwise: bool
    refusal: str
    reason: str
    costs: tuple[PredictedCost, ...]


@dataclass(frozen=True)
class LayerTotals(Facts):
    """Sums over the layers of a model.

    Attributes
    ----------
    layers, prunable_layers
        Number of layers, and of those that can be pruned.
    prunable_weights
        Number of weights of these.
    parameters
        Number of parameters of the whole model.
    prunable_share
        Share of the parameters that can be pruned.
    """

    layers: int
    prunable_layers: int
    prunable_weights: int
    parameters: int
    prunable_share: float


@dataclass(frozen=True)
class Listing(Facts):
    """What ``inspect`` tells of a model.

    Attributes
    ----------
    path
        The file.
    layers
        All that were found, prunable or not.
    totals
        Sums over them.
    inputs, outputs
        The model's tensors.
    notes
        What there is to doubt of the samples.
    """

    path: str
    layers: tuple[LayerFacts, ...]
    totals: LayerTotals
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ModelSummary(Saved):
    """What ``inspect`` tells of a model.

    Attributes
    ----------
    path
        The file.
    layers
        All that were found, prunable or not.
    nonzeros
        Of each prunable layer, by name.
    parameters
        Of the whole model.
    inputs, outputs
        Its tensors.
    costs
        Relative error of the network's outputs as it is predicted with zeros in one layer alone, by
        its name, at each of SHARES; empty where there were no samples.
    notes
        What there is to doubt of the samples.
    """

    kind: ClassVar[str] = "inspect"
    form: ClassVar[type[Facts]] = Listing

    path: str
    layers: Sequence[Layer]
    nonzeros: Mapping[str, int]
    parameters: int
    inputs: Sequence[TensorFacts] = ()
    outputs: Sequence[TensorFacts] = ()
    costs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def plain_form(self) -> Listing:
        """What JSON holds: layers without their places in the graph."""
        layers = tuple(map(self._facts_of, self.layers))
        tensors = tuple(self.inputs), tuple(self.outputs)
        return Listing(self.path, layers, self.totals, *tensors, tuple(self.notes))

    def _facts_of(self, layer: Layer) -> LayerFacts:
        """A layer without its place in the graph."""
        costs = zip(SHARES, self.costs.get(layer.name, ()), strict=False)
        return LayerFacts(
            *(layer.name, layer.op, layer.shape, layer.weight_shape, layer.parameters),
            *(self.nonzeros.get(layer.name), self.sparsity(layer), layer.has_bias, layer.dtype),
            *(layer.response.follows, layer.prunable, layer.depthwise),
            *(layer.refusal.text, layer.refusal.code),
            tuple(PredictedCost(share, error) for share, error in costs),
        )

    def sparsity(self, layer: Layer) -> float | None:
        """Share of zeros in a layer; None where it cannot be pruned."""
        count = self.nonzeros.get(layer.name)
        if count is None:
            return None
        return 1 - count / layer.parameters if layer.parameters else 0.0

    @property
    def totals(self) -> LayerTotals:
        """Sums over the layers."""
        prunable = [layer.parameters for layer in self.layers if layer.prunable]
        weights, parameters = sum(prunable), self.parameters
        share = weights / parameters if parameters else 0.0
        return LayerTotals(len(self.layers), len(prunable), weights, parameters, share)

    def document(self) -> Document:
        """What people read of it, as Markdown or HTML."""
        from nettrim_cli.report.documents.files import summary_document

        return summary_document(self)

    def rows(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """A row for each layer."""
        from nettrim_cli.report.documents.files import listing_rows

        return listing_rows(self)
