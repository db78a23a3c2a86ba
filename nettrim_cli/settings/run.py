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
from nettrim_cli.quantities import parse_address, parse_bytes, parse_factor, parse_share
from nettrim_cli.settings.bits import parse_bits
from nettrim_cli.settings.layers import STRUCTURES, LayerOptions, n_of_m
from nettrim_cli.settings.limits import Limit, check_limit, matching_names
from nettrim_cli.settings.method import MethodSettings
from nettrim_cli.settings.targets import (
    DEFAULT_DROP,
    DEFAULT_EPSILON,
    DEFAULT_ERROR,
    DEFAULT_TARGET,
    TARGETS,
)
from nettrim_cli.settings.together import check_together

AUTOMATIC = ("auto", "none")
STORES = ("plain", "compact")
CERTIFICATES = ("quick", "full", "none")


@dataclass(frozen=True)
class Settings(MethodSettings):
    """Options of a run, independent of its files.

    Attributes
    ----------
    epsilon, sparsity, max_error, max_drop, max_bytes, speedup
        The target; at most one is given.  With none l0 has the one that the samples allow, see
        ``pruning.default_target``, and the other methods ``DEFAULT_EPSILON``.
        All but the bytes and the factor are fractions.

    Raises
    ------
    BadInput
        A value is outside its bounds, or options contradict each other.
    """

    max_drop: float | None = option(
        None,
        "Most zeros for which accuracy (without labels: the share of equal answers) falls by at "
        "most D.",
        group="Target",
        detail="It is measured on held-out samples; a bound for new ones must be within D, too.",
        example="1%",
        absent=f"{100 * DEFAULT_DROP:g}%, with labels",
        above=0,
        below=1,
        metavar="D",
        parse=parse_share,
    )
    max_error: float | None = option(
        None,
        "Most zeros for which no output moves by more than E of its size.",
        group="Target",
        detail="It is the relative error on held-out samples.",
        example="5%",
        absent=f"{100 * DEFAULT_ERROR:g}%, without labels",
        above=0,
        below=1,
        metavar="E",
        parse=parse_share,
    )
    sparsity: float | None = option(
        None,
        "This share of zeros over all layers that can be pruned.",
        group="Target",
        detail="With --structure it is the share of the weights that go.",
        example="90%",
        above=0,
        below=1,
        metavar="S",
        parse=parse_share,
    )
    max_bytes: int | None = option(
        None,
        "Fewest zeros for which the gzipped file has at most B bytes.",
        group="Target",
        detail="With --store compact it is the file as it lies.",
        example="1.5M",
        low=1,
        metavar="B",
        parse=parse_bytes,
    )
    speedup: float | None = option(
        None,
        "Least error for which a call takes 1/X of the time; needs --structure shrink.",
        group="Target",
        detail="The time is that of onnxruntime, measured on this machine.",
        example="2",
        above=1,
        below=1000,
        metavar="X",
        parse=parse_factor,
    )
    epsilon: float | None = option(
        None,
        "Fewest weights with which each layer alone keeps its responses to E of their size.",
        group="Target",
        detail="It is the target of the paper, and the default of its methods. With these 0 keeps "
        "responses exactly.",
        example="5%",
        absent=f"{100 * DEFAULT_EPSILON:g}%, with other methods than l0",
        low=0,
        below=1,
        metavar="E",
        parse=parse_share,
    )
    samples: int = option(
        5000,
        "Use at most so many samples, drawn at random.",
        group="Samples",
        example="2000",
        low=2,
        metavar="N",
    )
    holdout: float = option(
        0.2,
        "Share of them that judges, and that nothing is fitted to.",
        group="Samples",
        example="30%",
        absent="20%",
        above=0,
        below=1,
        metavar="SHARE",
        parse=parse_share,
    )
    ignore_label: int | None = option(
        None,
        "The label of samples without a class: accuracy leaves them out.",
        group="Samples",
        example="-1",
        metavar="N",
    )
    augment: str = option(
        "auto",
        "Make more samples where they are few: auto or none.",
        group="Samples",
        detail="auto: l0 mixes samples, and moves images a little, if that lowers the error on "
        "held-out samples.",
        choices=AUTOMATIC,
        metavar="HOW",
    )
    final_fit: str = option(
        "auto",
        "Fit to the held-out samples, too, in the end: auto or none.",
        group="Samples",
        detail="auto: l0 with --sparsity does so where samples are few. What was chosen on these "
        "stays, and the reported errors are those of before.",
        choices=AUTOMATIC,
        metavar="HOW",
    )
    forecast: bool = option(
        False,
        "Tell what twice as many samples would give.",
        group="Samples",
        detail="It fits to half of them, with any target but epsilon.",
    )
    structure: str = option(
        "zeros",
        "How it gets smaller: zeros, units, ranks, shrink or shrink+zeros.",
        group="What may change",
        detail="zeros: zeros anywhere in the layers. units: hidden units (neurons, channels, "
        "heads) go. ranks: layers become two of a lower rank. shrink: both, by what the output "
        "loses. shrink+zeros: zeros in what is left, too. With all but zeros, layers are smaller "
        "as they lie, and faster. It needs l0.",
        choices=STRUCTURES,
        metavar="HOW",
    )
    pattern: str | None = option(
        None,
        "Where zeros are: N:M, such as 2:4, is a target of its own; HxW are blocks.",
        group="What may change",
        detail="N:M: at most N of M consecutive inputs of an output are not zero, in every layer. "
        "HxW, such as 1x4: zeros come in blocks of H inputs by W outputs, with any target but "
        "epsilon. Both need l0.",
        example="2:4",
        metavar="N:M|HxW",
        parse=lambda text: import_module("nettrim_cli.solve.patterns").checked_pattern(text),
    )
    bits: int | str | None = option(
        None,
        "Bits of the weights that stay: 16, 8, 6, 4, 3 or auto.",
        group="What may change",
        detail="16: half precision. 8, 6, 4 or 3: integers, a scale for each output; rounded so "
        "that the layer's results change least. auto: those with which the output loses least for "
        "its bytes (not with --sparsity or --epsilon). Smaller files need --store compact.",
        example="8",
        absent="those of the model",
        metavar="BITS",
        parse=parse_bits,
    )
    store: str = option(
        "plain",
        "How sparse weights are stored: plain or compact.",
        group="What may change",
        detail="compact: as gaps and values, where that is smaller; any runtime rebuilds them when "
        "it loads the model, bit by bit. plain: every zero is written.",
        choices=STORES,
        metavar="HOW",
    )
    include: tuple[str, ...] = option(
        (),
        "Prune only layers of this name or shell pattern (repeatable).",
        group="What may change",
        example="'*fc*'",
        absent="all layers",
        metavar="PATTERN",
    )
    exclude: tuple[str, ...] = option(
        (),
        "Leave layers of this name or shell pattern dense (repeatable).",
        group="What may change",
        example="'*head*'",
        absent="none",
        metavar="PATTERN",
    )
    limit: tuple[str, ...] = option(
        (),
        "Bounds on the sparsity of layers (repeatable).",
        group="What may change",
        detail="The last that matches a layer holds.",
        example="'*fc4*=0:0.5'",
        absent="none",
        metavar="PATTERN=LOW:HIGH",
        parse=check_limit,
    )
    no_delete: bool = option(
        False,
        "Leave hidden units without weights in the file.",
        group="What may change",
        detail="Otherwise they are deleted, and matrices get smaller; outputs stay the same.",
    )
    runtime_int8: bool = option(
        False,
        "Compute with integers of 8 bits, if that is faster here.",
        group="What may change",
        detail="Ranges of the layers' inputs come from the samples, and onnxruntime is timed on "
        "this machine. Zeros stay exactly zero.",
    )
    certificate: str = option(
        "quick",
        "What is told of each layer's costs at the outputs: quick, full or none.",
        group="Output",
        detail="Beside the costs it tells what the layers' norms prove. quick: costs of 16 groups "
        "of layers at most, on a part of the samples. full: of every layer, on all of them.",
        choices=CERTIFICATES,
        metavar="HOW",
    )
    seed: int = option(
        0, "Seed of every random choice.", group="Run", example="1", low=0, metavar="N"
    )
    threads: int | None = option(
        None,
        "Processor threads.",
        group="Run",
        example="4",
        absent="all",
        low=1,
        high=1024,
        metavar="N",
    )
    workers: int = option(
        1,
        "Solve layers in so many processes at once.",
        group="Run",
        detail="Bytes of the output are the same at the same --threads, which each process has; "
        "without --threads they share the processors.",
        example="2",
        low=1,
        high=1024,
        metavar="N",
    )
    cluster: str | None = option(
        None,
        "Solve layers on a Dask cluster, by its scheduler's address.",
        group="Run",
        detail="It needs nettrim-cli[cluster] here, and the same version of nettrim there. "
        "--threads is that of each task, by default 1.",
        example="tcp://scheduler:8786",
        absent="none",
        metavar="ADDRESS",
        parse=parse_address,
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
        """Name and value of the target; of none, with l0, what samples decide later."""
        if self.n_of_m is not None:
            return "pattern", 1 - self.n_of_m[0] / self.n_of_m[1]
        for name in TARGETS:
            if (value := getattr(self, name)) is not None:
                return name, value
        if self.method == "l0":
            return DEFAULT_TARGET, 0.0
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
