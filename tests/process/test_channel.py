"""What a supervisor reads while the run writes it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from nettrim_cli.process import channel


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork")
def test_a_clock_is_never_seen_half_written() -> None:
    clock = channel.shared_clock()
    writer = os.fork()
    if writer == 0:
        channel.connect(channel.Channel(-1, clock))
        while True:
            with channel.engine_call(45):
                pass
    try:
        for _ in range(200_000):
            assert clock[0] > time.monotonic()
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
