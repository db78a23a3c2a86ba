"""What a run of ``nettrim prune`` would do, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nettrim_cli.report.plain import Facts
from nettrim_cli.report.saving import Saved

if TYPE_CHECKING:
    from nettrim_cli.report.document import Document


@dataclass(frozen=True)
class PlannedLayer(Facts):
    """A layer of a run that has not been made.

    Attributes
    ----------
    name, op
        Of its node, and the op type.
    shape
        Inputs and outputs of a block's matrix (N, M).
    weights, nonzeros
        Number of its weights, and of those that are not zero in the dense model.
    sparsity
        Share of zeros that it would get; None where that is not predicted.
    error
        Relative error of the outputs with zeros in this layer alone; None where that is unknown.
    note
        Why it would stay dense; empty for one that would be pruned.
    """

    name: str
    op: str
    shape: tuple[int, int]
    weights: int
    nonzeros: int
    sparsity: float | None = None
    error: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Plan(Saved):
    """What a run would do, and about what would come out.

    Attributes
    ----------
    model, data, output
        Files of the run; nothing is written.
    layers
        All that were found, in the model's order.
    target
        Name and value of the option that sets the target.
    fitted, holdout
        Number of samples that layers would be fitted to, and of those that would judge.
    sparsity
        Share of zeros over the layers to prune, or of their weights that go; None where it is not
        predicted.
    error, drop
        Relative error of the outputs, and accuracy or answers lost, as they are predicted.
    bytes_gzip, bytes_compact
        Of the file gzipped, and in compact form.
    labels
        Whether the drop is of accuracy.
    seconds
        About what the run would take, from and to; None where that is not known.
    memory_bytes
        Memory that it would take, about; None where the system does not tell.
    measured_seconds
        What the measurement took on which all of this rests.
    structure
        How the network would get smaller: ``zeros`` or another.
    version
        Of nettrim.
    notes
        What a reader should know.
    """

    kind: ClassVar[str] = "plan"

    model: str
    data: str
    output: str
    layers: tuple[PlannedLayer, ...]
    target: tuple[str, float]
    fitted: int
    holdout: int
    sparsity: float | None
    error: float | None
    drop: float | None
    bytes_gzip: int | None
    bytes_compact: int | None
    labels: bool
    seconds: tuple[float, float] | None
    memory_bytes: int | None
    measured_seconds: float
    structure: str
    version: str
    notes: tuple[str, ...] = ()

    @property
    def planned(self) -> tuple[PlannedLayer, ...]:
        """The layers that would be pruned."""
        return tuple(layer for layer in self.layers if not layer.note)

    def document(self) -> Document:
        """What people read of it."""
        from nettrim_cli.report.plan_listing import plan_document

        return plan_document(self)

    def rows(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """A row for each layer."""
        names = ("name", "op", "weights", "nonzeros", "sparsity", "error", "note")
        return names, [[getattr(layer, name) for name in names] for layer in self.layers]
