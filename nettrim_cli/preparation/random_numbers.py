"""Samples of random numbers, to see that a model runs: they are marked as such."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nettrim_cli.data.formats.base import Array, Indices
from nettrim_cli.data.input_shapes import batch_axis
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.graph.model import Model
from nettrim_cli.latency.inputs import InputMaker
from nettrim_cli.preparation.source import Item
from nettrim_cli.settings import DataSettings


class RandomSource:
    """Random values of the types and shapes that a model declares.

    Raises
    ------
    WrongUsage
        A shape is that of no input, or contradicts the declared one.
    """

    origin: Mapping[str, Any]
    notes: Sequence[str] = ()

    def __init__(self, model: Model, settings: DataSettings) -> None:
        self._maker = InputMaker(model, settings.shapes)
        self._inputs = [tensor for tensor in model.inputs if tensor.name not in settings.values]
        self._axes = {tensor.name: batch_axis(tensor, model.inputs) for tensor in self._inputs}
        self._count = settings.random or 0
        self._seed = settings.seed
        self.origin = {"kind": "random numbers", "random": True}

    def close(self) -> None:
        """Do nothing."""

    def __len__(self) -> int:
        """Number of samples that are wanted."""
        return self._count

    def items(self, indices: Indices) -> Iterator[Item]:
        """Samples at ascending indices, each with random numbers of its own."""
        for index in indices:
            yield Item(f"random sample {index}", lambda index=index: self._rows(int(index)))  # type: ignore[misc]

    def _rows(self, index: int) -> Mapping[str, Array]:
        size = self._maker.dictated or 1
        seed = [self._seed, index // size]
        feeds = self._maker.batch(
            size, int(np.random.SeedSequence(seed).generate_state(1)[0])
        ).feeds
        return {tensor.name: self._row(tensor, feeds, index % size) for tensor in self._inputs}

    def _row(self, tensor: Tensor, feeds: Mapping[str, Array], place: int) -> Array:
        """The part of a batch that is one sample; what has no samples is the same in each."""
        axis, values = self._axes[tensor.name], feeds[tensor.name]
        if axis is None or not values.ndim:
            return values
        return np.asarray(np.take(values, place, axis=axis))
