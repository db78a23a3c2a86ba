"""Models as a user gives them: read, and judged by the engine where onnx's checker refuses them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nettrim_cli.data.dataset import Calibration
from nettrim_cli.data.engine import Engine
from nettrim_cli.errors import BadInput, EngineFailed
from nettrim_cli.files.formats import swapped
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.graph.model import Model

PathLike = str | os.PathLike[str]


def load_models(paths: Sequence[PathLike], data: PathLike | None = None) -> list[Model]:
    """Read models that are to run on the samples of a file.

    Raises
    ------
    BadInput
        A model and the samples have changed places; or as ``Model.load``, which see for the
        other errors.
    """
    if data is not None and (text := swapped([Path(path) for path in paths], Path(data))):
        raise BadInput(text)
    return [Model.load(path, _runs) for path in paths]


@contextmanager
def opened(data: PathLike, model: Model, *, ignored: int | None = None) -> Iterator[Calibration]:
    """The samples of a file for a model.

    Parameters
    ----------
    ignored
        The label that marks samples without a class.

    Raises
    ------
    BadInput
        As ``Calibration.open``; or the engine fails in the with-block, and the samples are to
        blame.
    EngineFailed
        It fails for any other reason.
    """
    with Calibration.open(data, model.inputs, ignored=ignored) as samples:
        try:
            yield samples
        except EngineFailed as error:
            if text := samples.blamed(str(error)):
                raise BadInput(text) from error
            raise


def _runs(model: Runnable) -> None:
    Engine(model, threads=1)
