"""nettrim: prunes trained ONNX networks layer by layer, by the Net-Trim method and beyond it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nettrim_cli.api.calls import bench, compare, curve, inspect, plan, prune
    from nettrim_cli.errors import NettrimError
    from nettrim_cli.report.result import Report
    from nettrim_cli.settings import BenchSettings, Gate, LayerOptions, Settings
    from nettrim_cli.verification.verify import verify

# NumPy's and SciPy's OpenBLAS have threads of their own, which spin for some milliseconds after
# each product and keep the processor from the other's.  Read where these are loaded after this.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")

__version__ = "0.1.0"
__all__ = [
    "BenchSettings",
    "Gate",
    "LayerOptions",
    "NettrimError",
    "Report",
    "Settings",
    "__version__",
    "bench",
    "compare",
    "curve",
    "inspect",
    "plan",
    "prune",
    "verify",
]

_HOME = {
    "BenchSettings": "nettrim_cli.settings",
    "Gate": "nettrim_cli.settings",
    "LayerOptions": "nettrim_cli.settings",
    "NettrimError": "nettrim_cli.errors",
    "Report": "nettrim_cli.report.result",
    "Settings": "nettrim_cli.settings",
    "bench": "nettrim_cli.api.calls",
    "compare": "nettrim_cli.api.calls",
    "curve": "nettrim_cli.api.calls",
    "inspect": "nettrim_cli.api.calls",
    "plan": "nettrim_cli.api.calls",
    "prune": "nettrim_cli.api.calls",
    "verify": "nettrim_cli.verification.verify",
}


def __getattr__(name: str) -> Any:
    """Load the public names on first use, so that the command line starts at once."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
