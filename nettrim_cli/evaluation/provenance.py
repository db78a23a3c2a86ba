"""The origin of a written model, as its metadata tell it, and swapped operands of a comparison."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

from nettrim_cli import __version__
from nettrim_cli.errors import WrongUsage
from nettrim_cli.files.atomic import sha256
from nettrim_cli.graph.model import Model
from nettrim_cli.report.provenance_result import FileFacts, Provenance
from nettrim_cli.settings import Settings

KEY = "nettrim"  # of the model's metadata
PIECE_BYTES = 1 << 24
LIBRARIES = ("onnx", "onnxruntime", "numpy", "scipy", "h5py")


def describe(settings: Settings, dense: Model) -> str:
    """The run's settings and the digest of the dense model, for the metadata of the pruned one.

    How weights are stored is not among them, so that a model unpacked is the one written plain.
    Nor are bits where there are all, that idle units are deleted, which a model shows, what is told
    of errors, where layers are solved, and what is of no account where layers keep their shapes.
    """
    facts = {"version": __version__, "dense_sha256": digest(dense), **settings.as_dict()}
    del facts["store"], facts["no_delete"], facts["certificate"]
    del facts["workers"], facts["cluster"]
    if settings.bits is None:
        del facts["bits"]
    if settings.structure == "zeros":
        del facts["widths"], facts["batch"]
    return json.dumps(facts, sort_keys=True)


def digest(model: Model) -> str | None:
    """SHA-256 of a model's files, those of its external data included; None without a file."""
    checksum = hashlib.sha256()
    try:
        for path in model.files:
            with open(path, "rb", buffering=0) as file:
                while piece := file.read(PIECE_BYTES):
                    checksum.update(piece)
    except FileNotFoundError:
        return None
    return checksum.hexdigest()


def origin(model: Model) -> str | None:
    """Digest of the model that one was pruned from, as its metadata say; empty if they do not.

    None where nettrim did not write it.
    """
    text = model.metadata(KEY)
    if text is None:
        return None
    try:
        facts = json.loads(text)
    except ValueError:
        return ""
    return str(facts.get("dense_sha256") or "") if isinstance(facts, dict) else ""


def check_operands(reference: Model, candidate: Model, data: Path) -> Iterator[str]:
    """Sentences on what a reader of a comparison should know of its operands.

    Raises
    ------
    WrongUsage
        The reference was pruned from the candidate, so that all figures would be reversed.
    """
    source, dense = origin(reference), digest(candidate)
    if source and source == dense:
        line = ["nettrim", "compare", str(candidate.path), str(reference.path), "--data", str(data)]
        raise WrongUsage(
            f"the models are swapped: {reference.path} was pruned from {candidate.path}, as its "
            f"metadata say. The dense model comes first: {shlex.join(line)}"
        )
    if dense == digest(reference):
        yield "the reference and the candidate are the same model: nothing was compared."
    elif source is not None and origin(candidate) is None:
        yield (
            "nettrim wrote the reference, but not the candidate: if the candidate is the dense "
            "model, they are swapped."
        )


def provenance_of(files: Mapping[str, Iterable[Path]]) -> Provenance:
    """Where figures come from.

    Parameters
    ----------
    files
        Those of a run, by their role; such as are not there, as they are in memory, are left out.
    """
    facts = [
        FileFacts(role, str(path), path.stat().st_size, sha256(path))
        for role, paths in files.items()
        for path in paths
        if path.is_file()
    ]
    loaded = {name: sys.modules[name].__version__ for name in LIBRARIES if name in sys.modules}
    return Provenance(
        tuple(facts),
        {"nettrim": __version__, "python": platform.python_version(), **loaded},
        f"{platform.system()} {platform.machine()}",
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
