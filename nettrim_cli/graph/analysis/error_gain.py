"""What a node does to an error of its inputs: at most so many times the error comes out.

Errors are Frobenius norms of the difference between a tensor of the pruned network and the
same tensor of the dense one, over all samples.  The entry of an op tells how they pass (``error``):
the factor for each input that carries an error, and whether the results add up (triangle
inequality) or their squares do (disjoint entries).  An op without a rule, or a node that its rule
does not cover, ends the proof with a reason.
"""

from __future__ import annotations

import math

from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.ops.context import ErrorContext, ErrorGain


def error_gain(context: ErrorContext) -> ErrorGain:
    """How errors pass through a node.

    Raises
    ------
    Unsupported
        Nothing is proved behind this node; a clause that says why.
    """
    rule = context.spec.error
    if rule is None:
        raise Unsupported("no bound is known for it")
    gain = rule(context)
    if not all(math.isfinite(factor) for factor in gain.factors.values()):
        raise Unsupported("its bound is infinite")
    return gain
