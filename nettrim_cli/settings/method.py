"""Options of how weights are found, which few runs need."""

from __future__ import annotations

from dataclasses import dataclass

from nettrim_cli.options.declare import option
from nettrim_cli.settings.layers import METHODS

SCHEMES = ("cascade", "parallel")
ALLOCATIONS = ("network", "error", "uniform")
REFITS = ("auto", "layers", "network")
BIASES = ("free", "fixed")
WIDTHS = ("auto", "measured", "products")
DEFAULT_GAMMA = 1.1**0.5


@dataclass(frozen=True)
class MethodSettings:
    """How weights are found: what ``Settings`` says of it."""

    method: str = option(
        "l0",
        "How weights are found: l0, net-trim, one-sided or reweighted.",
        group="Method",
        detail="l0: fewest weights, then a refit of those kept (best by measurement). "
        "net-trim: the paper's convex program to the letter. "
        "one-sided: the same with inactive responses sharing epsilon, so fewer weights. "
        "reweighted: four rounds of that, each makes large weights cheaper, so fewer stay.",
        choices=METHODS,
        metavar="HOW",
    )
    allocate: str | None = option(
        None,
        "How zeros are shared out over the layers: network, error or uniform.",
        group="Method",
        detail="network: so that the network's output changes least (best by measurement). "
        "error: so that the layers' own responses change least. uniform: the same sparsity in "
        "every layer. It goes with any target but epsilon; with --sparsity and few samples l0 "
        "tries the others on held-out samples, too.",
        absent="network with l0, else uniform",
        choices=ALLOCATIONS,
        metavar="HOW",
    )
    scheme: str = option(
        "cascade",
        "What a layer reads: cascade (the pruned layers before it) or parallel (the dense ones).",
        group="Method",
        choices=SCHEMES,
        metavar="HOW",
    )
    sweeps: int = option(
        1,
        "Passes over the layers, each of which chooses all weights anew.",
        group="Method",
        detail="It needs l0 and any target but epsilon. Later passes go by what the pruned network "
        "still reads, and take some two fifths of the time of the first. The best on held-out "
        "samples is kept.",
        example="3",
        low=1,
        high=100,
        metavar="N",
    )
    refit: str = option(
        "auto",
        "What is fitted in the end: auto, layers or network.",
        group="Method",
        detail="layers: the kept weights of each layer, to its own responses. network: then "
        "those of all layers together, with biases, scales and shifts, to the dense network's "
        "outputs, with any target but epsilon. Held-out samples decide whether that is kept. auto: "
        "the same in fewer steps, with l0 in a cascade.",
        choices=REFITS,
        metavar="WHAT",
    )
    gamma: float = option(
        DEFAULT_GAMMA,
        "Slack over the error that an unpruned layer would make.",
        group="Method",
        detail="It is for a cascade with any method but l0 (paper: sqrt(1.1)).",
        example="1.2",
        low=1,
        high=100,
        metavar="G",
    )
    risk: float = option(
        1.0,
        "Share of its epsilon that the last layer is to do with, where that is possible.",
        group="Method",
        detail="It is for a cascade with --epsilon and any method but l0, and a last layer without "
        "a ReLU: the paper's risk coefficient (in its experiment 0.35). A smaller share makes the "
        "outputs' error smaller. Where no weights are found within it, the layer has all of its "
        "epsilon.",
        example="0.35",
        above=0,
        high=1,
        metavar="K",
    )
    bias: str = option(
        "free",
        "What becomes of biases with convex methods: free or fixed.",
        group="Method",
        detail="free: they are part of the program, and cost what a weight costs, as in the "
        "paper. fixed: they stay as they are and cost nothing, as in its authors' code for "
        "convolutions. It is for any method but l0.",
        choices=BIASES,
        metavar="HOW",
    )
    widths: str = option(
        "auto",
        "What tells how long smaller layers take: auto, measured or products.",
        group="Method",
        detail="measured: onnxruntime, on this machine, once for each kind of layer. products: the "
        "products of numbers, the same everywhere. auto: measured with --speedup or --batch. It "
        "goes with --structure.",
        choices=WIDTHS,
        metavar="HOW",
    )
    batch: int = option(
        1,
        "Samples of a call whose time counts, with --structure.",
        group="Method",
        example="64",
        low=1,
        high=1 << 20,
        metavar="N",
    )
