"""Every option of a run, once: its default, bounds and help text stand in its field.

The command line makes its flags from these fields, and the written model carries their values in
its metadata.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from nettrim_cli.options.declare import check_bounds, option
from nettrim_cli.quantities import parse_bytes, parse_factor, parse_share
from nettrim_cli.settings.bits import parse_bits
from nettrim_cli.settings.certificate import CERTIFICATE_HELP, CERTIFICATES
from nettrim_cli.settings.layers import METHODS, STRUCTURES, LayerOptions, n_of_m
from nettrim_cli.settings.limits import Limit, check_limit, matching_names
from nettrim_cli.settings.targets import DEFAULT_EPSILON, TARGETS
from nettrim_cli.settings.together import DEFAULT_GAMMA, check_together

SCHEMES = ("cascade", "parallel")
ALLOCATIONS = ("network", "error", "uniform")
AUTOMATIC = ("auto", "none")
WIDTHS = ("auto", "measured", "products")
REFITS = ("auto", "layers", "network")
STORES = ("plain", "compact")


@dataclass(frozen=True)
class Settings:
    """Options of a run, independent of its files.

    Attributes
    ----------
    epsilon, sparsity, max_error, max_drop, max_bytes, speedup
        The target; at most one is given, and with none ``epsilon`` is ``DEFAULT_EPSILON``.
        All but the bytes and the factor are fractions.

    Raises
    ------
    BadInput
        A value is outside its bounds, or options contradict each other.
    """

    epsilon: float | None = option(
        None,
        f"Target: relative response error allowed to each layer (the default, {DEFAULT_EPSILON}).",
        low=0,
        high=1,
        open_ends=True,
        metavar="E",
        parse=parse_share,
    )
    sparsity: float | None = option(
        None,
        "Target: sparsity (share of zeros) over all prunable weights, such as 0.9.",
        low=0,
        high=1,
        open_ends=True,
        metavar="S",
        parse=parse_share,
    )
    max_error: float | None = option(
        None,
        "Target: highest sparsity at which no output's relative error on held-out samples exceeds "
        "E.",
        low=0,
        high=1,
        open_ends=True,
        metavar="E",
        parse=parse_share,
    )
    max_drop: float | None = option(
        None,
        "Target: highest sparsity at which accuracy (without labels: agreement with the dense "
        "model's answers) falls by at most D, such as 0.005. A bound for new samples must be "
        "within D, too.",
        low=0,
        high=1,
        open_ends=True,
        metavar="D",
        parse=parse_share,
    )
    max_bytes: int | None = option(
        None,
        "Target: lowest sparsity at which the gzipped file (a compact one as it lies) has at most "
        "B bytes, such as 500k or 1.5M.",
        low=1,
        metavar="B",
        parse=parse_bytes,
    )
    speedup: float | None = option(
        None,
        "Target, with --structure: least error at which a call takes 1/X of the time in "
        "onnxruntime, measured on this machine, such as 2 or 1.5x.",
        low=1,
        high=1000,
        open_ends=True,
        metavar="X",
        parse=parse_factor,
    )
    allocate: str | None = option(
        None,
        "How zeros are distributed over the layers, with any target but epsilon. "
        "network: so that the network's output changes least (best by measurement; default of "
        "l0, which with --sparsity and few samples tries the others on held-out samples, too). "
        "error: so that the layers' own responses change least. "
        "uniform: the same sparsity in every layer (default of the other methods).",
        choices=ALLOCATIONS,
    )
    structure: str = option(
        "zeros",
        "How the network gets smaller, with l0. zeros: zeros anywhere in the layers. "
        "units: hidden units (neurons, channels, heads) go. ranks: layers become two of a lower "
        "rank. shrink: both, by what the output loses. shrink+zeros: zeros in what is left, too. "
        "With all but zeros, layers are smaller as they lie, and --sparsity is the share gone.",
        choices=STRUCTURES,
    )
    widths: str = option(
        "auto",
        "What tells how long layers of other widths take, with --structure. measured: onnxruntime, "
        "on this machine, once for each kind of layer. products: the products of numbers, the same "
        "everywhere. auto: measured with --speedup or --batch.",
        choices=WIDTHS,
    )
    batch: int = option(
        1,
        "Samples of a call whose time counts, with --structure.",
        low=1,
        high=1 << 20,
        metavar="N",
    )
    pattern: str | None = option(
        None,
        "Where zeros are, with l0. N:M, such as 2:4: at most N of M consecutive inputs of an "
        "output are not zero, in every layer; this is a target of its own. HxW, such as 1x4: "
        "zeros come in blocks of H inputs by W outputs, with any target but epsilon.",
        metavar="N:M|HxW",
        parse=lambda text: import_module("nettrim_cli.solve.patterns").checked_pattern(text),
    )
    limit: tuple[str, ...] = option(
        (),
        "Bounds on the sparsity of layers whose name matches, such as 'fc4=0:0.5' "
        "(repeatable; the last that matches a layer holds).",
        metavar="PATTERN=LOW:HIGH",
        parse=check_limit,
    )
    method: str = option(
        "l0",
        "l0: fewest weights, then a refit of those kept (best by measurement). "
        "net-trim: the paper's convex program to the letter. "
        "one-sided: the same with inactive responses sharing epsilon, so fewer weights. "
        "reweighted: four rounds of that, each makes large weights cheaper, so fewer stay.",
        choices=METHODS,
    )
    scheme: str = option(
        "cascade",
        "cascade: a layer reads what the already pruned layers deliver. "
        "parallel: every layer reads the dense model's signals.",
        choices=SCHEMES,
    )
    sweeps: int = option(
        1,
        "Passes over the layers, with l0 and any target but epsilon. Each after the first chooses "
        "all weights anew, by what the pruned network still reads. It takes some two fifths of "
        "the time of the first. The best on held-out samples is kept.",
        low=1,
        high=100,
        metavar="N",
    )
    refit: str = option(
        "auto",
        "layers: the kept weights of each layer are fitted to its own responses. network: then "
        "those of all layers together, with biases, scales and shifts, to the dense network's "
        "outputs, with any target but epsilon. Held-out samples decide whether that is kept. auto: "
        "the same in fewer steps, with l0 in a cascade.",
        choices=REFITS,
    )
    gamma: float = option(
        DEFAULT_GAMMA,
        "Slack over the error that the unpruned layer would make, in a cascade with any method "
        "but l0 (paper: sqrt(1.1)).",
        low=1,
        high=100,
        metavar="G",
    )
    samples: int = option(
        5000, "Use at most this many samples, drawn by --seed.", low=2, metavar="N"
    )
    holdout: float = option(
        0.2,
        "Share of the samples held out, on which choices are made and errors reported.",
        low=0,
        high=1,
        open_ends=True,
        metavar="SHARE",
        parse=parse_share,
    )
    ignore_label: int | None = option(
        None,
        "The label that marks samples without a class, such as -1: accuracy leaves them out.",
        metavar="N",
    )
    augment: str = option(
        "auto",
        "auto: where samples are few, l0 makes more of them by mixing them, and by moving images "
        "a little, if that lowers the error on held-out samples. none: never.",
        choices=AUTOMATIC,
    )
    final_fit: str = option(
        "auto",
        "auto: where samples are few, l0 with --sparsity fits the layers once more at the end, to "
        "the held-out samples, too. The choices made on these stay, and the reported errors are "
        "those of before. none: never.",
        choices=AUTOMATIC,
    )
    forecast: bool = option(
        False,
        "Tell what twice as many samples would give, by fits to half of them (any target but "
        "epsilon).",
    )
    bits: int | str | None = option(
        None,
        "Bits of the weights that stay. 16: half precision. 8, 6, 4 or 3: integers, a scale for "
        "each output; rounded so that the layer's results change least. auto: those with which the "
        "output loses least for its bytes (not with --sparsity or --epsilon). Smaller files need "
        "--store compact.",
        metavar="16|8|6|4|3|auto",
        parse=parse_bits,
    )
    store: str = option(
        "plain",
        "compact: sparse weights as gaps and values, where that is smaller; any runtime rebuilds "
        "them when it loads the model, bit by bit. plain: every zero is written.",
        choices=STORES,
    )
    runtime_int8: bool = option(
        False,
        "Write layers that compute with integers of 8 bits, with ranges of their inputs from the "
        "samples, if onnxruntime runs them faster on this machine. Zeros stay exactly zero.",
    )
    no_delete: bool = option(
        False,
        "Leave hidden units in the network that are left without incoming or outgoing weights. "
        "Without this they are deleted, and matrices get smaller; outputs stay the same.",
    )
    certificate: str = option("quick", CERTIFICATE_HELP, choices=CERTIFICATES)
    seed: int = option(0, "Seed of every random choice.", low=0, metavar="N")
    threads: int | None = option(
        None, "Processor threads to use (default: all).", low=1, high=1024, metavar="N"
    )
    include: tuple[str, ...] = option(
        (), "Prune only layers whose name matches (shell pattern; repeatable).", metavar="PATTERN"
    )
    exclude: tuple[str, ...] = option(
        (), "Leave layers whose name matches dense (shell pattern; repeatable).", metavar="PATTERN"
    )
    layers: tuple[LayerOptions, ...] = option(
        (), "What holds for some layers only, in a file of options.", flag=False
    )

    def __post_init__(self) -> None:
        """Check each value against the bounds of its field, and the options together."""
        check_bounds(self)
        check_together(self)

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """The numbers n and m of a pattern n:m, which is a target of its own."""
        return n_of_m(self.pattern)

    @property
    def weight_bits(self) -> int | None:
        """Bits of the weights that stay; None for all."""
        assert not isinstance(self.bits, str), "bits have been chosen before"
        return self.bits

    @property
    def zeros(self) -> float | None:
        """Target sparsity, by ``sparsity`` or a pattern n:m; None without one."""
        return self.sparsity if self.n_of_m is None else 1 - self.n_of_m[0] / self.n_of_m[1]

    @property
    def target(self) -> tuple[str, float]:
        """Name and value of the target."""
        if self.n_of_m is not None:
            return "pattern", 1 - self.n_of_m[0] / self.n_of_m[1]
        for name in TARGETS:
            if (value := getattr(self, name)) is not None:
                return name, value
        return "epsilon", DEFAULT_EPSILON

    @property
    def target_epsilon(self) -> float | None:
        """The relative error allowed to a layer, or None where that is not the target."""
        name, value = self.target
        return value if name == "epsilon" else None

    def bounds_of(self, layer: str, names: Collection[str] = ()) -> tuple[float, float]:
        """Least and largest sparsity that a layer may have, by name.

        Parameters
        ----------
        layer
            Name of the layer.
        names
            Names of all layers; by default this layer alone.
        """
        for limit in reversed([Limit.parse(text) for text in self.limit]):
            if layer in matching_names(limit.pattern, names or (layer,)):
                return limit.low, limit.high
        return (0.0, 1.0) if self.n_of_m else self.of_layer(layer, names).bounds

    def of_layer(self, layer: str, names: Collection[str] = ()) -> LayerOptions:
        """What holds for a layer, by name: of each option the last that was given for it.

        Parameters
        ----------
        layer, names
            See ``bounds_of``.
        """
        options = LayerOptions(layer, pattern=self.pattern, bits=self.bits, method=self.method)
        for override in self.layers:
            if layer in matching_names(override.name, names or (layer,)):
                options = override.over(options)
        return options

    def as_dict(self) -> dict[str, Any]:
        """Plain values for metadata and reports."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return values | {"layers": [options.as_dict() for options in self.layers]}
