"""A run that is ended, crashes or never ends: the exit code, one sentence, nothing left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from nettrim_cli.process import memory
from nettrim_cli.process.channel import Channel, messages
from tests.support.options import FAST, PATIENCE

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are supervised on Unix")

START = """
import os, signal, sys, time
for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # a shell's background jobs ignore some
    signal.signal(getattr(signal, name), signal.SIG_DFL)
from nettrim_cli.process.channel import engine_call, identity, tell
from nettrim_cli.process.supervisor import run_supervised

def work():
    WORK
    return 0

sys.exit(run_supervised(work))
"""


def program(work: str) -> list[str]:
    """A supervised process that does this."""
    body = textwrap.indent(textwrap.dedent(work).strip(), "    ").strip()
    return [sys.executable, "-c", START.replace("WORK", body)]


def ended(work: str, **options: object) -> tuple[int, str]:
    """The exit code of a supervised process and its only line on stderr."""
    done = subprocess.run(
        program(work), capture_output=True, text=True, timeout=PATIENCE, **options
    )
    assert done.stderr.count("\n") <= 1, done.stderr
    return done.returncode, done.stderr


def test_the_exit_code_is_that_of_the_work() -> None:
    assert ended("return 7") == (7, "")


@pytest.mark.parametrize(
    ("work", "code", "says"),
    [
        ("tell('limit', 'seconds', 0.3); time.sleep(50)", 124, "--time-limit"),
        ("with engine_call(0.2): time.sleep(50)", 124, "never ends"),
        ("tell('limit', 'bytes', 10**8); x = bytearray(3 * 10**8); time.sleep(50)", 71, "100 MB"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 69, "crashed (SIGSEGV)"),
        ("os.abort()", 69, "crashed (SIGABRT)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, "SIGTERM"),
    ],
)
def test_a_run_that_cannot_speak_for_itself(work, code, says) -> None:
    found, text = ended(f"tell('about', 'm.onnx'); {work}" if ": " not in work else work)
    assert found == code
    assert says in text
    assert "nothing was written" in text


@pytest.mark.parametrize(
    ("ending", "says"),
    [
        ("tell('limit', 'seconds', 0.3); time.sleep(50)", "over --time-limit, 0.3 s"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "ended by SIGTERM"),
        ("os.abort()", "crashed (SIGABRT)"),
    ],
)
def test_a_log_says_how_the_run_ended(tmp_path, ending, says) -> None:
    for name in ("run.log", "run.jsonl"):
        log = tmp_path / name
        log.write_text("first\n")
        _, text = ended(f"tell('log', {str(log)!r})\n{ending}")
        first, last = log.read_text("utf-8").splitlines()
        assert first == "first"
        if name == "run.jsonl":
            event = json.loads(last)
            assert (event["event"], event["outcome"]) == ("end", "failed")
            assert 0 < event["seconds"] < PATIENCE
            last = f"failed: {event['text']}"
        assert text == f"nettrim: {last.partition('failed: ')[2]}\n"
        assert says in text


def test_a_log_that_says_already_how_the_run_ended_stays(tmp_path) -> None:
    log = tmp_path / "run.log"
    log.write_text("done\n")
    ended(f"tell('log', {str(log)!r}); tell('log', ''); os.abort()")
    assert log.read_text("utf-8") == "done\n"


def test_the_memory_of_workers_counts() -> None:
    work = """
    tell('limit', 'bytes', 100_000_000)
    worker = os.fork()
    if worker == 0:
        from nettrim_cli.process.supervisor import end_with
        end_with(os.getppid())
        content = bytes(1) * 200_000_000
        content = bytearray(content)
        time.sleep(50)
    tell('worker', worker)
    time.sleep(50)
    """
    code, text = ended(work)
    assert code == 71
    assert "MB of memory are over --max-memory, 100 MB" in text


def test_a_time_limit_of_the_user_is_the_only_one() -> None:
    work = "tell('limit', 'seconds', 50)\nwith engine_call(0.1): time.sleep(0.5)"
    assert ended(work) == (0, "")


def test_a_crash_over_a_file_that_has_changed_is_said_of_the_file(tmp_path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(100_000))
    work = f"""
    import mmap
    path = {str(path)!r}
    tell("input", path, identity(os.stat(path)))
    with open(path, "rb") as file:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    os.truncate(path, 0)
    held[50_000]
    """
    code, text = ended(work)
    assert code == 65
    assert f"{path}: changed while the run read it" in text


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("stands", [False, True])
def test_a_signal_removes_what_was_left_and_says_what_stands(tmp_path, name, stands) -> None:
    for each in ("temporary", "sidecar"):
        (tmp_path / each).touch()
    work = f"""
    os.chdir({str(tmp_path)!r})
    for kind in ("temporary", "sidecar"):
        tell(kind, kind)
    with open("temporary", "w") as file:
        tell("output", "output", identity(os.fstat(file.fileno())))
    if {stands}:
        os.replace("temporary", "output")
    print("here", flush=True)
    while True:
        pass
    """
    with subprocess.Popen(
        program(work), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(getattr(signal, name))
        process.send_signal(signal.SIGTERM)  # one is enough
        _, text = process.communicate(timeout=PATIENCE)
    assert process.returncode in (128 + getattr(signal, name), 128 + signal.SIGTERM)
    assert text.count("\n") == 1
    assert ("output was written" if stands else "nothing was written") in text
    assert sorted(os.listdir(tmp_path)) == (["output", "sidecar"] if stands else [])


@pytest.mark.slow
def test_signals_at_random_moments_of_a_run(files) -> None:
    """From the start on; what the interpreter does before it runs our code is not ours."""
    files.output.write_bytes(b"old")
    words = ["prune", files.model, "--data", files.data, *FAST]
    program = "from nettrim_cli.__main__ import main; print(flush=True); main()"
    command = [sys.executable, "-c", program, *map(str, words), "--force", "-q"]
    draw = random.Random(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_usual_signals
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            time.sleep(draw.random())
            process.send_signal(number)
            _, text = process.communicate(timeout=PATIENCE)
        assert process.returncode in (128 + number, -number, 0), text
        assert b"Traceback" not in text or process.returncode == -number
        written = process.returncode == 0 or b"was written, its" in text
        assert (files.output.read_bytes() == b"old") is not written
        assert files.listing == ["calib.h5", "model.onnx", "model.pruned.onnx"]
        files.output.write_bytes(b"old")


def _usual_signals() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own signal is Linux's")
def test_a_run_does_not_outlive_its_supervisor() -> None:
    work = "print(os.getpid(), flush=True)\nwhile True: pass"
    with subprocess.Popen(program(work), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        run = int(process.stdout.readline())
        process.kill()
        process.wait(timeout=PATIENCE)
        latest = time.monotonic() + PATIENCE
        while _lives(run) and time.monotonic() < latest:
            time.sleep(0.01)
    assert not _lives(run)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_messages_arrive_whole_however_they_are_cut() -> None:
    reader, writer = os.pipe()
    channel = Channel(writer, None)
    sent = [["temporary", "/a\nb/\udcff"], ["doing", ""], ["about", "ü" * 1000]]
    for each in sent:
        channel.send(*each)
    os.close(writer)
    buffer, found = bytearray(), []
    while piece := os.read(reader, 7):
        buffer += piece
        found += messages(buffer)
    os.close(reader)
    assert found == sent


def test_memory_is_measured_where_the_system_tells() -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("there is no /proc here")
    before = memory.used(os.getpid())
    kept = bytearray(b"x" * (1 << 26))
    after = memory.used(os.getpid())
    assert before is not None
    assert after is not None
    assert after - before > len(kept) // 2
    room = memory.available()
    assert room is not None
    assert room > 0
    assert memory.used(2**30) is None
