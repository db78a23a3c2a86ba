"""What ``prune`` gives back: the report of the run, with the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nettrim_cli.graph.storage.in_memory import read_model
from nettrim_cli.report.result import Report

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class PrunedModel(Report):
    """The report of a run with the model that was written.

    Attributes
    ----------
    output
        File of the model; None where it is in memory alone.
    """

    output: Path | None = None
    _proto: onnx.ModelProto | None = field(default=None, repr=False, compare=False)

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The pruned model; read from its file when it is first asked for."""
        if self._proto is not None:
            return self._proto
        assert self.output is not None
        return read_model(self.output)
