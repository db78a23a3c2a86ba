"""The bar on a terminal: what it shows, and that nothing of it stays."""

from __future__ import annotations

import re
import time

import pytest

from nettrim_cli.report.progress.bar import Bar, StatusLine
from tests.support.progress import play, terminal


@pytest.mark.parametrize("width", [20, 60, 80, 120, 200])
def test_terminal_shows_the_current_layer_and_cleans_up(width: int) -> None:
    console = terminal(width)
    with Bar(console) as listener:
        play(listener)
        listener.draw()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[/] a message" in shown
    if width >= 80:
        assert "layer 2 of 2: odd" in shown
    assert shown.endswith("\x1b[2K")  # the bar's line is gone


def test_colours_are_legible_on_white() -> None:
    console = terminal(120)
    with Bar(console, verbose=True) as listener:
        play(listener)
        listener.draw()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert not {"33", "37", "93", "97"} & set(re.findall(r"(?<=[\[;])\d+(?=[;m])", shown))


def test_verbose_prints_stages_and_layers_above_the_bar() -> None:
    console = terminal(200)
    with Bar(console, verbose=True) as listener:
        play(listener)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "recording [samples]\n" in shown
    assert "[1/2] fc1: 90.0 % sparsity, error 8.12 % calib" in shown


def test_the_bar_goes_away_on_an_error() -> None:
    console = terminal()

    def interrupted() -> None:
        with Bar(console) as listener:
            listener.begin("a", 0, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "\x1b[?25h" in console.file.getvalue()  # type: ignore[attr-defined]  # cursor shown again


def test_iterations_are_drawn_at_most_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    drawn = []
    with Bar(terminal()) as screen:
        screen.begin("a", 0, 1)
        monkeypatch.setattr(screen, "draw", lambda: drawn.append(now))
        for k in range(5000):
            screen.iteration(k, 5000)
        assert drawn == []
        now = 100.2
        screen.iteration(4999, 5000)
        assert drawn == [100.2]


def test_a_status_line_stands_still_and_goes_away() -> None:
    console = terminal(17)
    with StatusLine(console) as listener:
        play(listener)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown == "\r\x1b[2Krecor… [samples]\r\x1b[2K"
