"""Who listens to the pipeline: silence off the terminal, a bar on it."""

from __future__ import annotations

import io
import subprocess
import sys
import time

import pytest
from rich.console import Console

from nettrim_cli.report.progress import Listener, Silent, TerminalProgress
from nettrim_cli.report.result import LayerReport


def report(name: str, status: str = "solved", note: str = "") -> LayerReport:
    return LayerReport(
        name, "Gemm", (10, 10), 100, 100, 10, 0.0812, 0.0944, 50, 212, status, 3.21, note=note
    )


def play(listener: Listener, names: tuple[str, ...] = ("fc1", "odd [bold]\n[/] name")) -> None:
    listener.stage("recording [samples]")
    listener.plan(dict.fromkeys(names, 100))
    for index, name in enumerate(names):
        listener.begin(name, index, len(names))
        listener.iteration(1, 10)
        listener.iteration(10, 10)
        listener.end(report(name))
    listener.message("[/] a message")


def terminal(width: int = 80) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=20, color_system="standard"
    )


def test_silent_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Silent() as listener:
        play(listener)
    assert capfd.readouterr() == ("", "")


def test_nothing_is_printed_off_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress() as listener:
        play(listener)
    assert capfd.readouterr() == ("", "")


def test_verbose_prints_stages_and_one_line_per_layer_to_stderr(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with TerminalProgress(verbose=True) as listener:
        play(listener)
        listener.end(report("fc3", "dense", "excluded"))
    out, err = capfd.readouterr()
    assert out == ""
    assert "\x1b" not in err
    stage, *lines = err.splitlines()
    assert stage == "recording [samples]"
    assert len(lines) == 4
    assert lines[0] == (
        "[1/2] fc1: 90.0 % sparsity, error 8.12 % calib, 9.44 % held-out, 212 iterations, "
        "solved, 3.2 s"
    )
    assert lines[1].startswith("[2/2] odd [bold]\\n[/] name: 90.0 %")
    assert lines[2] == "[/] a message"
    assert lines[3] == "[3/3] fc3: left dense: excluded"


@pytest.mark.parametrize("width", [20, 60, 80, 120, 200])
def test_terminal_shows_the_current_layer_and_cleans_up(width: int) -> None:
    console = terminal(width)
    with TerminalProgress(console=console) as listener:
        play(listener)
        assert listener.bar is not None
        listener.bar.refresh()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[/] a message" in shown
    if width >= 80:
        assert "layer 2 of 2: odd" in shown
    assert shown.endswith("\x1b[2K")  # the bar's line is gone


def test_the_bar_goes_away_on_an_error() -> None:
    console = terminal()
    listener = TerminalProgress(console=console)

    def interrupted() -> None:
        with listener:
            listener.begin("a", 0, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert listener.bar is None
    assert "\x1b[?25h" in console.file.getvalue()  # type: ignore[attr-defined]  # cursor shown again


def test_share_goes_by_weights_and_never_backwards() -> None:
    screen = TerminalProgress()
    assert screen.share == 0.0
    screen.plan({"a": 900, "b": 100})
    screen.begin("a", 0, 2)
    screen.iteration(50, 100)
    assert screen.share == pytest.approx(0.45)
    screen.iteration(1, 100)  # a search starts over
    assert screen.share == pytest.approx(0.45)
    screen.end(report("a"))
    assert screen.share == pytest.approx(0.9)
    screen.begin("b", 1, 2)
    screen.iteration(200, 100)
    assert screen.share == pytest.approx(1.0)


def test_share_goes_by_layers_without_weights() -> None:
    screen = TerminalProgress()
    screen.begin("a", 0, 4)
    screen.end(report("a"))
    screen.begin("b", 1, 4)
    screen.iteration(0, 0)
    assert screen.share == pytest.approx(0.25)
    screen.iteration(1, 2)
    assert screen.share == pytest.approx(0.375)


def test_time_left_follows_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    screen = TerminalProgress()
    screen.begin("a", 0, 4)
    assert screen.seconds_left is None
    now = 130.0
    screen.end(report("a"))
    assert screen.seconds_left == pytest.approx(90.0)
    screen.begin("b", 1, 4)
    assert screen.clock == "1 min 30 s left"


def test_iterations_are_drawn_at_most_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    drawn = []
    with TerminalProgress(console=terminal()) as screen:
        screen.begin("a", 0, 1)
        monkeypatch.setattr(screen.bar, "update", lambda *_, **__: drawn.append(now))
        for k in range(5000):
            screen.iteration(k, 5000)
        assert drawn == []
        now = 100.2
        screen.iteration(4999, 5000)
        assert drawn == [100.2]


def test_a_reader_that_leaves_does_not_stop_the_work() -> None:
    code = (
        "import sys; from nettrim_cli.report.progress import TerminalProgress\nsys.stdin.read()\n"
        "with TerminalProgress(verbose=True) as s:\n    s.message('a'); s.message('b')\n"
        "sys.stdout.write('result'); sys.exit(3)"
    )
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **streams) as process:  # type: ignore[call-overload]
        process.stderr.close()
        process.stdin.close()
        assert process.stdout.read() == b"result"
        assert process.wait() == 3


def test_a_second_plan_starts_from_the_first_layer_again() -> None:
    screen = TerminalProgress(console=Console(file=io.StringIO()))
    screen.plan({"a": 10, "b": 30})
    screen.begin("a", 0, 2)
    screen.end(LayerReport("a", "Gemm", (5, 2), 10, 10, 5, status="solved"))
    assert screen.share == 0.25
    screen.plan({"a": 10, "b": 30})
    assert screen.share == 0
    screen.begin("b", 1, 2)
    assert screen.headline.startswith("layer 1 of 2: b")
