"""Steps of stages: the pipeline counts them to their end."""

from __future__ import annotations

from nettrim_cli import pipeline
from nettrim_cli.report.progress import Silent
from nettrim_cli.settings import Settings
from tests.support.options import PLAIN


class Steps(Silent):
    """Keeps the steps of each stage."""

    def __init__(self) -> None:
        self.found: dict[str, list[tuple[int, int]]] = {}
        self.text = ""

    def stage(self, text: str) -> None:
        self.text = text

    def begin(self, layer: str, index: int, total: int) -> None:
        self.text = layer

    def iteration(self, done: int, of: int) -> None:
        self.found.setdefault(self.text, []).append((done, of))


def test_measuring_counts_the_layers_and_comparing_the_samples(files) -> None:
    told = Steps()
    settings = Settings(sparsity=0.5, **PLAIN)
    pipeline.prune(files.model, files.data, files.output, settings, listener=told)
    assert told.found["measuring how sensitive each layer is"] == [(1, 3), (2, 3), (3, 3)]
    told = Steps()
    pipeline.compare(files.model, files.output, files.data, threads=1, listener=told)
    steps = told.found["running both models on the samples"]
    assert steps[-1][0] == steps[-1][1]
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert len({of for _, of in steps}) == 1


def test_measuring_again_is_a_stage_of_its_own(files) -> None:
    told = Steps()
    settings = Settings(sparsity=0.5, samples=20, forecast=True, **{**PLAIN, "augment": "auto"})
    pipeline.prune(files.model, files.data, files.output, settings, listener=told)
    for text in (
        "measuring how sensitive each layer is",
        "measuring it on samples that were mixed and moved",
        "measuring it on half of the samples",
    ):
        assert told.found[text] == [(1, 3), (2, 3), (3, 3)]
