"""What is told of a whole run, from what came out of it."""

from __future__ import annotations

from collections.abc import Sequence

from nettrim_cli import __version__
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.layer_reports import histograms, in_order
from nettrim_cli.pruning.layerwise import PassResult
from nettrim_cli.pruning.passes import Outcome
from nettrim_cli.pruning.writing import Written
from nettrim_cli.report.result import LayerReport, Report


def run_report(
    context: Context, outcome: Outcome, written: Written, unpruned: Sequence[LayerReport]
) -> Report:
    """The report of a network and its file.

    Parameters
    ----------
    context
        Of the run.
    outcome, written
        The network, and what is known of its file.
    unpruned
        Reports of the layers that were left alone.
    """
    dense, settings, result = context.dense, context.settings, outcome.result
    return Report(
        layers=in_order(dense, [*written.layers, *unpruned]),
        comparison=written.comparison,
        settings=settings.as_dict(),
        version=__version__,
        seconds=0.0,
        target=result.target,
        target_option=settings.target,
        bound=written.bound,
        final_samples=outcome.final_samples,
        forms=written.forms,
        deleted_units=written.deleted_units,
        joint_fit=result.joint_fit,
        mix=outcome.mix,
        curves=outcome.curves,
        histograms=histograms(dense, result.masked or result.model, written.layers),
    )


def missed_report(
    context: Context,
    nearest: PassResult,
    reference: ReferenceOutputs,
    unpruned: Sequence[LayerReport],
) -> Report:
    """The report of the network that came nearest to a target that none meets.

    Parameters
    ----------
    context
        Of the run.
    nearest
        The network.
    reference
        The dense network on the held-out samples.
    unpruned
        Reports of the layers that were left alone.
    """
    answers = reference.compare(nearest.model)
    return Report(
        layers=in_order(context.dense, [*nearest.layers, *unpruned]),
        comparison=answers.compared(context.dense, nearest.model, written=False),
        settings=context.settings.as_dict(),
        version=__version__,
        seconds=0.0,
        target=nearest.target,
        target_option=context.settings.target,
        bound=None if nearest.target is None else nearest.target.bound,
        histograms=histograms(context.dense, nearest.masked or nearest.model, nearest.layers),
    )
