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
    """Datasets that may be labels, and labels that no output is about."""
    if text := case.samples.about_labels:
        yield Diagnostic("labels-by-another-name", f"{case.samples.path}: {text}.")
    if case.samples.labels and _answers(case) is None:
        yield case.refuse_or(
            "unused-labels",
            f"{_labels(case)} gives no accuracy: no output has one answer for each label. Leave it "
            "out, or use --max-error for models that are no classifiers",
        )


def labels_fit(case: Case) -> Iterator[Diagnostic]:
    """Labels that are classes of the model, more than one, and answered better than by chance."""
    found, labels = _answers(case), case.seen.labels
    if found is None or labels is None:
        return
    name, answers, classes = found
    if (labels == IGNORED).all():
        yield case.refuse_or("unused-labels", f"{_labels(case)}: all labels are --ignore-label")
        return
    if classes is not None and (labels >= classes).any():
        at = int(np.argmax(labels >= classes))
        known = labels[labels != IGNORED]
        hint = ": counted from 1? Subtract 1" if known.max() == classes and known.min() > 0 else ""
        raise BadInput(
            f"{_labels(case)}, sample {case.seen.indices[at]}: label {labels[at]} is no class of "
            f"output '{name}', which has {classes}, from 0 to {classes - 1}{hint}."
        )
    yield from _against_chance(case, labels, answers, classes)


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
    asked = labels[case.seen.answered]
    known = asked != IGNORED
    asked, given, total = asked[known], answers[known], int(known.sum())
    share = max(float(counts[1].max() / counts[1].sum()), 1 / (classes or len(counts[0])))
    hits = int(np.count_nonzero(asked == given))
    if hits == total or chance(hits, total, share) <= CHANCE:
        return
    usual = int(counts[0][np.argmax(counts[1])])
    text = (
        f"{_labels(case)}: the dense network answers {hits:,} of {total:,} right "
        f"({hits / total:.1%}), no better than chance ({share:.1%} are of class {usual}). "
    )
    for step, words in ((1, "subtracted from"), (-1, "added to")):
        shifted = int(np.count_nonzero(asked - step == given))
        if chance(shifted, total, share) <= CHANCE:
            hint = f"With 1 {words} each label {shifted / total:.1%} would be right: do that"
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
    """The same class for every sample."""
    if case.samples.labels:
        return
    for output in case.model.outputs:
        parts = case.seen.outputs.get(output.name, [])
        if not parts or parts[0].ndim != 2 or not has_scores(parts[0]):
            continue
        answers = np.concatenate([top1(each) for each in parts])
        if len(answers) >= FEWEST and len(np.unique(answers)) == 1:
            yield Diagnostic(
                "one-answer",
                f"output '{output.name}' of the dense network is class {answers[0]} on all "
                f"{len(answers):,} samples: equal answers say nothing. Are there samples of all "
                "classes, prepared as in training?",
                "the dense network always answers the same class",
            )


def chance(hits: int, total: int, share: float) -> float:
    """Probability of so many right answers or more from guesses that are right so often."""
    from scipy.special import bdtrc  # upper tail of the binomial distribution

    return float(bdtrc(hits - 1, total, share)) if hits else 1.0


def _answers(case: Case) -> tuple[str, Array, int | None] | None:
    """The output with an answer for each label: its name, the answers, the number of classes."""
    count = len(case.seen.answered)
    for output in case.model.outputs:
        parts = case.seen.outputs.get(output.name, [])
        answers = [top1(each) for each in parts]
        if not parts or any(
            each is None or each.ndim != 1 or each.dtype.kind in "OSU" for each in answers
        ):
            continue
        found = np.concatenate(answers)
        if len(found) == count:
            classes = parts[0].shape[-1] if has_scores(parts[0]) else None
            return output.name, found, classes
    return None


def scaled_is_better(case: Case) -> tuple[float, float] | None:
    """Accuracy as the samples are and divided by 255, where the latter is clearly higher."""
    found, labels = _answers(case), case.seen.labels
    if found is None or labels is None or found[0] not in case.seen.scaled:
        return None
    asked = labels[case.seen.answered]
    other = np.concatenate([top1(each) for each in case.seen.scaled[found[0]]])
    now, then = found[1] == asked, other == asked
    worse, better = (int(np.count_nonzero(each)) for each in (now & ~then, then & ~now))
    if chance(better, better + worse, 0.5) > CHANCE:  # McNemar's exact test
        return None
    return float(now.mean()), float(then.mean())


def scaled_answers(case: Case) -> Iterator[Diagnostic]:
    """Pictures that are answered better when they are divided by 255."""
    if better := scaled_is_better(case):
        yield Diagnostic(
            "untrained-range",
            f"{case.samples.path}: with the samples divided by 255 the dense network answers "
            f"{better[1]:.1%} right, as they are {better[0]:.1%}: scale them as in training.",
            "samples of another range than in training",
        )


def _labels(case: Case) -> str:
    return f"{case.samples.path}: dataset '{case.samples.labels}'"
