"""Calibration files made: samples are drawn, tried on the model, written, and read again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nettrim_cli import __version__
from nettrim_cli.data.dataset import Calibration
from nettrim_cli.data.formats.base import Array, Indices
from nettrim_cli.data.formats.hdf5_writer import hdf5_file
from nettrim_cli.data.formats.memory import MemoryContainer
from nettrim_cli.data.input_shapes import fixed, spell_input
from nettrim_cli.errors import BadInput, EngineFailed, NettrimError, WrongUsage
from nettrim_cli.evaluation.plausibility import check_runs
from nettrim_cli.files.atomic import check_output, replacing, reserved
from nettrim_cli.files.temporary import share
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.graph.model import Model
from nettrim_cli.loading import load_models
from nettrim_cli.preparation.opening import open_source
from nettrim_cli.preparation.random_numbers import RandomSource
from nettrim_cli.preparation.source import Item, SampleSource
from nettrim_cli.preparation.summary import summarise
from nettrim_cli.process.channel import tell
from nettrim_cli.settings import DataSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nettrim_cli.report.data_result import DataSummary

SUFFIXES = (".h5", ".hdf5")
MOST_SAMPLES, MOST_BYTES = 5000, 1 << 30  # unless --samples says otherwise
LABELS = "labels"
PIXELS = ("preset", "size", "resize", "layout", "channels", "scale", "mean", "std")
EVERYWHERE = ("samples", "seed", "input", "set", "skip_damaged")
USED = {  # options beside these, by the kind of samples
    "images": (*PIXELS, "labels"),
    "arrays of pixels": (*PIXELS, "labels"),
    "arrays": ("labels",),
    "a table": ("labels",),
    "text": ("tokenizer", "length"),
    "sound": ("sample_rate", "window"),
    "random numbers": ("random", "shape"),
}
NAMED = 3  # damaged files in a note


def make(
    source: Path | None,
    model: Path,
    output: Path,
    settings: DataSettings,
    *,
    force: bool = False,
    stage: Callable[[str], None] = lambda text: None,
) -> DataSummary:
    """Make a calibration file for a model.

    Parameters
    ----------
    source
        Files or a folder of which samples are made; None for random numbers.
    model
        The model that the samples are to fit.
    output
        HDF5 file to write.
    settings
        How samples are made.
    force
        Whether an existing output may be replaced (never an input).
    stage
        Is told what is being done.

    Returns
    -------
    DataSummary
        Of the file as written.

    Raises
    ------
    NettrimError
        One of its kinds, with nothing written: the source is missing, damaged, or does not fit
        the model, or the output cannot be written.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise WrongUsage(f"{output}: samples are written as HDF5: name a file such as calib.h5.")
    tell("about", str(source or model))
    (loaded,) = load_models([model])
    inputs = [model] if source is None or source.is_dir() else [model, source]
    check_output(output, inputs, force)
    with reserved(output), closing(opened(source, loaded, settings)) as samples:
        shared = _shared(loaded, settings)
        indices = _drawn(samples, settings, stage)
        items = samples.items(indices)
        head = _first_batch(items, loaded, settings)
        _try(loaded, head, shared, output)
        with replacing(output) as (temporary, file), naming(temporary, output):
            skipped = _write(temporary, samples, (head, items), shared, settings, stage)
            share(file)  # HDF5 wants a lock of its own to read it
            notes = [*samples.notes, *_about_skipped(skipped)]
            summary = summarise(temporary, loaded, notes=notes)
    texts = (text.replace(str(temporary), str(output)) for text in summary.notes)
    return replace(summary, path=str(output), notes=tuple(texts))


def opened(source: Path | None, model: Model, settings: DataSettings) -> SampleSource:
    """The samples of a source; without one, random numbers.

    Raises
    ------
    WrongUsage
        Neither a source nor `--random` is given, or both are.
    """
    if (source is None) is (settings.random is None):
        raise WrongUsage("give either a SOURCE of samples, or --random N.")
    if source is None:
        check_used(settings, "random numbers")
        return RandomSource(model, settings)
    samples = open_source(source, model, settings)
    check_used(settings, samples.origin["kind"])
    return samples


def check_used(settings: DataSettings, kind: str) -> None:
    """Check that no option is given that says nothing of samples of a kind.

    Raises
    ------
    WrongUsage
        There is one.
    """
    used = USED.get(kind, ()) + EVERYWHERE
    for option in fields(settings):
        is_set = getattr(settings, option.name) not in (option.default, ())
        if is_set and option.name not in used:
            flag = option.name.replace("_", "-")
            raise WrongUsage(f"--{flag} has no meaning for samples of {kind}: leave it out.")


def _drawn(samples: SampleSource, settings: DataSettings, stage: Callable[[str], None]) -> Indices:
    """Indices of the samples that are made, ascending."""
    count = len(samples)
    if not count:
        raise BadInput("there are no samples in the source.")
    order = np.random.default_rng(settings.seed).permutation(count)
    most = settings.samples
    if most is None:
        stage("looking at the samples")
        size = next((_bytes(batch) for _, batch in _made(samples.items(order[:8]), settings)), 1)
        most = max(1, min(MOST_SAMPLES, MOST_BYTES // max(size, 1)))
    return np.sort(order[:most]).astype(np.int64)


def _bytes(rows: Mapping[str, Array]) -> int:
    return sum(row.nbytes for row in rows.values())


def _made(
    items: Iterator[Item], settings: DataSettings, skipped: list[str] | None = None
) -> Iterator[tuple[Item, Mapping[str, Array]]]:
    """Samples with their rows; names of damaged ones that are left out go into a list."""
    for item in items:
        try:
            rows = item.make()
        except BadInput:
            if not settings.skip_damaged:
                raise
            if skipped is not None:
                skipped.append(item.name)
            continue
        yield item, rows


Made = tuple[Item, Mapping[str, Array]]
Head = tuple[list[Made], list[str]]


def _first_batch(items: Iterator[Item], model: Model, settings: DataSettings) -> Head:
    """As many samples as one call of the model takes, and names of damaged ones among them."""
    firsts = [fixed(tensor.shape[0]) for tensor in model.inputs if tensor.shape]
    size = max((first for first in firsts if first), default=1)
    skipped: list[str] = []
    batch = []
    for pair in _made(items, settings, skipped):
        batch.append(pair)
        if len(batch) >= size:
            break
    if not batch:
        raise BadInput(f"all {len(skipped):,} files that were tried are damaged.")
    return batch, skipped


def _shared(model: Model, settings: DataSettings) -> dict[str, Array]:
    """Inputs that have one number everywhere, as `--set` says."""
    inputs = {tensor.name: tensor for tensor in model.inputs}
    shared = {}
    for name, number in settings.values.items():
        if name not in inputs:
            raise WrongUsage(
                f"--set {name}: the model has no such input; its inputs are {', '.join(inputs)}."
            )
        tensor = inputs[name]
        shape = tuple(fixed(axis) or 1 for axis in tensor.shape or ())
        try:
            shared[name] = np.full(shape, number).astype(tensor.dtype)
        except (TypeError, ValueError) as error:
            raise BadInput(f"--set {name}: the input takes {spell_input(tensor)}.") from error
    return shared


def _try(model: Model, head: Head, shared: Mapping[str, Array], output: Path) -> None:
    """Run the model on the first samples, before many are made."""
    batch, _ = head
    arrays = {name: np.stack([rows[name] for _, rows in batch]) for name in batch[0][1]}
    missing = [tensor for tensor in model.inputs if tensor.name not in {*arrays, *shared}]
    if missing:
        raise BadInput(f"{model.path}: {_absent(missing)}")
    calibration = Calibration(MemoryContainer(output, {**arrays, **shared}), model.inputs)
    try:
        check_runs(model, calibration, np.arange(calibration.samples), 1)
    except EngineFailed as error:
        raise BadInput(
            f"{model.path}: the model does not run on the samples: "
            f"{calibration.blamed(str(error)) or error}"
        ) from error


def _absent(missing: Sequence[Tensor]) -> str:
    described = ", ".join(f"'{tensor.name}' {spell_input(tensor)}" for tensor in missing)
    return (
        f"the model also takes {described}, of which the source has nothing: give each a number "
        "that is the same in all samples (--set NAME=NUMBER)."
    )


def _write(
    path: Path,
    samples: SampleSource,
    parts: tuple[Head, Iterator[Item]],
    shared: Mapping[str, Array],
    settings: DataSettings,
    stage: Callable[[str], None],
) -> list[str]:
    """Write all samples; names of damaged ones that were left out."""
    (head, skipped), items = parts
    last_shown = time.monotonic()
    count = 0
    with hdf5_file(path) as writer:
        for item, rows in (*head,):
            writer.add(_with_label(item, rows), item.name)
            count += 1
        for item, rows in _made(items, settings, skipped):
            writer.add(_with_label(item, rows), item.name)
            count += 1
            if time.monotonic() - last_shown > 0.2:
                last_shown = time.monotonic()
                stage(f"made {count:,} samples")
        for name, value in shared.items():
            writer.share(name, value)
        facts: dict[str, Any] = {"version": __version__, **samples.origin}
        facts |= {"samples": count, "seed": settings.seed, "skipped": len(skipped)}
        writer.finish(facts)
    return skipped


def _with_label(item: Item, rows: Mapping[str, Array]) -> Mapping[str, Array]:
    return (
        rows
        if item.label is None or LABELS in rows
        else {**rows, LABELS: np.array(item.label, np.int64)}
    )


def _about_skipped(skipped: Sequence[str]) -> list[str]:
    if not skipped:
        return []
    more = f" and {len(skipped) - NAMED:,} more" if len(skipped) > NAMED else ""
    return [f"{len(skipped):,} damaged left out: {', '.join(skipped[:NAMED])}{more}"]


@contextmanager
def naming(temporary: Path, output: Path) -> Iterator[None]:
    """Name the output in messages on the file that is to become it.

    Raises
    ------
    NettrimError
        What was raised inside.
    """
    try:
        yield
    except NettrimError as error:
        raise type(error)(str(error).replace(str(temporary), str(output))) from error
