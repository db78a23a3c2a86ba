"""The long runs of ``make torture``, each a few times."""

from __future__ import annotations

import sys

import pytest

from tests.support.hostile import torture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness asks Linux")


@pytest.mark.parametrize(
    ("part", "count"), [("kills", 2), ("disks", 1), ("memory", 2), ("mutations", 60)]
)
def test_a_few_of_each(part, count) -> None:
    tally = torture.Tally()
    torture.PARTS[part][0](count, 16, tally)
    assert sum(each.total() for each in tally.counts.values()) >= count
    assert not tally.violations
