"""What real models are for: answers from outputs, and how well these agree with others."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.models_samples import Array, Session, package_file
from benchmarks.models_sound import CHUNKS

Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Task:
    """A task that a model is used for.

    Attributes
    ----------
    title
        What the score counts, in words.
    answers
        From a session and samples to answers, one a sample.
    measure
        Score of answers against others, at most 1.
    """

    title: str
    answers: Callable[[Session, Feeds], Array]
    measure: Callable[[Array, Array], float]


def runs(session: Session, feeds: Feeds) -> Iterator[list[Array]]:
    """Outputs for one sample after the other, fed as nettrim feeds them."""
    ranks = {each.name: len(each.shape) for each in session.get_inputs()}
    for at in range(max(map(len, feeds.values()))):
        given = {}
        for name, rank in ranks.items():
            row = feeds[name][at if len(feeds[name]) > 1 else 0]
            given[name] = np.array(row if row.ndim == rank else row[None])
        yield session.run(None, given)


# ---- answers


def classes(session: Session, feeds: Feeds) -> Array:
    """The class of highest score."""
    return np.array([outputs[0][0].argmax() for outputs in runs(session, feeds)])


def embeddings(session: Session, feeds: Feeds) -> Array:
    """The first output as it is."""
    return np.concatenate([outputs[0] for outputs in runs(session, feeds)])


def above(threshold: float, output: int = 0) -> Callable[[Session, Feeds], Array]:
    """Where an output is above a threshold."""

    def masks(session: Session, feeds: Feeds) -> Array:
        return np.stack([np.squeeze(found[output]) > threshold for found in runs(session, feeds)])

    return masks


def detections(session: Session, feeds: Feeds) -> Array:
    """Which class is seen where: scores above 0.2 behind the four numbers of a box."""
    return np.stack([outputs[0][0, 4:] > 0.2 for outputs in runs(session, feeds)])


def objects(session: Session, feeds: Feeds) -> Array:
    """Where something is seen: object and class score together above 0.1."""
    return np.stack([o[0][0, :, 4] * o[0][0, :, 5] > 0.1 for o in runs(session, feeds)])


def spoken(session: Session, feeds: Feeds) -> Array:
    """Whether chunks are speech, each with the state that the model itself left before it."""
    names = [each.name for each in session.get_inputs()]
    found = []
    for at, chunk in enumerate(feeds["input"]):
        if at % CHUNKS == 0:
            state = np.zeros((2, 1, 128), np.float32)
        given = {"input": chunk, "state": state}
        if "sr" in names:
            given["sr"] = np.array(feeds["sr"][0])
        output, state = session.run(None, given)
        found.append(output.item() > 0.5)
    return np.array(found)


def read_lines(session: Session, feeds: Feeds) -> Array:
    """Text by PaddleOCR's alphabet, which the model carries."""
    listed = session.get_modelmeta().custom_metadata_map["character"].split("\n")
    alphabet = ["", *listed, " "]
    found = [_collapsed(o[0][0], alphabet) for o in runs(session, feeds)]
    return np.array([text.encode() for text in found], dtype="S64")


def read_captchas(table: str) -> Callable[[Session, Feeds], Array]:
    """Text by one of ddddocr's alphabets, in lower case."""

    def texts(session: Session, feeds: Feeds) -> Array:
        alphabet = _ddddocr(table)
        found = [_collapsed(o[0][:, 0], alphabet).lower() for o in runs(session, feeds)]
        return np.array([text.encode() for text in found], dtype="S64")

    return texts


@lru_cache
def _ddddocr(table: str) -> list[str]:
    tree = ast.parse(package_file("ddddocr", "charsets.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == table:
            return list(ast.literal_eval(node.value))
    raise FileNotFoundError(f"ddddocr has no {table}")


def _collapsed(scores: Array, alphabet: list[str]) -> str:
    """The best path without repetitions and blanks (connectionist temporal classification)."""
    best = scores.argmax(axis=-1)
    kept = best[np.diff(best, prepend=-1) != 0]
    return "".join(alphabet[at] for at in kept if at)


# ---- measures


def equal(found: Array, wanted: Array) -> float:
    """Share of equal answers."""
    return float(np.mean(found == wanted))


def overlap(found: Array, wanted: Array) -> float:
    """Dice's coefficient: the harmonic mean of precision and recall."""
    total = np.count_nonzero(found) + np.count_nonzero(wanted)
    return 2 * np.count_nonzero(found & wanted) / total if total else 1.0


def ranking(found: Array, wanted: Array) -> float:
    """Spearman's correlation between the similarities of all pairs."""
    from scipy import stats

    pairs = np.triu_indices(len(found), 1)
    similarities = [(each @ each.T)[pairs] for each in (found, wanted)]
    return float(stats.spearmanr(*similarities).statistic)
