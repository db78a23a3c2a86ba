"""What a file of samples holds, read batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nettrim_cli.data.batching import batch_size
from nettrim_cli.data.dataset import Calibration, open_container, require_file
from nettrim_cli.data.formats.base import Container, Source, row_bytes
from nettrim_cli.data.labels import LABELS, is_spelling
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.label_checks import right_answers
from nettrim_cli.evaluation.plausibility import (
    RANDOM,
    case_of,
    check_runs,
    doubts_of,
)
from nettrim_cli.evaluation.sample_statistics import Case
from nettrim_cli.graph.model import Model
from nettrim_cli.loading import load_models
from nettrim_cli.process.channel import tell
from nettrim_cli.process.threads import thread_limits
from nettrim_cli.report.data_result import DatasetFacts, DataSummary
from nettrim_cli.report.diagnostic import ordered

BLOCK_BYTES = 1 << 22  # of a dataset that are read at once
MOST_CLASSES = 100_000  # distinct labels that are counted


def look(path: Path, model: Path | None = None) -> DataSummary:
    """Look into a file of samples.

    Parameters
    ----------
    path
        HDF5, .npz or .npy file.
    model
        A model that it must fit, and that is run on it.

    Raises
    ------
    NettrimError
        One of its kinds: the file is missing, damaged or of another kind, or does not fit.
    """
    tell("about", path)
    loaded = load_models([model], path)[0] if model is not None else None
    return summarise(path, loaded)


def summarise(path: Path, model: Model | None, *, notes: Sequence[str] = ()) -> DataSummary:
    """What a file of samples holds, and whether it fits a model.

    Raises
    ------
    BadInput
        The file is damaged, of another kind, or does not fit the model.
    MissingInput
        There is no such file.
    """
    feeds: dict[str, str] = {}
    right: tuple[int, int] | None = None
    notes = list(notes)
    if model is not None:
        with (
            Calibration.open(path, model.inputs, model=model.path) as calibration,
            thread_limits(None) as threads,
        ):
            feeds = {dataset: name for name, dataset in calibration.datasets.items()}
            case = _case(model, calibration, threads)
            doubts = (doubt for doubt in ordered(doubts_of(case)) if doubt.code != RANDOM)
            notes += [doubt.text for doubt in doubts]
            right = right_answers(case)
    require_file(path)
    container = open_container(path)
    if container is None:
        raise BadInput(
            f"{path} holds no samples that can be looked at; to make some of it, name a file for "
            "them and the model that they are for: -o calib.h5 --model model.onnx."
        )
    try:
        return replace(
            _contents(container, feeds),
            model="" if model is None else str(model.path),
            right=right,
            notes=tuple(notes),
        )
    finally:
        container.close()


def _case(model: Model, calibration: Calibration, threads: int) -> Case:
    """The samples with their statistics, once the model has run on them."""
    everything = np.arange(calibration.samples)
    check_runs(model, calibration, everything, threads)
    size = batch_size(calibration, model, threads)
    return case_of(model, calibration, (everything, everything[:0]), size, threads=threads)


def _contents(container: Container, feeds: dict[str, str]) -> DataSummary:
    sources = [source for name in container.names() if (source := container.find(name))]
    if not sources:
        raise BadInput(f"{container.path}: there are no datasets in the file.")
    labels: Counter[int] = Counter()
    facts = []
    for source in sources:
        is_labels = source.name.strip("/") == LABELS or is_spelling(source.name)
        counted = labels if is_labels and source.name not in feeds else None
        facts.append(_facts(source, feeds.get(source.name, ""), counted))
    rows = [source.shape[0] for source in sources if source.shape]
    return DataSummary(
        str(container.path),
        max(rows, default=1),
        tuple(facts),
        dict(sorted(labels.items())) if len(labels) <= MOST_CLASSES else {},
        dict(container.provenance),
    )


def _facts(source: Source, feeds: str, labels: Counter[int] | None) -> DatasetFacts:
    """Figures of a dataset from one pass; whole numbers are counted where labels are wanted."""
    dtype = source.dtype
    plain = DatasetFacts(source.name, tuple(source.shape), _spelled(source), feeds=feeds)
    if dtype.kind not in "fiub" or 0 in source.shape:
        return plain
    step = max(1, BLOCK_BYTES // max(1, row_bytes(source.shape, dtype)))
    rows = source.shape[0] if source.shape else 1
    low, high, count, zeros, total = np.inf, -np.inf, 0, 0, 0.0
    center, squares = 0.0, 0.0
    for start in range(0, rows, step):
        values = source.read(np.arange(start, min(start + step, rows))).reshape(-1)
        if labels is not None and dtype.kind in "iub" and len(labels) <= MOST_CLASSES:
            labels.update(values.tolist())
        exact = values.astype(np.float64)
        center = exact.mean() if start == 0 else center  # so that squares stay exact
        low, high = min(low, exact.min()), max(high, exact.max())
        zeros += int((exact == 0).sum())
        count += exact.size
        total += float((exact - center).sum())
        squares += float(np.square(exact - center).sum())
    shift = total / count
    variance = max(squares / count - shift**2, 0.0)
    return replace(
        plain,
        low=float(low),
        high=float(high),
        mean=float(center + shift),
        std=float(variance**0.5),
        zeros=zeros / count,
    )


def _spelled(source: Source) -> str:
    return "text" if source.dtype.kind in "USO" else source.dtype.name
