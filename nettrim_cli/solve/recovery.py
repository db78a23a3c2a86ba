"""From how many samples the paper's program finds sparse weights, by three theories.

All of them are about Gaussian inputs, a layer whose dense responses some weights with few
non-zeros reproduce exactly, and epsilon 0.  A neuron with a ReLU gives an equation only where it
is active, for half of such inputs.  (Given ``w'x > 0``, x with a random sign is Gaussian again,
and a sign does not change the equation ``h'x = 0``.  The inequalities of the inactive samples are
slack at w, so they decide nothing near it.)
"""

from __future__ import annotations

import math

import numpy as np

FAILURE = 0.05  # probability of missing a neuron's weights for which samples are counted


def theorem_samples(s: int, inputs: int, failure: float = FAILURE) -> int:
    """Samples of the Net-Trim paper's recovery theorem.

    With independent standard Gaussian inputs ``P = (11 s + 7) mu log N`` samples, mu > 1, give
    back the s non-zeros of a ReLU neuron but for a probability of ``N^(1 - mu)`` (Aghasi, Abdi,
    Nguyen, Romberg, arXiv 1611.05162, Theorem 3, and its proof in the supplement).  So a failure
    of p takes ``mu log N = log(N / p)``.  A linear layer has more equations and the same weights.

    Parameters
    ----------
    s
        Weights of the neuron that are not zero.
    inputs
        N.
    failure
        Probability p, below 1; that of a layer of M neurons is at most M times as large.
    """
    return math.ceil((11 * s + 7) * math.log(inputs / failure)) if s > 0 else 0


def samples_needed(s: int, inputs: int, *, relu: bool) -> int:
    """Samples that suffice by the Gaussian width of the l1 norm's descent cone.

    The equations are those of l1 minimisation, ``2 s log(N/s) + 5/4 s + 1`` (Chandrasekaran,
    Recht, Parrilo, Willsky, "The Convex Geometry of Linear Inverse Problems", 2012,
    Proposition 3.10), never more than N.

    Parameters
    ----------
    s
        Weights that are not zero.
    inputs
        N.
    relu
        Whether a ReLU follows: then half of the samples are equations.
    """
    if s <= 0:
        return 0
    equations = min(inputs, math.ceil(2 * s * math.log(inputs / s) + 1.25 * s + 1))
    return 2 * equations if relu else equations


def half_success(s: int, inputs: int, *, relu: bool) -> float:
    """Samples from which half of all neurons are found, as N grows.

    The statistical dimension of the descent cone, ``min over t of s (1 + t^2) + (N - s)
    E max(|g| - t, 0)^2``, is where l1 minimisation changes from failure to success (Amelunxen,
    Lotz, McCoy, Tropp, "Living on the edge", Information and Inference 3, 2014, Theorem II and
    Proposition 4.5), twice that with a ReLU.

    Parameters
    ----------
    s, inputs, relu
        As for ``samples_needed``.
    """
    if s <= 0:
        return 0.0
    if s >= inputs:
        return float(2 * inputs if relu else inputs)
    low, high = 0.0, 10.0
    for _ in range(60):  # the derivative in t rises
        t = (low + high) / 2
        density = math.exp(-t * t / 2) * math.sqrt(2 / math.pi)
        slope = s * t - (inputs - s) * (density - t * math.erfc(t / math.sqrt(2)))
        low, high = (low, t) if slope > 0 else (t, high)
    density = math.exp(-t * t / 2) * math.sqrt(2 / math.pi)
    excess = (1 + t * t) * math.erfc(t / math.sqrt(2)) - t * density
    equations = s * (1 + t * t) + (inputs - s) * excess
    return float(np.clip(equations, s, inputs)) * (2 if relu else 1)
