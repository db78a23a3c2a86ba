"""What ``inspect`` tells of a model, as plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
class ModelSummary(Saved):
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

    kind: ClassVar[str] = "inspect"

    path: str
    layers: tuple[LayerFacts, ...]
    totals: LayerTotals
    inputs: tuple[TensorFacts, ...] = ()
    outputs: tuple[TensorFacts, ...] = ()
    notes: tuple[str, ...] = ()

    def document(self) -> Document:
        """What people read of it, as Markdown or HTML."""
        from nettrim_cli.report.documents.files import summary_document

        return summary_document(self)

    def rows(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """A row for each layer."""
        from nettrim_cli.report.documents.files import listing_rows

        return listing_rows(self)


def layer_facts(layer: Layer, nonzeros: int | None, errors: Sequence[float] = ()) -> LayerFacts:
    """A layer without its place in the graph.

    Parameters
    ----------
    layer
        The layer.
    nonzeros
        Number of its weights that are not zero; None where it cannot be pruned.
    errors
        Predicted errors of the outputs at each of SHARES; empty where there were no samples.
    """
    sparsity = None
    if nonzeros is not None:
        sparsity = 1 - nonzeros / layer.parameters if layer.parameters else 0.0
    return LayerFacts(
        *(layer.name, layer.op, layer.shape, layer.weight_shape, layer.parameters),
        *(nonzeros, sparsity, layer.has_bias, layer.dtype),
        *(layer.response.follows, layer.prunable, layer.depthwise),
        *(layer.refusal.text, layer.refusal.code),
        tuple(PredictedCost(share, error) for share, error in zip(SHARES, errors, strict=False)),
    )


def layer_totals(layers: Sequence[LayerFacts], parameters: int) -> LayerTotals:
    """Sums over the layers of a model with so many parameters."""
    prunable = [layer.weights for layer in layers if layer.prunable]
    share = sum(prunable) / parameters if parameters else 0.0
    return LayerTotals(len(layers), len(prunable), sum(prunable), parameters, share)
