"""Models and samples of a user, read and checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nettrim_cli.data.batching import batch_size
from nettrim_cli.data.dataset import Calibration, split
from nettrim_cli.data.engine import Engine
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import BadInput, EngineFailed, MissingInput, OutOfMemory
from nettrim_cli.evaluation.plausibility import check_runs
from nettrim_cli.files.formats import swap_message
from nettrim_cli.graph.layer import Runnable, Tensor
from nettrim_cli.graph.model import Model
from nettrim_cli.settings import Settings

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


def check_same_inputs(reference: Model, candidate: Model) -> None:
    """Make sure that the same samples can feed two models.

    Raises
    ------
    BadInput
        Their inputs have other names or types.
    """
    first, second = (
        {tensor.name: (tensor.dtype, _axes(tensor)) for tensor in model.inputs}
        for model in (reference, candidate)
    )
    if first.keys() != second.keys():
        raise BadInput(
            f"{candidate.path}: its inputs are {_listed(second)}, those of {reference.path} are "
            f"{_listed(first)}: the same data cannot feed both."
        )
    for name, (dtype, axes) in first.items():
        other_dtype, other_axes = second[name]
        if dtype != other_dtype or len(set(filter(None, (axes, other_axes)))) > 1:
            raise BadInput(
                f"{candidate.path}: its input '{name}' is {other_dtype}{_in_words(other_axes)}, "
                f"that of {reference.path} is {dtype}{_in_words(axes)}: the same data cannot feed "
                "both."
            )


def _axes(tensor: Tensor) -> int | None:
    """Number of axes of an input; None where the model does not tell."""
    return None if tensor.shape is None else len(tensor.shape)


def _in_words(axes: int | None) -> str:
    return "" if axes is None else f" with {axes} axes"


def check_loads(model: Model) -> None:
    """Make sure that the engine loads a model with all of its optimisations.

    Raises
    ------
    EngineFailed
        It does not.
    """
    Engine(model.runnable(), threads=1, optimise=True)


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
    with Calibration.open(data, model.inputs, ignored=ignore_label, model=model.path) as samples:
        try:
            yield samples
        except EngineFailed as error:
            if text := samples.blamed(str(error)):
                raise BadInput(text) from error
            raise


def default_output(model: PathLike, word: str = "pruned") -> Path:
    """``model.pruned.onnx``, or with another word, beside ``model.onnx``.

    Raises
    ------
    MissingInput
        The path names a folder.
    """
    path = Path(model)
    if not path.name:
        raise MissingInput(f"{str(model) or '.'} is a folder; an ONNX file is wanted.")
    return path.with_name(f"{path.stem}.{word}{path.suffix or '.onnx'}")


@contextmanager
def naming(model: object) -> Iterator[None]:
    """Say which model it was that the engine failed on.

    Raises
    ------
    EngineFailed, OutOfMemory
        What was raised inside, with the model's name.
    """
    try:
        yield
    except (EngineFailed, OutOfMemory) as error:
        raise type(error)(f"{model}: {error}") from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def split_samples(
    dense: Model, calibration: Calibration, settings: Settings, threads: int
) -> SampleSet:
    """The samples to fit and those held out, after the model has run on one of them.

    Parameters
    ----------
    dense
        The model.
    calibration
        The open file.
    settings
        How many samples to use, and which share to hold out.
    threads
        Threads of the engine.

    Raises
    ------
    BadInput
        There are too few samples, or the model does not run on them.
    """
    fitted, holdout = split(
        calibration.samples,
        settings.samples,
        settings.holdout,
        settings.seed,
        batch=calibration.batch_size(1),
        path=calibration.path,
    )
    check_runs(dense, calibration, fitted, threads)
    size = batch_size(calibration, dense, threads)
    return SampleSet(calibration, fitted, holdout, size, seed=settings.seed)


def _runs(model: Runnable) -> None:
    Engine(model, threads=1)
