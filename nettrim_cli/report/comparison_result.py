"""Two models compared, as plain numbers; errors and shares are fractions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nettrim_cli.report.certificate_result import Certificate
from nettrim_cli.report.plain import Facts
from nettrim_cli.report.provenance_result import Provenance
from nettrim_cli.report.saving import Saved

if TYPE_CHECKING:
    from nettrim_cli.report.document import Document

DIGITS = 12  # of a difference of shares that rounding leaves


@dataclass(frozen=True)
class ModelFacts(Facts):
    """Figures of a model.

    Attributes
    ----------
    path
        Its file; empty for a model that was not written, which has the sizes that it would have.
    bytes_raw, bytes_gzip
        Size of its files as they lie, and gzipped.
    parameters, nonzeros
        Number of constant floating-point elements, and of those that are not zero.
    accuracy
        Share of right answers; None without labels.
    accuracy_interval
        Its exact interval (Clopper and Pearson, 95 %).
    sha256
        Digest of the ONNX file, which names its external data by their digest.
    """

    derived: ClassVar[tuple[str, ...]] = ("sparsity",)

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
    confidence
        How sure the bounds are.
    by_bound
        Whether ``high`` decides, too, and not the figure alone.
    samples, needed
        Number of samples; about how many would make the bounds agree with the figure, None where
        they agree or no number would do.
    """

    derived: ClassVar[tuple[str, ...]] = ("passed", "settled")

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
    share, confidence
        Of new samples; and how sure that is.
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

    Attributes
    ----------
    reference, candidate
        Figures of both models.
    outputs
        How far apart their outputs are.
    samples
        Number of samples.
    accuracy_drop_interval
        Interval of the accuracy lost, of at least 95 %; None without labels.
    certificate
        What holds for the candidate on these samples; None where that was not asked for.
    new_samples
        What most new samples do not exceed, by samples that chose nothing; empty without any.
    checks
        The limits of the options.
    notes
        What a reader should know first.
    values
        Some numbers of each output.
    settings, provenance
        Options, and files and versions; empty within the report of a run, which has them itself.
    """

    kind: ClassVar[str] = "compare"
    derived: ClassVar[tuple[str, ...]] = ("error", "drop", "passed")

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
    """A file written again with its weights in another form, bit by bit the same.

    Attributes
    ----------
    before, after
        Figures of both files.
    """

    kind: ClassVar[str] = "pack"

    before: ModelFacts
    after: ModelFacts

    def document(self) -> Document:
        """What people read of it, as Markdown or HTML."""
        from nettrim_cli.report.documents.files import conversion_document

        return conversion_document(self)

    def rows(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """A row for each file."""
        from nettrim_cli.report.documents.files import conversion_rows

        return conversion_rows(self)


def largest_error(errors: Sequence[float | None]) -> float:
    """Largest error of some outputs; None stands for one that is not measured.

    It is nan if one of them is or if none is measured, and 0 without outputs.
    """
    measured = [error for error in errors if error is not None]
    if any(map(math.isnan, measured)) or (errors and not measured):
        return math.nan
    return max(measured, default=0.0)
