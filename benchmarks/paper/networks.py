"""What the experiments share: runs of net-trim kept in memory, and networks judged on test data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import h5py
import numpy as np

from benchmarks.common import Matrix, sample_file
from benchmarks.layers import refitted
from nettrim_cli.data.engine import Engine
from nettrim_cli.graph.model import Model
from nettrim_cli.preview.opened_run import OpenedRun, dense_model, opened_run
from nettrim_cli.pruning.layerwise import PassResult, WarmStart, prune_pass, stored_matrices
from nettrim_cli.pruning.propagation import layer_problem, set_matrices
from nettrim_cli.report.progress import Silent
from nettrim_cli.settings import Settings

Cells = dict[str, Callable[[], Any]]
"""What is to be measured, by name."""
EXCLUDED = {"lenet": ("*conv*",)}  # the authors' code prunes and counts the other layers only


@dataclass(frozen=True)
class Experiment:
    """A sample model, its calibration samples, and its test samples."""

    name: str
    run: OpenedRun

    @cached_property
    def test(self) -> tuple[Matrix, Matrix]:
        """Images and labels of ``test.h5``."""
        with h5py.File(sample_file(self.name, "test.h5")) as file:
            return file["image"][:], file["labels"][:]

    @cached_property
    def dense(self) -> Matrix:
        """(P, classes) scores of the dense network on the test images."""
        return scores(self.run.context.dense, self.test[0])

    def pruned(
        self, scheme: str, epsilon: float, samples: int | None = None, **more: Any
    ) -> PassResult:
        """The network that net-trim makes.

        Parameters
        ----------
        scheme, epsilon
            Settings of the run.
        samples
            How many are fitted to; all by default.
        """
        settings = {"method": "net-trim", "scheme": scheme, "epsilon": epsilon, "sparsity": None}
        context = self.run.context.with_settings(**settings)
        fitted = replace(self.run.samples, fitted=self.run.samples.fitted[:samples])
        return prune_pass(context, fitted, None, {}, WarmStart())

    def refitted(self, result: PassResult) -> PassResult:
        """The same zeros, with each layer's other weights fitted to its dense results.

        No label is read.  Layers are fitted one after the other, on what the ones before deliver.
        """
        context = self.run.context.with_settings(scheme="cascade")
        model = result.model.clone()
        for stage in context.recorded(self.run.samples, model):
            with stage:
                for layer, (columns,) in stage:
                    problem = layer_problem(context.dense, layer, columns)
                    (sparse,) = stored_matrices(model, layer)
                    fit = refitted(lambda task, keep, sparse=sparse: sparse)
                    set_matrices(model, layer, [fit(problem, 0)])
        return replace(result, model=model)

    def magnitude(self, result: PassResult) -> PassResult:
        """The dense weights of largest magnitude, as many in each layer as in a pruned network."""
        model = self.run.context.dense.clone()
        for layer, report in self.layers(result):
            (weight,), biases = model.weight(layer)
            smallest = np.argsort(np.abs(weight), axis=None, kind="stable")
            weight.ravel()[smallest[: weight.size - report.nonzeros_after]] = 0
            model.set_weight(layer, [weight], biases)
        return replace(result, model=model)

    def layers(self, result: PassResult) -> Iterator[tuple[Any, Any]]:
        """Each pruned layer with its report."""
        named = {layer.name: layer for layer in self.run.context.dense.layers}
        return ((named[report.name], report) for report in result.layers)

    def judged(self, model: Model) -> dict[str, float]:
        """Accuracy of a network on the test images, and the relative error of its scores."""
        found, labels = scores(model, self.test[0]), self.test[1]
        error = np.linalg.norm(found - self.dense) / np.linalg.norm(self.dense)
        return {"accuracy": accuracy(found, labels), "error": float(error)}


@contextmanager
def experiment(name: str, threads: int = 1) -> Iterator[Experiment]:
    """A sample model with its samples, for a with-block."""
    excluded = EXCLUDED.get(name, ())
    settings = Settings(method="net-trim", epsilon=0.1, exclude=excluded, threads=threads)
    data = sample_file(name, "calib.h5")
    dense = dense_model(sample_file(name, "model.onnx"), data, settings)
    with opened_run(dense, data, settings, Silent()) as run:
        yield Experiment(name, run)


def scores(model: Model, images: Matrix) -> Matrix:
    """(P, classes) outputs of a network, a batch at a time."""
    engine = Engine(model.proto.SerializeToString(), threads=1)
    (name,) = engine.inputs
    parts = [engine.run({name: images[at : at + 500]})[0] for at in range(0, len(images), 500)]
    return np.concatenate(parts)


def accuracy(found: Matrix, labels: Matrix) -> float:
    """Share of samples whose label has the largest score."""
    return float((found.argmax(axis=1) == labels).mean())
