"""Listeners to the progress of the pipeline: a silent one, and a progress bar on stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from nettrim_cli.process.channel import tell
from nettrim_cli.report import formatting
from nettrim_cli.report.result import LayerReport
from nettrim_cli.report.terminal import patient_console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

REFRESH_SECONDS = 0.1
WIDE = 100  # columns from which on the bar and the names get more space


class Listener(Protocol):
    """Receiver of the pipeline's progress.  Every call returns at once and never fails."""

    def stage(self, text: str) -> None:
        """Tell the current stage in words: ``recording 2,000 samples``."""

    def plan(self, weights: Mapping[str, int]) -> None:
        """Tell the number of weights of the layers to come; without it layers count alike.

        A search solves the layers several times and calls this each time.
        """

    def begin(self, layer: str, index: int, total: int) -> None:
        """Start with a layer: the ``index``-th, from 0, of ``total``."""

    def iteration(self, done: int, of: int) -> None:
        """Tell the number of iterations of the current layer, and their limit."""

    def end(self, layer_report: LayerReport) -> None:
        """Finish a layer."""

    def message(self, text: str) -> None:
        """Tell a person something that is not an error."""


class Silent:
    """Listens and says nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stage(self, text: str) -> None:
        """Say it to the supervisor only."""
        tell("doing", text)

    def plan(self, weights: Mapping[str, int]) -> None:
        """Ignore it."""

    def begin(self, layer: str, index: int, total: int) -> None:
        """Say it to the supervisor only."""
        tell("doing", f"solving layer {layer}")

    def iteration(self, done: int, of: int) -> None:
        """Ignore it."""

    def end(self, layer_report: LayerReport) -> None:
        """Ignore it."""

    def message(self, text: str) -> None:
        """Ignore it."""


class StatusLine:
    """A line on stderr that tells the current stage, if stderr is a terminal.

    It stands still, as a bar that moves would take time from what is being timed.
    """

    def __enter__(self) -> StatusLine:
        self._console = patient_console(stderr=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def show(self, text: str) -> None:
        """Replace the line."""
        tell("doing", text)
        self._write(formatting.shorten(formatting.clean(text), self._console.width - 1))

    def _write(self, text: str) -> None:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._console.file.write(f"\r\x1b[2K{text}")
            self._console.file.flush()


class TerminalProgress:
    """A progress bar on stderr while the ``with`` block runs, if stderr is a terminal.

    Parameters
    ----------
    verbose
        Print a line per stage and finished layer, and every message, to stderr, terminal or not.
    console
        Where to draw; stderr by default.

    Attributes
    ----------
    bar
        The display; None where nothing is shown.
    """

    def __init__(self, *, verbose: bool = False, console: Console | None = None) -> None:
        self._verbose = verbose
        self._console = console
        self.bar: Progress | None = None
        self._text = "reading"
        self._layer = ""
        self._name_width = 16
        self._weights: Mapping[str, int] = {}
        self._done: list[str] = []
        self._total = 0
        self._iteration = (0, 0)
        self._share = 0.0  # of the current layer
        self._started: float | None = None
        self._drawn = 0.0

    def __enter__(self) -> TerminalProgress:
        if self._console is None:
            self._console = patient_console(stderr=True)
        self._name_width = 36 if self._console.width >= WIDE else 16
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self.bar = _bar(self, self._console)
            self.bar.add_task("", total=1.0)
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def stage(self, text: str) -> None:
        """Show the current stage; with ``verbose`` print it."""
        tell("doing", text)
        self._text, self._layer = formatting.clean(text), ""
        self._iteration = (0, 0)
        self._draw()
        if self._verbose:
            self._print(self._text)

    def plan(self, weights: Mapping[str, int]) -> None:
        """Start the bar anew, with layers that count by their weights."""
        self._weights, self._done, self._started = dict(weights), [], None

    def begin(self, layer: str, index: int, total: int) -> None:
        """Show a layer as the current one."""
        tell("doing", f"solving layer {layer}")
        if self._started is None:
            self._started = time.monotonic()
        self._layer, self._total = layer, total
        self._iteration, self._share = (0, 0), 0.0
        self._draw()

    def iteration(self, done: int, of: int) -> None:
        """Count an iteration; cheap enough to be called thousands of times a second."""
        self._iteration = (done, of)
        if of > 0:  # a search solves several times: the bar never runs backwards
            self._share = max(self._share, min(done / of, 1.0))
        if self.bar is not None and time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self._draw()

    def end(self, layer_report: LayerReport) -> None:
        """Count a finished layer; with ``verbose`` print a line about it."""
        self._done.append(layer_report.name)
        self._iteration, self._share = (0, 0), 0.0
        self._draw()
        if self._verbose:
            self._print(self._line(layer_report))

    def message(self, text: str) -> None:
        """Print a message above the bar, or with ``verbose`` anywhere."""
        if self.bar is not None or self._verbose:
            self._print(formatting.clean(text))

    @property
    def share(self) -> float:
        """Share of the layers' work that is done, from 0 to 1; by weights where they are known."""
        if not self._total:
            return 0.0
        if self._weights and sum(self._weights.values()):
            done = sum(self._weights.get(name, 0) for name in self._done)
            current = 0 if self._layer in self._done else self._weights.get(self._layer, 0)
            return min((done + current * self._share) / sum(self._weights.values()), 1.0)
        return min((len(self._done) + self._share) / self._total, 1.0)

    @property
    def seconds_left(self) -> float | None:
        """Time left at the pace so far; None while the pace is uncertain."""
        passed = 0.0 if self._started is None else time.monotonic() - self._started
        share = self.share
        return passed * (1 - share) / share if passed >= 1 and share >= 0.02 else None

    @property
    def headline(self) -> str:
        """The current stage or layer, in a line."""
        if not self._layer or not self._total:
            return self._text
        done, of = self._iteration
        number = min(len(self._done) + (self._layer not in self._done), self._total)
        name = formatting.shorten(formatting.clean(self._layer), self._name_width)
        steps = f", iteration {done:,}" if of else ""
        return f"layer {number} of {self._total}: {name}{steps}"

    @property
    def clock(self) -> str:
        """The time left, in words."""
        seconds = self.seconds_left if self._layer else None
        return (
            ""
            if seconds is None or seconds < 0.5
            else f"{formatting.duration(round(seconds)).replace('.0', '')} left"
        )

    def _draw(self) -> None:
        if self.bar is not None:
            self._drawn = time.monotonic()
            self.bar.update(self.bar.task_ids[0], completed=self.share)

    def _print(self, text: str) -> None:
        if self._console is not None:
            from rich.text import Text

            self._console.print(Text(text), soft_wrap=True, highlight=False)

    def _line(self, layer: LayerReport) -> str:
        done = len(self._done)
        head = f"[{done}/{max(self._total, done)}] {formatting.clean(layer.name)}: "
        if not layer.pruned:
            return head + f"left dense: {formatting.clean(layer.note)}"
        return head + (
            f"{formatting.percent(layer.sparsity_after)} % sparsity, "
            f"error {formatting.error(layer.error_calibration)} % calib, "
            f"{formatting.error(layer.error_holdout)} % held-out, "
            f"{layer.iterations} iterations, {formatting.clean(layer.status)}, "
            f"{formatting.duration(layer.seconds)}"
        )


def _bar(progress: TerminalProgress, console: Console) -> Progress:
    """The display: a spinner, the bar, the headline, time passed, time left."""
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class Headline(ProgressColumn):
        def render(self, task: Task) -> RenderableType:
            """Text of the current stage or layer."""
            return Text(progress.headline, no_wrap=True, overflow="ellipsis")

    class TimeLeft(ProgressColumn):
        def render(self, task: Task) -> RenderableType:
            """The time left."""
            return Text(progress.clock, style="dim", no_wrap=True)

    utf = console.encoding.lower().startswith("utf")
    return Progress(
        SpinnerColumn("dots" if utf else "line", style="cyan"),
        BarColumn(bar_width=30 if console.width >= WIDE else 10, complete_style="cyan"),
        Headline(),
        TimeElapsedColumn(),
        TimeLeft(),
        console=console,
        transient=True,
        refresh_per_second=8,
        redirect_stdout=False,
    )
