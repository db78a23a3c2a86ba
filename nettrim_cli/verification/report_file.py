"""A report that ``nettrim prune`` wrote, read again from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nettrim_cli.errors import BadInput, MissingInput
from nettrim_cli.settings import Settings

MOST_BYTES = 1 << 28
USED = ("samples", "holdout", "seed", "ignore_label")  # settings that say which samples judged


@dataclass(frozen=True)
class ReportedLayer:
    """A pruned layer of a report; ``whole`` unless it became two of a lower rank."""

    name: str
    nonzeros: int
    whole: bool


@dataclass(frozen=True)
class ReportFile:
    """What a report says that can be checked.

    Attributes
    ----------
    hashes
        SHA-256 of the run's files by their role: ``output``, ``model``, ``data``; those of external
        data among them if ``all_files``.
    layers
        The pruned ones.
    errors
        Relative errors by output; None where nothing could be measured.
    accuracies
        Of the dense and of the pruned model; None without labels.
    samples
        Number of held-out samples.
    settings
        Those that say which samples were held out.
    final_samples
        Number of samples of a final fit, before which the errors were measured; 0 without one.
    integers
        Whether layers were written that compute with integers.
    """

    path: Path
    hashes: Mapping[str, frozenset[str]]
    layers: tuple[ReportedLayer, ...]
    errors: Mapping[str, float | None]
    accuracies: tuple[float | None, float | None]
    samples: int
    settings: Settings
    final_samples: int
    integers: bool
    all_files: bool

    @classmethod
    def read(cls, path: Path) -> ReportFile:
        """Read a report.

        Raises
        ------
        BadInput
            It is no report of ``nettrim prune``, or of a run that wrote nothing.
        MissingInput
            There is no such file.
        """
        values = _parsed(path)
        kind = values.get("schema", "nettrim-prune")
        if kind != "nettrim-prune":
            raise BadInput(f"{path} is a report of {str(kind).replace('-', ' ')}: {WANTED}")
        try:
            report = cls._of(path, values)
        except (AttributeError, KeyError, TypeError, ValueError, BadInput) as error:
            raise BadInput(f"{path} is no report of a run ({error!r:.200}): {WANTED}") from error
        if not report.hashes["output"]:
            raise BadInput(f"{path} is the report of a run that wrote no model.")
        return report

    @classmethod
    def _of(cls, path: Path, values: Mapping[str, Any]) -> ReportFile:
        comparison, settings = values["comparison"], values["settings"]
        reference, candidate = comparison["reference"], comparison["candidate"]
        layers = [layer for layer in values["layers"] if layer["status"] not in NOT_PRUNED]
        return cls(
            path,
            _hashes(values, reference["sha256"], candidate["sha256"]),
            tuple(
                ReportedLayer(str(each["name"]), int(each["nonzeros_after"]), each["rank"] is None)
                for each in layers
            ),
            {str(output["name"]): _number(output["error"]) for output in comparison["outputs"]},
            (_number(reference["accuracy"]), _number(candidate["accuracy"])),
            int(comparison["samples"]),
            Settings(**{name: settings[name] for name in USED}),
            int(values["final_samples"]),
            bool(settings["runtime_int8"]),
            bool(_files(values)),
        )


NOT_PRUNED = ("dense", "infeasible", "not-finite")
WANTED = "name the JSON that nettrim prune --report report.json wrote."


def _parsed(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(f"{path} is too large for a report: {WANTED}")
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise MissingInput(f"{path} cannot be read ({error.strerror}): {WANTED}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON: {WANTED}") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path} is no report: {WANTED}")
    return values


def _hashes(
    values: Mapping[str, Any], reference: str, candidate: str
) -> Mapping[str, frozenset[str]]:
    """Hashes by role; of reports without provenance those of the models' own files."""
    hashes: dict[str, set[str]] = {"output": set(), "model": set(), "data": set()}
    for file in _files(values):
        hashes.setdefault(str(file["role"]), set()).add(str(file["sha256"]))
    for role, digest in (("model", reference), ("output", candidate)):
        if digest:
            hashes[role].add(str(digest))
    return {role: frozenset(digests) for role, digests in hashes.items()}


def _files(values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Files of the run, where the report lists them."""
    return list((values.get("provenance") or {}).get("files", ()))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
