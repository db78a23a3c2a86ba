"""A warm process whose child runs command after command, so that hundreds take seconds.

Everything heavy is imported once.  Where a command ends the child, is over its time, or leaves
much memory behind, the next one gets a child of its own: what a command does to the process harms
no later one's result, and its exit code, time and peak memory are told.
As a script it serves jobs, one JSON object a line, on stdin and answers on stdout.
"""

from __future__ import annotations

import gc
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support import forked

ROOT = Path(__file__).parents[3]
ADDRESSES = 12 << 30  # of a child, as a last guard for the machine
LARGE_BYTES = 600 << 20  # of a child that is not used again
STREAMS = {"out": 1, "err": 2, "fault": 3}
CALM = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes
    ----------
    code
        Exit code; 128 + n where signal n ended it, -1 where it was over its time.
    peak_bytes
        Largest resident memory, that of the warm process included.
    fault
        What is wrong with an output that was reported as a success.
    """

    code: int
    seconds: float
    peak_bytes: int
    out: str
    err: str
    fault: str = ""


class Worker:
    """The warm process; a context manager."""

    def __enter__(self) -> Worker:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        self._process = forked.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **CALM, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(self, folder: Path, arguments: list[str], *, seconds: float = 300) -> Ending:
        """Run a command of nettrim in a folder."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"folder": str(folder), "arguments": arguments, "seconds": seconds}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the warm process itself has ended"
        return Ending(**json.loads(line))


def serve() -> None:
    """Answer jobs until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warm_up()
    runner: Runner | None = None
    for line in sys.stdin:
        if runner is None or runner.spent:
            runner = Runner()
        answers.write(json.dumps(asdict(runner.run(line))) + "\n")
        answers.flush()
    if runner is not None:
        runner.end()


def warm_up() -> None:
    """Import and set up what the commands do when they are first run; no thread is started."""
    import tempfile

    import numpy as np

    from nettrim_cli.cli import run
    from tests.support.hostile.cases import SERVED

    with tempfile.TemporaryDirectory() as folder:
        model, data, output = (str(Path(folder, each)) for each in ("m.onnx", "x.npz", "y.onnx"))
        Path(model).write_bytes(SERVED)
        np.savez(data, x=np.random.default_rng(0).standard_normal((12, 6), np.float32))
        quick = ["--sparsity", "0.5", "--threads", "1", "--allocate", "uniform"]
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            codes = [run(["prune", model, "--data", data, "-o", output, *quick])]
            codes += [run(["compare", model, output, "--data", data, "--threads", "1"])]
            codes += [run(["inspect", model])]
    assert codes == [0, 0, 0], codes
    gc.freeze()


class Runner:
    """A child that runs commands one after the other, until one of them ends it.

    Attributes
    ----------
    spent
        Whether the next command needs another child.
    """

    def __init__(self) -> None:
        self.spent = False
        ours, its = socket.socketpair()
        self._child = os.fork()
        if not self._child:
            ours.close()
            try:
                run_jobs(its)
            finally:
                os._exit(250)
        its.close()
        self._socket, self._stream = ours, ours.makefile("r")

    def run(self, line: str) -> Ending:
        """Run one command; the child is killed when its time is over."""
        begun, most = time.monotonic(), json.loads(line)["seconds"]
        self._socket.settimeout(most)
        self._socket.sendall(line.encode())
        late = False
        try:
            answer = self._stream.readline()
        except TimeoutError:
            answer, late = "", True
        seconds = time.monotonic() - begun
        if answer:
            facts = json.loads(answer)
            self.spent = facts["peak_bytes"] > LARGE_BYTES
            if self.spent:
                self.end()
            return Ending(seconds=seconds, **facts)
        self.spent = True
        status, peak = self.end()
        return Ending(-1 if late else status, seconds, peak, "", "the process is gone")

    def end(self) -> tuple[int, int]:
        """Exit code and peak memory of the child, which ends here if it has not yet."""
        os.kill(self._child, signal.SIGKILL)
        _, status, usage = os.wait4(self._child, 0)
        self._stream.close()
        self._socket.close()
        code = os.waitstatus_to_exitcode(status)
        return (128 - code if code < 0 else code), usage.ru_maxrss << 10


def run_jobs(channel: socket.socket) -> None:
    """Run what comes, a JSON object a line, and answer with what is to be known of each."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in channel.makefile("r"):
        job = json.loads(line)
        files = {name: os.memfd_create(name) for name in STREAMS}
        for name, number in STREAMS.items():
            os.dup2(files[name], number)
        os.chdir(job["folder"])
        Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here
        code = command(job["arguments"])
        facts: dict[str, Any] = {"code": code, "peak_bytes": peak_bytes()}
        for name, file in files.items():
            with os.fdopen(file, "rb") as stream:
                stream.seek(0)
                facts[name] = stream.read().decode("utf-8", "replace")
        channel.sendall((json.dumps(facts) + "\n").encode())


def peak_bytes() -> int:
    """Largest resident memory since it was last reset."""
    (line,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) << 10


def command(arguments: list[str]) -> int:
    """Run a command in this process; look at the output that it reports to have written."""
    import warnings

    from nettrim_cli.cli import run

    warnings.simplefilter("ignore")  # as the command line has them

    code = run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    if code == 0 and arguments[0] == "prune":
        model, data = arguments[1], arguments[arguments.index("--data") + 1]
        os.write(3, wrong_output(model, data).encode())
    return code


def wrong_output(model: str, data: str) -> str:
    """What is wrong with a pruned model; empty where it runs as the dense one does."""
    import numpy as np

    from nettrim_cli.data.dataset import Calibration
    from nettrim_cli.loading import load_models
    from nettrim_cli.pipeline import default_output

    (dense,), output = load_models([model]), default_output(model)
    with Calibration.open(data, dense.inputs) as samples:
        batch = next(samples.batches(np.arange(min(samples.samples, samples.batch_size(8))), 8))
    try:
        after = answers(str(output), batch.feeds)
    except Exception as error:
        return f"it does not run: {error}"
    try:
        before = answers(model, batch.feeds)
    except Exception:  # nettrim reads external data that the engine does not
        return ""
    for one, two in zip(before, after, strict=True):
        if isinstance(one, np.ndarray) and one.dtype.kind == "f":
            if one.shape != two.shape:
                return f"shape {two.shape}, that of the dense one {one.shape}"
            if not np.isfinite(two[np.isfinite(one)]).all():
                return "it answers what is not finite"
    return ""


def answers(model: str, feeds: dict[str, Any]) -> list[Any]:
    """What onnxruntime itself makes of a model's file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    wanted = {each.name for each in session.get_inputs()}
    return list(session.run(None, {k: v for k, v in feeds.items() if k in wanted}))


if __name__ == "__main__":
    serve()
