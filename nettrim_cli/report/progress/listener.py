"""Listeners to the progress of the pipeline, and one that shows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from nettrim_cli.process.channel import tell

if TYPE_CHECKING:
    from nettrim_cli.report.result import LayerReport

KINDS = ("auto", "bar", "plain", "json", "none")


class Listener(Protocol):
    """Receiver of the pipeline's progress.  Every call returns at once and never fails."""

    def stage(self, text: str) -> None:
        """Tell the current stage in words: ``recording 2,000 samples``."""

    def plan(self, work: Mapping[str, int]) -> None:
        """Tell the relative work of the layers to come; without it layers count alike.

        A search solves the layers several times and calls this each time.
        """

    def begin(self, layer: str, index: int, total: int) -> None:
        """Start with a layer: the ``index``-th, from 0, of ``total``."""

    def iteration(self, done: int, of: int) -> None:
        """Tell the number of iterations of the current layer, or steps of the stage, and of all."""

    def end(self, layer_report: LayerReport) -> None:
        """Finish a layer."""

    def message(self, text: str) -> None:
        """Tell a person something that is not an error."""


class Silent:
    """Tells the supervisor what is done, and nobody else."""

    def stage(self, text: str) -> None:
        """Say it."""
        tell("doing", text)

    def plan(self, work: Mapping[str, int]) -> None:
        """Ignore it."""

    def begin(self, layer: str, index: int, total: int) -> None:
        """Say it."""
        tell("doing", f"solving layer {layer}")

    def iteration(self, done: int, of: int) -> None:
        """Ignore it."""

    def end(self, layer_report: LayerReport) -> None:
        """Ignore it."""

    def message(self, text: str) -> None:
        """Ignore it."""


class Several:
    """Passes everything on, to the supervisor, too.

    Parameters
    ----------
    listeners
        Those that it is passed on to.
    """

    def __init__(self, *listeners: Listener) -> None:
        self._listeners: tuple[Listener, ...] = (Silent(), *listeners)

    def stage(self, text: str) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.stage(text)

    def plan(self, work: Mapping[str, int]) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.plan(work)

    def begin(self, layer: str, index: int, total: int) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.begin(layer, index, total)

    def iteration(self, done: int, of: int) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.iteration(done, of)

    def end(self, layer_report: LayerReport) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.end(layer_report)

    def message(self, text: str) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.message(text)
