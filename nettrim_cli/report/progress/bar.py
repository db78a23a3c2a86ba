"""Progress on a terminal: a bar, and a line that stands still."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nettrim_cli.report import formatting
from nettrim_cli.report.progress.pace import Pace, layer_line
from nettrim_cli.report.result import LayerReport

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

REFRESH_SECONDS = 0.1
WIDE = 100  # columns from which on the bar and the names get more space
NAME_WIDTHS = 16, 36


class Bar(Pace):
    """A bar at the foot of a terminal, while the ``with`` block runs.

    Parameters
    ----------
    console
        The terminal.
    verbose
        Print a line for each stage and finished layer above the bar, too.
    """

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        super().__init__(NAME_WIDTHS[console.width >= WIDE])
        self._console, self._verbose = console, verbose
        self._drawn = 0.0
        self._bar = _bar(self, console)
        self._task = self._bar.add_task("", total=1.0)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def stage(self, text: str) -> None:
        """Show the current stage."""
        super().stage(text)
        self.draw()
        if self._verbose:
            self.message(self.text)

    def begin(self, layer: str, index: int, total: int) -> None:
        """Show a layer as the current one."""
        super().begin(layer, index, total)
        self.draw()

    def iteration(self, done: int, of: int) -> None:
        """Count an iteration; cheap enough to be called thousands of times a second."""
        super().iteration(done, of)
        if time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self.draw()

    def end(self, layer_report: LayerReport) -> None:
        """Count a finished layer."""
        super().end(layer_report)
        self.draw()
        if self._verbose:
            self.message(layer_line(layer_report, len(self.done), self.number[1]))

    def message(self, text: str) -> None:
        """Print a message above the bar."""
        from rich.text import Text

        self._console.print(Text(formatting.clean(text)), soft_wrap=True, highlight=False)

    def draw(self) -> None:
        """Draw the bar as it is now."""
        self._drawn = time.monotonic()
        self._bar.update(self._task, completed=self.share)


class StatusLine(Pace):
    """A line that tells the current stage and stands still.

    A bar that moves would take time from what is being timed.

    Parameters
    ----------
    console
        The terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def stage(self, text: str) -> None:
        """Replace the line."""
        super().stage(text)
        self._write(formatting.shorten(self.text, self._console.width - 1))

    def _write(self, text: str) -> None:
        self._console.file.write(f"\r\x1b[2K{text}")
        self._console.file.flush()


def _bar(pace: Pace, console: Console) -> Progress:
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
            return Text(pace.headline, no_wrap=True, overflow="ellipsis")

    class TimePassed(TimeElapsedColumn):
        def render(self, task: Task) -> Text:
            """The time passed, in the terminal's own colour."""
            return Text(super().render(task).plain, no_wrap=True)

    class TimeLeft(ProgressColumn):
        def render(self, task: Task) -> RenderableType:
            """The time left."""
            return Text(pace.clock, style="dim", no_wrap=True)

    utf = console.encoding.lower().startswith("utf")
    return Progress(
        SpinnerColumn("dots" if utf else "line", style="cyan"),
        BarColumn(bar_width=30 if console.width >= WIDE else 10, complete_style="cyan"),
        Headline(),
        TimePassed(),
        TimeLeft(),
        console=console,
        transient=True,
        refresh_per_second=8,
        redirect_stdout=False,
    )
