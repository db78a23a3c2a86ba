"""A warm process that forks for every command, so that hundreds of runs take seconds.

Everything heavy is imported once.  Each run is a process of its own: whatever it does, allocates
or kills is gone with it, and its exit code, time and peak memory are the child's own.
``python worker.py`` serves jobs, one JSON object a line, on stdin and answers on stdout.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent
ADDRESSES = 12 << 30  # of a child, as a last guard for the machine
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
        paths = [str(HERE.parent), str(HERE.parent / "graph"), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")],
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

    def run(self, folder: Path, arguments: list[str], *, seconds: float = 60) -> Ending:
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
    for line in sys.stdin:
        answers.write(json.dumps(asdict(fork(**json.loads(line)))) + "\n")
        answers.flush()


def warm_up() -> None:
    """Import and set up what the commands do when they are first run; no thread is started."""
    import tempfile

    import numpy as np
    from cases import SERVED

    from nettrim_cli.cli import run

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


def fork(folder: str, arguments: list[str], seconds: float) -> Ending:
    """Run a command in a child and wait for it."""
    texts = {2: "err", 1: "out", 3: "fault"}
    files = {number: os.memfd_create(name) for number, name in texts.items()}
    begun = time.monotonic()
    child = os.fork()
    if not child:
        try:
            for number, file in files.items():
                os.dup2(file, number)
            os.chdir(folder)
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os._exit(command(arguments))
        finally:
            os._exit(250)
    status, peak = wait(child, begun + seconds)
    found = {}
    for number, file in files.items():
        os.lseek(file, 0, os.SEEK_SET)
        with os.fdopen(file, "rb") as stream:
            found[texts[number]] = stream.read().decode("utf-8", "replace")
    return Ending(status, time.monotonic() - begun, peak, **found)


def wait(child: int, until: float) -> tuple[int, int]:
    """Exit code and peak memory of a child, which is killed when its time is over."""
    late = False
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return (-1 if late else 128 - code if code < 0 else code), usage.ru_maxrss << 10
        if not late and time.monotonic() > until:
            late = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)


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

    from nettrim_cli.data.calibration import Calibration
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
