"""Calibration files -> batches for the model, read batch by batch.

`files.formats` says which module of `formats` opens which kind of file.
"""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.advice import other_kind
from nettrim_cli.data.blame import blamed
from nettrim_cli.data.formats.base import Array, Container, Indices
from nettrim_cli.data.formats.memory import MemoryContainer
from nettrim_cli.data.input_matching import find_sources, match_all
from nettrim_cli.data.labels import find_labels
from nettrim_cli.errors import BadInput, MissingInput
from nettrim_cli.files.formats import READABLE, identify, where_missing
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.process.channel import identity, tell

BLOCK_BYTES = 1 << 20  # that are read at once where batches are smaller


@dataclass(frozen=True)
class Batch:
    """Some samples, ready for onnxruntime.

    Attributes
    ----------
    feeds
        Model input name -> array in the model's dtype.
    count
        Number of samples.
    labels
        Class numbers (count,), None where the file has none; ``labels.IGNORED`` where a sample
        has no class.
    weights
        (P,) of the columns that a layer reads, by the layer's name; of others all are alike.
    """

    feeds: dict[str, Array]
    count: int
    labels: NDArray[np.int64] | None
    weights: Mapping[str, Array] = field(default_factory=dict)


class Calibration:
    """An open calibration file that fits a model; a context manager.

    Nothing but headers is read before `batches`. Built by `open`.

    Attributes
    ----------
    path
        The file.
    samples
        Number of samples in the file.
    about_labels
        What a user should know of how labels were found; empty where nothing.
    provenance
        How nettrim made the file, as it says itself; empty where it did not.
    """

    def __init__(
        self, container: Container, inputs: Sequence[Tensor], ignored: int | None = None
    ) -> None:
        self._container = container
        self.path = container.path
        self.provenance = container.provenance
        self._identity = ""  # of the file when it was opened
        if not inputs:
            raise BadInput(f"{self.path}: the model has no inputs, so there is nothing to feed.")
        sources = find_sources(container, inputs)
        self._feeds = match_all(self.path, inputs, sources)
        self.samples = max(feed.samples for feed in self._feeds)
        fed = {*(tensor.name for tensor in inputs), *(source.name for source in sources)}
        self._labels, self.about_labels = find_labels(container, fed, self.samples, ignored)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        inputs: Sequence[Tensor],
        *,
        ignored: int | None = None,
        model: str | os.PathLike[str] = "model.onnx",
    ) -> Calibration:
        """Open a file and match its datasets with the model's inputs.

        Parameters
        ----------
        path
            A file with samples; its content tells of which format, whatever its name.  Or arrays in
            memory.
        inputs
            The inputs that the model must be fed.
        ignored
            The label that marks samples without a class.
        model
            The model's file, for the message that says how to make samples for it.

        Raises
        ------
        MissingInput
            There is no such file, or it cannot be read.
        BadInput
            The file is damaged, lacks an input, or does not fit the model.
        Refused
            A dataset leads out of the file, or is pickled.
        """
        if isinstance(path, MemoryContainer):
            return cls(path, inputs, ignored)
        file = Path(path)
        require_file(file, inputs, model)
        opened_identity = identity(file.stat())
        tell("input", file, opened_identity)
        container = open_container(file)
        if container is None:
            raise BadInput(other_kind(file, inputs, os.fspath(model)))
        try:
            samples = cls(container, inputs, ignored)
            samples._identity = opened_identity
            return samples
        except BaseException:
            container.close()
            raise

    def check_unchanged(self) -> None:
        """Check that all samples came from one file.

        Raises
        ------
        BadInput
            The file was replaced or changed meanwhile.
        """
        with suppress(OSError):  # a file that was removed gave its samples to the end
            if self._identity and identity(self.path.stat()) != self._identity:
                raise BadInput(f"{self.path}: changed while the run read it; start anew.")

    def close(self) -> None:
        """Give the file back."""
        self._container.close()

    def __enter__(self) -> Calibration:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the file back."""
        self.close()

    @property
    def labels(self) -> str:
        """Name of the dataset with the labels that batches carry; empty without them."""
        return self._labels.name if self._labels else ""

    @property
    def datasets(self) -> dict[str, str]:
        """By model input, the name of the dataset that feeds it."""
        return {feed.tensor.name: feed.source.name for feed in self._feeds}

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the model's shapes dictate, None for any."""
        return next((feed.batch for feed in self._feeds if feed.batch is not None), None)

    @property
    def sample_axes(self) -> dict[str, int]:
        """Axis of the samples in each input that has one; empty where samples cannot be mixed.

        What is no floating-point number, such as a token, has no mixtures.
        """
        own = [feed for feed in self._feeds if not feed.shared]
        if any(np.dtype(feed.convert.dtype).kind != "f" or feed.row_is_input for feed in own):
            return {}
        return {feed.tensor.name: feed.axis or 0 for feed in own}

    @property
    def bytes_per_sample(self) -> int:
        """Bytes that one more sample in a batch takes as fed."""
        return sum(feed.sample_bytes for feed in self._feeds)

    def batch_size(self, size: int) -> int:
        """Batch size that the model's shapes allow: the one they dictate, or `size`."""
        return self.fixed_batch or max(size, 1)

    def batches(self, indices: Indices, size: int) -> Iterator[Batch]:
        """Samples at `indices`, in ascending order, in batches of `batch_size(size)`.

        Where the model dictates a batch size the remainder that fills no batch is dropped.
        Several iterators may be open at once; each is fastest when it runs alone.

        Raises
        ------
        BadInput
            Fewer samples than the one batch that the model dictates; while iterating: a value is
            not finite or does not fit the model's dtype, or the file is damaged.
        """
        ordered = np.sort(np.asarray(indices, dtype=np.int64))
        if len(ordered) and not 0 <= ordered[0] <= ordered[-1] < self.samples:
            raise IndexError(f"sample indices must lie in 0..{self.samples - 1}")
        step, dictated = self.batch_size(size), self.fixed_batch
        if dictated is not None:
            if len(ordered) < dictated:
                raise BadInput(
                    f"{self.path}: the model takes batches of exactly {dictated} samples, but only "
                    f"{len(ordered)} were to be used: use more samples."
                )
            ordered = ordered[: len(ordered) - len(ordered) % dictated]
        return self._read(ordered, step)

    def _read(self, ordered: NDArray[np.int64], step: int) -> Iterator[Batch]:
        shared = {feed.tensor.name: feed.array(ordered) for feed in self._feeds if feed.shared}
        labels = self._labels.read(ordered) if self._labels else None
        block = step * max(1, BLOCK_BYTES // max(1, step * self.bytes_per_sample))
        for start in range(0, len(ordered), step):
            if start % block == 0:  # of small batches several are read at once
                rows = ordered[start : start + block]
                read = {f.tensor.name: f.read(rows) for f in self._feeds if not f.shared}
            here, count = start % block, len(ordered[start : start + step])
            feeds = {
                feed.tensor.name: feed.repeat(shared[feed.tensor.name], count)
                if feed.shared
                else feed.arranged(read[feed.tensor.name], here, here + count)
                for feed in self._feeds
            }
            numbers = None if labels is None else labels[start : start + count]
            yield Batch(feeds, count, numbers)

    def blamed(self, message: str) -> str:
        """What in the samples makes the engine fail with a message; empty where nothing does."""
        return blamed(self.path, self._feeds, message)


def split(
    samples: int,
    count: int,
    holdout: float,
    seed: int,
    *,
    batch: int = 1,
    path: str | os.PathLike[str] = "the calibration data",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the samples to calibrate on and the samples to judge by.

    Parameters
    ----------
    samples
        Number of samples in the file.
    count
        Number to use in all; fewer if the file has fewer.
    holdout
        Share of those that is held out, a fraction; at least one batch on either side.
    seed
        The same seed draws the same samples.
    batch
        Both parts are whole multiples of it: the model's fixed batch size.
    path
        Their file, for a message.

    Returns
    -------
    tuple
        Sorted, disjoint indices: (calibration, held out).

    Raises
    ------
    BadInput
        Fewer than two batches of samples.
    """
    if samples < 2 * batch:
        raise BadInput(
            f"{path}: {samples} sample{'' if samples == 1 else 's'}; at least "
            f"{2 * batch} are needed, {batch} to solve for and {batch} to judge by: add samples."
        )
    groups = max(min(count, samples) // batch, 2)
    held = min(max(round(groups * holdout), 1), groups - 1) * batch
    drawn = np.random.default_rng(seed).choice(samples, groups * batch, replace=False)
    return np.sort(drawn[held:]).astype(np.int64), np.sort(drawn[:held]).astype(np.int64)


def require_file(
    path: Path, inputs: Sequence[Tensor] = (), model: str | os.PathLike[str] = "model.onnx"
) -> None:
    """Check that `path` is a file that can be read; a pipe would block.

    Raises
    ------
    MissingInput
        It is not.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = where_missing(path, "the calibration data")
        raise MissingInput(
            f"{path} cannot be found ({reason}): {advice}{'.' if advice[-1] != '?' else ''}"
        ) from error
    if stat.S_ISDIR(mode):
        raise MissingInput(other_kind(path, inputs, os.fspath(model)))
    if not stat.S_ISREG(mode):
        raise MissingInput(f"{path} is not a regular file: give the file with the samples.")
    if not os.access(path, os.R_OK):
        raise MissingInput(f"{path} may not be read: change its permissions.")


def open_container(path: Path) -> Container | None:
    """Open a file of a format that is known by its content, else by its suffix; None otherwise.

    Raises
    ------
    MissingInput
        It cannot be read.
    BadInput
        It is damaged.
    """
    kind, suffix = identify(path), path.suffix.lower()
    if kind is None:
        kind = next((known for known in READABLE.values() if suffix in known.suffixes), None)
    if kind is None or not kind.reader:
        return None
    module, function = kind.reader.split(":")
    reader: Callable[[Path], Container] = getattr(
        importlib.import_module(f"nettrim_cli.data.formats.{module}"), function
    )
    try:
        return reader(path)
    except OSError as error:
        raise MissingInput(f"{path} cannot be read ({error.strerror or error}).") from error
