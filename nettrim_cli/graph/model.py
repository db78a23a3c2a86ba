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
from nettrim_cli.graph.compact.expansion import check_equal, expanded
from nettrim_cli.graph.compact.packing import compacted
from nettrim_cli.graph.compact.requirements import check_can_be_compact
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Floats, Layer, Runnable
from nettrim_cli.graph.layers.binding import Binding, BoundLayer
from nettrim_cli.graph.layers.find import detect
from nettrim_cli.graph.reading import check_model, described_tensor, parse, read_file
from nettrim_cli.graph.storage.elements import Unfit
from nettrim_cli.graph.storage.external import External, is_split
from nettrim_cli.graph.storage.protobuf import serialize


class Model:
    """An ONNX model and its layers.

    Parameters
    ----------
    proto
        A checked model; the setters change it.
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
        All layers in dataflow order; those that cannot be pruned tell the reason.
    checked
        Whether onnx's checker passes it; if not, the engine alone does.
    compact
        Whether sparse weights are written in compact form (see ``graph.compact``).  They
        are plain in `proto`, however the file has them.
    """

    checked: bool = True
    compact: bool = False

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
        stored = {*self._index.initializers, *self._index.sparse}
        inputs = (value for value in proto.graph.input if value.name not in stored)
        self.inputs = tuple(described_tensor(value) for value in inputs)
        self.outputs = tuple(described_tensor(output) for output in proto.graph.output)
        self._in_file: onnx.ModelProto | None = None  # with weights in compact form
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
        path
            The file.
        runs
            A function that raises one of nettrim's errors if the engine cannot load a model.  A
            model that the engine loads is accepted even if onnx's checker refuses it.
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
            model = cls(expanded(proto, external), path, external)
        except BadInput as error:
            raise BadInput(f"{path}: the model is malformed: {error}") from error
        except RecursionError as error:
            raise BadInput(f"{path}: the model is nested too deeply") from error
        except Exception as error:
            if checked:
                raise
            raise BadInput(f"{path}: onnx's checker refuses it, and so does nettrim") from error
        model.checked = checked
        if model.proto is not proto:
            model.compact, model._in_file = True, proto
        return model

    def clone(self) -> Model:
        """An independent copy; it shares the values of external data that do not change."""
        clone = object.__new__(Model)
        clone.path, clone.checked = self.path, self.checked
        clone.compact, clone._in_file = self.compact, self._in_file
        clone.proto = onnx.ModelProto()
        clone.proto.CopyFrom(self.proto)
        clone.external = self.external.clone()
        clone._index = Index(clone.proto, clone.external)
        clone.inputs, clone.outputs = self.inputs, self.outputs
        clone.layers, clone._bindings = self.layers, dict(self._bindings)
        return clone

    def edited(self) -> Model:
        """The model as it is after `proto` was edited: other layers, to be written as before."""
        model = Model(self.proto, self.path, self.external)
        model.checked, model.compact = self.checked, self.compact
        return model

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
            a BatchNormalization's mean stands for the bias, the mean's change since loading.

        Raises
        ------
        ValueError
            The layer is not prunable, or not of this model.
        """
        return self._bound(layer).read()

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
        self._in_file = None
        bound = self._bound(layer)
        shapes = tuple(U.shape for U in matrices)
        if shapes != layer.blocks:
            raise ValueError(f"layer {layer.name}: {shapes} where {layer.blocks} are wanted")
        sizes = [(outputs,) for _, outputs in layer.blocks]
        if biases is not None and (not layer.has_bias or [bias.shape for bias in biases] != sizes):
            raise ValueError(f"layer {layer.name}: no biases of these shapes can be set")
        try:
            tensor_added = bound.write(matrices, biases)
        except Unfit as error:
            raise BadInput(f"layer {layer.name}: the new weights have {error}") from error
        if tensor_added:
            self._index = Index(self.proto, self.external)

    def set_metadata(self, key: str, value: str) -> None:
        """Set an entry of the model's metadata, replacing one of the same key."""
        entries = {entry.key: entry for entry in self.proto.metadata_props}
        entry = entries.get(key) or self.proto.metadata_props.add(key=key)
        entry.value = value

    def metadata(self, key: str) -> str | None:
        """An entry of the model's metadata."""
        entries = self.proto.metadata_props
        return next((entry.value for entry in entries if entry.key == key), None)

    def count_parameters(self) -> tuple[int, int]:
        """Number of parameters of the whole model, and of those that are not zero.

        These are all floating-point tensors, and integers where they are a layer's weights.
        """
        total, nonzero = self.external.count(self.proto)
        for layer in self.layers:
            if layer.dtype.startswith(("int", "uint")):
                total += layer.parameters
                matrices = self.weight(layer)[0] if layer.prunable else ()
                zeros = sum(U.size - int(np.count_nonzero(U)) for U in matrices)
                nonzero += layer.parameters - zeros
        return total, nonzero

    def store(self, *, compact: bool) -> None:
        """Choose whether `save` writes sparse weights in compact form, where that is smaller.

        Raises
        ------
        BadInput
            Its operators are too old to rebuild tensors, or it is being trained.
        """
        if compact:
            check_can_be_compact(self.proto, self.path)
        self.compact = compact

    @property
    def files(self) -> tuple[Path, ...]:
        """The file that it came from, and those of its external data."""
        return (self.path, *self.external.files)

    def runnable(self) -> Runnable:
        """The model as the engine takes it: as its file has it, as long as nothing changes.

        Raises
        ------
        BadInput
            It is larger than a protobuf can be.
        """
        return self.external.runnable(self._in_file or self.proto)

    def to_bytes(self) -> bytes:
        """The protobuf as a file's content: equal models give equal bytes.

        Raises
        ------
        BadInput
            It is larger than a protobuf can be.
        """
        return serialize(self._to_write()[0])

    def contents(self, *, compact: bool | None = None) -> Iterator[Iterable[bytes]]:
        """Content of each file that ``save`` writes, piece by piece; or in a form of choice.

        Raises
        ------
        BadInput
            The protobuf is larger than it can be.
        """
        proto, external = self._to_write(compact)
        if not is_split(proto):
            yield (serialize(proto),)
            return
        yield external.pieces(proto)
        yield (serialize(external.relocated(proto, self.path.name)),)

    @property
    def approximate_bytes(self) -> int:
        """Approximate size in bytes, external data included."""
        return int(self.proto.ByteSize()) + sum(file.stat().st_size for file in self.external.files)

    def check_output(
        self, path: str | os.PathLike[str], inputs: Sequence[Path] = (), *, force: bool = False
    ) -> None:
        """Make sure, before any work, that the model can be saved.

        Parameters
        ----------
        path
            The new file.
        inputs
            Files that must not be overwritten, besides those of the model.
        force
            Whether an existing file may be replaced.

        Raises
        ------
        CannotWrite
            The file exists, is an input (external data, too), or cannot be created.
        """
        check_output(path, [*self.files, *inputs], force)
        if is_split(self.proto):
            check_sidecar(path)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        check: Callable[[Model], None] = lambda _: None,
        whole: bool = False,
    ) -> Model:
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
        whole
            Compare all constants bit by bit, as is done where some are in compact form.

        Returns
        -------
        Model
            The model as written.

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

        written: list[Model] = []

        def check_file(temporary: Path) -> None:
            """Read the written file, before it gets its name."""
            runs = None if self.checked else (lambda _: None)
            model = Model.load(temporary, runs, named=path)
            if whole or model.compact:
                check_equal(self.proto, self.external, model.proto, model.external)
            check(model)
            self.external.check_unchanged()
            written.append(model)

        proto, external = self._to_write()
        if not is_split(proto):
            write_atomically(path, serialize(proto), check_file)
            return written[0]
        pieces = external.pieces(proto)
        with sidecar_file(path, pieces, keep=self.external.files) as location:
            moved = external.relocated(proto, location)
            write_atomically(path, serialize(moved), check_file)
        return written[0]

    def _to_write(self, compact: bool | None = None) -> tuple[onnx.ModelProto, External]:
        """The protobuf as it is written, and the values that are not in it."""
        compact = self.compact if compact is None else compact
        return compacted(self.proto, self.external) if compact else (self.proto, self.external)

    def _bound(self, layer: Layer) -> BoundLayer:
        if layer.name not in self._bindings:
            raise ValueError(f"layer {layer.name}: not a prunable layer of {self.path}")
        return BoundLayer(self._index, layer, self._bindings[layer.name])
