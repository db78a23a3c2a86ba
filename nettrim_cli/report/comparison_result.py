"""Two models compared, as plain numbers; errors and shares are fractions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nettrim_cli.report.plain import Facts
from nettrim_cli.report.provenance_result import Provenance
from nettrim_cli.report.saving import Saved

if TYPE_CHECKING:
    from nettrim_cli.report.document import Document

DIGITS = 12  # of a difference of shares that rounding leaves


@dataclass(frozen=True)
class ModelFacts(Facts):
    """Figures of a model; ``parameters`` counts every constant floating-point element.

    A model that was not written has an empty ``path`` and the sizes that it would have.

    ``accuracy_interval`` is exact (Clopper and Pearson, 95 %).  ``sha256`` is that of the ONNX
    file, which names its external data by their digest.
    """

    told: ClassVar[tuple[str, ...]] = ("sparsity",)

    path: str
    bytes_raw: int
    bytes_gzip: int
    parameters: int
    nonzeros: int
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    sha256: str = ""

    @property
    def sparsity(self) -> float:
        """Share of zeros over the parameters."""
        return 1 - self.nonzeros / self.parameters if self.parameters else 0.0


@dataclass(frozen=True)
class OutputFacts(Facts):
    """One output of two models run on the same samples.

    Attributes
    ----------
    name
        Name of the output; an array inside of a sequence has its place, such as ``list[0]``.
    error
        ||candidate - reference||_F / ||reference||_F over all samples; the share that differs where
        the elements are answers; None where nothing can be measured.
    agreement
        Share of samples with the same top-1 answer (last axis); None where that means nothing.
    agreement_interval
        Exact (Clopper and Pearson, 95 %); None where a sample has several answers, too.
    margin, margin_changed
        Median over all answers, and over those that changed, of the margin between first and
        second class in the reference: an answer that changes by a small margin was a close call.
    answers
        Whether the elements are answers: strings, truths, or numbers of classes and tokens.
    unmeasured
        Why there is no error.
    """

    name: str
    error: float | None
    agreement: float | None = None
    agreement_interval: tuple[float, float] | None = None
    margin: float | None = None
    margin_changed: float | None = None
    answers: bool = False
    unmeasured: str = ""


@dataclass(frozen=True)
class Check(Facts):
    """A limit that a comparison was checked against.

    Attributes
    ----------
    name
        Name of the option: ``max_error`` or ``max_drop``.
    what
        The measured figure in words.
    limit, figure
        The limit of the option, and the figure measured on the samples.
    low, high
        One-sided bounds of that confidence on the figure for new samples.
    by_bound
        Whether ``high`` decides, too, and not the figure alone.
    samples, needed
        Number of samples; about how many would make the bounds agree with the figure, None where
        they agree or no number would do.
    """

    told: ClassVar[tuple[str, ...]] = ("passed", "settled")

    name: str
    what: str
    limit: float
    figure: float
    low: float
    high: float
    confidence: float
    by_bound: bool
    samples: int
    needed: int | None = None

    @property
    def passed(self) -> bool:
        """Whether the limit is kept; a figure that is no number keeps none."""
        return self.figure <= self.limit and not (self.by_bound and not self.high <= self.limit)

    @property
    def settled(self) -> bool:
        """Whether new samples are as sure to be on the same side of the limit."""
        return self.high <= self.limit if self.figure <= self.limit else not self.low <= self.limit


@dataclass(frozen=True)
class NewSampleError(Facts):
    """The error that most new samples do not exceed at an output.

    Attributes
    ----------
    name
        Of the output.
    error
        Distance of a sample's outputs relative to their size (of answers, the share that differs)
        that ``share`` of new samples do not exceed, with ``confidence``; None for too few samples.
    samples, needed
        Number of samples that it rests on, which chose nothing; the least that say anything.
    """

    name: str
    error: float | None
    share: float
    confidence: float
    samples: int
    needed: int


@dataclass(frozen=True)
class OutputValues(Facts):
    """Some numbers of an output, drawn evenly from all samples, at most 1,000.

    Attributes
    ----------
    name
        Of the output.
    reference, candidate
        (N,) what both models answer at the same places.
    """

    name: str
    reference: tuple[float, ...]
    candidate: tuple[float, ...]


@dataclass(frozen=True)
class Comparison(Saved):
    """Two models side by side on the same samples.

    ``accuracy_drop_interval`` holds with at least 95 % (``accuracy.drop_interval``).
    ``certificate`` holds for the candidate on these samples; it is None where none was asked for.
    ``new_samples`` rests on samples that chose nothing, and is empty where there are none.
    ``checks`` are the limits of the options, ``notes`` what a reader should know first.
    ``values`` are some numbers of each output.  ``settings`` and ``provenance`` tell how the
    figures came about; of a run they stand in its report.
    """

    kind: ClassVar[str] = "compare"
    told: ClassVar[tuple[str, ...]] = ("error", "drop", "passed")

    reference: ModelFacts
    candidate: ModelFacts
    outputs: tuple[OutputFacts, ...]
    samples: int
    accuracy_drop_interval: tuple[float, float] | None = None
    certificate: Certificate | None = None
    new_samples: tuple[NewSampleError, ...] = ()
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    values: tuple[OutputValues, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def passed(self) -> bool | None:
        """Whether every limit is kept; None where there are none."""
        return all(check.passed for check in self.checks) if self.checks else None

    @property
    def error(self) -> float:
        """Largest relative error over the outputs, see ``largest_error``."""
        return largest_error([output.error for output in self.outputs])

    @property
    def drop(self) -> float | None:
        """Accuracy lost, or without labels the share of changed top-1 answers; a fraction."""
        if self.reference.accuracy is not None and self.candidate.accuracy is not None:
            return round(self.reference.accuracy - self.candidate.accuracy, DIGITS)
        shares = [output.agreement for output in self.outputs if output.agreement is not None]
        return round(1 - min(shares), DIGITS) if shares else None

    def document(self) -> Document:
        """What people read of it, as Markdown or HTML."""
        from nettrim_cli.report.documents.comparison import comparison_document

        return comparison_document(self)

    def rows(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """A row for each output."""
        from nettrim_cli.report.documents.comparison import output_rows

        return output_rows(self)


@dataclass(frozen=True)
class Conversion(Saved):
    """A file written again with its weights in another form, bit by bit the same."""

    kind: ClassVar[str] = "pack"

    before: ModelFacts
    after: ModelFacts


@dataclass(frozen=True)
class LayerBound(Facts):
    """A pruned layer's part in the bounds; errors are relative to its dense response.

    Attributes
    ----------
    error_alone, error_network
        Measured on all samples of the comparison: with the dense network's signals as inputs,
        and within the pruned network.
    norm
        Upper bound on the factor by which an error of the layer's input grows in its response.
    bound
        Upper bound on ``error_network`` from errors alone and norms; None behind the proof's end.
    samples_median, samples_densest
        Samples from which, by the theory for Gaussian inputs, the neuron with the median and with
        the largest number of weights can be learned.
    """

    name: str
    error_alone: float | None
    error_network: float | None
    norm: float | None
    bound: float | None
    samples_median: int
    samples_densest: int


@dataclass(frozen=True)
class OutputBound(Facts):
    """Proved bounds on one output's relative error on the samples of the comparison.

    Attributes
    ----------
    bound
        From each layer's error alone; None where nothing is proved.
    bound_measured
        From each layer's error as measured within the pruned network: what the nodes behind the
        last pruned layers can add to it.
    reason
        Where the proof of ``bound`` ends, and why.
    """

    name: str
    bound: float | None = None
    bound_measured: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class LayerCost(Facts):
    """What one layer, or several in a row, cost at the outputs.

    Attributes
    ----------
    layers
        Their names; of nodes before the first layer that differ, the node's.
    outputs
        Norm of the difference that they make, relative to the dense output, by name of the output;
        None where that is no number.
    """

    layers: tuple[str, ...]
    outputs: Mapping[str, float | None]

    @property
    def largest(self) -> float | None:
        """The largest cost over the outputs."""
        costs = [cost for cost in self.outputs.values() if cost is not None]
        return max(costs, default=None)


@dataclass(frozen=True)
class CostSum(Facts):
    """What all layers cost together at an output.

    Attributes
    ----------
    name
        Of the output.
    bound
        What the layers move together, entry by entry in one direction: at least the error, and at
        most the sum of all costs.  None where it is no number.
    error
        The error on the same samples.
    """

    name: str
    bound: float | None
    error: float | None


@dataclass(frozen=True)
class LayerCosts(Facts):
    """What the layers cost at the outputs.

    Attributes
    ----------
    parts
        Layers in dataflow order.
    sums
        All of them together, output by output.
    samples
        Number of samples on which that was measured.
    reason
        Why it was not.
    """

    parts: tuple[LayerCost, ...] = ()
    sums: tuple[CostSum, ...] = ()
    samples: int = 0
    reason: str = ""

    def layer(self, name: str) -> LayerCost | None:
        """The first part with a layer; None for a dense one."""
        return next((part for part in self.parts if name in part.layers), None)

    def output(self, name: str) -> CostSum | None:
        """The sum of an output."""
        return next((cost_sum for cost_sum in self.sums if cost_sum.name == name), None)


@dataclass(frozen=True)
class Certificate(Facts):
    """Proved bounds on the errors of a pruned network on the samples of the comparison."""

    outputs: tuple[OutputBound, ...] = ()
    layers: tuple[LayerBound, ...] = ()
    costs: LayerCosts = field(default_factory=LayerCosts)

    def output(self, name: str) -> OutputBound | None:
        """The bound of an output."""
        return next((bound for bound in self.outputs if bound.name == name), None)

    def layer(self, name: str) -> LayerBound | None:
        """The bound of a layer; None for a dense one."""
        return next((bound for bound in self.layers if bound.name == name), None)


def largest_error(errors: Sequence[float | None]) -> float:
    """Largest error of some outputs; None stands for one that is not measured.

    It is nan if one of them is or if none is measured, and 0 without outputs.
    """
    measured = [error for error in errors if error is not None]
    if any(map(math.isnan, measured)) or (errors and not measured):
        return math.nan
    return max(measured, default=0.0)
