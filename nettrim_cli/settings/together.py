"""Options of a run that do not go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nettrim_cli.errors import BadInput
from nettrim_cli.settings.bits import check_bits
from nettrim_cli.settings.layers import check_layers
from nettrim_cli.settings.method import DEFAULT_GAMMA
from nettrim_cli.settings.targets import check_one_target

if TYPE_CHECKING:
    from nettrim_cli.settings.run import Settings


def check_together(settings: Settings) -> None:
    """Check options that are right on their own.

    Raises
    ------
    BadInput
        They contradict each other, or some of them have no meaning.
    """
    targets = check_one_target(vars(settings))
    if settings.pattern is not None:
        _check_pattern(settings, targets)
    _check_fits(settings)
    check_bits(settings.bits, settings.target[0], runtime_int8=settings.runtime_int8)
    if settings.structure != "zeros":
        _check_structure(settings)
    elif settings.speedup is not None:
        raise BadInput(
            "--speedup needs layers that are smaller, as runtimes are no faster for zeros: add "
            "--structure shrink."
        )
    elif settings.widths != "auto" or settings.batch != 1:
        raise BadInput(
            "--widths and --batch are about smaller layers, and --structure zeros makes none: "
            "leave them out, or give --structure shrink."
        )
    check_layers(settings)
    if settings.workers > 1 and settings.cluster is not None:
        raise BadInput(
            "--workers are processes on this machine, and --cluster has workers of its own: give "
            "one of them."
        )


def _check_fits(settings: Settings) -> None:
    by_epsilon = settings.target_epsilon is not None
    if settings.target_epsilon == 0 and settings.method == "l0":
        raise BadInput(
            "--epsilon 0 asks for weights that keep responses exactly, which l0 does not look for: "
            "add --method net-trim, or allow an error, such as --epsilon 1%."
        )
    if settings.sweeps > 1 and (by_epsilon or settings.method != "l0"):
        raise BadInput(
            "More sweeps need method l0 and a target of the whole network, such as --sparsity: "
            "elsewhere they would choose nothing anew."
        )
    if settings.refit == "network" and by_epsilon:
        raise BadInput(
            "--refit network fits the network's outputs, of which --epsilon says nothing: "
            "leave it out, or give a target of the whole network, such as --sparsity."
        )
    no_slack = settings.method == "l0" or settings.scheme != "cascade"
    if settings.gamma != DEFAULT_GAMMA and no_slack:
        raise BadInput(
            f"--gamma has no meaning for --method {settings.method} --scheme {settings.scheme}: "
            "leave it out, or choose another method than l0, in cascade."
        )
    if settings.risk != 1 and (no_slack or not by_epsilon):
        raise BadInput(
            "--risk is a share of the last layer's epsilon in a cascade: leave it out, or give "
            "--epsilon, --scheme cascade and another method than l0."
        )
    if settings.bias != "free" and settings.method == "l0":
        raise BadInput(
            "--bias fixed is about convex methods, and l0 refits biases: leave it out, or give "
            "--method net-trim, one-sided or reweighted."
        )
    if settings.allocate is not None and by_epsilon:
        raise BadInput(
            "--allocate shares zeros out over the layers, which --epsilon "
            "leaves to each layer: leave it out, or give a target of the whole network, such "
            "as --sparsity."
        )


def _check_structure(settings: Settings) -> None:
    clashes = {
        "--method": settings.method != "l0",
        "--pattern": settings.pattern is not None,
        "--allocate": settings.allocate is not None,
        "--limit": bool(settings.limit),
        "--sweeps": settings.sweeps > 1,
        "--forecast": settings.forecast,
        "--speedup": settings.structure == "shrink+zeros" and settings.speedup is not None,
    }
    if clashing := [name for name, clash in clashes.items() if clash]:
        raise BadInput(
            f"--structure {settings.structure} makes layers smaller, which goes without "
            f"{' and '.join(clashing)}: leave that out, or give another structure."
        )
    if settings.no_delete and settings.structure != "ranks":
        raise BadInput(
            f"--structure {settings.structure} deletes hidden units, which --no-delete forbids: "
            "leave one of them out, or give --structure ranks."
        )


def _check_pattern(settings: Settings, targets: Sequence[str]) -> None:
    pattern = settings.pattern
    if settings.method != "l0" or settings.limit:
        raise BadInput("--pattern needs method l0, and goes with no --limit.")
    if settings.n_of_m is not None and (targets or settings.allocate is not None):
        raise BadInput(
            f"--pattern {pattern} says itself how many zeros each layer gets: leave out other "
            "targets and --allocate."
        )
    if settings.n_of_m is None and settings.target_epsilon is not None:
        raise BadInput(
            f"--pattern {pattern} needs a target that says how many blocks are zero, such as "
            "--sparsity."
        )
