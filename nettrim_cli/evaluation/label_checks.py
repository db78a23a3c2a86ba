"""Whether labels are classes of the model, and answered better than by guessing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.labels import IGNORED
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.accuracy import has_scores, top1
from nettrim_cli.evaluation.sample_statistics import FEWEST, Case
from nettrim_cli.report.diagnostic import Diagnostic

Array = NDArray[Any]
CHANCE = 0.01  # probability with which guesses may pass for answers


def unused_labels(case: Case) -> Iterator[Diagnostic]:
    """Warn of datasets that may be labels, and of labels that no output answers."""
    if text := case.samples.about_labels:
        yield Diagnostic("labels-by-another-name", f"{case.samples.path}: {text}.")
    if case.samples.labels and _answers(case) is None:
        yield case.refuse_or(
            "unused-labels",
            f"{_labels(case)} gives no accuracy: no output has one answer for each label. Leave it "
            "out, or use --max-error for models that are no classifiers",
        )


def labels_fit(case: Case) -> Iterator[Diagnostic]:
    """Warn of labels that are constant or that the dense network answers by chance.

    Raises
    ------
    BadInput
        A label is no class of the model; with ``case.strict`` also what is a warning otherwise.
    """
    output, labels = _answers(case), case.statistics.labels
    if output is None or labels is None:
        return
    name, answers, classes = output
    if (labels == IGNORED).all():
        yield case.refuse_or("unused-labels", f"{_labels(case)}: all labels are --ignore-label")
        return
    if classes is not None and (labels >= classes).any():
        first = int(np.argmax(labels >= classes))
        labelled = labels[labels != IGNORED]
        from_one = labelled.max() == classes and labelled.min() > 0
        hint = ": counted from 1? Subtract 1" if from_one else ""
        raise BadInput(
            f"{_labels(case)}, sample {case.statistics.indices[first]}: label {labels[first]} is "
            f"no class of output '{name}', which has {classes}, from 0 to {classes - 1}{hint}."
        )
    yield from _against_chance(case, labels, answers, classes)


def right_answers(case: Case) -> tuple[int, int] | None:
    """Right answers of the dense network, and the number of labels that it was asked for.

    None where there are no labels, or no output answers them.
    """
    output, labels = _answers(case), case.statistics.labels
    if output is None or labels is None:
        return None
    expected = labels[case.statistics.answered]
    labelled = expected != IGNORED
    return int(np.count_nonzero((expected == output[1])[labelled])), int(labelled.sum())


def _against_chance(
    case: Case, labels: Array, answers: Array, classes: int | None
) -> Iterator[Diagnostic]:
    counts = np.unique(labels[labels != IGNORED], return_counts=True)
    if len(counts[0]) == 1:
        if counts[1][0] >= FEWEST:
            yield case.refuse_or(
                "constant-labels",
                f"{_labels(case)}: all labels are {counts[0][0]}: accuracy says nothing of the "
                "other classes. Store samples of all classes, or leave the labels out",
            )
        return
    expected = labels[case.statistics.answered]
    labelled = expected != IGNORED
    expected, answers, total = expected[labelled], answers[labelled], int(labelled.sum())
    share = max(float(counts[1].max() / counts[1].sum()), 1 / (classes or len(counts[0])))
    hits = int(np.count_nonzero(expected == answers))
    if hits == total or chance(hits, total, share) <= CHANCE:
        return
    usual = int(counts[0][np.argmax(counts[1])])
    text = (
        f"{_labels(case)}: the dense network answers {hits:,} of {total:,} right "
        f"({hits / total:.1%}), no better than chance ({share:.1%} are of class {usual}). "
    )
    for step, change in ((1, "subtracted from"), (-1, "added to")):
        shifted = int(np.count_nonzero(expected - step == answers))
        if chance(shifted, total, share) <= CHANCE:
            hint = f"With 1 {change} each label {shifted / total:.1%} would be right: do that"
            break
    else:
        hint = (
            "Are they in the order of the samples, numbered as the model's classes, and are the "
            "samples prepared as in training? Without labels, agreement with the dense answers "
            "is measured"
        )
    if case.strict:
        raise BadInput(f"{text}{hint}.")
    yield Diagnostic("labels-at-chance", f"{text}{hint}.", "labels that are answered by chance")


def one_answer(case: Case) -> Iterator[Diagnostic]:
    """Warn of an output with the same class for every sample."""
    if case.samples.labels:
        return
    for output in case.model.outputs:
        parts = case.statistics.outputs.get(output.name, [])
        if not parts or parts[0].ndim != 2 or not has_scores(parts[0]):
            continue
        answers = np.concatenate([top1(scores) for scores in parts])
        if len(answers) >= FEWEST and len(np.unique(answers)) == 1:
            yield Diagnostic(
                "one-answer",
                f"output '{output.name}' of the dense network is class {answers[0]} on all "
                f"{len(answers):,} samples: equal answers say nothing. Are there samples of all "
                "classes, prepared as in training?",
                "a dense network that always answers the same class",
            )


def chance(hits: int, total: int, share: float) -> float:
    """Probability of ``hits`` or more right answers of ``total`` by guesses, right by ``share``."""
    from scipy.special import bdtrc  # upper tail of the binomial distribution

    return float(bdtrc(hits - 1, total, share)) if hits else 1.0


def _answers(case: Case) -> tuple[str, Array, int | None] | None:
    """The output with an answer for each label: its name, the answers, the number of classes."""
    count = len(case.statistics.answered)
    for output in case.model.outputs:
        parts = case.statistics.outputs.get(output.name, [])
        answers = [top1(scores) for scores in parts]
        if not parts or any(
            answer is None or answer.ndim != 1 or answer.dtype.kind in "OSU" for answer in answers
        ):
            continue
        all_answers = np.concatenate(answers)
        if len(all_answers) == count:
            classes = parts[0].shape[-1] if has_scores(parts[0]) else None
            return output.name, all_answers, classes
    return None


def scaled_is_better(case: Case) -> tuple[float, float] | None:
    """Accuracy as the samples are and divided by 255, where the latter is clearly higher."""
    output, labels = _answers(case), case.statistics.labels
    if output is None or labels is None or output[0] not in case.statistics.scaled:
        return None
    expected = labels[case.statistics.answered]
    scaled_classes = np.concatenate([top1(scores) for scores in case.statistics.scaled[output[0]]])
    right, scaled_right = output[1] == expected, scaled_classes == expected
    worse = int(np.count_nonzero(right & ~scaled_right))
    better = int(np.count_nonzero(scaled_right & ~right))
    if chance(better, better + worse, 0.5) > CHANCE:  # McNemar's exact test
        return None
    return float(right.mean()), float(scaled_right.mean())


def scaled_answers(case: Case) -> Iterator[Diagnostic]:
    """Warn of pictures that are answered better when they are divided by 255."""
    if shares := scaled_is_better(case):
        yield Diagnostic(
            "untrained-range",
            f"{case.samples.path}: with the samples divided by 255 the dense network answers "
            f"{shares[1]:.1%} right, as they are {shares[0]:.1%}: scale them as in training.",
            "samples of another range than in training",
        )


def _labels(case: Case) -> str:
    return f"{case.samples.path}: dataset '{case.samples.labels}'"
