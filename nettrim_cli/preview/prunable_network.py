"""A measured network: what it would be at any sparsity, and what it is where it has been pruned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nettrim_cli.evaluation.comparison import ReferenceOutputs, own_answers, packed, stored_bytes
from nettrim_cli.graph.model import Model
from nettrim_cli.latency.measure import latency_ratio
from nettrim_cli.latency.timing import Patience
from nettrim_cli.preview.course import Course
from nettrim_cli.preview.opened_run import OpenedRun
from nettrim_cli.pruning.compression import Attempt
from nettrim_cli.pruning.deletion import without_idle_units
from nettrim_cli.pruning.passes import compression_of
from nettrim_cli.pruning.refit.network import fits_network
from nettrim_cli.pruning.root_search import log_odds
from nettrim_cli.pruning.second_step import fit_together
from nettrim_cli.report.curve.result import MEASURED, PREDICTED, CurvePoint, Trend

# Where a trend is told, besides at the points: densely where networks begin to lose much.
PLACES = (
    *(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.84, 0.87, 0.9, 0.92, 0.94, 0.95),
    *(0.96, 0.97, 0.98),
)
GLANCE = Patience(seconds=0.5, precision=0.02)


@dataclass(frozen=True)
class Sizes:
    """Bytes of a model's file as it lies, gzipped, and in compact form; and time of a call."""

    raw: int
    gzip: int
    compact: int
    latency_ratio: float | None = None


class PrunableNetwork:
    """The layers' measurement, and networks that were pruned.

    Parameters
    ----------
    run
        The model and its samples.
    """

    def __init__(self, run: OpenedRun) -> None:
        self.run, context = run, run.context
        self.compression = compression_of(context, run.samples)
        fitted = own_answers(context.dense, run.samples.fit_batches, threads=context.threads)
        self.course = Course(self.compression.error, fitted)
        self.low, self.high = self.compression.limits()
        self.pruned: dict[float, CurvePoint] = {}
        self._last: Attempt | None = None

    def possible(self, sparsities: Sequence[float]) -> list[float]:
        """Those sparsities that the layers can have, ascending."""
        return sorted(share for share in set(sparsities) if self.low <= share <= self.high)

    def trend(self, sparsities: Sequence[float]) -> Trend:
        """The course up to the largest of some sparsities, the dense network first."""
        last = max(sparsities)
        places = self.possible([*(place for place in PLACES if place < last), *sparsities])
        expected = map(self.course.drop, places)
        drops = tuple(drop for drop in expected if drop is not None)
        return Trend(
            (0.0, *places),
            (0.0, *map(self.course.error, places)),
            (0.0, *drops) if drops else (),
        )

    def next_share(self, sparsities: Sequence[float]) -> float:
        """The sparsity at which a measured network tells most.

        It is the last before the network loses something; or, where that is measured, the one
        farthest from those measured.
        """
        trend = self.trend(sparsities)
        edge = trend.within(trend.limit) or self.low
        cheap = max((share for share in sparsities if share <= edge), default=min(sparsities))
        if cheap not in self.pruned:
            return cheap
        measured = [log_odds(share) for share in self.pruned]
        return max(
            (share for share in sparsities if share not in self.pruned),
            key=lambda share: min(abs(log_odds(share) - each) for each in measured),
        )

    def prune(self, sparsity: float) -> None:
        """Prune the network and measure it."""
        run, context = self.run, self.compression.context
        context.listener.stage(f"pruning to {sparsity:.1%} {self.compression.noun}")
        self._last = self.compression.compress(sparsity, self._last)
        result = self._last.result
        if fits_network(context.settings):
            result, _ = fit_together(context, self.compression.samples, result, run.reference)
        model, _ = without_idle_units(result.model, run.samples, context.settings, context.threads)
        fitted = ReferenceOutputs(context.dense, run.samples.fit_batches, threads=context.threads)
        self.course.add(sparsity, run.reference.compare(model), fitted.compare(model))
        self.pruned[sparsity] = self._point(sparsity, self.sizes(model), MEASURED)

    def point(self, sparsity: float) -> CurvePoint:
        """The network at a sparsity: measured where it was pruned, else predicted."""
        if sparsity in self.pruned:
            return self.pruned[sparsity]
        return self._point(sparsity, self.sizes(self.compression.preview(sparsity)), PREDICTED)

    def dense_point(self) -> CurvePoint:
        """The dense network, whose zeros are no more than there are."""
        sizes = self.sizes(self.run.context.dense)
        none = 0.0 if self.course.fitted.answer_margins else None
        return CurvePoint(0.0, 0.0, none, none, sizes.raw, sizes.gzip, sizes.compact, how=MEASURED)

    def sizes(self, model: Model) -> Sizes:
        """Bytes of a model, and its time where layers are smaller."""
        context = self.run.context
        ratio = None
        if context.settings.structure != "zeros" and model is not context.dense:
            batch = self.run.samples.call(context.settings.batch)
            (timing,) = latency_ratio([context.dense, model], [batch], 1, GLANCE)
            ratio = timing.ratios[0].median
        compact = stored_bytes(model, compact=True)
        return Sizes(stored_bytes(model, compact=False), packed(model), compact, ratio)

    def _point(self, sparsity: float, sizes: Sizes, how: str) -> CurvePoint:
        return CurvePoint(
            sparsity,
            self.course.error(sparsity),
            self.course.drop(sparsity),
            self.course.drop_bound(sparsity),
            sizes.raw,
            sizes.gzip,
            sizes.compact,
            sizes.latency_ratio,
            how,
        )
