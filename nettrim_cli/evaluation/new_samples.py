"""What most new samples do not exceed, from as few as 59 samples, whatever they are like.

Of n independent samples let e_(k) be the k-th smallest error.  It is below the error that a share
q of all samples does not exceed only if k samples or more are, which happens with a probability of
at most P(Bin(n, q) >= k).  So with the least k for which P(Bin(n, q) <= k - 1) is at least c, a
share q of new samples has an error of at most e_(k), with confidence c (Wilks, Ann. Math. Stat. 12,
1941).  Nothing else is assumed; where errors are tied it holds the more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import BadInput, EngineFailed
from nettrim_cli.evaluation.accuracy import CONFIDENCE
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.evaluation.output_error import OutputError
from nettrim_cli.graph.model import Model
from nettrim_cli.report.comparison_result import NewSampleError

SHARE = 0.95  # of new samples
MOST_SAMPLES = 400  # that a run leaves unused, and measures the written network on


def order_statistic(count: int, share: float = SHARE, confidence: float = CONFIDENCE) -> int | None:
    """The least k for which e_(k) of so many samples will do; None where there are too few."""
    from scipy.special import bdtr  # distribution function of the binomial

    ranks = np.arange(1, count + 1)
    enough = np.flatnonzero(bdtr(ranks - 1.0, count, share) >= confidence)
    return int(ranks[enough[0]]) if len(enough) else None


def fewest_samples(share: float = SHARE, confidence: float = CONFIDENCE) -> int:
    """The number of samples from which the largest error will do."""
    return math.ceil(math.log(1 - confidence) / math.log(share))


def error_bound(errors: NDArray[Any], share: float = SHARE) -> float | None:
    """The error (of N samples: (N,)) that a share of new ones does not exceed; None for too few."""
    rank = order_statistic(len(errors), share)
    if rank is None:
        return None
    return float(np.sort(np.where(np.isnan(errors), np.inf, errors))[rank - 1])


def new_sample_errors(outputs: Mapping[str, OutputError]) -> tuple[NewSampleError, ...]:
    """What new samples do not exceed at outputs that have an error for each sample."""
    return tuple(
        NewSampleError(
            name,
            error_bound(output.sample_errors),
            SHARE,
            CONFIDENCE,
            len(output.sample_errors),
            fewest_samples(),
        )
        for name, output in outputs.items()
        if not output.why_unmeasured and len(output.sample_errors)
    )


def on_unused_samples(
    dense: Model, written: Model, samples: SampleSet, *, threads: int
) -> tuple[NewSampleError, ...]:
    """What new samples do not exceed, by samples of the file that a run did not use.

    Held-out samples have chosen something, so that they would flatter.

    Parameters
    ----------
    dense, written
        The network before, and as written.
    samples
        Those that the run used.
    threads
        Threads of the engine.
    """
    unused = samples.unused(MOST_SAMPLES)
    reference = ReferenceOutputs(
        dense, lambda: samples.calibration.batches(unused, samples.size), threads=threads
    )
    if len(unused) >= fewest_samples():
        with suppress(BadInput, EngineFailed):  # of samples that were not asked for
            return new_sample_errors(reference.compare(written).errors)
    return tuple(
        NewSampleError(output.name, None, SHARE, CONFIDENCE, 0, fewest_samples())
        for output in dense.outputs
    )
