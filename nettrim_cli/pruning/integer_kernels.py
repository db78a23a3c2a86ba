"""The pruned network with integers in its layers, where this machine runs them faster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from nettrim_cli.data.integer_model import PRODUCTS, Grids, dynamic_integers, static_integers
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import NettrimError
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.graph.compact.grids import weight_grids
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.reading import parse
from nettrim_cli.latency.inputs import file_inputs
from nettrim_cli.latency.measure import latency_ratio
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.target_search import keeps_target
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.settings import KERNEL_BITS

LARGER_BATCH = 64  # besides single samples
WORTH = 0.95  # of the time with floats: less gained is not worth the rounding
DOUBTED = 1.5  # times the error with floats
OPTION = "--runtime-int8"


Maker = Callable[[Model, SampleSet], bytes]

FORMS: tuple[Maker, ...] = (
    lambda model, samples: static_integers(model.runnable(), samples.fit_batches(), _grids(model)),
    lambda model, samples: static_integers(
        model.runnable(), samples.fit_batches(), _grids(model), PRODUCTS
    ),
    lambda model, samples: dynamic_integers(model.runnable(), _grids(model)),
)


def _grids(model: Model) -> Grids:
    return weight_grids(model.proto, PRODUCTS)


@dataclass(frozen=True)
class IntegerModel:
    """A network with integers.

    Attributes
    ----------
    model
        The network.
    make
        What makes it of one in floating point.
    ratio
        Its time to that with floats: the geometric mean over the batches.
    """

    model: Model
    make: Maker
    ratio: float = math.nan

    @classmethod
    def of(cls, pruned: Model, samples: SampleSet, make: Maker) -> IntegerModel:
        """The form of a network in floating point, to be written as that would be.

        Raises
        ------
        EngineFailed
            The quantiser does not take the network.
        """
        model = Model(parse(make(pruned, samples), pruned.path), pruned.path)
        model.compact = pruned.compact
        return cls(model, make)


def integer_context(context: Context, samples: SampleSet) -> tuple[Context, list[Diagnostic]]:
    """The context of a run that rounds weights for integer kernels, if these are faster here.

    The dense network is timed: zeros change no time, and smaller layers gain less.

    Returns
    -------
    context
        With so many bits as the kernels need, or without the wish.
    warnings
        Why layers stay in floating point, if that is not what was wanted.
    """
    if not context.settings.runtime_int8:
        return context, []
    forms, warning = _fastest_first(context, context.dense, samples)
    if not forms:
        return context.with_settings(runtime_int8=False), [warning] if warning else []
    return context.with_settings(bits=context.settings.bits or KERNEL_BITS), []


def with_integers(
    context: Context, pruned: Model, samples: SampleSet, reference: ReferenceOutputs
) -> tuple[IntegerModel | None, Diagnostic]:
    """The form with integers that is fastest here, if any is worth it; and what to tell of it.

    Parameters
    ----------
    pruned
        The pruned network, with weights of few bits.
    samples
        Those fitted tell ranges; those held out are timed.
    reference
        The dense network on the held-out samples.
    """
    forms, warning = _fastest_first(context, pruned, samples)
    if not forms:
        return None, warning
    for form in forms:
        if keeps_target(context, form.model, samples, reference):
            return form, _told(form, pruned, reference)
    option = context.settings.target[0].replace("_", "-")
    return None, _floats_stay(f"integers would not keep --{option}")


def _fastest_first(
    context: Context, model: Model, samples: SampleSet
) -> tuple[list[IntegerModel], Diagnostic]:
    """The forms that are worth it, the fastest first; and what to tell where none is."""
    context.listener.stage("timing integer kernels")
    forms, refusals = [], []
    for make in FORMS:
        try:
            forms.append(IntegerModel.of(model, samples, make))
        except NettrimError as error:
            refusals.append(str(error))
    if not forms:
        return [], _floats_stay(f"onnxruntime's quantiser does not take the model: {refusals[0]}")
    timed = sorted(_timed(model, forms, samples), key=lambda form: form.ratio)
    context.listener.message(f"integers: {', '.join(f'{form.ratio:.3g}' for form in timed)}")
    share = f"{timed[0].ratio:.2g} of the time"
    slow = _floats_stay(f"integers would take {share} on this machine")
    return [form for form in timed if form.ratio <= WORTH], slow


def _timed(
    pruned: Model, forms: Sequence[IntegerModel], samples: SampleSet
) -> Iterator[IntegerModel]:
    """The forms with their times, on one thread and in turns with the pruned network."""
    sizes = (1, LARGER_BATCH) if samples.calibration.fixed_batch is None else ()
    batches = file_inputs(samples.calibration, sizes, samples.holdout).batches
    timings = latency_ratio([pruned, *(form.model for form in forms)], batches, 1)
    for position, form in enumerate(forms):
        ratios = [timing.ratios[position].median for timing in timings]
        yield replace(form, ratio=math.prod(ratios) ** (1 / len(ratios)))


def _told(form: IntegerModel, pruned: Model, reference: ReferenceOutputs) -> Diagnostic:
    """What the integers gain and cost."""
    before, after = reference.compare(pruned).error, reference.compare(form.model).error
    text = (
        f"Layers compute with integers of 8 bits: {form.ratio:.2g} of the time with floats on this "
        f"machine. The output error on held-out samples goes from {before:.3g} to {after:.3g} by "
        "that."
    )
    if after > DOUBTED * before:
        return Diagnostic("rounded-outputs", f"{text} Leave {OPTION} out if that is too much.")
    return Diagnostic("integers", text)


def _floats_stay(why: str) -> Diagnostic:
    return Diagnostic("floats-stay", f"{OPTION}: the layers stay in floating point, as {why}.")
