"""What a run of ``nettrim prune`` would do: measured as it would, but not solved or written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nettrim_cli import __version__
from nettrim_cli.evaluation.comparison import own_answers, packed, stored_bytes
from nettrim_cli.graph.model import Model
from nettrim_cli.loading import PathLike, default_output
from nettrim_cli.preview.course import Course
from nettrim_cli.preview.opened_run import OpenedRun, dense_model, opened_run
from nettrim_cli.process.memory import peak
from nettrim_cli.pruning.allocation import LayerCurve
from nettrim_cli.pruning.blocks import nonzeros
from nettrim_cli.pruning.compression import Compression
from nettrim_cli.pruning.measurement import allocate
from nettrim_cli.pruning.passes import compression_of
from nettrim_cli.pruning.scattered import ScatteredZeros
from nettrim_cli.pruning.target_search import first_guess
from nettrim_cli.report.plan_result import Plan, PlannedLayer
from nettrim_cli.report.progress.listener import Silent
from nettrim_cli.settings import SEARCHED, Settings

if TYPE_CHECKING:
    from nettrim_cli.report.progress import Listener

# Times of the measurement that a run takes, from and to, by its target (docs/figures.md, F29).
ONE_PRUNE, SEARCH, BY_EPSILON = (2.5, 5.0), (3.0, 8.0), (3.5, 7.0)


@dataclass(frozen=True)
class Expectation:
    """A network that has not been made.

    Attributes
    ----------
    sparsity, error
        Over all layers; and of its outputs.
    model
        A network of its size.
    shares
        Share of zeros in each layer, by name; empty where layers get smaller.
    """

    sparsity: float
    error: float
    model: Model
    shares: Mapping[str, float]


def dry_run(
    model: PathLike,
    data: PathLike,
    output: PathLike | None = None,
    settings: Settings | None = None,
    *,
    force: bool = False,
    listener: Listener | None = None,
) -> Plan:
    """Tell what a run would do.

    Parameters
    ----------
    model, data, output, settings, force
        As for ``pipeline.prune``; nothing is written.
    listener
        Hears of the progress.

    Raises
    ------
    NettrimError
        One of its kinds, as a run would raise it before it solves anything.
    """
    settings, listener = settings or Settings(), listener or Silent()
    target = Path(output) if output is not None else default_output(model)
    dense = dense_model(model, data, settings)
    dense.check_output(target, [Path(data)], force=force)
    with opened_run(dense, data, settings, listener) as run:
        begun = time.monotonic()
        compression = compression_of(run.context, run.samples)
        seconds = time.monotonic() - begun
        listener.stage("predicting what would come out")
        expected = expectation(run, compression)
        fitted = own_answers(dense, run.samples.fit_batches, threads=run.context.threads)
        drop = None
        if expected is not None:
            drop = Course(lambda _: expected.error, fitted).drop(expected.sparsity)
        return Plan(
            *(str(model), str(data), str(target)),
            layers=_layers(run, compression, expected),
            target=run.context.settings.target,
            fitted=len(run.samples.fitted),
            holdout=len(run.samples.holdout),
            sparsity=None if expected is None else expected.sparsity,
            error=None if expected is None else expected.error,
            drop=drop,
            bytes_gzip=None if expected is None else packed(expected.model),
            bytes_compact=None if expected is None else stored_bytes(expected.model, compact=True),
            labels=bool(fitted.label_margins.counts),
            seconds=_range(run.context.settings, seconds),
            memory_bytes=peak(),
            measured_seconds=seconds,
            structure=settings.structure,
            version=__version__,
            notes=tuple(doubt.text for doubt in run.doubts),
        )


def expectation(run: OpenedRun, compression: Compression) -> Expectation | None:
    """The network that would come out; None where that is not predicted."""
    context, (name, value) = run.context, run.context.settings.target
    if context.settings.method != "l0":
        return None
    if name in SEARCHED:
        value = first_guess(context, run.samples, run.reference, compression)
    if not isinstance(compression, ScatteredZeros):
        if name == "epsilon":
            return None
        return Expectation(value, compression.error(value), compression.preview(value), {})
    if name == "epsilon":
        zeros = {
            curve.layer.name: _zeros_within(compression, curve, value)
            for curve in compression.error_model.curves
        }
    else:
        zeros = allocate(compression.context, compression.error_model, value)
    sizes = {layer.name: layer.parameters for layer in context.layers}
    sparsity = sum(zeros.values()) / sum(sizes.values())
    shares = {layer: count / sizes[layer] for layer, count in zeros.items()}
    error = compression.error_of(zeros, sparsity)
    return Expectation(sparsity, error, compression.without(zeros), shares)


def _zeros_within(compression: ScatteredZeros, curve: LayerCurve, epsilon: float) -> int:
    """About the zeros with which a layer's own error is at most epsilon, within its bounds."""
    zeros = compression.error_model.zeros_within(curve, epsilon)
    fewest, most = compression.context.bounds[curve.layer.name]
    return min(max(zeros, fewest), most)


def _layers(
    run: OpenedRun, compression: Compression, expected: Expectation | None
) -> tuple[PlannedLayer, ...]:
    """What would become of each layer, in the model's order."""
    model, notes = run.context.dense, {report.name: report.note for report in run.unpruned}
    curves: dict[str, LayerCurve] = {}
    if isinstance(compression, ScatteredZeros):
        curves = {curve.layer.name: curve for curve in compression.error_model.curves}
    planned = []
    for layer in model.layers:
        note = notes.get(layer.name, "")
        share = expected.shares.get(layer.name) if expected is not None else None
        error = None
        if share is not None and isinstance(compression, ScatteredZeros):
            error = compression.error_model.layer_error(curves[layer.name], share)
        count = nonzeros(model.weight(layer)[0]) if layer.prunable else layer.parameters
        planned.append(
            PlannedLayer(
                *(layer.name, layer.op, layer.shape, layer.parameters, count),
                *(share, error, note),
            )
        )
    return tuple(planned)


def _range(settings: Settings, seconds: float) -> tuple[float, float] | None:
    """What a run takes if its measurement took so long; None where that is not known."""
    if settings.method != "l0":
        return None
    name, _ = settings.target
    low, high = SEARCH if name in SEARCHED else BY_EPSILON if name == "epsilon" else ONE_PRUNE
    return low * seconds, high * seconds
