"""onnxruntime as a program that serves a model would run it: what timings are about."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nettrim_cli.data.engine import (
    FOLDER,
    Array,
    failed,
    fed_bytes,
    patience,
    replace_weights,
    silent_onnxruntime,
)
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.process.channel import engine_call

STOP_SPINNING = "session.force_spinning_stop"
"""Threads wait for the next call asleep, so that they take no processor from another model."""

NO_SIZE = Runnable(
    bytes.fromhex(
        "08083a3b0a120a017812017922084964656e746974793a001201675a100a0178120b0a0908011205"
        "0a0312014e62100a0179120b0a09080112050a0312014e42040a001011"
    )
)
"""A model that hands on one number, with which a model's own cost can be told."""

NO_SIZE_FEEDS = {"x": np.zeros(1, np.float32)}


FINE_SECONDS = 1e-6
"""Resolution of a clock that can time a call."""


def call_clock(threads: int) -> Callable[[], float]:
    """A clock for calls with so many threads.

    One thread is the caller's own, so that its processor time is the latency on a machine that
    has nothing else to do: other programs change it little.
    """
    fine = time.get_clock_info("thread_time").resolution <= FINE_SECONDS
    return time.thread_time if threads == 1 and fine else time.perf_counter


class DeployedModel:
    """A model with all of onnxruntime's optimisations.

    Parameters
    ----------
    model
        A model, or its file.
    threads
        Threads inside an operator.
    profile
        First part of the path of onnxruntime's profile; empty for none.

    Raises
    ------
    EngineFailed
        onnxruntime cannot load the model.
    OutOfMemory
        It has no room for it.
    """

    def __init__(self, model: Path | Runnable, *, threads: int, profile: str = "") -> None:
        onnxruntime = silent_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry(STOP_SPINNING, "1")
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = profile
        try:
            if isinstance(model, Path):
                self._bytes = model.stat().st_size
                source: str | bytes = str(model)
            else:
                self._bytes = len(model.payload) + model.external_bytes
                source = model.payload
                if model.folder:
                    options.add_session_config_entry(FOLDER, model.folder)
                replace_weights(options, model, share=False)
            with engine_call(patience(self._bytes)):
                self._session = onnxruntime.InferenceSession(
                    source, options, providers=["CPUExecutionProvider"]
                )
        except Exception as error:
            raise failed("load", error) from error
        self.outputs = [tensor.name for tensor in self._session.get_outputs()]
        self.clock = call_clock(threads)

    def durations(
        self, feeds: Mapping[str, Array], calls: int, clock: Callable[[], float] | None = None
    ) -> list[float]:
        """Seconds of consecutive calls on the same batch, ``calls`` of them.

        Parameters
        ----------
        feeds
            The batch, by input.
        calls
            Their number.
        clock
            Tells the seconds; by default that of ``call_clock``.

        Raises
        ------
        EngineFailed
            A node failed on this batch.
        """
        run, outputs, seconds = self._session.run, self.outputs, []
        clock = clock or self.clock
        try:
            with engine_call(calls * patience(self._bytes + fed_bytes(feeds))):
                for _ in range(calls):
                    start = clock()
                    run(outputs, feeds)
                    seconds.append(clock() - start)
        except Exception as error:
            raise failed("run", error) from error
        return seconds

    def end_profile(self) -> Path:
        """End profiling, and give the file of the profile."""
        return Path(self._session.end_profiling())
