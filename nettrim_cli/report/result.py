"""What a run reached, as plain numbers; errors and shares are fractions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from nettrim_cli.report.comparison_result import Certificate, Comparison
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.verdict import Verdict, verdict


@dataclass(frozen=True)
class LayerReport:
    """One layer after the run, measured on the weights as written (after the cast).

    Attributes
    ----------
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
    """

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

    @property
    def sparsity_before(self) -> float:
        """Share of zeros in the input model's layer."""
        return 1 - self.nonzeros_before / self.weights if self.weights else 0.0

    @property
    def sparsity_after(self) -> float:
        """Share of zeros in the written layer."""
        return 1 - self.nonzeros_after / self.weights if self.weights else 0.0

    @property
    def pruned(self) -> bool:
        """Whether the layer was treated."""
        return self.status not in ("dense", "infeasible", "not-finite")


@dataclass(frozen=True)
class Round:
    """One try of a search: the share of zeros, what was measured on the held-out samples.

    ``bound`` is what the figure is on new samples at most (one-sided, 95 %), where that counts.
    """

    sparsity: float
    reached: float
    bound: float | None = None

    @property
    def figure(self) -> float:
        """What is held against the limit."""
        return self.reached if self.bound is None else max(self.reached, self.bound)


@dataclass(frozen=True)
class Target:
    """A target of the whole network that was searched for.

    Attributes
    ----------
    name
        Of the setting: ``max_error``, ``max_drop``, ``max_bytes``.
    wanted, reached
        The limit, and what was measured on the held-out samples (or of the file).
    bound
        Upper bound on ``reached`` for new samples, one-sided, 95 %; None where there is none.
    sparsity
        Share of zeros over the layers at which it was reached.
    rounds
        All tries, in order.
    """

    name: str
    wanted: float
    reached: float
    bound: float | None
    sparsity: float
    rounds: tuple[Round, ...] = ()

    @property
    def met(self) -> bool:
        """Whether the limit is kept, by the bound, too."""
        return Round(self.sparsity, self.reached, self.bound).figure <= self.wanted


@dataclass(frozen=True)
class Report:
    """A whole run of ``nettrim prune``.

    ``comparison`` was measured, and ``certificate`` holds, on the held-out samples; ``target`` is
    there where one was searched for.  Where it was missed ``missed`` says so, nothing was written,
    and everything is of the network that came nearest.

    Attributes
    ----------
    asked
        Name and value of the target.
    bound
        What new samples lose at most, one-sided, 95 %: a share of right answers, or without labels
        of answers that change; None where that means nothing.
    final_samples
        Of the fit to all samples behind the others, held-out ones included; 0 where there was
        none.  Errors, answers and certificate are of the network before it.
    """

    layers: tuple[LayerReport, ...]
    comparison: Comparison
    settings: dict[str, Any]
    version: str
    seconds: float
    warnings: tuple[Diagnostic, ...] = field(default=())
    certificate: Certificate = field(default=Certificate())
    target: Target | None = None
    asked: tuple[str, float] = ("epsilon", 0.05)
    bound: float | None = None
    missed: str = ""
    final_samples: int = 0

    @property
    def verdict(self) -> Verdict:
        """The run in two lines."""
        return verdict(self)

    @property
    def pruned(self) -> tuple[LayerReport, ...]:
        """The layers that were treated."""
        return tuple(each for each in self.layers if each.pruned)

    @property
    def weights(self) -> int:
        """Weights of the treated layers."""
        return sum(each.weights for each in self.pruned)

    @property
    def nonzeros(self) -> int:
        """Non-zero weights of the treated layers as written."""
        return sum(each.nonzeros_after for each in self.pruned)

    @property
    def sparsity(self) -> float:
        """Share of zeros over the treated layers' weights."""
        return 1 - self.nonzeros / self.weights if self.weights else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        layers = [
            {
                **asdict(each),
                "sparsity_before": each.sparsity_before,
                "sparsity_after": each.sparsity_after,
            }
            for each in self.layers
        ]
        return {
            "verdict": self.verdict.as_dict(),
            "version": self.version,
            "settings": self.settings,
            "layers": layers,
            "weights": self.weights,
            "nonzeros": self.nonzeros,
            "sparsity": self.sparsity,
            "comparison": self.comparison.as_dict(),
            "certificate": asdict(self.certificate),
            "target": None
            if self.target is None
            else {**asdict(self.target), "met": self.target.met},
            "missed": self.missed,
            "final_samples": self.final_samples,
            "bound": self.bound,
            "seconds": self.seconds,
            "warnings": [each.as_dict() for each in self.warnings],
        }
