"""What shows a run: by what is asked for, and where stderr leads; and logs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nettrim_cli.errors import CannotWrite
from nettrim_cli.report.progress import Silent
from nettrim_cli.report.progress.session import Session, session
from tests.support.options import PATIENCE
from tests.support.progress import play


def told(capfd, *given: object, **asked: object) -> tuple[str, str]:
    with session(Session(*given, **asked)) as listener:
        play(listener)
    return tuple(capfd.readouterr())


def test_silent_says_nothing(capfd) -> None:
    play(Silent())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_a_quick_run_prints_nothing_off_the_terminal(capfd, kind) -> None:
    assert told(capfd, kind) == ("", "")


def test_verbose_and_plain_print_lines_to_stderr(capfd) -> None:
    out, err = told(capfd, verbose=True)
    assert out == ""
    assert err.startswith("recording [samples]\n[1/2] fc1: 90.0 % sparsity")
    assert (
        told(capfd, "plain")[1].splitlines()[1].split(" iter")[0]
        == (err.splitlines()[1].split(" iter")[0])
    )


def test_a_bar_is_drawn_where_it_is_asked_for(capfd) -> None:
    out, err = told(capfd, "bar")
    assert out == ""
    assert "\x1b" in err
    assert "layer 2 of 2" in err


def test_json_is_printed_to_stderr_with_start_and_end(capfd) -> None:
    with session(Session("json"), "nettrim 1 prune m.onnx") as listener:
        play(listener)
        listener.conclude("done", ["Reached."])
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert events[0]["text"] == "nettrim 1 prune m.onnx"
    assert events[-1]["outcome"] == "done"


def test_a_log_goes_on_from_run_to_run_and_tells_how_each_ended(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    for _ in range(2):
        with session(Session("none", log), "nettrim 1 prune m.onnx") as listener:
            play(listener)
            listener.conclude("done", ["Reached: 90 %."])
    lines = log.read_text("utf-8").splitlines()
    starts = [line for line in lines if line.startswith("nettrim 1 prune m.onnx, 20")]
    assert (len(starts), len(lines)) == (2, 14)
    assert lines[5].endswith("  Reached: 90 %.")
    assert lines[6].split("  ")[1].startswith("done after ")


def test_a_log_tells_of_what_went_wrong(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"

    def broken() -> None:
        with session(Session("none", log)):
            raise ValueError("a sentence")

    with pytest.raises(ValueError, match="a sentence"):
        broken()
    last = json.loads(log.read_text("utf-8").splitlines()[-1])
    assert (last["outcome"], last["text"]) == ("failed", "a sentence")


def test_nothing_is_added_to_a_file_that_is_no_log(tmp_path: Path) -> None:
    other = tmp_path / "model.onnx"
    other.write_bytes(b"\x08\x07content")
    with pytest.raises(CannotWrite, match="no log of nettrim"), session(Session("none", other)):
        pass
    assert other.read_bytes() == b"\x08\x07content"
    missing = tmp_path / "no" / "run.log"
    with pytest.raises(CannotWrite, match="name a file"), session(Session("none", missing)):
        pass


def test_a_reader_that_leaves_does_not_stop_the_work() -> None:
    code = (
        "import sys; from nettrim_cli.report.progress.session import Session, session\n"
        "sys.stdin.read()\n"
        "with session(Session(verbose=True)) as s:\n    s.message('a'); s.message('b')\n"
        "sys.stdout.write('result'); sys.exit(3)"
    )
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **streams) as process:  # type: ignore[call-overload]
        process.stderr.close()
        process.stdin.close()
        assert process.stdout.read() == b"result"
        assert process.wait(PATIENCE) == 3
