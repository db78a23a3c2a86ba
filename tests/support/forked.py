"""``subprocess`` for Python programs that start as copies of a process that has imported all.

`Popen` and `run` take ``[sys.executable, "-c", code, ...]`` or ``[sys.executable, "-m", module,
...]`` and most options of their namesakes.  The new process has its own folder, environment,
streams and signals, is a child of the caller, and has saved a second of imports.  What is tested
of the start itself needs ``subprocess``: what is imported when, variables that the interpreter
or a library reads once, memory that a fresh process takes.

A server, one a test process, imports everything and forks when it is asked to.  It has one thread,
so that nothing is lost in its copies.  Elsewhere than on Linux this is ``subprocess`` itself.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import io
import os
import pickle
import pkgutil
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ALONE = {  # no thread is started by the import of a BLAS, or of onnxruntime
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "ORT_TELEMETRY_DISABLED": "1",
}
ADOPT_ORPHANS = 36  # prctl's PR_SET_CHILD_SUBREAPER
LIBRARIES = (
    "h5py",
    "numpy",
    "onnx",
    "onnxruntime",
    "rich.progress",
    "scipy.sparse.linalg",
    "scipy.special",
)


class ForkedPopen(subprocess.Popen):
    """A process that the server has forked; `preexec_fn` is a function that can be pickled."""

    def _execute_child(
        self,
        args: list[Any],
        executable: object,
        preexec_fn: Callable[[], object] | None,
        close_fds: object,
        pass_fds: object,
        cwd: str | Path | None,
        env: dict[str, str] | None,
        startupinfo: object,
        creationflags: object,
        shell: object,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        *_: object,
    ) -> None:
        """Ask the server for a process; the arguments are those of CPython since 3.7."""
        assert args[0] == sys.executable, args
        words = [os.fsdecode(each) for each in args[1:]]
        job = (words, os.fspath(cwd or os.getcwd()), dict(env or os.environ), preexec_fn)
        streams = [
            own if theirs < 0 else theirs
            for own, theirs in enumerate((p2cread, c2pwrite, errwrite))
        ]
        with tempfile.TemporaryFile() as file:
            pickle.dump(job, file)
            file.seek(0)
            self.pid = _server().fork([file.fileno(), *streams])
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def _run(
    args: list[Any],
    *,
    capture_output: bool = False,
    check: bool = False,
    timeout: float | None = None,
    **options: Any,
) -> subprocess.CompletedProcess:
    """``subprocess.run`` without its input."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with ForkedPopen(args, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    ended = subprocess.CompletedProcess(args, process.returncode, out, err)
    if check:
        ended.check_returncode()
    return ended


FORKS = sys.platform == "linux"
Popen = ForkedPopen if FORKS else subprocess.Popen
run = _run if FORKS else subprocess.run


class Server:
    """The process that forks, seen from the one that asks."""

    def __init__(self) -> None:
        self._socket, its = socket.socketpair()
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(its.fileno())],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **ALONE, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
                pass_fds=[its.fileno()],
            )

    def fork(self, handles: list[int]) -> int:
        """Fork for the job in a file, with three streams; give the number of the new process.

        The server forks twice, and the process in between ends: its child is an orphan, which
        this process adopts.
        """
        prctl = ctypes.CDLL(None).prctl
        prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
        try:
            socket.send_fds(self._socket, [b"fork"], handles)
            answer = self._socket.recv(20)
        finally:
            prctl(ADOPT_ORPHANS, 0, 0, 0, 0)
        assert answer, "the server has ended"
        return int(answer)

    def end(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def _server() -> Server:
    server = Server()
    atexit.register(server.end)
    return server


def serve(channel: socket.socket) -> None:
    """Fork as often as it is asked for; returns in the new processes alone."""
    import_all()
    assert len(os.listdir("/proc/self/task")) == 1, "a thread was started by an import"
    while True:
        asked, handles, *_ = socket.recv_fds(channel, 20, 4)
        if not asked:
            os._exit(0)
        process = fork_orphan()
        if not process:
            break
        for handle in handles:
            os.close(handle)
        channel.sendall(str(process).encode())
    channel.close()
    become(*handles)


def import_all() -> None:
    """Import what commands and tests' programs import, and keep it in pages that stay shared."""
    import nettrim_cli

    for name in LIBRARIES:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(nettrim_cli.__path__, "nettrim_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


def fork_orphan() -> int:
    """Fork a process whose parent has ended; 0 in that process, its number in this one."""
    reader, writer = os.pipe()
    between = os.fork()
    if not between:
        parent = os.getpid()
        process = os.fork()
        if process:
            os.write(writer, str(process).encode())
            os._exit(0)
        os.close(reader)
        os.close(writer)
        while os.getppid() == parent:
            time.sleep(0.001)
        return 0
    os.close(writer)
    os.waitpid(between, 0)
    with open(reader, "rb") as file:
        return int(file.read())


def become(job: int, *streams: int) -> None:
    """Run a job, with its streams, in this process as the interpreter would."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    with open(job, "rb") as file:
        words, folder, environment, before = pickle.load(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = sys.__stdin__ = as_text(0, "rb", sys.stdin)
    sys.stdout = sys.__stdout__ = as_text(1, "wb", sys.stdout)
    sys.stderr = sys.__stderr__ = as_text(2, "wb", sys.stderr)
    if before is not None:
        before()
    kind, program, *arguments = words
    sys.argv = [kind, *arguments]
    if kind == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})


def as_text(number: int, mode: str, old: Any) -> io.TextIOWrapper:
    """A stream of text like the one that the interpreter has made."""
    buffering = 0 if old.write_through else -1  # as PYTHONUNBUFFERED wants it
    stream = open(number, mode, buffering, closefd=False)  # noqa: SIM115
    lines = old.line_buffering if number == 2 else stream.isatty()
    options = {"line_buffering": lines, "write_through": old.write_through}
    return io.TextIOWrapper(stream, old.encoding, old.errors, **options)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
