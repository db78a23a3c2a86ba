"""Batches that tell how many samples have been taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from nettrim_cli.report.progress.listener import Listener


class Counted(Protocol):
    """Samples that are taken at once."""

    @property
    def count(self) -> int:
        """Number of samples."""


Batch = TypeVar("Batch", bound=Counted)


class CountedBatches(Generic[Batch]):
    """Gives the same batches each time it is called, and counts on from call to call.

    Parameters
    ----------
    batches
        Gives them.
    total
        Samples of all calls.
    listener
        Is told the number so far.
    """

    def __init__(
        self, batches: Callable[[], Iterable[Batch]], total: int, listener: Listener
    ) -> None:
        self.batches, self.total, self.listener = batches, total, listener
        self.done = 0

    def __call__(self) -> Iterator[Batch]:
        """The batches."""
        for batch in self.batches():
            yield batch
            self.done += batch.count
            self.listener.iteration(min(self.done, self.total), self.total)
