"""Certificate of a pruned network: proved bounds on the errors of its outputs.

The bound of a tensor is a bound on the Frobenius norm of its difference from the dense network's,
over a set of samples.  It starts as 0, grows at a pruned layer by the layer's own error on the
dense signals, ``E <= epsilon + ||U||_2 E_in`` (the consistency theorem of the Net-Trim paper,
arXiv 1806.06457, without its normalisation of the weights), and passes every other node by that
node's rule (``graph.analysis.error_gain``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nettrim_cli.data.batching import side_by_side
from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import Engine
from nettrim_cli.data.sample_set import SampleSet, spaced
from nettrim_cli.errors import BadInput, EngineFailed
from nettrim_cli.evaluation.layer_costs import MOST_PARTS, layer_costs
from nettrim_cli.graph.analysis.difference import (
    ALONE,
    SHAPE,
    SIZE,
    WHOLE,
    Changed,
    Difference,
    difference,
    measuring_model,
)
from nettrim_cli.graph.analysis.error_gain import error_gain
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.ops.context import ErrorContext, Norms, Shapes
from nettrim_cli.report.certificate_result import Certificate, LayerBound, OutputBound
from nettrim_cli.settings import CERTIFICATES
from nettrim_cli.solve.norms import convolution_norm, operator_norm, window_overlap
from nettrim_cli.solve.recovery import samples_needed, theorem_samples

NORMS = Norms(operator_norm, convolution_norm, window_overlap)
Bound = float | str  # a text says where the proof has ended, and why


FEWEST_SAMPLES = 16  # on which a quick certificate tells what layers cost, where there are so many


def certificate_of(
    dense: Model, written: Model, samples: SampleSet, level: str, runs: float, *, threads: int
) -> Certificate:
    """All that is known of a pruned network's errors on some samples.

    Parameters
    ----------
    dense, written
        The network before, and as written.
    samples
        The held-out ones count.
    level
        ``full``; ``quick``: what layers cost is measured on fewer samples, and many layers share
        their costs; or ``none``, which gives an empty one.
    runs
        How often the network may run on as many samples as there are to tell the costs, if quick.
    threads
        Threads of the engine.

    Raises
    ------
    BadInput
        There is no such level.
    """
    if level not in CERTIFICATES:
        raise BadInput(f"certificate is {level!r}; it must be {' or '.join(CERTIFICATES)}.")
    if level == "none":
        return Certificate()
    full, size = level == "full", side_by_side(samples.size)

    def chosen(passes: float) -> Iterable[Batch]:
        """Samples for so many runs of the network on them."""
        count = max(FEWEST_SAMPLES, int(runs * len(samples) / passes))
        batch = samples.calibration.batch_size(1)
        indices = samples.holdout if full else spaced(samples.holdout, count, batch)
        return samples.calibration.batches(indices, size)

    most = len(dense.index.nodes) if full else MOST_PARTS
    costs = layer_costs(dense, written, chosen, threads=threads, most_parts=most)
    chain = certify(dense, written, samples.holdout_batches(size), threads=threads)
    return replace(chain, costs=costs)


@dataclass(frozen=True)
class Measures:
    """Norms and shapes measured on the samples.

    Attributes
    ----------
    norms
        Frobenius norms over all samples, by kind and name of a layer (ALONE, WHOLE) or of a
        tensor (SIZE).
    shapes
        Shapes of tensors, one mapping for each kind of batch.
    """

    norms: Mapping[tuple[str, str], float]
    shapes: Sequence[Shapes]


def certify(dense: Model, written: Model, batches: Iterable[Batch], *, threads: int) -> Certificate:
    """Prove bounds on a pruned network's output errors on some samples.

    Every layer's error is measured on all of them, with the weights as written.  The rounding
    of the engine's arithmetic is not part of the proof.

    Parameters
    ----------
    dense, written
        The network before, and as written.
    batches
        The samples on which the bounds hold.
    threads
        Threads of the engine.

    Returns
    -------
    Certificate
        A bound for each output, relative to the dense output, or the node at which the proof
        ends and why; and what it is made of, layer by layer.
    """
    try:
        changes = difference(dense, written)
        # The engine goes before the norms read the weights: together they hold them twice.
        measures = measure(*_measuring_engine(dense, written, changes, threads), batches)
    except (Unsupported, EngineFailed) as error:
        reason = f"nothing is proved: {error}"
        return Certificate(
            tuple(OutputBound(output.name, reason=reason) for output in dense.outputs)
        )
    index = written.index
    norms = {
        layer.name: _layer_norm(index, layer, measures.shapes) for layer in changes.layers.values()
    }

    def grow(layer: Changed, arriving: Bound) -> Bound:
        """Bound of a layer's response for that of its input."""
        norm = norms[layer.name]
        if isinstance(arriving, str):
            return arriving
        if arriving > 0 and isinstance(norm, str):
            return norm
        own = measures.norms[ALONE, layer.name]
        return own + float(norm) * arriving if arriving > 0 else own

    bounds = propagate(index, changes, measures.shapes, grow)
    measured = propagate(
        index, changes, measures.shapes, lambda layer, _: measures.norms[WHOLE, layer.name]
    )
    return Certificate(
        tuple(_output(output.name, bounds, measured, measures) for output in dense.outputs),
        tuple(
            _layer(written, layer, norms[layer.name], bounds, measures)
            for layer in changes.layers.values()
        ),
    )


def _measuring_engine(
    dense: Model, written: Model, changes: Difference, threads: int
) -> tuple[Engine, Mapping[str, tuple[str, str]]]:
    """The loaded measuring model and the meanings of its outputs; its parts are freed."""
    joint, meanings = measuring_model(dense, written, changes)
    return Engine(joint, threads=threads, arena=False, as_listed=True), meanings


def measure(
    engine: Engine, meanings: Mapping[str, tuple[str, str]], batches: Iterable[Batch]
) -> Measures:
    """Run a measuring model (``graph.analysis.difference``) over samples."""
    totals: dict[tuple[str, str], float] = {}
    shapes: list[Shapes] = []
    for batch in batches:
        batch_shapes: dict[str, tuple[int, ...]] = {}
        for name, value in zip(engine.outputs, engine.run(batch.feeds), strict=True):
            kind, subject = meanings[name]
            if kind == SHAPE:
                batch_shapes[subject] = tuple(int(axis) for axis in value)
            else:
                totals[kind, subject] = totals.get((kind, subject), 0.0) + float(value)
        if batch_shapes not in shapes:
            shapes.append(batch_shapes)
    return Measures({key: math.sqrt(total) for key, total in totals.items()}, shapes)


def propagate(
    index: Index,
    changes: Difference,
    shapes: Sequence[Shapes],
    grow: Callable[[Changed, Bound], Bound],
) -> dict[str, Bound]:
    """Bounds of all tensors that may carry an error, node by node.

    Parameters
    ----------
    index
        The changed graph.
    changes
        Its differences from the dense graph.
    shapes
        Shapes of tensors, as measured.
    grow
        Gives the bound of a layer's response for that of its input.
    """
    bounds: dict[str, Bound] = {}
    inner_nodes = {number for layer in changes.layers.values() for number in layer.path}
    for node in index.flat.main_nodes:
        number = node.number
        if number in changes.layers:
            layer = changes.layers[number]
            bounds[layer.response] = grow(layer, _arriving(index, layer, bounds))
        elif number not in inner_nodes and changes.carriers.intersection(node.output):
            bound = _through(index, number, bounds, shapes, number in changes.strange)
            bounds.update({name: bound for name in node.output if name})
    return bounds


def _arriving(index: Index, layer: Changed, bounds: Mapping[str, Bound]) -> Bound:
    """The bound of a layer's input."""
    incoming = [bounds.get(name, 0.0) for name in index.nodes[layer.path[0]].reads]
    reasons = [bound for bound in incoming if isinstance(bound, str)]
    return reasons[0] if reasons else max(float(bound) for bound in incoming)


def _through(
    index: Index, number: int, bounds: Mapping[str, Bound], shapes: Sequence[Shapes], strange: bool
) -> Bound:
    """The bound behind an unchanged node."""
    node = index.nodes[number]
    arriving = {name: bounds[name] for name in sorted(node.reads) if bounds.get(name, 0.0) != 0.0}
    for bound in arriving.values():
        if isinstance(bound, str):
            return bound
    errors = {k: float(arriving[name]) for k, name in enumerate(node.input) if name in arriving}
    try:
        if strange and node.subgraphs:
            raise Unsupported("its subgraphs read changed weights")
        if strange:
            raise Unsupported("it was changed, and is no layer")
        if arriving.keys() - set(node.input):
            raise Unsupported("its subgraphs read a changed tensor")
        if not errors:
            return 0.0
        context = ErrorContext(index, node, tuple(errors), shapes, NORMS)
        return error_gain(context).error(errors)
    except Unsupported as refusal:
        return f"nothing is proved behind {node.op_type} '{node.title}': {refusal}"


def _layer_norm(index: Index, layer: Changed, shapes: Sequence[Shapes]) -> Bound:
    """Largest factor by which an error of the layer's input grows in its response, or a reason."""
    scale = layer.layer.response.scale
    node = index.nodes[layer.path[0]]
    tensors = [(slot, name) for slot, name in enumerate(node.input) if name]
    signals = [slot for slot, name in tensors if name not in index.constants]
    try:
        if len(signals) != 1 or (scale is not None and signals != [0]):
            raise Unsupported("it reads several signals")
        context = ErrorContext(index, node, tuple(signals), shapes, NORMS, scale)
        return error_gain(context).factors[signals[0]]
    except Unsupported as refusal:
        return f"nothing is proved behind layer '{layer.name}': {refusal}"


def _output(
    name: str, bounds: Mapping[str, Bound], measured: Mapping[str, Bound], measures: Measures
) -> OutputBound:
    bound, size = bounds.get(name, 0.0), measures.norms.get((SIZE, name), math.nan)
    proved = _share(bound, size)
    reason = "" if proved is not None else f"nothing is proved: '{name}' is zero or not finite"
    if isinstance(bound, str):
        reason = bound
    return OutputBound(name, proved, _share(measured.get(name, 0.0), size), reason)


def _layer(
    written: Model, layer: Changed, norm: Bound, bounds: Mapping[str, Bound], measures: Measures
) -> LayerBound:
    name = layer.name
    size = measures.norms[SIZE, layer.response]
    weights, _ = written.weight(layer.layer)
    inputs = len(weights[0])
    counts = np.sort(np.concatenate([np.count_nonzero(block, axis=0) for block in weights]))
    samples = [
        samples_needed(int(count), inputs, relu=layer.layer.response.relu)
        for count in (counts[len(counts) // 2], counts[-1])
    ]
    return LayerBound(
        name=name,
        error_alone=_share(measures.norms[ALONE, name], size),
        error_network=_share(measures.norms[WHOLE, name], size),
        norm=None if isinstance(norm, str) else norm,
        bound=_share(bounds[layer.response], size),
        samples_median=samples[0],
        samples_densest=samples[1],
        samples_theorem=theorem_samples(int(counts[-1]), inputs),
    )


def _share(bound: Bound, size: float) -> float | None:
    """A bound relative to a norm; None where that is no number."""
    if isinstance(bound, str) or bound == 0:
        return None if isinstance(bound, str) else 0.0
    return bound / size if math.isfinite(bound) and math.isfinite(size) and size > 0 else None
