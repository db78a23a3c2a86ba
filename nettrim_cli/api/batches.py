"""What a user's batches hold: rows for the inputs of a model, and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nettrim_cli.api.arrays import as_array, as_arrays, is_array
from nettrim_cli.data.formats.base import Array
from nettrim_cli.data.input_shapes import batch_axis
from nettrim_cli.data.labels import LABELS, is_spelling
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Tensor

FORMS = "give arrays, tuples (inputs, labels), or dicts with a key for each input"


def columns_of(value: Any, inputs: Sequence[Tensor], name: str) -> dict[str, Array]:
    """Arrays by the names of inputs, and ``labels``.

    Parameters
    ----------
    value
        An array for the first input; a dict of arrays; or a tuple of the inputs in their order,
        after which labels may follow.
    inputs
        Those of the model.
    name
        What it is, for a message.

    Raises
    ------
    BadInput
        It is none of these, or holds no numbers.
    """
    if isinstance(value, Mapping):
        return _known(value, inputs, name)
    if is_array(value):
        return {inputs[0].name: as_array(value, name)}
    if not isinstance(value, (tuple, list)):
        raise BadInput(f"{name} is a {type(value).__name__}: {FORMS}.")
    if len(value) == 2 and isinstance(value[0], Mapping):
        return columns_of({**value[0], LABELS: value[1]}, inputs, name)
    names = [tensor.name for tensor in inputs]
    if len(value) not in (len(names), len(names) + 1):
        listed = ", ".join(names)
        raise BadInput(
            f"{name} has {len(value)} parts, but the model's inputs are {listed}: give ({listed}) "
            f"or ({listed}, labels), or dicts with these keys."
        )
    return as_arrays(dict(zip([*names, LABELS], value, strict=False)), name)


def _known(value: Mapping[str, Any], inputs: Sequence[Tensor], name: str) -> dict[str, Array]:
    """What a dict holds for the model; all of it where an input has no key of its name."""
    names = [tensor.name for tensor in inputs]
    if set(names) <= value.keys():
        value = {key: value[key] for key in value if key in names or _is_label(key)}
    return as_arrays(value, name)


def _is_label(name: str) -> bool:
    return name == LABELS or is_spelling(name)


def rows_of(columns: Mapping[str, Array], inputs: Sequence[Tensor]) -> dict[str, Array]:
    """Columns of a batch, or of a single sample, with the samples on the first axis.

    Values that are the same for all samples of the batch are repeated; those of inputs without
    axes stay as they are.
    """
    tensors = {tensor.name: tensor for tensor in inputs}
    if len(inputs) == 1 and inputs[0].name not in columns:
        tensors = {name: inputs[0] for name in columns if not _is_label(name)}
    single = any(
        tensors[name].shape is not None and values.ndim == len(tensors[name].shape or ()) - 1
        for name, values in columns.items()
        if name in tensors
    )
    rows = {}
    for name, values in columns.items():
        tensor = tensors.get(name)
        if tensor is not None and tensor.shape == ():
            rows[name] = values
        elif single:
            rows[name] = values[None]
        else:
            rows[name] = values if tensor is None else _samples_first(values, tensor, inputs)
    count = max((len(values) for values in rows.values() if values.ndim), default=1)
    return {
        name: np.repeat(values, count, axis=0) if values.ndim and len(values) == 1 else values
        for name, values in rows.items()
    }


def _samples_first(values: Array, tensor: Tensor, inputs: Sequence[Tensor]) -> Array:
    """Values as fed, such as a state (layers, batch, units), as a file holds them."""
    axis = batch_axis(tensor, inputs)
    as_fed = tensor.shape is not None and values.ndim == len(tensor.shape)
    return np.moveaxis(values, axis, 0) if axis and as_fed else values
