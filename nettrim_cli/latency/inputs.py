"""Batches to time models on: samples of a file, or made from the declared inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nettrim_cli.data.dataset import Batch, Calibration
from nettrim_cli.data.engine import Array
from nettrim_cli.data.formats.base import Indices
from nettrim_cli.data.input_shapes import Axis, batch_axis, fits, fixed, spell_input
from nettrim_cli.errors import BadInput, WrongUsage
from nettrim_cli.graph.analysis.index_bounds import index_bounds
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.graph.model import Model

Shape = tuple[int, ...]
REAL_DTYPES = ("float16", "float32", "float64")
BYTE_DTYPES = ("int8", "uint8")
WHOLE_DTYPES = ("int16", "int32", "int64", "uint16", "uint32", "uint64")
MAX_ELEMENTS = 1 << 30  # of an input


@dataclass(frozen=True)
class BenchInputs:
    """Batches, and where they come from: in a sentence, or one for each input that was made."""

    batches: tuple[Batch, ...]
    origins: tuple[str, ...]


def file_inputs(
    samples: Calibration, sizes: Sequence[int], indices: Indices | None = None
) -> BenchInputs:
    """Samples of a file, the first by default, in batches; repeated where a batch needs more.

    Raises
    ------
    BadInput
        The model takes batches of another size only.
    """
    sizes = _allowed_sizes(sizes, samples.fixed_batch) or (1,)
    indices = np.arange(samples.samples) if indices is None else indices
    batches = [next(samples.batches(np.resize(indices, size), size)) for size in sizes]
    repeated = max(sizes) > len(indices)
    count = f"{len(indices):,} samples" if repeated else "first samples"
    origin = f"the {count} of {samples.path}{', repeated' if repeated else ''}"
    return BenchInputs(tuple(batches), (origin,))


def made_inputs(
    model: Model, sizes: Sequence[int], shapes: Mapping[str, Shape] | None = None, seed: int = 0
) -> BenchInputs:
    """Random values of the types and shapes that a model declares.

    Parameters
    ----------
    model
        The model.
    sizes
        Batch sizes; none stand for the one that the shapes say, or 1.
    shapes
        Shapes of inputs with other free axes than that of the samples.
    seed
        Of the values.

    Raises
    ------
    BadInput
        An axis has no known size, a batch size is not the model's, or values of an input's type
        cannot be made.
    WrongUsage
        A shape is that of no input, or contradicts the declared one.
    """
    maker = InputMaker(model, shapes or {})
    allowed = _allowed_sizes(sizes, maker.dictated) or (maker.shaped or 1,)
    batches = tuple(maker.batch(size, seed) for size in allowed)
    return BenchInputs(batches, tuple(map(maker.origin, model.inputs)))


def _allowed_sizes(sizes: Sequence[int], dictated: int | None) -> tuple[int, ...]:
    """Batch sizes, each once, where the model allows them."""
    if dictated is None:
        return tuple(dict.fromkeys(sizes))
    for size in sizes:
        if size != dictated:
            raise BadInput(
                f"--batch {size} is not possible: the model's shapes fix batches of {dictated}; "
                "export it with a free batch axis, or leave --batch out."
            )
    return (dictated,)


def _check_shape(declared: Mapping[str, Tensor], name: str, shape: Shape) -> None:
    if name not in declared:
        raise WrongUsage(
            f"--shape {name}: the model has no such input; its inputs are {', '.join(declared)}."
        )
    axes = declared[name].shape
    if axes is not None and not fits(axes, shape):
        raise WrongUsage(
            f"--shape {name}={'x'.join(map(str, shape))} does not fit: the model takes "
            f"{spell_input(declared[name])}."
        )


def _size_at(axes: Sequence[Axis] | None, position: int | None) -> int | None:
    """Size of an axis of a shape; None where it is free, or there is none."""
    return fixed(axes[position]) if axes and position is not None else None


class InputMaker:
    """Makes batches from what a model declares of its inputs, and from shapes of the user.

    Attributes
    ----------
    dictated
        The batch size that the declared shapes fix; None for any.
    shaped
        The batch size of the user's shapes; None without one.

    Raises
    ------
    WrongUsage
        A shape is that of no input, or contradicts the declared one.
    """

    def __init__(self, model: Model, shapes: Mapping[str, Shape]) -> None:
        self.model, self.shapes = model, shapes
        declared = {tensor.name: tensor for tensor in model.inputs}
        for name, shape in shapes.items():
            _check_shape(declared, name, shape)
        self._axes = {tensor.name: batch_axis(tensor, model.inputs) for tensor in model.inputs}
        dictated = (_size_at(tensor.shape, self._axes[tensor.name]) for tensor in model.inputs)
        shaped = (_size_at(shape, self._axes[name]) for name, shape in shapes.items())
        self.dictated, self.shaped = (
            next(filter(None, dictated), None),
            next(filter(None, shaped), None),
        )
        self._bounds = index_bounds(model)
        self._lengths = {  # of named axes
            axis: length
            for name, shape in shapes.items()
            for axis, length in zip(declared[name].shape or (), shape, strict=False)
            if isinstance(axis, str)
        }
        self._batch_labels = {
            tensor.shape[axis]
            for tensor in model.inputs
            if tensor.shape and (axis := self._axes[tensor.name]) is not None
        }

    def batch(self, size: int, seed: int) -> Batch:
        """A batch of random values.

        Raises
        ------
        BadInput
            An axis has no known size, or values of an input's type cannot be made.
        """
        random = np.random.default_rng(seed)
        feeds = {
            tensor.name: self._values(tensor, self._shape(tensor, size), random)
            for tensor in self.model.inputs
        }
        return Batch(feeds, size, None)

    def origin(self, tensor: Tensor) -> str:
        """What the values of an input are, in words."""
        sides: list[str] = list(map(str, self._shape(tensor, 1)))
        axis = self._axes[tensor.name]
        if sides and axis is not None and self.dictated is None:
            sides[axis] = "batch"
        shape = " x ".join(sides) or "a scalar"
        return f"{tensor.name} ({shape}, {tensor.dtype}): {self._kind(tensor)}"

    def _shape(self, tensor: Tensor, size: int) -> Shape:
        """Shape of an input in a batch of some size."""
        axes: Sequence[Axis] | None = self.shapes.get(tensor.name, tensor.shape)
        if axes is None:
            raise self._unknown(tensor, "has no declared shape")
        batch = self._axes[tensor.name]
        lengths = []
        for position, axis in enumerate(axes):
            length = fixed(axis)
            if position == batch and _size_at(tensor.shape, batch) is None:
                length = size
            elif length is None and isinstance(axis, str):
                length = size if axis in self._batch_labels else self._lengths.get(axis)
            if length is None:
                raise self._unknown(tensor, "has a free axis besides that of the samples")
            lengths.append(length)
        if math.prod(lengths) > MAX_ELEMENTS:
            raise self._unknown(tensor, "would be too large")
        return tuple(lengths)

    def _unknown(self, tensor: Tensor, why: str) -> BadInput:
        sides = [str(fixed(axis) or 128) for axis in tensor.shape or ("", 128)]
        if (axis := self._axes[tensor.name]) is not None and sides:
            sides[axis] = str(self.dictated or 1)
        return BadInput(
            f"{self.model.path}: no samples were given, and the input '{tensor.name}' "
            f"{spell_input(tensor)} {why}: give samples with --data, or its shape, such as "
            f"--shape {tensor.name}={'x'.join(sides)}."
        )

    def _kind(self, tensor: Tensor) -> str:
        """The values that are made for an input, in words; empty where none can be."""
        if tensor.dtype in REAL_DTYPES:
            return "standard normal"
        if tensor.dtype in BYTE_DTYPES:
            return "random bytes"
        if tensor.dtype in WHOLE_DTYPES and tensor.name in self._bounds:
            return (
                f"random below {self._bounds[tensor.name]:,}, the rows of the table that it reads"
            )
        return "ones" if tensor.dtype in (*WHOLE_DTYPES, "bool") else ""

    def _values(self, tensor: Tensor, shape: Shape, random: np.random.Generator) -> Array:
        kind = self._kind(tensor)
        if not kind:
            raise BadInput(
                f"{self.model.path}: no samples were given, and none can be made for the input "
                f"'{tensor.name}' {spell_input(tensor)}: give samples with --data."
            )
        dtype = np.dtype(tensor.dtype)
        if tensor.dtype in REAL_DTYPES:
            return random.standard_normal(shape).astype(dtype)
        if tensor.dtype in BYTE_DTYPES:
            limits = np.iinfo(dtype)
            return random.integers(limits.min, limits.max + 1, shape).astype(dtype)
        if tensor.name in self._bounds:
            return random.integers(0, max(1, self._bounds[tensor.name]), shape).astype(dtype)
        return np.ones(shape, dtype)
