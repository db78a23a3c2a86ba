"""Whether samples, labels and model belong together, looked at before anything is solved.

Where the result would mean nothing the run ends (65); what is only suspicious is a warning.
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
from nettrim_cli.graph.ir.flatten import STANDARD
from nettrim_cli.graph.model import Model
from nettrim_cli.report.diagnostic import Diagnostic

Array = NDArray[Any]
Check = Callable[[Case], Iterator[Diagnostic]]
COPIES = 0.1  # share of copies that is told
FEW = 0.25  # share of the samples that are few,
MOST = 1e-3  # what they leave the others of the energy where it is told,
LOST = 2.0**-24  # and where float32 does not see the others any more
FAR = 3.0  # times the spread in training, or its inverse: other data than that
FLAT, SURE = 1e-6, 1e-6  # relative spread of outputs, and distance from 0 or 1
SATURATED = 0.95  # share of such answers that is told
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
    seen = sample_statistics(model, samples, np.concatenate(parts), size, threads)
    case = Case(model, samples, parts[1], seen, strict)
    return [each for check in checks or CHECKS for each in check(case)]


def dropped(used: int, wanted: int, batch: int) -> Iterator[Diagnostic]:
    """Samples that fill no batch of the size that the model dictates."""
    if used < wanted:
        yield Diagnostic(
            "dropped-samples",
            f"{wanted - used:,} of {wanted:,} samples were not used: the model takes batches of "
            f"exactly {batch}, and these filled none.",
        )


def equal_samples(case: Case) -> Iterator[Diagnostic]:
    """All samples alike, or many copies."""
    digests = case.seen.digests
    path, count, distinct = case.samples.path, len(digests), len(set(digests))
    if count > 1 and distinct == 1:
        raise BadInput(f"{path}: all {count:,} samples are equal: store samples that differ.")
    if count - distinct < COPIES * count or count < FEWEST:
        return
    held = np.isin(case.seen.indices, case.held)
    fitted = {each for each, out in zip(digests, held, strict=False) if not out}
    leaked = sum(each in fitted for each, out in zip(digests, held, strict=False) if out)
    yield Diagnostic(
        "copied-samples",
        f"{path}: {count - distinct:,} of {count:,} samples are copies of others; {leaked:,} of "
        f"{int(held.sum()):,} held-out ones are among those fitted to, so that held-out errors "
        "look too good: store each sample once.",
    )


def constant_inputs(case: Case) -> Iterator[Diagnostic]:
    """An input that always has the same value, where others do not."""
    for name, found in case.seen.inputs.items():
        if found.low == found.high and len(found.energies) > 1:
            yield Diagnostic(
                "constant-input",
                f"{_dataset(case, name)} is {found.low:g} everywhere: what the model makes of "
                "other values was not looked at.",
            )


def dominant_samples(case: Case) -> Iterator[Diagnostic]:
    """A few samples that carry nearly all of the energy: fill values, or wrong units."""
    for name, found in case.seen.inputs.items():
        energies = np.array(found.energies)
        left, few = rest(energies)
        if left >= MOST:
            continue
        worst = few[np.argsort(-energies[few], kind="stable")]
        numbers = ", ".join(str(case.seen.indices[at]) for at in np.sort(worst[:LISTED]))
        more = f" and {len(few) - LISTED:,} more" if len(few) > LISTED else ""
        peak = max(found.peaks[at] for at in worst)
        text = (
            f"{_dataset(case, name)}: nearly all of the energy is in {len(few):,} of "
            f"{len(energies):,} samples ({numbers}{more}; values up to {peak:.3g}), so that the "
            "others count for nothing: are these fill values? Replace them, or leave these out."
        )
        if left < LOST:
            raise BadInput(text)
        yield Diagnostic("dominant-samples", text, f"{len(few):,} samples outweigh all others")


def rest(energies: NDArray[np.float64]) -> tuple[float, NDArray[np.intp]]:
    """Share of the energy that all but a few samples have, and the few that outweigh them.

    Samples without any energy are left out: silence and black pictures do no harm.
    """
    alive = np.flatnonzero(energies > 0)
    count = int(FEW * len(alive))
    if not count:
        return 1.0, np.empty(0, np.intp)
    ordered = alive[np.argsort(-energies[alive], kind="stable")]
    total, others = energies[ordered].sum(), energies[ordered[count:]].sum()
    usual = float(np.median(energies[ordered[count:]]))
    outweigh = ordered[:count][energies[ordered[:count]] > usual / MOST]
    return float(others / total), outweigh


def trained_range(case: Case) -> Iterator[Diagnostic]:
    """What arrives at the first BatchNormalization against what training saw there."""
    trained = first_normalization(case.model)
    if trained is None or trained.tensor not in case.seen.outputs:
        return
    values = np.concatenate([_channels(each) for each in case.seen.outputs[trained.tensor]], axis=1)
    if len(values) != len(trained.mean) or not np.isfinite(values).all():
        return
    spread = np.sqrt(trained.variance)
    ratio = float(np.median(values.std(axis=1) / spread))
    shift = float(np.median(np.abs(values.mean(axis=1) - trained.mean) / spread))
    if 1 / FAR <= ratio <= FAR and shift <= FAR:
        return
    yield Diagnostic(
        "untrained-range",
        f"{case.samples.path}: at node {trained.node} values have {ratio:.3g} times the spread "
        f"that training saw, and lie {shift:.3g} times that spread from its mean: were the samples "
        "scaled as in training, 0 to 1 against 0 to 255 for instance?",
        "samples of another range than in training",
    )


def training_mode(case: Case) -> Iterator[Diagnostic]:
    """Nodes whose results depend on the batch, or on chance."""
    index = case.model.index
    found = [node for node in index.nodes if node.domain in STANDARD and trains(index, node)]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        yield Diagnostic(
            "training-mode",
            f"{case.model.path}: {found[0].op_type} '{found[0].title}'{more} works as in training, "
            "by the samples of the same batch or at random, so that answers are not the samples' "
            "own: export the model in evaluation mode (model.eval()).",
            "a model in training mode",
        )


def picture_range(case: Case) -> Iterator[Diagnostic]:
    """0 to 255 where the model wants 0 to 1, or the other way round, by what the model does."""
    for name, found in case.seen.inputs.items():
        factor = first_factor(case.model, name)
        if factor is not None and factor < 1 / 100 and 0 <= found.low < found.high <= 1:
            yield Diagnostic(
                "untrained-range",
                f"{_dataset(case, name)} holds values up to {found.high:.3g}, and the model itself "
                f"multiplies them by {factor:.3g}: were they to be from 0 to 255?",
                "samples of another range than in training",
            )
        if not is_bytes(found) or scaled_is_better(case):
            continue
        if factor == 1:
            yield Diagnostic(
                "unscaled-input",
                f"{_dataset(case, name)} holds whole numbers up to {found.high:g}, and the model "
                "does not scale them: divide by 255 if it was trained so.",
            )


def broken_outputs(case: Case) -> Iterator[Diagnostic]:
    """Dense outputs that are no numbers, are the same for all samples, or say nothing else."""
    flat: list[bool] = []
    gone: list[bool] = []
    told: list[Diagnostic] = []
    for output in case.model.outputs:
        rows = _rows(case, output.name)
        if rows is None or rows.dtype.kind != "f" or not rows.size:
            continue
        lost = np.flatnonzero(np.isnan(rows).any(axis=1))
        if len(lost):
            told.append(_not_numbers(case, output.name, lost, len(rows)))
            gone.append(len(lost) == len(rows))
            continue
        gone.append(False)
        finite = np.where(np.isfinite(rows), rows, 0).astype(np.float64)
        size = np.abs(finite).max()
        flat.append(len(rows) >= FEWEST and bool((np.ptp(finite, axis=0) <= FLAT * size).all()))
        yield from _saturated(case, output.name, finite)
    if gone and all(gone):
        raise BadInput(told[0].text)
    yield from told
    if flat and all(flat):
        yield Diagnostic(
            "constant-output",
            f"{case.model.path}: the dense network answers the same on all "
            f"{len(case.seen.answered):,} samples: were they scaled as in training?",
            "the dense network's outputs are constant",
        )


def _not_numbers(case: Case, name: str, lost: Array, count: int) -> Diagnostic:
    numbers = ", ".join(str(case.seen.indices[case.seen.answered[at]]) for at in lost[:LISTED])
    more = f" and {len(lost) - LISTED:,} more" if len(lost) > LISTED else ""
    text = (
        f"{case.model.path}: output '{name}' of the dense network is not a number on "
        f"{len(lost):,} of {count:,} samples (samples {numbers}{more}): are these prepared as in "
        "training?"
    )
    return Diagnostic("nan-output", text, "outputs that are not numbers")


def _saturated(case: Case, name: str, rows: Array) -> Iterator[Diagnostic]:
    op = squashed(case.model, name)
    if not op or len(rows) < FEWEST or rows.shape[1] < 2:
        return
    near = np.minimum(np.abs(rows), np.abs(1 - rows)) <= SURE
    share = float(np.mean(near.all(axis=1)))
    if share >= SATURATED:
        yield Diagnostic(
            "saturated-output",
            f"output '{name}' is 0 or 1 to six digits on {share:.0%} of the samples: its {op} is "
            "saturated. Were the samples scaled as in training, 0 to 1 against 0 to 255 for "
            "instance?",
        )


def _channels(value: Array) -> Array:
    """(channels, values) of what a BatchNormalization reads."""
    moved = np.moveaxis(value, 1, 0) if value.ndim > 1 else value[None]
    return moved.reshape(len(moved), -1).astype(np.float64)


def _rows(case: Case, name: str) -> Array | None:
    """(samples, values) of an output, None where its samples cannot be told apart."""
    parts = case.seen.outputs.get(name, [])
    if not parts or any(each.shape[1:] != parts[0].shape[1:] for each in parts):
        return None
    whole = np.concatenate(parts) if parts[0].ndim else np.array(parts)
    return rows_of(whole, len(case.seen.answered))


def _dataset(case: Case, name: str) -> str:
    return f"{case.samples.path}: dataset '{case.samples.datasets[name]}'"


LABEL_CHECKS = (labels_fit, unused_labels)
CHECKS: Sequence[Check] = (
    *(equal_samples, dominant_samples, labels_fit, unused_labels, one_answer, broken_outputs),
    *(scaled_answers, training_mode, trained_range, picture_range, constant_inputs),
)


def check_runs(model: Model, samples: Calibration, indices: Indices, threads: int) -> None:
    """Run the whole model once before any work: what the engine refuses need not be pruned.

    Raises
    ------
    BadInput
        The model takes batches of no samples.
    EngineFailed
        The engine cannot run it.
    """
    for each in model.inputs:
        if each.shape and each.shape[0] == 0:
            raise BadInput(
                f"{model.path}: its input '{each.name}' is declared as {each.shape}, batches of "
                "no samples; export the model with a free first axis"
            )
    batch = next(samples.batches(indices[: samples.batch_size(1)], 1))
    Engine(model.runnable(), threads=threads, optimise=True, arena=False).run(batch.feeds)
