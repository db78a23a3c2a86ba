"""What zeros in single layers would cost at the network's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nettrim_cli.graph.model import Model
from nettrim_cli.loading import PathLike
from nettrim_cli.preview.opened_run import for_any_target, opened_run
from nettrim_cli.pruning.measurement import measure
from nettrim_cli.report.model_summary import SHARES
from nettrim_cli.settings import Settings

if TYPE_CHECKING:
    from nettrim_cli.report.progress import Listener


@dataclass(frozen=True)
class LayerPrices:
    """Predicted relative errors of the outputs at SHARES, by layer; and doubts of the samples."""

    costs: Mapping[str, Sequence[float]]
    notes: tuple[str, ...]


def layer_costs(
    dense: Model, data: PathLike, settings: Settings, listener: Listener
) -> LayerPrices:
    """Measure what zeros cost in each layer, without pruning any.

    Parameters
    ----------
    dense, data
        The model; HDF5, .npz or .npy file.
    settings
        Of the measurement; it needs no target.
    listener
        Hears of the progress.

    Raises
    ------
    NettrimError
        One of its kinds: a file is bad, or no layer can be pruned.
    """
    with opened_run(dense, data, for_any_target(settings), listener) as run:
        error_model = measure(run.context, run.samples).error_model
        return LayerPrices(
            {
                curve.layer.name: [error_model.layer_error(curve, share) for share in SHARES]
                for curve in error_model.curves
            },
            tuple(doubt.text for doubt in run.doubts),
        )
