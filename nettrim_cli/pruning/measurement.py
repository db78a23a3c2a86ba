"""What zeros cost in each layer, measured in one pass over the dense network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.data.stream import StreamCache
from nettrim_cli.pruning.allocation import ErrorModel, Forecast, measure_error_model
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layerwise import Block, WarmStart
from nettrim_cli.pruning.propagation import RecordedStage
from nettrim_cli.pruning.sensitivity import movements
from nettrim_cli.report.result import ErrorCurve
from nettrim_cli.settings import ALLOCATIONS
from nettrim_cli.solve.levels import uniform

TYPICAL = 0.7  # sparsity at which curves are compared where none is asked for


@dataclass(frozen=True)
class Measurement:
    """What a pass over the dense network tells before any layer is pruned.

    Attributes
    ----------
    error_model
        Every layer's curve.
    samples
        Those to fit: with made samples where these cost less on the held-out ones.
    cache
        What the dense network delivered on these samples.
    forecast
        What more samples would give, where that was asked for.
    """

    error_model: ErrorModel
    samples: SampleSet
    cache: StreamCache
    forecast: Forecast | None = None

    @property
    def warm(self) -> WarmStart:
        """What the curves tell the first pass: the damping of each block."""
        damping: dict[Block, float | None] = {
            (curve.layer.name, block): delta
            for curve in self.error_model.curves
            for block, delta in enumerate(curve.deltas)
        }
        return WarmStart(damping=damping)


@dataclass(frozen=True)
class StartingPoint:
    """Where a run at a target of zeros or of epsilon begins.

    Attributes
    ----------
    allocations
        Zeros of each layer, by name; the first is the best in general, the others are its rivals,
        where samples are few and sensitivities uncertain.  None where epsilon is the target.
    cache
        What the dense network delivered on these samples.
    forecast
        What more samples would give, where that was asked for.
    curves
        Of the layers, where they were measured.
    """

    samples: SampleSet
    allocations: list[Mapping[str, int]] | None = None
    warm: WarmStart = field(default_factory=WarmStart)
    cache: StreamCache | None = None
    forecast: Forecast | None = None
    curves: tuple[ErrorCurve, ...] = ()


def starting_point(context: Context, samples: SampleSet) -> StartingPoint:
    """The samples to fit, and zeros of each layer where sparsity is the target."""
    settings = context.settings
    if settings.zeros is None:
        return StartingPoint(samples)
    even = context.allocation == "uniform" or len(context.layers) == 1
    augmented = context.may_augment and samples.augmented().rounds
    if even and not augmented and not settings.forecast:
        sizes = [layer.parameters for layer in context.layers]
        zeros = uniform(sizes, round(settings.zeros * sum(sizes)), list(context.bounds.values()))
        shares = dict(zip(context.bounds, zeros, strict=True))
        return StartingPoint(samples, [shares])
    measurement = measure(context, samples, settings.zeros)
    allocations: list[Mapping[str, int]] = [
        allocate(context, measurement.error_model, settings.zeros)
    ]
    few = measurement.samples.few
    if context.allocation == "network" and settings.allocate is None and few:
        for kind in ALLOCATIONS[1:]:
            rival = measurement.error_model.allocate(settings.zeros, context.bounds, kind=kind)
            if rival != allocations[0]:
                allocations.append(rival)
    return StartingPoint(
        measurement.samples,
        allocations,
        measurement.warm,
        measurement.cache,
        measurement.forecast,
        measurement.error_model.told,
    )


def allocate(context: Context, error_model: ErrorModel, sparsity: float) -> dict[str, int]:
    """Zeros of each layer that was measured, by name, at a sparsity over all of them."""
    return error_model.allocate(sparsity, context.bounds, kind=context.allocation)


def measure(context: Context, samples: SampleSet, sparsity: float | None = None) -> Measurement:
    """Measure what zeros cost in each layer, around a sparsity or over the whole range."""
    context.listener.stage("measuring how sensitive each layer is")
    share = TYPICAL if sparsity is None else sparsity

    def predicted_cost(error_model: ErrorModel) -> float:
        """The cost of the zeros that the model itself would give each layer."""
        return error_model.cost(allocate(context, error_model, share))

    cache = StreamCache()
    error_model = _measure(context, samples, sparsity, cache)
    mixed = samples.augmented() if context.may_augment else samples
    if mixed.rounds:
        context.listener.stage("measuring it on samples that were mixed and moved")
        mixed_cache = StreamCache()
        mixed_model = _measure(context, mixed, sparsity, mixed_cache)
        if predicted_cost(mixed_model) < predicted_cost(error_model):
            samples, error_model, cache = mixed, mixed_model, mixed_cache
    forecast = None
    if context.settings.forecast and len(samples.half().fitted) < len(samples.fitted):
        context.listener.stage("measuring it on half of the samples")
        fewer = _measure(context, samples.half(), sparsity)
        forecast = Forecast.of(error_model, fewer, allocate(context, error_model, share))
    return Measurement(error_model, samples, cache, forecast)


def _measure(
    context: Context, samples: SampleSet, sparsity: float | None, cache: StreamCache | None = None
) -> ErrorModel:
    """Every layer's curve."""
    dense, sparse = context.dense, context.dense.clone()
    error_model = measure_error_model(
        dense,
        _told(context, context.recorded(samples, cache=cache)),
        sparsity,
        sparse,
        context.executor,
        importance=context.dense_importance,
    )
    names = {curve.layer.name for curve in error_model.curves if curve.changed > 0}
    moved = movements(context.gradients, sparse, names, context.stages, samples.probe_batches)
    return error_model.weighed(moved)


def _told(context: Context, stages: Iterator[RecordedStage]) -> Iterator[RecordedStage]:
    """The stages; the listener is told how many layers are done."""
    done = 0
    for stage in stages:
        layers = sum(1 for _ in stage)
        yield stage
        done += layers
        context.listener.iteration(done, len(context.layers))
