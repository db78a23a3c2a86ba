"""Weights and biases of layers as matrices, read from the model and written back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.index import Index, Use
from nettrim_cli.graph.layer import Floats, Layer
from nettrim_cli.graph.layers.paths import from_end
from nettrim_cli.graph.layers.weights import weight_of
from nettrim_cli.graph.storage.elements import cast
from nettrim_cli.graph.storage.tensors import new_tensor
from nettrim_cli.graph.storage.weight_view import WeightView


@dataclass(frozen=True)
class Binding:
    """The uses of a layer's values.

    Attributes
    ----------
    weights, biases
        Uses of its weight, and of its bias if it has one.
    mean
        Of a layer without a bias: the use of the mean of a BatchNormalization behind it, which
        acts as a bias of the other sign, and the mean's values in the model as it was loaded.
    """

    weights: tuple[Use, ...]
    biases: tuple[Use, ...] = ()
    mean: tuple[Use, NDArray[Any]] | None = None


@dataclass(frozen=True)
class BoundLayer:
    """A prunable layer of a model that can be read and written.

    Attributes
    ----------
    index
        The model as it is now.
    layer, binding
        The layer, and where its values are.
    """

    index: Index
    layer: Layer
    binding: Binding

    def read(self) -> tuple[list[Floats], list[Floats] | None]:
        """Matrices (N, M) and biases (M,) of all blocks (see ``Model.weight``)."""
        layer, values = self.layer, self._weight_view().values()
        dtype = _floats(values[:0]).dtype
        matrices = [np.array(U, dtype, order="C") for U in ops.matrices(values, layer.geometry)]
        if self.binding.mean is not None:
            use, original = self.binding.mean
            return matrices, [(original - self._view(use).values()).astype(dtype)]
        if not self.binding.biases:
            return matrices, None
        stored = self._view(self.binding.biases[0]).values()
        if self._has_own_bias():
            biases = ops.biases(stored, layer.geometry, layer.weight_shape)
        else:
            ((_, outputs),) = layer.blocks
            biases = [np.broadcast_to(stored.reshape(-1), (outputs,))]
        return matrices, [np.array(bias, dtype) for bias in biases]

    def write(
        self, matrices: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]] | None
    ) -> bool:
        """Replace matrices (N, M) and biases (M,); biases stay as they are for None.

        Returns
        -------
        bool
            Whether a tensor has been added to the model, so that the index is out of date.

        Raises
        ------
        Unfit
            A value is not finite, or does not fit into the stored dtype.
        """
        view = self._weight_view()
        view.store(ops.weight([_floats(U) for U in matrices], self.layer.geometry, view.shape))
        if biases is None:
            return False
        floats = [_floats(bias) for bias in biases]
        if self.binding.mean is None:
            return self._write_biases(floats)
        use, original = self.binding.mean
        self._view(use).store(cast(original - floats[0], original.dtype))
        return False

    def _write_biases(self, biases: list[Floats]) -> bool:
        view = self._view(self.binding.biases[0])
        stored = view.values()
        values = self._stored_bias(biases, stored)
        if view.exact:
            values = cast(values, stored.dtype)
        if np.array_equal(np.broadcast_to(stored, values.shape), values):
            return False
        sole = self.index.is_read_only_by(view, self.binding.biases)
        if sole and values.shape == stored.shape:
            view.store(values)
            return False
        self._add_bias(values, view.elem_type)
        return True

    def _stored_bias(self, biases: list[Floats], stored: NDArray[Any]) -> NDArray[Any]:
        """Biases as one tensor, of the shape of the stored one if that has as many elements."""
        layer = self.layer
        if self._has_own_bias():
            return ops.bias(biases, layer.geometry, layer.weight_shape, stored)
        values = biases[0].reshape(stored.shape if stored.size == biases[0].size else -1)
        if values.ndim == 1 and stored.size == 1:
            axis = from_end(self.index, layer.output, ops.output_axis(layer.geometry)) or -1
            values = values.reshape(-1, *(1,) * (-1 - axis))
        return values

    def _add_bias(self, values: NDArray[Any], elem_type: int) -> None:
        """Add a bias tensor for this layer to the main graph, which all subgraphs see."""
        model, names = self.index.model, self.index.all_names()
        stem = name = f"{self.layer.name}.bias"
        suffix = 2
        while name in names:
            name, suffix = f"{stem}_{suffix}", suffix + 1
        tensor = new_tensor(name, values, elem_type)
        model.graph.initializer.append(tensor)
        if model.ir_version < 4:
            # Before IR version 4, every initializer is an input of the graph, too.
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
            )
        for use in self.binding.biases:
            source = self.index.nodes[use.node].source
            assert source is not None
            source.input[use.slot] = name

    def _weight_view(self) -> WeightView:
        use = self.binding.weights[0]
        return weight_of(self.index, self.index.nodes[use.node], use.slot)[0]

    def _view(self, use: Use) -> WeightView:
        return self.index.view(self.index.nodes[use.node].input[use.slot])

    def _has_own_bias(self) -> bool:
        """Whether the bias is an input of the layer's own node, not of an Add behind it."""
        return self.binding.biases[0].node == self.binding.weights[0].node


def _floats(array: NDArray[Any]) -> Floats:
    dtype = np.float64 if array.dtype == np.float64 else np.float32
    return array.astype(dtype, copy=False)
