"""The result of a run as plain numbers; errors and shares are fractions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nettrim_cli.report.bench_result import BatchTiming
from nettrim_cli.report.certificate_result import Certificate
from nettrim_cli.report.comparison_result import Comparison
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.plain import Facts
from nettrim_cli.report.provenance_result import Provenance
from nettrim_cli.report.saving import Saved
from nettrim_cli.report.verdict import Verdict, verdict

if TYPE_CHECKING:
    from nettrim_cli.report.document import Document


@dataclass(frozen=True)
class LayerReport(Facts):
    """One layer after the run, measured on the weights as written (after the cast).

    Attributes
    ----------
    name, op
        Of its node, and the op type.
    shape
        Inputs and outputs of a block's matrix (N, M).
    weights
        Number of weights.
    nonzeros_before, nonzeros_after
        Number of those that are not zero, in the input model and as written.
    iterations, seconds
        Of the solver, over all blocks; and what they took.
    error_calibration, error_holdout
        Relative Frobenius error of the layer's response against the dense model's, on the
        samples fitted to and on the samples held out; None where nothing was measured.
    columns
        Columns of X that were fitted to (samples x positions).
    status
        ``solved``, ``inaccurate``, ``max-iterations``, ..., or ``dense`` for a layer left alone.
    gap, violation
        Relative duality gap and constraint violation where the program is convex.
    note
        Why a layer was left alone, or what was chosen for it on held-out samples.
    remaining, rank
        Inputs and outputs that stay of a block's (N, M), and its rank as two factors; None where
        the matrix is whole.
    reason
        Code of the note where it says why the layer, or a part of it, was not pruned as asked (see
        ``nettrim_cli.reasons``); empty for one that was.
    """

    derived: ClassVar[tuple[str, ...]] = ("sparsity_before", "sparsity_after", "left")

    name: str
    op: str
    shape: tuple[int, int]
    weights: int
    nonzeros_before: int
    nonzeros_after: int
    error_calibration: float | None = None
    error_holdout: float | None = None
    columns: int = 0
    iterations: int = 0
    status: str = "dense"
    seconds: float = 0.0
    gap: float | None = None
    violation: float | None = None
    note: str = ""
    reason: str = ""
    remaining: tuple[int, int] | None = None
    rank: int | None = None

    @property
    def sparsity_before(self) -> float:
        """Share of zeros in the input model's layer."""
        return 1 - self.nonzeros_before / self.weights if self.weights else 0.0

    @property
    def sparsity_after(self) -> float:
        """Share of zeros in the written layer."""
        return 1 - self.nonzeros_after / self.weights if self.weights else 0.0

    @property
    def left(self) -> str:
        """What is left of a layer that is smaller as it lies: ``300 x 80``, ``300 - 16 - 80``."""
        if self.remaining is None:
            return ""
        inputs, outputs = self.remaining
        return (
            f"{inputs} x {outputs}" if self.rank is None else f"{inputs} - {self.rank} - {outputs}"
        )

    @property
    def lost(self) -> bool:
        """Whether it has fewer weights, if it is one that is smaller as it lies."""
        return self.remaining is None or self.nonzeros_after < self.weights

    @property
    def pruned(self) -> bool:
        """Whether the layer was pruned."""
        return self.status not in ("dense", "infeasible", "not-finite")


@dataclass(frozen=True)
class Round(Facts):
    """One try of a search.

    Attributes
    ----------
    sparsity
        Share of zeros over the layers.
    reached
        The figure on the held-out samples.
    bound
        Upper bound on the figure for new samples (one-sided, 95 %), where it counts.
    """

    sparsity: float
    reached: float
    bound: float | None = None

    @property
    def figure(self) -> float:
        """The figure that the limit is compared with."""
        return self.reached if self.bound is None else max(self.reached, self.bound)


@dataclass(frozen=True)
class Target(Facts):
    """A target of the whole network that was searched for.

    Attributes
    ----------
    name
        Of the setting: ``max_error``, ``max_drop``, ``max_bytes``, ``speedup``.
    wanted, reached
        The limit, and what was measured on the held-out samples (or of the file); of a speed-up,
        the part of the dense network's time.
    bound
        Upper bound on ``reached`` for new samples, one-sided, 95 %; None where there is none.
    sparsity
        Share of zeros over the layers at which it was reached.
    rounds
        All tries, in order.
    """

    derived: ClassVar[tuple[str, ...]] = ("met",)

    name: str
    wanted: float
    reached: float
    bound: float | None
    sparsity: float
    rounds: tuple[Round, ...] = ()

    @property
    def met(self) -> bool:
        """Whether the limit is kept, also by the bound."""
        return Round(self.sparsity, self.reached, self.bound).figure <= self.wanted


@dataclass(frozen=True)
class Mix(Facts):
    """What weights are stored as.

    Attributes
    ----------
    bits
        Of a weight that is not zero; None for all.
    zeros
        Share of zeros among the weights that are left of layers that are smaller.
    """

    bits: int | None = None
    zeros: float = 0.0

    def __str__(self) -> str:
        """In words."""
        bits = "all bits" if self.bits is None else f"{self.bits} bits"
        return f"{bits}, {self.zeros:.0%} zeros in smaller layers" if self.zeros else bits


NO_MIX = Mix()


@dataclass(frozen=True)
class FileForm(Facts):
    """Bytes of the pruned model in one form.

    Attributes
    ----------
    name
        ``plain`` or ``compact``, as for ``--store``.
    raw, gzip, zstd
        Bytes as the files lie, and compressed; None where no Zstandard is installed.
    written
        Whether the output has this form.
    """

    name: str
    raw: int
    gzip: int
    zstd: int | None
    written: bool = False


@dataclass(frozen=True)
class ErrorCurve(Facts):
    """What zeros do to a layer, as it was measured before any layer was pruned.

    Attributes
    ----------
    name
        Of the layer.
    sparsities, errors
        (L,) shares of zeros, and the relative error of the layer's response at each, on the dense
        network's signals.
    """

    name: str
    sparsities: tuple[float, ...]
    errors: tuple[float, ...]


@dataclass(frozen=True)
class Histogram(Facts):
    """Sizes of a layer's weights that are not zero.

    Attributes
    ----------
    name
        Of the layer.
    low, high
        Ends of the bins, which are all of the same width; weights beyond them are left out.
    dense, pruned
        (40,) number of weights in each bin.
    """

    name: str
    low: float
    high: float
    dense: tuple[int, ...]
    pruned: tuple[int, ...]


@dataclass(frozen=True)
class Report(Saved):
    """A whole run of ``nettrim prune``.

    Attributes
    ----------
    layers
        All that were found, in the model's order.
    comparison
        The dense and the pruned network on the held-out samples.
    settings
        All options, those that were not given with their defaults.
    version
        Of nettrim.
    seconds
        What the run took.
    warnings
        What there is to doubt, the most severe first.
    certificate
        What is known of the errors on the held-out samples.
    target
        How the target was met; None where nothing was searched for.
    missed
        Why no network met the target; then nothing was written, and all figures are those of the
        nearest one.  Empty where one did.
    target_option
        Name and value of the option that sets the target.
    bound
        Upper bound on the loss on new samples, one-sided, 95 %: the share of right answers lost, or
        without labels of changed answers; None where there are no answers.
    final_samples
        Number of samples of the final fit, held-out ones included; 0 without one.  Errors, answers
        and certificate are those of the network before it.
    forms
        Sizes of the pruned model in all forms.
    deleted_units
        Number of hidden units that were deleted as they had no weights left.
    joint_fit
        Whether all layers were fitted together in the end: the errors of single layers, but not
        what they cost the outputs, are those of before.
    latency
        The dense and the written model timed on held-out samples; empty unless that was asked for.
    mix
        What weights are stored as.
    samples_made
        How nettrim made the samples, in words; empty where it did not.
    curves
        Of the layers that were measured: where zeros are shared out by what they cost.
    histograms
        Of the pruned layers, where their weights are still one matrix.
    provenance
        Files, versions and machine.
    """

    kind: ClassVar[str] = "prune"
    derived: ClassVar[tuple[str, ...]] = ("verdict", "weights", "nonzeros", "sparsity")

    layers: tuple[LayerReport, ...]
    comparison: Comparison
    settings: dict[str, Any]
    version: str
    seconds: float
    warnings: tuple[Diagnostic, ...] = field(default=())
    certificate: Certificate = field(default=Certificate())
    target: Target | None = None
    target_option: tuple[str, float] = ("epsilon", 0.05)
    bound: float | None = None
    missed: str = ""
    final_samples: int = 0
    forms: tuple[FileForm, ...] = ()
    deleted_units: int = 0
    joint_fit: bool = False
    latency: tuple[BatchTiming, ...] = ()
    mix: Mix = NO_MIX
    samples_made: str = ""
    curves: tuple[ErrorCurve, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def verdict(self) -> Verdict:
        """The run in two lines."""
        return verdict(self)

    @property
    def pruned(self) -> tuple[LayerReport, ...]:
        """The pruned layers."""
        return tuple(layer for layer in self.layers if layer.pruned)

    @property
    def smaller(self) -> bool:
        """Whether layers are smaller as they lie, with weights gone in place of zeros."""
        return any(layer.remaining is not None for layer in self.layers)

    @property
    def weights(self) -> int:
        """Number of weights of the pruned layers."""
        return sum(layer.weights for layer in self.pruned)

    @property
    def nonzeros(self) -> int:
        """Number of non-zero weights of the pruned layers as written."""
        return sum(layer.nonzeros_after for layer in self.pruned)

    @property
    def sparsity(self) -> float:
        """Share of zeros over the pruned layers' weights."""
        return 1 - self.nonzeros / self.weights if self.weights else 0.0

    def document(self) -> Document:
        """What people read of it, as Markdown or HTML."""
        from nettrim_cli.report.documents.run import run_document

        return run_document(self)

    def rows(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """A row for each layer, each with the verdict."""
        from nettrim_cli.report.documents.layers import layer_rows

        return layer_rows(self)
