"""Runs that never ran, told to listeners."""

from __future__ import annotations

import io

from rich.console import Console

from nettrim_cli.report.progress import Listener
from nettrim_cli.report.result import LayerReport

NAMES = ("fc1", "odd [bold]\n[/] name")


def layer(name: str, status: str = "solved", note: str = "") -> LayerReport:
    return LayerReport(
        name, "Gemm", (10, 10), 100, 100, 10, 0.0812, 0.0944, 50, 212, status, 3.21, note=note
    )


def play(listener: Listener, names: tuple[str, ...] = NAMES) -> None:
    listener.stage("recording [samples]")
    listener.plan(dict.fromkeys(names, 100))
    for index, name in enumerate(names):
        listener.begin(name, index, len(names))
        listener.iteration(1, 10)
        listener.iteration(10, 10)
        listener.end(layer(name))
    listener.message("[/] a message")


def terminal(width: int = 80) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=20, color_system="standard"
    )
