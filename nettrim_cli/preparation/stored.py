"""Samples of arrays that are stored already: NumPy, HDF5 and ONNX tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nettrim_cli.data.dataset import open_container
from nettrim_cli.data.formats.base import Array, Container, Indices, Source, spell
from nettrim_cli.data.input_matching import find_sources
from nettrim_cli.data.input_shapes import batch_axis
from nettrim_cli.data.labels import find_labels
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.storage.tensor_file import read_tensor
from nettrim_cli.preparation.image_inputs import check_channels, image_form
from nettrim_cli.preparation.images import ImageForm, prepared
from nettrim_cli.preparation.presets import Preset, preset_of
from nettrim_cli.preparation.source import FileSource, Item, target_input
from nettrim_cli.settings import DataSettings


class ArraySource:
    """Samples of a file with arrays; with a preset its bytes are pixels.

    Raises
    ------
    BadInput
        The arrays do not fit the model.
    """

    notes: Sequence[str] = ()

    def __init__(
        self, path: Path, files: Sequence[Path], model: Model, settings: DataSettings
    ) -> None:
        container = open_container(path)
        if container is None:
            raise BadInput(f"{path} holds no arrays.")
        self._path, self._container = path, container
        self._pictures: tuple[str, ImageForm, Preset] | None = None
        self.origin: Mapping[str, Any] = {"kind": "arrays"}
        if container.provenance.get("random"):
            self.origin = {"kind": "random numbers", "random": True}
        try:
            self._find(model, settings)
        except BaseException:
            container.close()
            raise

    def close(self) -> None:
        """Give the file back."""
        self._container.close()

    def __len__(self) -> int:
        """Number of samples in the file."""
        return self._count

    def items(self, indices: Indices) -> Iterator[Item]:
        """Samples at ascending indices."""
        for index in indices:
            label = None
            if self._labels is not None:
                label = int(self._labels.read(np.array([index]))[0])
            make = partial(self._rows, np.array([index]))
            yield Item(f"{self._path}, sample {index}", make, label)

    def _find(self, model: Model, settings: DataSettings) -> None:
        """Find the arrays that feed a model, and the labels."""
        path, container = self._path, self._container
        inputs = [tensor for tensor in model.inputs if tensor.name not in settings.values]
        names = [tensor.name for tensor in inputs]
        self._sources = dict(zip(names, find_sources(container, inputs), strict=True))
        for source in self._sources.values():
            if not source.shape:
                raise BadInput(f"{path}: '{source.name}' has no axis for samples: use --set.")
        counts = {source.shape[0] for source in self._sources.values()}
        if len(counts) != 1:
            raise BadInput(
                f"{path}: its arrays have {' and '.join(map(str, sorted(counts)))} samples: store "
                "equally many."
            )
        self._count = counts.pop()
        self._labels, about = _labels(container, self._sources, self._count, settings)
        self.notes = [about] if about else []
        if (preset := preset_of(settings)) is not None:
            tensor = target_input(model, settings)
            form = image_form(tensor, settings, preset)
            check_channels(form, preset)
            check_pixels(self._sources[tensor.name], path)
            self._pictures = tensor.name, form, preset
            self.origin = {"kind": "arrays of pixels", "preset": settings.preset}

    def _rows(self, index: Indices) -> Mapping[str, Array]:
        rows = {name: source.read(index)[0] for name, source in self._sources.items()}
        if self._pictures is not None:
            from PIL import Image

            name, form, preset = self._pictures
            rows[name] = prepared(Image.fromarray(_channels_last(rows[name])), form, preset)
        return rows


def _labels(
    container: Container, sources: Mapping[str, Source], count: int, settings: DataSettings
) -> tuple[Any, str]:
    if settings.labels == "none":
        return None, ""
    fed = {*sources, *(source.name for source in sources.values())}
    return find_labels(container, fed, count, None)


def check_pixels(source: Source, path: Path) -> None:
    """Check that an array holds images.

    Raises
    ------
    BadInput
        It does not.
    """
    shape = source.shape[1:]
    if source.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and _is_image(shape))):
        raise BadInput(
            f"{path}: '{source.name}' {spell(source.shape, source.dtype)} holds no pixels: "
            "--preset is for images of uint8, (samples, height, width) with 1, 3 or 4 channels."
        )


def _is_image(shape: Sequence[int]) -> bool:
    return shape[0] in (1, 3) or shape[2] in (1, 3, 4)


def _channels_last(pixels: Array) -> Array:
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return np.ascontiguousarray(pixels)


def row_files(
    folder: Path, files: Sequence[Path], model: Model, settings: DataSettings
) -> FileSource:
    """Samples of .npy files, each a sample.

    Parameters
    ----------
    folder, files
        Their folder, and their paths.
    model
        The model that is to read the samples.
    settings
        How they are made.
    """
    name = target_input(model, settings).name
    return FileSource(
        files, partial(_row_file, name), origin={"kind": ".npy files in " + folder.name}
    )


def _row_file(name: str, path: Path) -> Mapping[str, Array]:
    container = open_container(path)
    if container is None:
        raise BadInput(f"{path} is no array in NumPy's format.")
    try:
        source = container.find(container.names()[0])
        assert source is not None
        rows = source.read(np.arange(source.shape[0] if source.shape else 1))
        return {name: rows}
    finally:
        container.close()


class TensorSource:
    """Samples of ONNX's own test data: folders with ``input_0.pb`` and so on.

    Raises
    ------
    BadInput
        A folder lacks an input, or its tensors do not belong together.
    """

    notes: Sequence[str] = ()

    def __init__(
        self, path: Path, files: Sequence[Path], model: Model, settings: DataSettings
    ) -> None:
        self.origin: Mapping[str, Any] = {"kind": "ONNX test data"}
        self._inputs = [tensor for tensor in model.inputs if tensor.name not in settings.values]
        self._axes = [batch_axis(tensor, model.inputs) for tensor in self._inputs]
        self._read: dict[Path, Array] = {}
        folders = {file.parent for file in files if file.name.startswith("input_")}
        self._folders = sorted(folders, key=lambda folder: (len(folder.name), folder.name))
        if not self._folders:
            raise BadInput(f"{path}: there is no input_0.pb, as ONNX's test data have it.")
        self._rows = [
            (folder, row) for folder in self._folders for row in range(self._size(folder))
        ]

    def close(self) -> None:
        """Do nothing: files are closed once they are read."""

    def __len__(self) -> int:
        """Number of samples in all folders."""
        return len(self._rows)

    def items(self, indices: Indices) -> Iterator[Item]:
        """Samples at ascending indices."""
        for index in indices:
            folder, row = self._rows[index]
            yield Item(f"{folder}, sample {row}", partial(self._make, folder, row))

    def _size(self, folder: Path) -> int:
        """Samples in a folder: of the first input that has an axis for them."""
        for number, axis in enumerate(self._axes):
            if axis is not None and (values := self._tensor(folder, number)).ndim > axis:
                return int(values.shape[axis])
        return 1

    def _tensor(self, folder: Path, number: int) -> Array:
        path = folder / f"input_{number}.pb"
        if path not in self._read:
            if path.parent not in {file.parent for file in self._read}:
                self._read.clear()  # only one folder is kept
            self._read[path] = read_tensor(path)
        return self._read[path]

    def _make(self, folder: Path, row: int) -> Mapping[str, Array]:
        rows = {}
        for number, (tensor, axis) in enumerate(zip(self._inputs, self._axes, strict=True)):
            values = self._tensor(folder, number)
            if axis is not None and values.ndim > axis:
                values = np.take(values, min(row, values.shape[axis] - 1), axis=axis)
            rows[tensor.name] = values
        return rows
