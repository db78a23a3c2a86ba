"""The figures of real models are of the run that they are said to be of."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.models import nettrim


def test_the_peak_of_a_run_is_not_that_of_who_started_it(tmp_path: Path) -> None:
    held = np.ones(1 << 24)  # 128 MiB, that this process has had at its peak from now on
    del held
    code, said, _, peak = nettrim(["--help"], tmp_path)
    assert code == 0
    assert "prune" in said
    assert 1 << 20 < peak < 1 << 27
