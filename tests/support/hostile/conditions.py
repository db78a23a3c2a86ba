"""What a process is put under before it begins."""

from __future__ import annotations

import resource
import signal

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def hear_signals() -> None:
    """Hear signals that nohup, or a shell's background, has this process ignore."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_DFL)


def set_limit(kind: int, most: int) -> None:
    """Limit what this process may have; a write beyond a limit fails and raises no signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(kind, (most, most))
