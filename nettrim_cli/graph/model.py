"""A model: load and check the file, read and set the weights of its layers, save it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from nettrim_cli.errors import BadInput
from nettrim_cli.files.atomic import check_output, check_sidecar, sidecar_file, write_atomically
from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.index import Index, Use
from nettrim_cli.graph.layer import Floats, Layer, Runnable, Tensor
from nettrim_cli.graph.layers.find import Binding, detect, weight_of
from nettrim_cli.graph.layers.paths import from_end
from nettrim_cli.graph.reading import check_model, described_tensor, parse, read_file
from nettrim_cli.graph.storage import elements, tensors
from nettrim_cli.graph.storage.external import External, serialize
from nettrim_cli.graph.storage.weight_view import WeightView


class Model:
    """An ONNX model and its layers.

    Parameters
    ----------
    proto
        A checked model; kept, and changed by the setters.
    path
        The file that it came from.
    external
        The values that are not in `proto`.

    Attributes
    ----------
    path
        The file that it came from.
    proto
        The protobuf message.
    external
        The values that are not in it.
    inputs
        Inputs that a caller must feed (those backed by an initializer are left out).
    outputs
        Outputs of the model.
    layers
        All layers in dataflow order, those that cannot be pruned with the reason.
    checked
        Whether onnx's checker passes it; else only the engine does.
    """

    path: Path
    checked: bool = True
    proto: onnx.ModelProto
    external: External
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layers: tuple[Layer, ...]

    def __init__(
        self,
        proto: onnx.ModelProto,
        path: str | os.PathLike[str] = "model.onnx",
        external: External | None = None,
    ) -> None:
        self.path = Path(path)
        self.proto = proto
        self.external = external or External()
        self._index = Index(proto, self.external)
        known = {*self._index.initializers, *self._index.sparse}
        self.inputs = tuple(described_tensor(i) for i in proto.graph.input if i.name not in known)
        self.outputs = tuple(described_tensor(output) for output in proto.graph.output)
        self._bindings: dict[str, Binding]
        self.layers, self._bindings = detect(self._index)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        runs: Callable[[Runnable], object] | None = None,
        *,
        named: str | os.PathLike[str] | None = None,
    ) -> Model:
        """Read a model file; large external data beside it stay there until they are needed.

        Parameters
        ----------
        runs
            Raises one of nettrim's errors where the engine cannot load a model: what it loads is
            taken though onnx's checker refuses it.
        named
            The name that the file will have, in the same folder; its own by default.

        Raises
        ------
        MissingInput
            The file, or a file of its external data, is missing or unreadable.
        BadInput
            It is not an ONNX model, is malformed, or over 2 GB without external data.
        Refused
            Its external data leads out of the folder of the model.
        """
        payload = read_file(Path(path))
        path = Path(path if named is None else named)
        proto = parse(payload, path)
        external = External.find(proto, path)
        judge = None if runs is None else lambda: runs(external.runnable(proto))
        checked = check_model(proto, path, judge)
        try:
            model = cls(proto, path, external)
        except BadInput as error:
            raise BadInput(f"{path}: the model is malformed: {error}") from error
        except RecursionError as error:
            raise BadInput(f"{path}: the model is nested too deeply") from error
        except Exception as error:
            if checked:
                raise
            raise BadInput(f"{path}: onnx's checker refuses it, and so does nettrim") from error
        model.checked = checked
        return model

    def clone(self) -> Model:
        """An independent copy; it shares the values of external data that do not change."""
        other = object.__new__(Model)
        other.path, other.checked = self.path, self.checked
        other.proto = onnx.ModelProto()
        other.proto.CopyFrom(self.proto)
        other.external = self.external.clone()
        other._index = Index(other.proto, other.external)
        other.inputs, other.outputs = self.inputs, self.outputs
        other.layers, other._bindings = self.layers, dict(self._bindings)
        return other

    @property
    def index(self) -> Index:
        """The flat view of the model as it is now."""
        return self._index

    def weight(self, layer: Layer) -> tuple[list[Floats], list[Floats] | None]:
        """Effective weight and bias of a prunable layer.

        Parameters
        ----------
        layer
            One of `layers`, prunable.

        Returns
        -------
        matrices
            U of shape (N, M) for each block, alpha of Gemm included; float32, or float64 where
            stored so.  The caller's own: C-contiguous, writable.
        biases
            Of shape (M,) for each block, beta of Gemm included; None if the layer has none.  Where
            a BatchNormalization's mean stands for it, what that has changed by.

        Raises
        ------
        ValueError
            The layer is not prunable, or not of this model.
        """
        binding = self._binding(layer)
        view = self._weight_view(binding)
        found = ops.matrices(view.values(), layer.geometry)
        dtype = _floats(view.values()[:0]).dtype
        matrices = [np.array(each, dtype, order="C") for each in found]
        if binding.mean is not None:
            use, before = binding.mean
            return matrices, [(before - self._view(use).values()).astype(dtype)]
        if not binding.biases:
            return matrices, None
        stored = self._view(binding.biases[0]).values()
        if self._is_own(binding):
            biases = ops.biases(stored, layer.geometry, layer.weight_shape)
        else:
            ((_, outputs),) = layer.blocks
            biases = [np.broadcast_to(stored.reshape(-1), (outputs,))]
        return matrices, [np.array(each, dtype) for each in biases]

    def set_weight(
        self, layer: Layer, matrices: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]] | None
    ) -> None:
        """Replace weight and bias of a prunable layer where they are stored.

        Values are cast to the stored dtype; zeros are written as +0.  A bias that other nodes
        read too, or that is one number for all outputs, is replaced by one of the layer's own.
        Where the mean of a BatchNormalization stands for it, that is changed.

        Parameters
        ----------
        layer
            One of `layers`, prunable.
        matrices
            U of shape (N, M) for each block.
        biases
            Of shape (M,) for each block; None leaves the bias as it is.

        Raises
        ------
        BadInput
            A value is not finite, or does not fit into the stored dtype.
        ValueError
            The layer is not prunable or not of this model, a shape is wrong, or a bias is
            given for a layer that has none.
        """
        binding = self._binding(layer)
        shapes = tuple(each.shape for each in matrices)
        if shapes != layer.blocks:
            raise ValueError(f"layer {layer.name}: {shapes} where {layer.blocks} are wanted")
        sizes = [(outputs,) for _, outputs in layer.blocks]
        if biases is not None and (not layer.has_bias or [each.shape for each in biases] != sizes):
            raise ValueError(f"layer {layer.name}: no biases of these shapes can be set")
        view = self._weight_view(binding)
        try:
            view.store(ops.weight([_floats(U) for U in matrices], layer.geometry, view.shape))
            if biases is not None:
                self._store_bias(layer, binding, [_floats(each) for each in biases])
        except elements.Unfit as error:
            raise BadInput(f"layer {layer.name}: the new weights have {error}") from error

    def set_metadata(self, key: str, value: str) -> None:
        """Set an entry of the model's metadata, replacing one of the same key."""
        for entry in self.proto.metadata_props:
            if entry.key == key:
                entry.value = value
                return
        self.proto.metadata_props.add(key=key, value=value)

    def metadata(self, key: str) -> str | None:
        """An entry of the model's metadata."""
        return next((each.value for each in self.proto.metadata_props if each.key == key), None)

    def constants(self) -> tuple[int, int]:
        """Parameters of the whole model, and how many of them are not zero.

        These are all floating-point tensors, and integers where they are a layer's weights.
        """
        total, nonzero = self.external.count(self.proto)
        for layer in self.layers:
            if layer.dtype.startswith(("int", "uint")):
                total += layer.parameters
                known = self.weight(layer)[0] if layer.prunable else ()
                zeros = sum(each.size - int(np.count_nonzero(each)) for each in known)
                nonzero += layer.parameters - zeros
        return total, nonzero

    @property
    def files(self) -> tuple[Path, ...]:
        """The file that it came from, and those of its external data."""
        return (self.path, *self.external.files)

    def runnable(self) -> Runnable:
        """The model as the engine takes it.

        Raises
        ------
        BadInput
            It is larger than a protobuf can be.
        """
        return self.external.runnable(self.proto)

    def to_bytes(self) -> bytes:
        """The protobuf as a file's content: equal models give equal bytes.

        Raises
        ------
        BadInput
            It is larger than a protobuf can be.
        """
        return serialize(self.proto)

    def contents(self) -> Iterator[Iterable[bytes]]:
        """What each file that ``save`` writes is to hold, piece by piece."""
        if not self.external.files:
            yield (self.to_bytes(),)
            return
        yield self.external.pieces(self.proto)
        yield (serialize(self.external.relocated(self.proto, self.path.name)),)

    @property
    def approximate_bytes(self) -> int:
        """About how many bytes it has, external data included."""
        return int(self.proto.ByteSize()) + sum(e.stat().st_size for e in self.external.files)

    def check_output(
        self, path: str | os.PathLike[str], others: Sequence[Path] = (), *, force: bool = False
    ) -> None:
        """Make sure, before any work, that the model can be saved.

        Parameters
        ----------
        others
            More inputs that must not be overwritten.

        Raises
        ------
        CannotWrite
            The file exists, is an input (external data, too), or cannot be created.
        """
        check_output(path, [*self.files, *others], force)
        if self.external.files:
            check_sidecar(path)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        check: Callable[[Model], None] = lambda _: None,
    ) -> None:
        """Write the model: a complete, checked file, or nothing.

        A model with external data gets a file of its own for them, beside the new one and named
        by its content, so that an old output stays whole until the new one takes its place.

        Parameters
        ----------
        path
            The new file; never the one that the model came from.
        force
            Replace an existing file.
        check
            Called with the model as written, before the file takes its place; what it raises
            leaves everything as it was.

        Raises
        ------
        CannotWrite
            The file exists, is the input, or cannot be created.
        DiskFailed
            The disk is full or failed.
        BadInput
            The model as written does not pass onnx's checker, or its external data have changed.
        """
        self.check_output(path, force=force)

        self.external.check_unchanged()

        def check_file(temporary: Path) -> None:
            runs = None if self.checked else (lambda _: None)
            check(Model.load(temporary, runs, named=path))
            self.external.check_unchanged()

        if not self.external.files:
            write_atomically(path, self.to_bytes(), check_file)
            return
        pieces = self.external.pieces(self.proto)
        with sidecar_file(path, pieces, keep=self.external.files) as location:
            moved = self.external.relocated(self.proto, location)
            write_atomically(path, serialize(moved), check_file)

    def _binding(self, layer: Layer) -> Binding:
        if layer.name not in self._bindings:
            raise ValueError(f"layer {layer.name}: not a prunable layer of {self.path}")
        return self._bindings[layer.name]

    def _weight_view(self, binding: Binding) -> WeightView:
        use = binding.weights[0]
        return weight_of(self._index, self._index.nodes[use.node], use.slot)[0]

    def _view(self, use: Use) -> WeightView:
        return self._index.view(self._index.nodes[use.node].input[use.slot])

    def _is_own(self, binding: Binding) -> bool:
        """Whether the bias is an input of the layer's own node, not of an Add behind it."""
        return binding.biases[0].node == binding.weights[0].node

    def _store_bias(self, layer: Layer, binding: Binding, biases: list[Floats]) -> None:
        if binding.mean is not None:
            use, mean = binding.mean
            self._view(use).store(elements.cast(mean - biases[0], mean.dtype))
            return
        view = self._view(binding.biases[0])
        before = view.values()
        if self._is_own(binding):
            values = ops.bias(biases, layer.geometry, layer.weight_shape, before)
        else:
            values = biases[0].reshape(before.shape if before.size == biases[0].size else -1)
            if values.ndim == 1 and before.size == 1:
                axis = from_end(self._index, layer.output, ops.output_axis(layer.geometry)) or -1
                values = values.reshape(-1, *(1,) * (-1 - axis))
        if view.exact:
            values = elements.cast(values, before.dtype)
        if np.array_equal(np.broadcast_to(before, values.shape), values):
            return
        sole = self._index.is_read_only_by(view, binding.biases)
        if sole and values.shape == before.shape:
            view.store(values)
        else:
            self._add_bias(layer, binding, values, view.elem_type)

    def _add_bias(
        self, layer: Layer, binding: Binding, values: NDArray[Any], elem_type: int
    ) -> None:
        """Give the layer a bias tensor of its own, in the main graph, which all others see."""
        graph = self.proto.graph
        taken = self._index.all_names()
        stem = name = f"{layer.name}.bias"
        suffix = 2
        while name in taken:
            name, suffix = f"{stem}_{suffix}", suffix + 1
        tensor = tensors.new_tensor(name, values, elem_type)
        graph.initializer.append(tensor)
        if self.proto.ir_version < 4:
            # Before IR version 4, every initializer is an input of the graph, too.
            graph.input.append(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
            )
        for use in binding.biases:
            source = self._index.nodes[use.node].source
            assert source is not None
            source.input[use.slot] = name
        self._index = Index(self.proto, self.external)


def _floats(array: NDArray[Any]) -> Floats:
    dtype = np.float64 if array.dtype == np.float64 else np.float32
    return array.astype(dtype, copy=False)
