"""Checks before anything is solved: whether samples, labels and model belong together.

The run ends (exit code 65) where its result would mean nothing; what is suspicious is a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Calibration
from nettrim_cli.data.engine import Engine
from nettrim_cli.data.formats.base import Indices
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.label_checks import (
    labels_fit,
    one_answer,
    scaled_answers,
    scaled_is_better,
    unused_labels,
)
from nettrim_cli.evaluation.sample_statistics import (
    FEWEST,
    Case,
    is_bytes,
    rows_of,
    sample_statistics,
)
from nettrim_cli.graph.analysis.input_scaling import (
    first_factor,
    first_normalization,
    squashed,
    trains,
)
from nettrim_cli.graph.ir.flat_graph import STANDARD
from nettrim_cli.graph.model import Model
from nettrim_cli.report.diagnostic import Diagnostic

Array = NDArray[Any]
Check = Callable[[Case], Iterator[Diagnostic]]
RANDOM = "random-samples"  # code of the warning
COPIES = 0.1  # share of copies from which on there is a warning
FEW = 0.25  # share of the samples that may be outliers
MOST = 1e-3  # share of the energy below which the other samples are outweighed
LOST = 2.0**-24  # share of the energy below which float32 does not see the other samples
FAR = 3.0  # times the spread in training, or its inverse: other data than in training
FLAT, SURE = 1e-6, 1e-6  # relative spread of outputs, and distance from 0 or 1
SATURATED = 0.95  # share of saturated samples from which on there is a warning
LISTED = 4  # samples named in a sentence


def examine(
    model: Model,
    samples: Calibration,
    parts: tuple[Indices, Indices],
    size: int,
    *,
    threads: int,
    strict: bool,
    checks: Sequence[Check] | None = None,
) -> list[Diagnostic]:
    """Judge samples and labels before they are used.

    Parameters
    ----------
    parts
        Numbers of the samples that are fitted to, and of those held out.
    size
        Samples to a batch.
    strict
        Whether accuracy decides, so that labels at chance are an error.
    checks
        What is looked at; all of ``CHECKS`` by default.

    Raises
    ------
    BadInput
        A result would mean nothing: labels that are no classes of the model, equal samples, a few
        samples beside which the others vanish, outputs that are no numbers.
    """
    case = case_of(model, samples, parts, size, threads=threads, strict=strict)
    return doubts_of(case, checks)


def case_of(
    model: Model,
    samples: Calibration,
    parts: tuple[Indices, Indices],
    size: int,
    *,
    threads: int,
    strict: bool = False,
) -> Case:
    """The samples with their statistics, and the model's answers on some.

    Parameters
    ----------
    model, samples, parts, size, threads, strict
        See ``examine``.
    """
    statistics = sample_statistics(model, samples, np.concatenate(parts), size, threads)
    return Case(model, samples, parts[1], statistics, strict)


def doubts_of(case: Case, checks: Sequence[Check] | None = None) -> list[Diagnostic]:
    """What there is to doubt of samples and labels; see `examine`."""
    return [diagnostic for check in checks or CHECKS for diagnostic in check(case)]


def dropped_samples(used: int, total: int, batch: int) -> Iterator[Diagnostic]:
    """Warn of samples that fill no batch of the size that the model dictates."""
    if used < total:
        yield Diagnostic(
            "dropped-samples",
            f"{total - used:,} of {total:,} samples were not used: the model takes batches of "
            f"exactly {batch}, and these filled none.",
        )


def random_samples(case: Case) -> Iterator[Diagnostic]:
    """Warn of samples that are random numbers, as their file says."""
    if case.samples.provenance.get("random"):
        yield Diagnostic(
            RANDOM,
            f"{case.samples.path}: the samples are random numbers, so that no figure says anything "
            "of real data: use them to see that a model runs, and samples as in training for all "
            "else.",
            "the samples are random numbers, and no figure says anything of real data",
        )


def equal_samples(case: Case) -> Iterator[Diagnostic]:
    """Warn of many copies of samples.

    Raises
    ------
    BadInput
        All samples are equal.
    """
    digests = case.statistics.digests
    path, count, distinct = case.samples.path, len(digests), len(set(digests))
    if count > 1 and distinct == 1:
        raise BadInput(f"{path}: all {count:,} samples are equal: store samples that differ.")
    if count - distinct < COPIES * count or count < FEWEST:
        return
    in_holdout = np.isin(case.statistics.indices, case.holdout)
    pairs = list(zip(digests, in_holdout, strict=True))  # no digests of inputs without rows
    fitted_digests = {digest for digest, held_out in pairs if not held_out}
    leaked = sum(digest in fitted_digests for digest, held_out in pairs if held_out)
    yield Diagnostic(
        "copied-samples",
        f"{path}: {count - distinct:,} of {count:,} samples are copies of others; {leaked:,} of "
        f"{int(in_holdout.sum()):,} held-out ones are among those fitted to, so that held-out "
        "errors look too good: store each sample once.",
    )


def constant_inputs(case: Case) -> Iterator[Diagnostic]:
    """Warn of an input that has the same value everywhere."""
    for name, values in case.statistics.inputs.items():
        if values.low == values.high and len(values.energies) > 1:
            yield Diagnostic(
                "constant-input",
                f"{_dataset(case, name)} is {values.low:g} everywhere: what the model makes of "
                "other values was not looked at.",
            )


def dominant_samples(case: Case) -> Iterator[Diagnostic]:
    """Warn of a few samples that carry nearly all of the energy: fill values, or wrong units.

    Raises
    ------
    BadInput
        Beside them float32 does not see the other samples any more.
    """
    for name, values in case.statistics.inputs.items():
        energies = np.array(values.energies)
        remainder, heaviest = without_outliers(energies)
        if remainder >= MOST:
            continue
        worst = heaviest[np.argsort(-energies[heaviest], kind="stable")]
        numbers = ", ".join(map(str, case.statistics.indices[np.sort(worst[:LISTED])]))
        suffix = f" and {len(heaviest) - LISTED:,} more" if len(heaviest) > LISTED else ""
        peak = max(values.peaks[number] for number in worst)
        text = (
            f"{_dataset(case, name)}: nearly all of the energy is in {len(heaviest):,} of "
            f"{len(energies):,} samples ({numbers}{suffix}; values up to {peak:.3g}), so that the "
            "others count for nothing: are these fill values? Replace them, or leave these out."
        )
        if remainder < LOST:
            raise BadInput(text)
        yield Diagnostic("dominant-samples", text, f"{len(heaviest):,} samples outweigh all others")


def without_outliers(energies: NDArray[np.float64]) -> tuple[float, NDArray[np.intp]]:
    """Share of the energy that all but a few samples have, and the few that outweigh them.

    Energies are sums of squares (N,); the few samples are given by number.  Samples without any
    energy are left out: silence and black pictures do no harm.
    """
    nonzero = np.flatnonzero(energies > 0)
    count = int(FEW * len(nonzero))
    if not count:
        return 1.0, np.empty(0, np.intp)
    descending = nonzero[np.argsort(-energies[nonzero], kind="stable")]
    total, remainder = energies[descending].sum(), energies[descending[count:]].sum()
    median = float(np.median(energies[descending[count:]]))
    outliers = descending[:count][energies[descending[:count]] > median / MOST]
    return float(remainder / total), outliers


def trained_range(case: Case) -> Iterator[Diagnostic]:
    """Warn where the first BatchNormalization reads values unlike those of training."""
    normalization = first_normalization(case.model)
    if normalization is None or normalization.tensor not in case.statistics.outputs:
        return
    batches = case.statistics.outputs[normalization.tensor]
    values = np.concatenate([_channels(batch) for batch in batches], axis=1, dtype=np.float32)
    if len(values) != len(normalization.mean) or not np.isfinite(values).all():
        return
    spread = np.sqrt(normalization.variance)
    ratio = float(np.median(values.std(axis=1) / spread))
    shift = float(np.median(np.abs(values.mean(axis=1) - normalization.mean) / spread))
    if 1 / FAR <= ratio <= FAR and shift <= FAR:
        return
    yield Diagnostic(
        "untrained-range",
        f"{case.samples.path}: at node {normalization.node} values have {ratio:.3g} times the "
        f"spread that training saw, and lie {shift:.3g} times that spread from its mean: were the "
        "samples scaled as in training, 0 to 1 against 0 to 255 for instance?",
        "samples of another range than in training",
    )


def training_mode(case: Case) -> Iterator[Diagnostic]:
    """Warn of nodes whose results depend on the batch, or on chance."""
    index = case.model.index
    nodes = [node for node in index.nodes if node.domain in STANDARD and trains(index, node)]
    if nodes:
        suffix = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        yield Diagnostic(
            "training-mode",
            f"{case.model.path}: {nodes[0].op_type} '{nodes[0].title}'{suffix} works as in "
            "training, by the samples of the same batch or at random, so that answers are not the "
            "samples' own: export the model in evaluation mode (model.eval()).",
            "a model in training mode",
        )


def picture_range(case: Case) -> Iterator[Diagnostic]:
    """Warn of pictures from 0 to 255 where the model expects 0 to 1, and the other way round."""
    for name, values in case.statistics.inputs.items():
        factor = first_factor(case.model, name)
        if factor is not None and factor < 1 / 100 and 0 <= values.low < values.high <= 1:
            yield Diagnostic(
                "untrained-range",
                f"{_dataset(case, name)} holds values up to {values.high:.3g}, and the model "
                f"itself multiplies them by {factor:.3g}: were they to be from 0 to 255?",
                "samples of another range than in training",
            )
        if not is_bytes(values) or scaled_is_better(case):
            continue
        if factor == 1:
            yield Diagnostic(
                "unscaled-input",
                f"{_dataset(case, name)} holds whole numbers up to {values.high:g}, and the model "
                "does not scale them: divide by 255 if it was trained so.",
            )


def broken_outputs(case: Case) -> Iterator[Diagnostic]:
    """Warn of dense outputs that are no numbers, equal for all samples, or saturated.

    Raises
    ------
    BadInput
        No output is a number on any sample.
    """
    constant: list[bool] = []
    all_nan: list[bool] = []
    diagnostics: list[Diagnostic] = []
    for output in case.model.outputs:
        rows = _rows(case, output.name)
        if rows is None or rows.dtype.kind != "f" or not rows.size:
            continue
        nan_rows = np.flatnonzero(np.isnan(rows).any(axis=1))
        if len(nan_rows):
            diagnostics.append(_not_numbers(case, output.name, nan_rows, len(rows)))
            all_nan.append(len(nan_rows) == len(rows))
            continue
        all_nan.append(False)
        finite = np.where(np.isfinite(rows), rows, 0).astype(np.float64)
        size = np.abs(finite).max()
        constant.append(len(rows) >= FEWEST and bool((np.ptp(finite, axis=0) <= FLAT * size).all()))
        yield from _saturated(case, output.name, finite)
    if all_nan and all(all_nan):
        raise BadInput(diagnostics[0].text)
    yield from diagnostics
    if constant and all(constant):
        yield Diagnostic(
            "constant-output",
            f"{case.model.path}: the dense network answers the same on all "
            f"{len(case.statistics.answered):,} samples: were they scaled as in training?",
            "the dense network's outputs are constant",
        )


def _not_numbers(case: Case, name: str, nan_rows: Array, count: int) -> Diagnostic:
    answered = case.statistics.indices[case.statistics.answered]
    numbers = ", ".join(map(str, answered[nan_rows[:LISTED]]))
    suffix = f" and {len(nan_rows) - LISTED:,} more" if len(nan_rows) > LISTED else ""
    text = (
        f"{case.model.path}: output '{name}' of the dense network is not a number on "
        f"{len(nan_rows):,} of {count:,} samples (samples {numbers}{suffix}): are these prepared "
        "as in training?"
    )
    return Diagnostic("nan-output", text, "outputs that are not numbers")


def _saturated(case: Case, name: str, rows: Array) -> Iterator[Diagnostic]:
    op = squashed(case.model, name)
    if not op or len(rows) < FEWEST or rows.shape[1] < 2:
        return
    saturated = np.minimum(np.abs(rows), np.abs(1 - rows)) <= SURE
    share = float(np.mean(saturated.all(axis=1)))
    if share >= SATURATED:
        yield Diagnostic(
            "saturated-output",
            f"output '{name}' is 0 or 1 to six digits on {share:.0%} of the samples: its {op} is "
            "saturated. Were the samples scaled as in training, 0 to 1 against 0 to 255 for "
            "instance?",
        )


def _channels(value: Array) -> Array:
    """The input of a BatchNormalization (N, C, ...) as (C, values)."""
    channels = np.moveaxis(value, 1, 0) if value.ndim > 1 else value[None]
    return channels.reshape(len(channels), -1).astype(np.float64)


def _rows(case: Case, name: str) -> Array | None:
    """An output as (N, values); None where its samples cannot be told apart."""
    parts = case.statistics.outputs.get(name, [])
    if not parts or any(part.shape[1:] != parts[0].shape[1:] for part in parts):
        return None
    rows = np.concatenate(parts) if parts[0].ndim else np.array(parts)
    return rows_of(rows, len(case.statistics.answered))


def _dataset(case: Case, name: str) -> str:
    return f"{case.samples.path}: dataset '{case.samples.datasets[name]}'"


COMPARISON_CHECKS = (random_samples, labels_fit, unused_labels)
CHECKS: Sequence[Check] = (
    *(
        random_samples,
        equal_samples,
        dominant_samples,
        labels_fit,
        unused_labels,
        one_answer,
        broken_outputs,
    ),
    *(scaled_answers, training_mode, trained_range, picture_range, constant_inputs),
)


def check_runs(model: Model, samples: Calibration, indices: Indices, threads: int) -> None:
    """Run the whole model once before any work, as the engine may refuse it.

    Parameters
    ----------
    model, samples
        The model and the open samples.
    indices
        Numbers of the samples, of which the first batch is run.
    threads
        Threads of the engine.

    Raises
    ------
    BadInput
        The model takes batches of no samples.
    EngineFailed
        The engine cannot run it.
    """
    for tensor in model.inputs:
        if tensor.shape and tensor.shape[0] == 0:
            raise BadInput(
                f"{model.path}: its input '{tensor.name}' is declared as {tensor.shape}, batches "
                "of no samples; export the model with a free first axis"
            )
    batch = next(samples.batches(indices[: samples.batch_size(1)], 1))
    Engine(model.runnable(), threads=threads, optimise=True, arena=False).run(batch.feeds)
