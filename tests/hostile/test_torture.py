"""The long runs of ``make torture``, each a few times."""

from __future__ import annotations

import sys

import pytest

from tests.support.hostile import torture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness asks Linux")
COUNTS = {"kills": 1, "disks": 1, "memory": 1, "mutations": 30}


@pytest.mark.slow
def test_a_few_of_each() -> None:
    tally = torture.run(COUNTS, seed=16)
    assert sum(counts.total() for counts in tally.counts.values()) >= sum(COUNTS.values())
    assert not tally.violations
