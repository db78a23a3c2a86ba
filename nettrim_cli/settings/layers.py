"""What holds for some layers of a run only: tables ``[layers."PATTERN"]`` of a file of options."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nettrim_cli.errors import BadInput
from nettrim_cli.options.declare import check_bounds, option
from nettrim_cli.quantities import parse_share
from nettrim_cli.settings.bits import BITS
from nettrim_cli.settings.limits import Limit

if TYPE_CHECKING:
    from nettrim_cli.settings.run import Settings

METHODS = ("l0", "net-trim", "one-sided", "reweighted")
STRUCTURES = ("zeros", "units", "ranks", "shrink", "shrink+zeros")
ANYWHERE, ALL_BITS = "none", 32
SCATTERED = "sparsity, limit, pattern and method"


def n_of_m(pattern: str | None) -> tuple[int, int] | None:
    """The numbers n and m of a pattern n:m, which says how many zeros there are; else None."""
    n, colon, m = (pattern or "").partition(":")
    return (int(n), int(m)) if colon else None


@dataclass(frozen=True)
class LayerOptions:
    """Options of the layers whose name matches a shell pattern; None where the run's hold.

    Attributes
    ----------
    name
        A layer's name, or a shell pattern.

    Raises
    ------
    BadInput
        A value is outside its bounds, or options contradict each other.
    """

    name: str = option("", "A layer's name, or a shell pattern.")
    exclude: bool = option(False, "Leave these layers dense.")
    sparsity: float | None = option(
        None,
        "Sparsity of these layers, such as 0.5: others make up for it where the whole network has "
        "a target.",
        low=0,
        high=1,
        metavar="S",
        parse=parse_share,
    )
    limit: str | None = option(
        None, "Bounds on the sparsity of each of these layers, such as '0:0.5'.", metavar="LOW:HIGH"
    )
    pattern: str | None = option(
        None,
        "Where zeros are, with l0: blocks such as 1x4, N:M such as 2:4, or none for anywhere.",
        metavar="N:M|HxW|none",
    )
    bits: int | str | None = option(
        None,
        "Bits of the weights that stay, in a run with bits: 32 for all, 16, 8, 6, 4 or 3.",
        metavar="32|16|8|6|4|3",
    )
    method: str | None = option(
        None, "Method of these layers, in a run with zeros anywhere.", choices=METHODS
    )
    structure: str | None = option(
        None,
        "How these layers get smaller, in a run with structure shrink: by units, by ranks, or by "
        "both (shrink).",
        choices=("units", "ranks", "shrink"),
    )

    def __post_init__(self) -> None:
        """Check each value against the bounds of its field, and the options together."""
        check_bounds(self)

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest sparsity."""
        if (numbers := n_of_m(self.pattern)) is not None:
            zeros = 1 - numbers[0] / numbers[1]
            return zeros, zeros
        if self.sparsity is not None:
            return self.sparsity, self.sparsity
        limit = Limit.parse(f"{self.name}={self.limit or ':'}")
        return limit.low, limit.high

    def over(self, options: LayerOptions) -> LayerOptions:
        """Other options of a layer, with those that are given here in their place."""
        if self.sparsity is not None or self.limit is not None:
            options = replace(options, sparsity=None, limit=None)
        return replace(options, **self.as_dict() | {"name": options.name})

    def only(self, *names: str) -> LayerOptions:
        """The same with none but some of the options."""
        return LayerOptions(self.name, **{name: getattr(self, name) for name in names})

    def as_dict(self) -> dict[str, Any]:
        """What is given, for a file and for metadata."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }


def check_layers(settings: Settings) -> None:
    """Check what holds for some layers beside what holds for all.

    Raises
    ------
    BadInput
        Options contradict each other, or have no meaning in this run.
    """
    for options in settings.layers:
        if problem := _problem(options, settings):
            raise BadInput(f'layers."{options.name}": {problem}')


def _problem(options: LayerOptions, settings: Settings) -> str:
    """What is wrong with the options of some layers in a run; empty if nothing is."""
    keys = options.as_dict().keys() - {"name"}
    zeros = keys & {"sparsity", "limit"}
    if not keys:
        return f"nothing is said of these layers; give {' or '.join(LAYER_OPTIONS)}."
    if options.exclude and len(keys) > 1:
        return "exclude leaves these layers as they are, so that nothing else has a meaning."
    if len(zeros) > 1:
        return "give sparsity or limit: a sparsity is both bounds."
    if settings.structure == "zeros" and "structure" in keys:
        return "structure has a meaning where the run has --structure shrink."
    if settings.structure != "zeros" and keys & {"sparsity", "limit", "pattern", "method"}:
        return f"{SCATTERED} are of runs with --structure zeros."
    if "structure" in keys and not settings.structure.startswith("shrink"):
        return f"--structure {settings.structure} leaves no choice: give the run shrink."
    if "bits" in keys and settings.bits is None:
        return "bits have a meaning where the run has --bits."
    if "bits" in keys and options.bits not in (ALL_BITS, *BITS):
        return f"bits is {options.bits!r}; it must be 32, 16, 8, 6, 4 or 3."
    if settings.n_of_m is not None and (zeros or "pattern" in keys):
        return f"--pattern {settings.pattern} says how many zeros every layer gets."
    return _wrong_pattern(options, settings) or _wrong_limit(options)


def _wrong_pattern(options: LayerOptions, settings: Settings) -> str:
    if options.pattern in (None, ANYWHERE):
        return ""
    try:
        import_module("nettrim_cli.solve.patterns").checked_pattern(str(options.pattern))
    except ValueError as error:
        return f"pattern {error}."
    if settings.target_epsilon is not None:
        return "a pattern needs a target of the whole network, such as --sparsity."
    if (options.method or settings.method) != "l0":
        return "a pattern needs method l0."
    zeros = options.sparsity is not None or options.limit is not None
    if zeros and n_of_m(options.pattern):
        return f"pattern {options.pattern} says itself how many zeros there are."
    return ""


def _wrong_limit(options: LayerOptions) -> str:
    try:
        Limit.parse(f"{options.name}={options.limit or ':'}")
    except ValueError:
        return f"{options.limit!r} is no limit; write LOW:HIGH with sparsities, such as '0:0.5'."
    return ""


LAYER_OPTIONS = tuple(field.name for field in fields(LayerOptions)[1:])
