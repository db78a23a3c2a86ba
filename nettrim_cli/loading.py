"""Models and samples of a user, read and checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nettrim_cli.data.dataset import Calibration
from nettrim_cli.data.engine import Engine
from nettrim_cli.errors import BadInput, EngineFailed
from nettrim_cli.files.formats import swap_message
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.graph.model import Model

PathLike = str | os.PathLike[str]


def load_models(paths: Sequence[PathLike], data: PathLike | None = None) -> list[Model]:
    """Read models that are to run on the samples of a file.

    Raises
    ------
    BadInput
        A model and the samples are swapped, or as ``Model.load``; see there for other errors.
    """
    if data is not None and (text := swap_message([Path(path) for path in paths], Path(data))):
        raise BadInput(text)
    return [Model.load(path, _runs) for path in paths]


@contextmanager
def open_samples(
    data: PathLike, model: Model, *, ignore_label: int | None = None
) -> Iterator[Calibration]:
    """Open the samples of a file for a model; for a with-block.

    Parameters
    ----------
    ignore_label
        The label that marks samples without a class.

    Raises
    ------
    BadInput
        As ``Calibration.open``; or the engine fails in the with-block because of the samples.
    EngineFailed
        The engine fails for another reason.
    """
    with Calibration.open(data, model.inputs, ignored=ignore_label) as samples:
        try:
            yield samples
        except EngineFailed as error:
            if text := samples.blamed(str(error)):
                raise BadInput(text) from error
            raise


def _runs(model: Runnable) -> None:
    Engine(model, threads=1)
