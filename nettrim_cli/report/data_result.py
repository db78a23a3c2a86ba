"""What a file of samples holds, as plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nettrim_cli.report import formatting
from nettrim_cli.report.plain import Facts
from nettrim_cli.report.saving import Saved

if TYPE_CHECKING:
    from nettrim_cli.report.document import Document

UNSAID = (  # of a file's origin
    *("version", "kind", "classes", "samples", "skipped", "random"),
    *("ratio", "cubic", "fill"),
)


@dataclass(frozen=True)
class DatasetFacts(Facts):
    """A dataset of a file.

    Attributes
    ----------
    name, shape, dtype
        As in the file.
    low, high, mean, std, zeros
        Of all values, and the share of zeros; None where it holds no numbers.
    feeds
        The model input that it feeds; empty without a model, or where it feeds none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None
    zeros: float | None = None
    feeds: str = ""


@dataclass(frozen=True)
class DataSummary(Saved):
    """A file of samples.

    Attributes
    ----------
    path
        The file.
    samples
        Number of samples.
    datasets
        What it holds.
    labels
        Number of samples by class, of the dataset that holds the classes; empty without one.
    provenance
        How nettrim made the file, as it says itself; empty where it did not.
    model
        The model that it fits and that ran on it; empty where none was given.
    right
        Right answers of the model, and the number of labels that it was asked for; None without
        labels or a model that answers them.
    notes
        What a reader should know.
    """

    kind: ClassVar[str] = "data"

    path: str
    samples: int
    datasets: tuple[DatasetFacts, ...]
    labels: Mapping[int, int] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    right: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()

    def document(self) -> Document:
        """What people read of it, as Markdown or HTML."""
        from nettrim_cli.report.documents.files import data_document

        return data_document(self)

    def rows(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """A row for each dataset."""
        from nettrim_cli.report.documents.files import dataset_rows

        return dataset_rows(self)


def made_in_words(provenance: Mapping[str, Any]) -> str:
    """How nettrim made a file, as ``of images, preset imagenet, ...``; empty if it did not."""
    if not provenance:
        return ""
    kind = provenance.get("kind")
    words = [f"of {kind}"] if isinstance(kind, str) else []
    words += [
        f"{name.replace('_', ' ')} {_plain(name, value)}"
        for name, value in provenance.items()
        if name not in UNSAID and value not in (None, "", [], False)
    ]
    version = provenance.get("version")
    return formatting.clean(", ".join([*words, f"by nettrim {version}"]))


def _plain(name: str, value: Any) -> str:
    if isinstance(value, list):
        return (" x " if name == "size" else ",").join(f"{number:g}" for number in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
