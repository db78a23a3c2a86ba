"""The layers of a model, and what zeros in each would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nettrim_cli.data.input_shapes import dataset_shape
from nettrim_cli.loading import PathLike, load_models
from nettrim_cli.process.channel import tell
from nettrim_cli.pruning.blocks import nonzeros
from nettrim_cli.report.model_summary import (
    ModelSummary,
    TensorFacts,
    layer_facts,
    layer_totals,
)
from nettrim_cli.report.progress.listener import Silent
from nettrim_cli.settings import Settings

if TYPE_CHECKING:
    from nettrim_cli.report.progress import Listener


def inspect(
    model: PathLike,
    data: PathLike | None = None,
    settings: Settings | None = None,
    *,
    listener: Listener | None = None,
) -> ModelSummary:
    """List the layers of a model, with the non-zeros of each that can be pruned.

    Parameters
    ----------
    model, data
        ONNX file; samples on which it is measured what zeros would cost in each layer.
    settings
        Of that measurement.
    listener
        Is told what is done.

    Raises
    ------
    NettrimError
        One of its kinds: a file is missing or bad, or with samples no layer can be pruned.
    """
    tell("about", model)
    (loaded,) = load_models([model], data)
    costs: Mapping[str, Sequence[float]] = {}
    notes: tuple[str, ...] = ()
    if data is not None:
        from nettrim_cli.preview.layer_costs import layer_costs  # loads what solves, too

        prices = layer_costs(loaded, data, settings or Settings(), listener or Silent())
        costs, notes = prices.costs, prices.notes
    layers = tuple(
        layer_facts(
            layer,
            nonzeros(loaded.weight(layer)[0]) if layer.prunable else None,
            costs.get(layer.name, ()),
        )
        for layer in loaded.layers
    )
    inputs = tuple(
        TensorFacts(tensor.name, tensor.dtype, tensor.shape, dataset_shape(tensor, loaded.inputs))
        for tensor in loaded.inputs
    )
    outputs = tuple(
        TensorFacts(tensor.name, tensor.dtype, tensor.shape) for tensor in loaded.outputs
    )
    totals = layer_totals(layers, loaded.count_parameters()[0])
    return ModelSummary(str(loaded.path), layers, totals, inputs, outputs, notes)
