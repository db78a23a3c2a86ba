"""What there is still time for."""

from __future__ import annotations

import math

import pytest

from nettrim_cli.process.deadline import LAST_SECONDS, LAST_SHARE, Deadline, limit_process


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_steps_are_allowed_while_there_is_time_for_them_and_for_the_end() -> None:
    clock = Clock()
    deadline = Deadline(100, 0, clock)
    clock.now = 40
    assert deadline.seconds_left == 100 - 40 - LAST_SHARE * 40
    assert deadline.allows("short", 49)
    assert not deadline.allows("long", 51)
    assert not deadline.allows("long", 51)
    assert deadline.left_out == ["long"]
    clock.now = 1
    assert deadline.seconds_left == 100 - 1 - LAST_SECONDS


def test_without_a_limit_all_is_allowed() -> None:
    deadline = Deadline()
    assert deadline.seconds_left == math.inf
    assert deadline.allows("for ever", 1e300)


def test_the_limit_of_the_process_is_the_default() -> None:
    limit_process(1e-9)
    try:
        assert not Deadline().allows("anything", 0)
    finally:
        limit_process(math.inf)
    assert Deadline().allows("anything", 0)


@pytest.mark.parametrize("passed", [0.0, 10.0, 1e6])
def test_what_is_allowed_ends_before_the_limit(passed) -> None:
    clock = Clock()
    deadline = Deadline(2e6, 0, clock)
    clock.now = passed
    assert passed + deadline.seconds_left < 2e6
