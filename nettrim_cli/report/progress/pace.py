"""How far a run has come: its stage, its layer, the share that is done, the time that is left."""

from __future__ import annotations

import time
from collections.abc import Mapping

from nettrim_cli.report import formatting
from nettrim_cli.report.result import LayerReport

CERTAIN_SECONDS, CERTAIN_SHARE = 1, 0.02  # from which on the time left is told


class Pace:
    """Follows a run; what shows it is made of this.

    Parameters
    ----------
    name_width
        Space for names of layers, in cells.
    """

    def __init__(self, name_width: int = 36) -> None:
        self.name_width = name_width
        self.text = "reading"
        self.layer = ""
        self.done: list[str] = []
        self._work: Mapping[str, int] = {}
        self._total = 0
        self._iteration = (0, 0)
        self._share = 0.0  # of the current layer or stage
        self._started: float | None = None

    def stage(self, text: str) -> None:
        """Start with a stage."""
        self.text, self.layer = formatting.clean(text), ""
        self._iteration, self._share = (0, 0), 0.0

    def plan(self, work: Mapping[str, int]) -> None:
        """Start anew, with layers that count by their work."""
        self._work, self.done, self._started = dict(work), [], None

    def begin(self, layer: str, index: int, total: int) -> None:
        """Start with a layer."""
        if self._started is None:
            self._started = time.monotonic()
        self.layer, self._total = layer, total
        self._iteration, self._share = (0, 0), 0.0

    def iteration(self, done: int, of: int) -> None:
        """Count an iteration, or a step of a stage."""
        if not self.layer and self._iteration == (0, 0):
            self._started = time.monotonic()
        self._iteration = (done, of)
        if of > 0:  # a search solves several times: nothing runs backwards
            self._share = max(self._share, min(done / of, 1.0))

    def end(self, layer_report: LayerReport) -> None:
        """Count a finished layer."""
        self.done.append(layer_report.name)
        self._iteration, self._share = (0, 0), 0.0

    def message(self, text: str) -> None:
        """Ignore it."""

    @property
    def in_steps(self) -> bool:
        """Whether the stage, and no layer, is what counts."""
        return not self.layer and self._iteration[1] > 0

    @property
    def number(self) -> tuple[int, int]:
        """The number of the current layer, from 1, and that of all."""
        total = max(self._total, len(self.done))
        return min(len(self.done) + (self.layer not in self.done), total), total

    @property
    def share(self) -> float:
        """Share that is done, from 0 to 1: of a stage with steps, or of the layers' work.

        Layers count by their work where that is known.
        """
        if self.in_steps:
            return self._share
        if not self._total:
            return 0.0
        if self._work and sum(self._work.values()):
            done = sum(self._work.get(name, 0) for name in self.done)
            current = 0 if self.layer in self.done else self._work.get(self.layer, 0)
            return min((done + current * self._share) / sum(self._work.values()), 1.0)
        return min((len(self.done) + self._share) / self._total, 1.0)

    @property
    def seconds_left(self) -> float | None:
        """Time left at the pace so far; None while the pace is uncertain."""
        passed = 0.0 if self._started is None else time.monotonic() - self._started
        if not (self.layer or self.in_steps) or passed < CERTAIN_SECONDS:
            return None
        return passed * (1 - self.share) / self.share if self.share >= CERTAIN_SHARE else None

    @property
    def headline(self) -> str:
        """The current stage or layer, in a line."""
        done, of = self._iteration
        if self.in_steps:
            return f"{self.text}: {done:,} of {of:,}"
        if not self.layer or not self._total:
            return self.text
        name = formatting.shorten(formatting.clean(self.layer), self.name_width)
        steps = f", iteration {done:,}" if of else ""
        return "layer {} of {}: ".format(*self.number) + name + steps

    @property
    def clock(self) -> str:
        """The time left, in words."""
        seconds = self.seconds_left
        if seconds is None or seconds < 0.5:
            return ""
        return f"{formatting.duration(round(seconds)).replace('.0', '')} left"


def layer_line(layer: LayerReport, done: int, total: int) -> str:
    """A finished layer in a line; `done` layers of `total` are finished."""
    head = f"[{done}/{total}] {formatting.clean(layer.name)}: "
    if not layer.pruned:
        return head + f"left dense: {formatting.clean(layer.note)}"
    return head + (
        f"{formatting.percent(layer.sparsity_after)} % sparsity, "
        f"error {formatting.error(layer.error_calibration)} % calib, "
        f"{formatting.error(layer.error_holdout)} % held-out, "
        f"{layer.iterations} iterations, {formatting.clean(layer.status)}, "
        f"{formatting.duration(layer.seconds)}"
    )
