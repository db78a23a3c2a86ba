"""What a model costs and weighs at some sparsities, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nettrim_cli.report.plain import Facts
from nettrim_cli.report.saving import FORMATS, Format, Saved

if TYPE_CHECKING:
    from nettrim_cli.report.document import Document

ONE_POINT = 0.01  # of accuracy, or of answers, that a curve is read at,
SMALL_ERROR = 0.05  # and the output error where there are no answers
MEASURED, PREDICTED = "measured", "predicted"


@dataclass(frozen=True)
class CurvePoint(Facts):
    """A network at one sparsity.

    Attributes
    ----------
    sparsity
        Share of zeros over the weights of the layers that are pruned; with ``--structure`` the
        share of these weights that are gone.
    error
        Largest relative error of an output.
    drop
        Estimate of the accuracy lost on new samples, or without labels of the share of answers that
        change; None without answers.
    drop_bound
        Upper bound on that, one-sided, 95 %; of a predicted network as if it were measured.
    bytes_raw, bytes_gzip, bytes_compact
        Of the file as it lies, gzipped, and in compact form as it lies.
    latency_ratio
        Time of a call relative to the dense network's; None where layers keep their shapes.
    how
        ``measured`` on a network that was pruned, or ``predicted``.
    """

    sparsity: float
    error: float
    drop: float | None
    drop_bound: float | None
    bytes_raw: int
    bytes_gzip: int
    bytes_compact: int
    latency_ratio: float | None = None
    how: str = PREDICTED


@dataclass(frozen=True)
class Trend(Facts):
    """The predicted course between the points.

    Attributes
    ----------
    sparsities, errors, drops
        As those of points; ``drops`` is empty without answers.
    """

    sparsities: tuple[float, ...]
    errors: tuple[float, ...]
    drops: tuple[float, ...] = ()

    @property
    def costs(self) -> tuple[float, ...]:
        """What the networks cost: drops, or errors without answers."""
        return self.drops or self.errors

    @property
    def limit(self) -> float:
        """What a network may cost to be called cheap: a point, or a small error."""
        return ONE_POINT if self.drops else SMALL_ERROR

    def within(self, limit: float) -> float | None:
        """The largest sparsity up to which no cost exceeds a limit, with costs interpolated.

        None where the first already does.
        """
        last = None
        for sparsity, cost in zip(self.sparsities, self.costs, strict=True):
            if not cost <= limit:
                if last is None:
                    return None
                share = (limit - last[1]) / (cost - last[1]) if math.isfinite(cost) else 0.0
                return last[0] + share * (sparsity - last[0])
            last = sparsity, cost
        return None if last is None else last[0]


@dataclass(frozen=True)
class Curve(Saved):
    """How much a model can be pruned.

    Attributes
    ----------
    model, data
        Their paths.
    points
        By sparsity, the dense network first.
    trend
        What is predicted in between.
    labels
        Whether drops are of accuracy.
    accuracy
        Of the dense network on the held-out samples; None without labels.
    samples
        Number of held-out samples.
    weights, parameters
        Number of weights of the layers that are pruned, and of all parameters.
    structure
        Setting of the run: ``zeros`` or another.
    seconds, version
        What it took, and nettrim's version.
    notes
        What a reader should know.
    options
        Words of the command line for the options of the run that are not the defaults.
    """

    kind: ClassVar[str] = "curve"
    derived: ClassVar[tuple[str, ...]] = ("verdict", "limit", "cheap")

    model: str
    data: str
    points: tuple[CurvePoint, ...]
    trend: Trend
    labels: bool
    accuracy: float | None
    samples: int
    weights: int
    parameters: int
    structure: str
    seconds: float
    version: str
    notes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def has_answers(self) -> bool:
        """Whether there are drops."""
        return bool(self.trend.drops)

    @property
    def cheap(self) -> float:
        """The largest sparsity up to which no network is predicted to cost more than the limit."""
        return self.trend.within(self.trend.limit) or 0.0

    @property
    def limit(self) -> float:
        """What a network may cost to be called cheap."""
        return self.trend.limit

    @property
    def verdict(self) -> str:
        """How much can be pruned, in a sentence."""
        from nettrim_cli.report.curve.words import verdict

        return verdict(self)

    @property
    def formats(self) -> dict[str, Format]:
        """Formats by their endings."""
        return CURVE_FORMATS

    def document(self) -> Document:
        """What people read of it."""
        from nettrim_cli.report.curve.document import curve_document

        return curve_document(self)

    def rows(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """A row for each point."""
        from nettrim_cli.report.curve.document import curve_rows

        return curve_rows(self)


def _svg(curve: Any) -> str:
    from nettrim_cli.report.curve.picture import svg

    return svg(curve)


CURVE_FORMATS: dict[str, Format] = {**FORMATS, ".svg": _svg}
