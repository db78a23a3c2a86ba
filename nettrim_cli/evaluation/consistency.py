"""The consistency theorems of the Net-Trim paper (arXiv 1611.05162) for a whole network.

Theorem 1, parallel: if each layer alone is within epsilon_l of its dense response Y_l, then
``||Y^_L - Y_L||_F <= sum of epsilon_l``.  Theorem 2, cascade: if the first layer is, and each later
one solves the program with gamma_l, then ``||Y^_L - Y_L||_F <= epsilon_1 gamma_2 ... gamma_L``.
(The paper's gamma is the square of the one here.)  Both are about networks of ReLU layers, the last
one may be linear (Proposition S.1), with ``||W_l||_1 = 1``.  Any other network has that after a
division of its layers, which divides Y_L by the product of all ``||W_l||_1``; so without the
division an error is multiplied by ``||W_l||_1`` wherever it passes layer l.

The conditions are checked with the weights as written, on the samples that layers were fitted to:
the theorems are about these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import Engine
from nettrim_cli.errors import EngineFailed
from nettrim_cli.graph import ops
from nettrim_cli.graph.analysis.relu_chain import relu_chain, with_outputs
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.report.certificate_result import Consistency
from nettrim_cli.settings import Settings
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.norms import operator_norm
from nettrim_cli.solve.problem import TOLERANCE

SIZE, ALONE, NETWORK, ARRIVED = "size", "alone", "network", "arrived"
OWN, ACTIVE, ABOVE = "own", "active", "above"


@dataclass(frozen=True)
class Link:
    """A layer of the chain, its weights before and after, and what was measured of it.

    Attributes
    ----------
    W, U
        (N+1, M) float64, the bias in the last row.
    response
        Tensor with its response.
    squares
        Sums of squares over the samples.  With X and X^ the inputs in both networks and Y the dense
        response: SIZE of Y, ALONE ``relu(U'X) - Y``, NETWORK ``relu(U'X^) - Y``, ARRIVED
        ``X^ - X``; where Y > 0 OWN ``W'X^ - Y`` and ACTIVE ``U'X^ - Y``; elsewhere ABOVE,
        ``U'X^ - W'X^`` where that is positive.
    """

    layer: Layer
    response: str
    W: Matrix
    U: Matrix
    squares: dict[str, float] = field(default_factory=dict)

    def norm(self, kind: str) -> float:
        """Frobenius norm of what was measured."""
        return math.sqrt(self.squares[kind])

    def add(self, inputs: Matrix, arrived: Matrix) -> None:
        """Measure on some samples: inputs (N, P) in the dense network and in the pruned."""
        inputs, arrived = inputs.astype(np.float64), arrived.astype(np.float64)
        relu = self.layer.response.relu
        dense, alone, own, network = (
            weights[:-1].T @ columns + weights[-1:].T
            for columns in (inputs, arrived)
            for weights in (self.W, self.U)
        )
        active = dense > 0 if relu else np.ones_like(dense, bool)
        response, floor = np.where(active, dense, 0), 0.0 if relu else -math.inf
        measured = {
            SIZE: response,
            ALONE: np.maximum(alone, floor) - response,
            NETWORK: np.maximum(network, floor) - response,
            ARRIVED: arrived - inputs,
            OWN: (own - response)[active],
            ACTIVE: (network - response)[active],
            ABOVE: np.maximum(network - own, 0)[~active],
        }
        for kind, values in measured.items():
            self.squares[kind] = self.squares.get(kind, 0.0) + float(np.square(values).sum())


def consistency(
    dense: Model, written: Model, batches: Iterable[Batch], settings: Settings, *, threads: int
) -> Consistency:
    """What the paper's theorem proves of a pruned network on the samples that it was fitted to.

    Parameters
    ----------
    dense, written
        The network before, and as written, with the same graph.
    batches
        The samples.
    settings
        Of the run.
    threads
        Threads of the engine.

    Returns
    -------
    Consistency
        A bound, or why there is none; empty for l0, which the theorems are not about.
    """
    if settings.method == "l0":
        return Consistency()
    theorem = 1 if settings.scheme == "parallel" else 2
    if settings.target_epsilon is None:
        why = "it needs an epsilon, and the target was another one"
        return Consistency(theorem, why_unproved=why)
    try:
        links = _measured(dense, written, batches, threads)
        factors, errors = _steps(links, settings)
    except (Unsupported, EngineFailed) as error:
        return Consistency(theorem, why_unproved=str(error))
    size = links[-1].norm(SIZE)
    if not 0 < size < math.inf:
        return Consistency(theorem, why_unproved=f"'{links[-1].response}' is zero or not finite")
    return Consistency(
        theorem,
        links[-1].response,
        bound=_grown(errors, [norm * factor for (norm, _), factor in factors]) / size,
        sharper=_grown(errors, [norm * factor for (_, norm), factor in factors]) / size,
        error=links[-1].norm(NETWORK) / size,
    )


def _grown(errors: Sequence[float], factors: Sequence[float]) -> float:
    """The error behind the last layer: each layer multiplies what arrives, and adds its own."""
    total = 0.0
    for error, factor in zip(errors, factors, strict=True):
        total = total * factor + error
    return total


def _measured(dense: Model, written: Model, batches: Iterable[Batch], threads: int) -> list[Link]:
    """The layers with what they do on the samples."""
    links = []
    for layer, response in relu_chain(dense):
        matrices = []
        for model in (dense, written):
            ((weight,), bias) = model.weight(layer)
            row = np.zeros((1, weight.shape[1])) if bias is None else np.asarray(bias)
            matrices.append(np.vstack([weight, row]).astype(np.float64))
        links.append(Link(layer, response, matrices[0], matrices[1]))
    names = list(dict.fromkeys(link.layer.input for link in links))
    engines = [Engine(with_outputs(model, names), threads=threads) for model in (dense, written)]
    for batch in batches:
        signals = [
            dict(zip(names, engine.run(batch.feeds, names), strict=True)) for engine in engines
        ]
        for link in links:
            layer = link.layer
            columns = (
                ops.columns(
                    dict.fromkeys(layer.sites[0].reads, values[layer.input]), layer.geometry
                )
                for values in signals
            )
            link.add(*columns)
    return links


def _steps(
    links: Sequence[Link], settings: Settings
) -> tuple[list[tuple[tuple[float, float], float]], list[float]]:
    """By layer: two norms of its weights with the factor beside them, and its own error.

    Raises
    ------
    Unsupported
        A condition of the theorem does not hold; says which.
    """
    assert settings.target_epsilon is not None
    factors, errors = [], []
    for link in links:
        own = 0.0 if np.array_equal(link.U, link.W) else settings.target_epsilon * link.norm(SIZE)
        norms = float(np.abs(link.W).sum()), operator_norm(link.U[:-1])
        factor = 1.0
        if settings.scheme == "parallel" or link.squares[ARRIVED] == 0:
            _check_within(link, link.norm(ALONE), own)
        else:
            own, factor = 0.0, settings.gamma
            risked = settings.risk * factor * link.norm(OWN) * (1 + TOLERANCE)
            if link is links[-1] and not link.layer.response.relu and link.norm(ACTIVE) <= risked:
                factor *= settings.risk
            norms = norms[0], operator_norm(link.W[:-1])
            _check_within(link, link.norm(ACTIVE), factor * link.norm(OWN))
            if link.norm(ABOVE) > TOLERANCE * factor * link.norm(OWN):
                raise Unsupported(
                    f"inactive responses of layer '{link.layer.name}' are above those of its dense "
                    "weights, which the program of net-trim forbids"
                )
        if np.linalg.norm(link.U[:-1]) > norms[0]:
            raise Unsupported(f"weights of layer '{link.layer.name}' are larger than before")
        factors.append((norms, factor))
        errors.append(own)
    return factors, errors


def _check_within(link: Link, error: float, epsilon: float) -> None:
    """Refuse a layer outside of its epsilon, but for the solver's tolerance."""
    if error > epsilon * (1 + TOLERANCE) + 1e-6 * link.norm(SIZE):
        share = "no error" if epsilon == 0 else f"an error {error / epsilon:.3g} times of it"
        raise Unsupported(f"layer '{link.layer.name}' is outside of its epsilon: {share}")
