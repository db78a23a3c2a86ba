"""Models whose layers compute with integers, as onnxruntime's own quantiser writes them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import Array, silent_onnxruntime
from nettrim_cli.errors import EngineFailed
from nettrim_cli.graph.layer import Runnable

PRODUCTS = ("Conv", "Gemm", "MatMul")
"""Ops whose integer kernels are worth most."""

Grids = Mapping[str, tuple[int, Array]]
"""For the name of a weight the axis of its outputs, of length M, and their scales, (M,)."""


def static_integers(
    model: Runnable, batches: Iterable[Batch], grids: Grids, op_types: Sequence[str] = ()
) -> bytes:
    """A model whose nodes read and write 8 bits, with ranges measured on samples.

    Weights have 7 bits, a scale for each output, and no zero point, so that zeros stay exactly
    zero, and the sum of two products fits into 16 bits: processors without instructions for integer
    products would cut it off without a word.

    Parameters
    ----------
    model
        The model, whole in memory.
    batches
        Samples, which tell the range of each tensor.
    grids
        Of weights that are on grids already: they stay what they are.
    op_types
        Ops that get integers; by default all that the quantiser knows.

    Returns
    -------
    bytes
        A serialized ModelProto.

    Raises
    ------
    EngineFailed
        The quantiser does not take the model.
    """
    with _quantiser(model) as (library, source, target):
        library.quantize_static(
            source,
            target,
            _Reader(batches),
            quant_format=library.QuantFormat.QDQ,
            op_types_to_quantize=list(op_types),
            activation_type=library.QuantType.QUInt8,
            **_weights(library, grids),
        )
        return target.read_bytes()


def dynamic_integers(model: Runnable, grids: Grids) -> bytes:
    """A model whose matrix products measure the range of what they read on each call.

    Parameters are those of ``static_integers``, and so are weights.

    Returns
    -------
    bytes
        A serialized ModelProto.

    Raises
    ------
    EngineFailed
        The quantiser does not take the model.
    """
    with _quantiser(model) as (library, source, target):
        library.quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["Gemm", "MatMul"],  # convolutions are several times slower
            **_weights(library, grids),
        )
        return target.read_bytes()


class _Reader:
    """Batches as the quantiser asks for them."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches: Iterator[Batch] = iter(batches)

    def get_next(self) -> Mapping[str, Array] | None:
        """Feeds of the next batch; None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else dict(batch.feeds)


def _weights(library: Any, grids: Grids) -> dict[str, Any]:
    """The quantiser's options for weights: 7 bits, and scales for each output."""
    overrides = {
        name: [
            {
                "axis": axis,
                "quant_type": library.QuantType.QInt8,
                "scale": scale,
                "zero_point": np.int8(0),
            }
            for scale in scales
        ]
        for name, (axis, scales) in grids.items()
    }
    return {
        "per_channel": True,
        "reduce_range": True,
        "weight_type": library.QuantType.QInt8,
        "extra_options": {"TensorQuantOverrides": overrides},
    }


@contextmanager
def _quantiser(model: Runnable) -> Iterator[tuple[Any, Path, Path]]:
    """The library, a file with the model, and the path that it is to write."""
    silent_onnxruntime()
    import onnxruntime.quantization as library

    if model.folder or model.replaced:
        raise EngineFailed("its weights are outside of the file, which the quantiser does not take")
    level = logging.root.level
    logging.root.setLevel(logging.CRITICAL)  # it advises preparations that change no figure
    try:
        with tempfile.TemporaryDirectory(prefix="nettrim-") as folder:
            source, target = Path(folder, "float.onnx"), Path(folder, "integer.onnx")
            source.write_bytes(model.payload)
            yield library, source, target
    except Exception as error:  # it raises whatever a graph leads it to
        text = str(error).strip().splitlines()
        raise EngineFailed(text[0] if text else type(error).__name__) from error
    finally:
        logging.root.setLevel(level)
