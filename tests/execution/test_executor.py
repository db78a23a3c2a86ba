"""Results come in the order of the jobs, and no more jobs are asked for than there are places."""

from __future__ import annotations

import pytest

from nettrim_cli.execution.executor import in_order, silent
from nettrim_cli.execution.serial import SerialExecutor


def test_a_serial_executor_asks_for_a_job_when_the_one_before_is_done() -> None:
    told = []

    def jobs():
        for number in range(3):
            told.append(("asked", number))
            yield number

    def double(number, progress):
        progress(number)
        return 2 * number

    executor = SerialExecutor(lambda number: told.append(("progress", number)))
    results = []
    for result in in_order(executor, double, [jobs()]):
        told.append(("done", result // 2))
        results.append(result)
    assert results == [0, 2, 4]
    assert told == [(what, n) for n in range(3) for what in ("asked", "progress", "done")]
    assert silent(1, 2) is None


class Eager(SerialExecutor):
    """Asks for all jobs of a group at once, as executors do whose places are elsewhere."""

    def __init__(self, places: int) -> None:
        super().__init__(silent)
        object.__setattr__(self, "places", places)

    def map(self, function, jobs):
        return iter([function(job, silent) for job in jobs])


@pytest.mark.parametrize("places", [1, 2, 3, 9])
def test_groups_are_begun_ahead_of_their_results_but_no_more_than_there_are_places(places) -> None:
    begun = 0

    def groups():
        nonlocal begun
        for number in range(5):
            begun += 1
            yield [10 * number, 10 * number + 1]

    ahead, results = [], []
    for result in in_order(Eager(places), lambda job, _: job, groups()):
        ahead.append(begun - result // 10)
        results.append(result)
    assert results == [10 * number + inner for number in range(5) for inner in range(2)]
    assert max(ahead) == min(1 if places == 1 else places + 1, 5)
