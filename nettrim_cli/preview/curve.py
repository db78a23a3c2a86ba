"""How much a model can be pruned: what it costs and weighs at some sparsities.

One pass over the dense network measures what zeros cost in each layer.  At a sparsity that matters
most the network is pruned as ``nettrim prune`` does it, and measured; everything else follows from
both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from nettrim_cli import __version__
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.loading import PathLike
from nettrim_cli.preview.opened_run import dense_model, for_any_target, opened_run
from nettrim_cli.preview.prunable_network import PrunableNetwork
from nettrim_cli.report.curve.result import Curve
from nettrim_cli.report.formatting import percent
from nettrim_cli.report.progress.listener import Silent
from nettrim_cli.settings import Settings
from nettrim_cli.settings.curve import RUN_OPTIONS, SPARSITIES

if TYPE_CHECKING:
    from nettrim_cli.report.progress.listener import Listener


def curve(
    model: PathLike,
    data: PathLike,
    settings: Settings | None = None,
    *,
    sparsities: Sequence[float] = SPARSITIES,
    measured: int = 1,
    listener: Listener | None = None,
) -> Curve:
    """Tell what a model costs and weighs at some sparsities; nothing is written.

    Parameters
    ----------
    model, data
        ONNX file; HDF5, .npz or .npy file.
    settings
        Of the runs that are predicted; their target is not asked for.
    sparsities
        Where points are wanted; those that the layers cannot have are left out.
    measured
        At so many of them the network is pruned and measured.
    listener
        Hears of the progress.

    Raises
    ------
    NettrimError
        One of its kinds: a file is missing or bad, or no layer can be pruned.
    """
    start, listener = time.monotonic(), listener or Silent()
    settings = for_any_target(settings or Settings())
    with opened_run(dense_model(model, data, settings), data, settings, listener) as run:
        _check_measurable(model, run.reference)
        network = PrunableNetwork(run)
        shares = network.possible(sparsities)
        if not shares:
            raise BadInput(f"{model}: {_possible(network)}; --at names no sparsity among them.")
        while len(network.pruned) < min(measured, len(shares)):
            network.prune(network.next_share(shares))
        listener.stage("predicting the others")
        answers = run.reference.compare(run.context.dense)
        hits = answers.label_margins.arrays[0] > 0
        notes = [doubt.text for doubt in run.doubts]
        if len(shares) < len(set(sparsities)):
            notes.append(f"{_possible(network)}: others are left out.")
        return Curve(
            model=str(model),
            data=str(data),
            points=(network.dense_point(), *map(network.point, shares)),
            trend=network.trend(shares),
            labels=bool(len(hits)),
            accuracy=float(hits.mean()) if len(hits) else None,
            samples=answers.samples,
            weights=sum(layer.parameters for layer in run.context.layers),
            parameters=run.context.dense.count_parameters()[0],
            structure=settings.structure,
            seconds=time.monotonic() - start,
            version=__version__,
            notes=tuple(notes),
            options=tuple(_words(settings)),
        )


def _words(settings: Settings) -> Iterator[str]:
    """Options of the run that are not the defaults, as the command line takes them."""
    for field in fields(Settings):
        value = getattr(settings, field.name)
        if field.name in RUN_OPTIONS and value != field.default:
            for item in value if isinstance(value, tuple) else (value,):
                yield from (f"--{field.name.replace('_', '-')}", str(item))


def _check_measurable(model: PathLike, reference: ReferenceOutputs) -> None:
    """Make sure that there is an output whose error can be measured.

    Raises
    ------
    BadInput
        There is none.
    """
    unmeasured = reference.unmeasured
    if len(unmeasured) < len(reference.outputs[0]):
        return
    name, why = next(iter(unmeasured.items()))
    raise BadInput(
        f"{model}: no curve can be told, as the error of output '{name}' cannot be measured: {why}."
    )


def _possible(network: PrunableNetwork) -> str:
    """Which sparsities there may be, in a sentence."""
    low, high = percent(network.low), percent(network.high)
    return f"layers can have between {low} % and {high} % {network.compression.noun}"
