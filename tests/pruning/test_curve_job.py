"""What comes of measuring a layer, on its way to those who share out zeros."""

from __future__ import annotations

import weakref

import numpy as np

from nettrim_cli.pruning.curve_job import MeasuredCurve


def test_a_curve_holds_no_weights_that_came_with_it() -> None:
    """Arrays of a worker's result lie in one piece of memory."""
    came = np.arange(100.0)
    held = weakref.ref(came)
    measured = MeasuredCurve(came[:3], 2.0, (None,), 0.5, (came[3:].reshape(97, 1),))
    squares, size, deltas, changed = measured.facts
    del measured, came
    assert held() is None
    assert squares.tolist() == [0, 1, 2]
    assert (size, deltas, changed) == (2.0, (None,), 0.5)
