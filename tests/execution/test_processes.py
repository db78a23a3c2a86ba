"""Worker processes: order, errors, deaths, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from nettrim_cli.errors import OutOfMemory, WorkersFailed
from nettrim_cli.execution.executor import in_order
from nettrim_cli.execution.processes import ProcessExecutor
from nettrim_cli.execution.worker import ErrorElsewhere
from tests.support import elsewhere, forked
from tests.support.effort import thinned
from tests.support.options import FAST, PATIENCE


@pytest.fixture(scope="module")
def executor():
    with ProcessExecutor(2, 1, [elsewhere.add]) as executor:
        yield executor


def gone(process: int) -> bool:
    """Whether a process ends, or waits for its parent to hear of that."""
    latest = time.monotonic() + PATIENCE
    while time.monotonic() < latest:
        try:
            with open(f"/proc/{process}/stat", encoding="ascii") as file:
                if file.read().rpartition(")")[2].split()[0] in "ZX":
                    return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_results_come_in_the_order_of_the_jobs_from_other_processes(executor) -> None:
    arrays = [np.full((3, 2), number, np.float32) for number in range(9)]
    groups = [arrays[:2], arrays[2:3], [], arrays[3:8], arrays[8:]]
    results = list(in_order(executor, elsewhere.add, groups))
    for number, (array, process) in enumerate(results):
        assert np.array_equal(array, arrays[number] + 1)
        assert process in [worker.process.pid for worker in executor.workers]
    assert len(results) == 9
    assert all(arrays[number].max() == number for number in range(9))  # nothing changed here


def test_errors_keep_their_type_and_message_and_the_place_where_they_were_raised(executor) -> None:
    with pytest.raises(ValueError, match="no such thing") as caught:
        list(executor.map(elsewhere.failing, ["no such thing"]))
    assert isinstance(caught.value.__cause__, ErrorElsewhere)
    assert "in failing" in str(caught.value.__cause__)
    with pytest.raises(RuntimeError, match="Odd: one and other"):
        list(executor.map(elsewhere.failing_oddly, [1]))
    with pytest.raises(Exception, match="local"):  # of pickle's own kinds
        list(executor.map(elsewhere.local, [1]))
    assert [array.sum() for array, _ in executor.map(elsewhere.add, [np.zeros(3)])] == [3]


def test_a_killed_worker_costs_its_task_only(executor, tmp_path) -> None:
    before = {worker.process.pid for worker in executor.workers}
    groups = [[(str(tmp_path / f"{at}"), at)] for at in range(4)]
    assert list(in_order(executor, elsewhere.dying_once, groups)) == [0, 2, 4, 6]
    after = {worker.process.pid for worker in executor.workers}
    assert len(after) == 2
    assert not before & after


@pytest.mark.parametrize(
    ("number", "error", "name"),
    [(signal.SIGKILL, OutOfMemory, "SIGKILL"), (signal.SIGSEGV, WorkersFailed, "SIGSEGV")],
)
def test_a_task_of_which_workers_die_ends_the_run_with_a_sentence(
    executor, number, error, name
) -> None:
    with pytest.raises(error, match=rf"3 worker processes .* \({name}\)"):
        list(executor.map(elsewhere.dying, [int(number)]))


def test_workers_end_with_the_block_whatever_they_are_doing() -> None:
    with ProcessExecutor(2, 1) as executor:
        processes = [worker.process.pid for worker in executor.workers]
        for _ in range(3):
            executor.map(elsewhere.sleeping, [PATIENCE])
    assert all(map(gone, processes))


def test_workers_end_when_their_run_is_killed() -> None:
    """They are busy then, so that they do not hear that nobody talks to them any more."""
    code = (
        "from nettrim_cli.execution.processes import ProcessExecutor; from tests.support.elsewhere "
        "import sleeping, add; executor = ProcessExecutor(2, 1); import numpy as np\n"
        f"[executor.map(sleeping, [{PATIENCE}]) for _ in range(2)]\n"
        "print(*[worker.process.pid for worker in executor.workers], flush=True)\n"
        f"import time; time.sleep({PATIENCE})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=os.getcwd(), text=True
    ) as run:
        assert run.stdout is not None
        processes = [int(word) for word in run.stdout.readline().split()]
        run.send_signal(signal.SIGKILL)
    assert len(processes) == 2
    assert all(map(gone, processes))


def children(process: int) -> list[int]:
    return [
        int(child)
        for thread in Path(f"/proc/{process}/task").iterdir()
        for child in (thread / "children").read_text("ascii").split()
    ]


@pytest.mark.parametrize("name", thinned(["SIGINT", "SIGKILL"], 2))
def test_workers_end_with_a_command_that_is_ended(files, name) -> None:
    words = ["prune", str(files.model), "--data", str(files.data), *FAST, "--workers", "2"]
    with forked.Popen([sys.executable, "-m", "nettrim_cli", *words]) as run:
        processes: list[int] = []
        latest = time.monotonic() + PATIENCE
        while len(processes) < 2 and time.monotonic() < latest:
            with suppress(OSError):  # they come and go
                processes = [worker for child in children(run.pid) for worker in children(child)]
        run.send_signal(getattr(signal, name))
    assert run.returncode == {"SIGINT": 130, "SIGKILL": -9}[name]
    assert len(processes) == 2
    assert all(map(gone, processes))
    assert not files.output.exists()
