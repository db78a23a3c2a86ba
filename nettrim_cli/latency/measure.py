"""Latencies and their ratios as a library: of models in files or in memory, on given batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.deployed import DeployedModel
from nettrim_cli.data.engine import Array
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.graph.model import Model
from nettrim_cli.latency.timing import Patience, time_batch
from nettrim_cli.report.bench_result import BatchTiming, Estimate

Timed = Model | Runnable | Path
"""A model in memory, or a model's file as it lies."""

BRIEF = Patience(seconds=1.0, precision=0.02)


def latency_ratio(
    models: Sequence[Timed],
    batches: Sequence[Batch],
    threads: int,
    patience: Patience = BRIEF,
) -> tuple[BatchTiming, ...]:
    """Time models side by side, on one batch after the other.

    Parameters
    ----------
    models
        The first is the reference.
    batches
        Samples as all models take them.
    threads
        Threads inside an operator.
    patience
        How long each batch may take.

    Returns
    -------
    tuple
        A timing for each batch.

    Raises
    ------
    EngineFailed
        onnxruntime cannot load or run a model.
    """
    deployed = [deploy(model, threads) for model in models]
    return tuple(time_batch(deployed, batch.feeds, batch.count, patience) for batch in batches)


def latency(
    model: Timed, feeds: Mapping[str, Array], threads: int, patience: Patience = BRIEF
) -> Estimate:
    """Seconds of a call of one model.

    Parameters
    ----------
    model
        The model.
    feeds
        A batch, by input.
    threads
        Threads inside an operator.
    patience
        How long it may take.

    Raises
    ------
    EngineFailed
        onnxruntime cannot load or run it.
    """
    return time_batch([deploy(model, threads)], feeds, 0, patience).latencies[0]


def deploy(model: Timed, threads: int) -> DeployedModel:
    """Load a model as a program that serves it would; see ``DeployedModel``.

    Raises
    ------
    EngineFailed
        onnxruntime cannot load it.
    """
    runnable = model.runnable() if isinstance(model, Model) else model
    return DeployedModel(runnable, threads=threads)
