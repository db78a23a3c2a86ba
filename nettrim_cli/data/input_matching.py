"""Which dataset feeds which model input, and how one becomes the other."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nettrim_cli.data.convert import Converter
from nettrim_cli.data.formats.base import (
    Array,
    Container,
    Indices,
    Source,
    listing,
    row_bytes,
    spell,
)
from nettrim_cli.data.input_shapes import (
    Axis,
    batch_axis,
    fits,
    fixed,
    is_single,
    reshape_hint,
    spell_input,
    stacks_along,
)
from nettrim_cli.data.labels import LABELS, is_spelling
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Tensor

NO_TENSORS = ("sequence", "optional", "map")
MAX_SAMPLE_BYTES = 1 << 30  # a hostile file may announce samples of any size
FIRST = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True)
class Feed:
    """One model input and the dataset that feeds it.

    Attributes
    ----------
    row_is_input
        Whether a row of the dataset is the input tensor; otherwise rows are stacked along `axis`.
    shared
        The dataset holds one value, which serves every sample.
    batch
        The number of samples that a batch must have for this input; None for any.
    axis
        The input's batch axis; None if it has none.
    single
        The dataset as a whole is the value for one sample: it has no axis for the samples.
    """

    tensor: Tensor
    source: Source
    convert: Converter
    row_is_input: bool
    shared: bool
    batch: int | None
    axis: int | None = 0
    single: bool = False

    @property
    def samples(self) -> int:
        """Number of samples in the dataset."""
        return 1 if self.single or not self.source.shape else self.source.shape[0]

    def array(self, indices: Indices) -> Array:
        """Read and convert what onnxruntime is fed for these samples; `repeat` if shared."""
        values = self.read(indices)
        return self.arranged(values, 0, len(values) if values.ndim else 0)

    def read(self, indices: Indices) -> Array:
        """Read and convert the rows of some samples."""
        rows = FIRST if self.shared else indices
        if self.single:
            rows = np.arange(self.source.shape[0])
        return self.convert(self.source.read(rows), rows)

    def arranged(self, values: Array, start: int, stop: int) -> Array:
        """What onnxruntime is fed for some of the rows that were read."""
        if self.single or not values.ndim:
            return values
        values = values[start:stop]
        if self.row_is_input:
            return values.reshape(values.shape[1:])
        if not self.axis:
            return values
        if self.tensor.shape is not None and values.ndim > len(self.tensor.shape):
            values = values.squeeze(self.axis + 1)
        return np.ascontiguousarray(np.moveaxis(values, 0, self.axis))

    def repeat(self, values: Array, count: int) -> Array:
        """Spread a shared value over a batch of `count` samples."""
        if self.row_is_input or self.axis is None:
            return values
        times = fixed(self.tensor.shape[self.axis]) if self.tensor.shape else None
        return np.repeat(values, count if times is None else times, axis=self.axis)

    @property
    def sample_bytes(self) -> int:
        """Bytes that one more sample takes as fed."""
        if self.shared and (self.row_is_input or self.axis is None or self.batch is not None):
            return 0
        rows = self.source.shape[0] if self.single else 1
        return rows * row_bytes(self.source.shape, self.convert.dtype)


def find_sources(container: Container, inputs: Sequence[Tensor]) -> list[Source]:
    """Dataset of every model input, by name; with one input any single dataset will do.

    Raises
    ------
    BadInput
        An input is no tensor, or no dataset is meant for it.
    """
    sources: list[Source] = []
    missing: list[Tensor] = []
    for tensor in inputs:
        if tensor.dtype in NO_TENSORS:
            raise BadInput(
                f"{container.path}: the model input '{tensor.name}' is a {tensor.dtype}, and "
                "calibration data hold tensors only: let the model make it of tensors itself."
            )
        source = container.find(tensor.name)
        if source is None and len(inputs) == 1:
            source = only_source(container, tensor)
        if source is None:
            missing.append(tensor)
        else:
            sources.append(source)
    if missing:
        raise BadInput(f"{container.path}: {absent(container, missing, inputs)}")
    return sources


def _mask_hint(missing: Sequence[Tensor], inputs: Sequence[Tensor]) -> str:
    """How a mask is made of tokens, where none of these are padding."""
    masks = [tensor.name for tensor in missing if "mask" in tensor.name.lower()]
    other = next((each.name for each in inputs if each not in missing), "")
    if not masks or not other:
        return ""
    return f"; without padding '{masks[0]}' is numpy.ones_like of '{other}'"


def absent(container: Container, missing: Sequence[Tensor], inputs: Sequence[Tensor]) -> str:
    """Which inputs have no dataset, and which datasets may be meant for them."""
    described = ", ".join(f"'{tensor.name}' {spell_input(tensor)}" for tensor in missing)
    fed = {tensor.name for tensor in inputs}
    free = [name for name in container.names() if name not in (*fed, LABELS)]
    meant = {tensor.name: nearest(tensor.name, free) for tensor in missing}
    renamed = " and ".join(f"'{name}' to '{want}'" for want, name in meant.items() if name)
    return (
        f"there is no dataset for the model input{'s' * (len(missing) > 1)} {described}; the file "
        f"holds {listing(container)}: "
        + (f"rename {renamed}." if renamed else "")
        + "store one dataset for every model input, named as the input" * (not renamed)
        + _mask_hint(missing, inputs) * (not renamed)
        + "." * (not renamed)
    )


def nearest(name: str, names: Sequence[str]) -> str:
    """The one name that is alike but for case, a group around it, or a letter or two."""
    inner = [
        candidate for candidate in names if candidate.rsplit("/", 1)[-1].lower() == name.lower()
    ]
    alike = inner or difflib.get_close_matches(name, names, cutoff=0.8)
    return alike[0] if len(alike) == 1 else ""


def only_source(container: Container, tensor: Tensor) -> Source | None:
    """The single dataset that is not the labels; None where there is none.

    Raises
    ------
    BadInput
        Several datasets could be meant.
    """
    unlabelled = [name for name in container.names() if name.strip("/") != LABELS]
    names = [name for name in unlabelled if not is_spelling(name)] or unlabelled
    if len(names) > 1:
        raise BadInput(
            f"{container.path}: no dataset is named as the model input '{tensor.name}' "
            f"{spell_input(tensor)} and several could be meant; the file holds "
            f"{listing(container)}: rename the right one to '{tensor.name}'."
        )
    return container.find(names[0]) if names else None


def match(path: Path, tensor: Tensor, source: Source) -> tuple[bool, Converter]:
    """Check a dataset against a model input whose first axis counts the samples.

    Returns
    -------
    tuple
        Whether a row is a whole input tensor, and the converter of values.

    Raises
    ------
    BadInput
        Wrong dtype, rank or size, no elements, or samples that are too large.
    """
    convert = converter(path, tensor, source)
    shape = source.shape
    declared: tuple[Axis, ...] = shape if tensor.shape is None else tensor.shape
    rank = len(shape)
    row_is_input = rank == len(declared) + 1 or rank == 0
    right_rank = rank in (len(declared), len(declared) + 1)
    if not right_rank or not fits(declared if row_is_input else declared[1:], shape[1:]):
        raise BadInput(
            f"{path}: dataset '{source.name}' is {spell(shape, source.dtype)}, but the model "
            f"input '{tensor.name}' takes {spell_input(tensor)}: {reshape_hint(tensor, shape)}"
        )
    return row_is_input, convert


def converter(path: Path, tensor: Tensor, source: Source) -> Converter:
    """What converts a dataset's values for a model input.

    Raises
    ------
    BadInput
        Wrong dtype, or samples that are too large.
    """
    convert = Converter(path, source, tensor.dtype, f"model input '{tensor.name}'")
    shape = source.shape
    size = row_bytes(shape, max(source.dtype, convert.dtype, key=lambda dtype: dtype.itemsize))
    if size > MAX_SAMPLE_BYTES:
        raise BadInput(
            f"{path}: a sample of dataset '{source.name}' {spell(shape, source.dtype)} takes "
            f"{size:,} bytes, at most {MAX_SAMPLE_BYTES:,} are read: "
            "is its first axis really the samples?"
        )
    return convert


def match_all(path: Path, inputs: Sequence[Tensor], sources: Sequence[Source]) -> list[Feed]:
    """Check all datasets against the model and each other.

    Raises
    ------
    BadInput
        As `match`; also empty datasets, datasets of different lengths, or inputs that want
        different batches.
    """
    nothing = all(0 in source.shape for source in sources)
    for tensor, source in zip(inputs, sources, strict=True):
        if 0 in source.shape[:1] or nothing:
            raise BadInput(
                f"{path}: dataset '{source.name}' {spell(source.shape, source.dtype)} is empty: "
                f"store samples for the model input '{tensor.name}' {spell_input(tensor)}."
            )
    axes = [batch_axis(tensor, inputs) for tensor in inputs]
    singles = [
        axis != 0 and is_single(tensor, source)
        for axis, tensor, source in zip(axes, inputs, sources, strict=True)
    ]
    counts = [
        source.shape[0]
        for source, single in zip(sources, singles, strict=True)
        if source.shape and not single
    ]
    longest = max(counts, default=1)
    leader = next((s for s in sources if s.shape and s.shape[0] == longest), None)
    feeds = []
    for tensor, source, axis, single in zip(inputs, sources, axes, singles, strict=True):
        rows = source.shape[0] if source.shape else 1
        if single and rows != longest:
            convert = converter(path, tensor, source)
            feeds.append(Feed(tensor, source, convert, False, True, None, axis, single=True))
            continue
        shared = not source.shape or (rows == 1 and longest > 1)
        if leader is not None and not shared and rows != longest:
            raise BadInput(
                f"{path}: dataset '{source.name}' has {rows} samples, '{leader.name}' has "
                f"{longest}: store equally many, or a single one (first axis 1) to serve all."
            )
        if stacks_along(axis, tensor, source.shape):
            convert = converter(path, tensor, source)
            feeds.append(Feed(tensor, source, convert, False, shared, None, axis))
            continue
        row_is_input, convert = match(path, tensor, source)
        if row_is_input:
            settled = all(fixed(axis_size) is not None for axis_size in tensor.shape or ())
            batch = None if shared and settled else 1
        else:
            batch = fixed(tensor.shape[0]) if tensor.shape and not shared else None
        feeds.append(Feed(tensor, source, convert, row_is_input, shared, batch))
    check_batches(path, feeds, longest)
    return feeds


def check_batches(path: Path, feeds: Sequence[Feed], samples: int) -> None:
    """Check that fixed batch sizes of the inputs are equal and no larger than the samples.

    Raises
    ------
    BadInput
        They differ, or exceed the samples.
    """
    bound = [feed for feed in feeds if feed.batch is not None]
    for feed in bound:
        if feed.batch != bound[0].batch:
            raise BadInput(
                f"{path}: as stored, the model input '{bound[0].tensor.name}' takes "
                f"{bound[0].batch} samples at once and '{feed.tensor.name}' takes {feed.batch}: "
                "store both with the same number of axes as the model declares, or export the "
                "model with a free batch axis."
            )
        if feed.batch is not None and feed.batch > samples:
            raise BadInput(
                f"{path}: the model input '{feed.tensor.name}' {spell_input(feed.tensor)} takes "
                f"batches of exactly {feed.batch} samples, but the file has {samples}: add samples."
            )
