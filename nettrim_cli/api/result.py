"""What ``prune`` gives back: the report of the run, with the model."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nettrim_cli.graph.storage.in_memory import read_model
from nettrim_cli.report.result import Report

if TYPE_CHECKING:
    import onnx


class PrunedModel(Report):
    """The report of a run with the model that was written.

    Attributes
    ----------
    output
        File of the model; None where it is in memory alone.
    """

    output: Path | None

    @classmethod
    def of(cls, report: Report, output: Path, *, in_memory: bool) -> PrunedModel:
        """A report with a model that stands in a file; one in memory is read at once."""
        result = cls(**{field.name: getattr(report, field.name) for field in fields(report)})
        vars(result)["output"] = None if in_memory else output
        if in_memory:
            vars(result)["model"] = read_model(output)
        return result

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The pruned model; read from its file when it is first asked for."""
        assert self.output is not None, "what has no file was read at once"
        return read_model(self.output)
