"""``prune``, ``plan``, ``curve``, ``compare``, ``inspect`` and ``bench``, of files or in memory.

Models are paths or ``onnx.ModelProto``, samples paths, arrays or streams (see ``samples.opened``).
Options have the command line's defaults.  Errors are kinds of ``NettrimError``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nettrim_cli import pipeline
from nettrim_cli.api.options import merged
from nettrim_cli.api.result import PrunedModel
from nettrim_cli.api.samples import Draw
from nettrim_cli.api.workspace import workspace
from nettrim_cli.latency.bench import bench as time_models
from nettrim_cli.loading import default_output
from nettrim_cli.preview.curve import curve as predict
from nettrim_cli.preview.dry_run import dry_run
from nettrim_cli.preview.inspection import inspect as list_layers
from nettrim_cli.report.model_summary import ModelSummary
from nettrim_cli.settings import BenchSettings, Gate, Settings
from nettrim_cli.settings.curve import MEASUREMENT, RUN_OPTIONS, CurveSettings

if TYPE_CHECKING:
    import onnx

    from nettrim_cli.report.bench_result import Bench
    from nettrim_cli.report.comparison_result import Comparison
    from nettrim_cli.report.curve.result import Curve
    from nettrim_cli.report.plan_result import Plan
    from nettrim_cli.report.progress import Listener

PathLike = str | os.PathLike[str]


def prune(  # noqa: PLR0913 (the options of the command)
    model: PathLike | onnx.ModelProto,
    data: Any,
    output: PathLike | None = None,
    settings: Settings | None = None,
    *,
    force: bool = False,
    bench: bool = False,
    fresh: bool = False,
    listener: Listener | None = None,
    **options: Any,
) -> PrunedModel:
    """Prune a model on samples.

    Parameters
    ----------
    model, data
        The model, and samples for it.  Of a stream the first ``samples`` are read.
    output
        File to write.  By default that is ``model.pruned.onnx`` beside a model that is a file; of
        one in memory nothing is written.
    settings, options
        Options of ``nettrim prune``, such as ``sparsity=0.9``; keywords go before fields of
        ``settings``.
    force
        Whether an existing output may be replaced (never an input).
    bench
        Whether to time the dense and the pruned model.
    fresh
        Whether to start over where a run to the same output has ended early.
    listener
        Is told of progress.

    Returns
    -------
    PrunedModel
        The report, measured on the model as written, with the model as ``.model``.

    Raises
    ------
    NettrimError
        One of its kinds, with nothing written: see ``nettrim_cli.errors``.
    TypeError
        There is no such option.
    """
    with workspace() as files:
        chosen = merged(settings or Settings(), options, "prune")
        path = files.model(model, "model")
        samples = files.samples(data, path, Draw(chosen.samples, chosen.seed))
        in_memory = output is None and path is not model
        target = files.folder / "pruned" if in_memory else Path(output or default_output(path))
        report = pipeline.prune(
            *(path, samples, target, chosen),
            force=force,
            bench=bench,
            fresh=fresh,
            listener=listener,
        )
        return PrunedModel.of(files.told(report), target, in_memory=in_memory)


def plan(
    model: PathLike | onnx.ModelProto,
    data: Any,
    settings: Settings | None = None,
    *,
    listener: Listener | None = None,
    **options: Any,
) -> Plan:
    """Tell what ``prune`` would do, as ``nettrim prune --dry-run``; nothing is written.

    Parameters
    ----------
    model, data
        The model, and samples for it.  Of a stream the first ``samples`` are read.
    settings, options
        Options of the run.
    listener
        Is told of progress.

    Raises
    ------
    NettrimError
        One of its kinds, as ``prune`` raises it before it solves anything.
    TypeError
        There is no such option.
    """
    with workspace() as files:
        chosen = merged(settings or Settings(), options, "plan")
        path = files.model(model, "model")
        samples = files.samples(data, path, Draw(chosen.samples, chosen.seed))
        target = files.folder / "pruned"
        return files.told(dry_run(path, samples, target, chosen, listener=listener))


def curve(
    model: PathLike | onnx.ModelProto,
    data: Any,
    *,
    at: Sequence[float | str] = (),
    measured: int = 1,
    settings: Settings | None = None,
    listener: Listener | None = None,
    **options: Any,
) -> Curve:
    """Tell how much a model can be pruned; nothing is written.

    Parameters
    ----------
    model, data
        The model, and samples for it.  Of a stream the first ``samples`` are read.
    at
        Sparsities to tell of, such as ``(0.5, 0.9)``; those of the command line by default.
    measured
        At so many of them the network is pruned; the others are predicted.
    settings, options
        Options of the runs that are predicted, without a target.
    listener
        Is told of progress.

    Raises
    ------
    NettrimError
        One of its kinds: a file is missing or bad, or no layer can be pruned.
    TypeError
        There is no such option.
    """
    with workspace() as files:
        chosen = merged(settings or Settings(), options, "curve", RUN_OPTIONS)
        shares = CurveSettings(tuple(map(str, at)), measured)
        path = files.model(model, "model")
        result = predict(
            path,
            files.samples(data, path, Draw(chosen.samples, chosen.seed)),
            chosen,
            sparsities=shares.sparsities,
            measured=shares.measured,
            listener=listener,
        )
        return files.told(result)


def compare(
    reference: PathLike | onnx.ModelProto,
    candidate: PathLike | onnx.ModelProto,
    data: Any,
    *,
    gate: Gate | None = None,
    threads: int | None = None,
    certificate: str = "quick",
    ignore_label: int | None = None,
    **limits: Any,
) -> Comparison:
    """Compare two models on samples, all of a stream.

    Parameters
    ----------
    reference, candidate, data
        The models, and samples for both.
    gate, limits
        Limits that the comparison is held against, such as ``max_drop=0.01``: ``.passed`` says
        whether it keeps them.
    threads
        Processor threads; None for all.
    certificate
        Whether it is told what layers cost: ``quick``, ``full`` or ``none``.
    ignore_label
        The label that marks samples without a class.

    Raises
    ------
    NettrimError
        One of its kinds: a file is missing or bad, or the models do not fit each other.
    TypeError
        There is no such limit.
    """
    with workspace() as files:
        limit = merged(gate or Gate(), limits, "compare")
        first, second = files.model(reference, "reference"), files.model(candidate, "candidate")
        comparison = pipeline.compare(
            first,
            second,
            files.samples(data, first, Draw()),
            gate=limit if limit.is_set else None,
            threads=threads,
            certificate=certificate,
            ignore_label=ignore_label,
        )
        return files.told(comparison)


def inspect(
    model: PathLike | onnx.ModelProto,
    data: Any = None,
    settings: Settings | None = None,
    *,
    listener: Listener | None = None,
    **options: Any,
) -> ModelSummary:
    """List inputs, outputs and layers of a model, with the non-zeros of each that can be pruned.

    Parameters
    ----------
    model
        The model.
    data
        Samples on which it is measured what zeros would cost in each layer.
    settings, options
        Options of that measurement, such as ``samples=500``.
    listener
        Is told of progress.

    Raises
    ------
    NettrimError
        One of its kinds: the file is missing or bad.
    TypeError
        There is no such option.
    """
    with workspace() as files:
        chosen = merged(settings or Settings(), options, "inspect", MEASUREMENT)
        path = files.model(model, "model")
        draw = Draw(chosen.samples, chosen.seed)
        samples = None if data is None else files.samples(data, path, draw)
        return files.told(list_layers(path, samples, chosen, listener=listener))


def bench(
    models: PathLike | onnx.ModelProto | Sequence[PathLike | onnx.ModelProto],
    data: Any = None,
    settings: BenchSettings | None = None,
    **options: Any,
) -> Bench:
    """Time models side by side; the first is the reference.

    Parameters
    ----------
    models
        The models; a single one, too.
    data
        Samples; without them inputs are made as the models declare them.
    settings, options
        Options of ``nettrim bench``, such as ``batch=(1, 64)``.

    Raises
    ------
    NettrimError
        One of its kinds: a file is missing or bad, or the models do not take the same inputs.
    TypeError
        There is no such option.
    """
    with workspace() as files:
        chosen = merged(settings or BenchSettings(), options, "bench")
        several = models if isinstance(models, (list, tuple)) else [models]
        paths = [files.model(model, f"model-{number}") for number, model in enumerate(several, 1)]
        samples = None if data is None else files.samples(data, paths[0], Draw())
        return files.told(time_models(paths, samples, chosen))
