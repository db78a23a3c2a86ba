"""Options of runs, of comparisons and of timings."""

from nettrim_cli.settings.bench import BenchSettings
from nettrim_cli.settings.bits import AUTO, CHOSEN_BITS, FIRST_BITS, KERNEL_BITS
from nettrim_cli.settings.curve import CurveSettings
from nettrim_cli.settings.data import PRESETS, DataSettings
from nettrim_cli.settings.gate import COMPARE_OPTIONS, Gate
from nettrim_cli.settings.layers import (
    ALL_BITS,
    ANYWHERE,
    LAYER_OPTIONS,
    METHODS,
    STRUCTURES,
    LayerOptions,
)
from nettrim_cli.settings.limits import Limit, check_limit, matching_names
from nettrim_cli.settings.method import ALLOCATIONS, DEFAULT_GAMMA, SCHEMES, WIDTHS
from nettrim_cli.settings.run import AUTOMATIC, CERTIFICATES, Settings
from nettrim_cli.settings.targets import (
    DEFAULT_DROP,
    DEFAULT_EPSILON,
    DEFAULT_ERROR,
    DEFAULT_TARGET,
    SEARCHED,
    TARGETS,
    check_one_target,
)

__all__ = [
    "ALLOCATIONS",
    "ALL_BITS",
    "ANYWHERE",
    "AUTO",
    "AUTOMATIC",
    "CERTIFICATES",
    "CHOSEN_BITS",
    "COMPARE_OPTIONS",
    "DEFAULT_DROP",
    "DEFAULT_EPSILON",
    "DEFAULT_ERROR",
    "DEFAULT_GAMMA",
    "DEFAULT_TARGET",
    "FIRST_BITS",
    "KERNEL_BITS",
    "LAYER_OPTIONS",
    "METHODS",
    "PRESETS",
    "SCHEMES",
    "SEARCHED",
    "STRUCTURES",
    "TARGETS",
    "WIDTHS",
    "BenchSettings",
    "CurveSettings",
    "DataSettings",
    "Gate",
    "LayerOptions",
    "Limit",
    "Settings",
    "check_limit",
    "check_one_target",
    "matching_names",
]
