"""How many axes the tensors of a model have, as far as simple rules tell.

Nothing is looked at but ranks, lengths of lists, attributes and short constants, as declared
shapes may be wrong and models of any size are read.  The lengths are there for shapes that are
computed: a Reshape gives as many axes as its list has entries, whatever these are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nettrim_cli.graph.ir.flatten import STANDARD, Node

Integers = Callable[[str], tuple[int, ...] | None]


@dataclass(frozen=True)
class Ranks:
    """What is known so far, by tensor; grows node by node.

    Attributes
    ----------
    integers
        Gives the values of a constant tensor of integers by its name, or None.
    ranks
        Numbers of axes.
    lengths
        Numbers of entries, of tensors with one axis.
    """

    integers: Integers
    ranks: dict[str, int]
    lengths: dict[str, int]

    def add(self, node: Node, given: Mapping[str, Any]) -> None:
        """Take up a node with its attributes; what is known of its result already stays."""
        place, name = _Place(self, node, given), next(filter(None, node.output), "")
        if node.domain not in STANDARD or not name:
            return
        found = RULES.get(node.op_type, _unknown)(place)
        if found is not None:
            for each in node.output if node.op_type == "Split" else (name,):
                self.ranks.setdefault(each, found)
        if self.ranks.get(name) == 1:
            length = LENGTHS.get(node.op_type, _unknown)(place)
            if length is not None:
                self.lengths.setdefault(name, length)


@dataclass(frozen=True)
class _Place:
    """A node with what a rule may ask for."""

    known: Ranks
    node: Node
    given: Mapping[str, Any]

    @property
    def count(self) -> int:
        """Number of inputs."""
        return len(self.node.input)

    def name(self, slot: int) -> str:
        """Name of an input, empty where there is none."""
        return self.node.input[slot] if slot < self.count else ""

    def rank(self, slot: int = 0) -> int | None:
        """Rank of an input."""
        return self.known.ranks.get(self.name(slot))

    def length(self, slot: int = 0) -> int | None:
        """Entries of an input with one axis."""
        return self.known.lengths.get(self.name(slot))

    def listed(self, name: str, slot: int) -> tuple[int, ...] | None:
        """A list of integers: the attribute of that name, or a constant input."""
        if name in self.given:
            found = self.given[name]
            return found if isinstance(found, tuple) else (found,)
        return self.known.integers(self.name(slot)) if self.name(slot) else None


Rule = Callable[[_Place], int | None]


def _unknown(at: _Place) -> int | None:
    return None


def _always(count: int) -> Rule:
    return lambda at: count


def _first(at: _Place) -> int | None:
    return at.rank()


def _any_of(*slots: int) -> Rule:
    """Inputs that have as many axes as the output: the first whose rank is known."""
    return lambda at: next((each for s in slots if (each := at.rank(s)) is not None), None)


def _largest(at: _Place) -> int | None:
    ranks = [each for slot in range(at.count) if (each := at.rank(slot)) is not None]
    return max(ranks) if ranks and len(ranks) == at.count else None


def _matmul(at: _Place) -> int | None:
    one, two = at.rank(0), at.rank(1)
    if not one or not two:
        return None
    return max(one, two, 2) - (one == 1) - (two == 1)


def _length_of(slot: int) -> Rule:
    """As many axes as a list has entries; before opset 5 the list is an attribute."""

    def rule(at: _Place) -> int | None:
        given = at.given.get("shape")
        return at.length(slot) if given is None else len(given)

    return rule


def _expand(at: _Place) -> int | None:
    length, mine = at.length(1), at.rank()
    return None if length is None or mine is None else max(length, mine)


def _more(sign: int) -> Rule:
    """An axis more, or less, for each that is listed."""

    def rule(at: _Place) -> int | None:
        axes, mine = at.listed("axes", 1), at.rank()
        return None if axes is None or mine is None else mine + sign * len(axes)

    return rule


def _reduced(at: _Place) -> int | None:
    if at.given.get("keepdims", 1):
        return at.rank()
    axes, mine = at.listed("axes", 1), at.rank()
    return None if not axes or mine is None else mine - len(axes)


def _found(at: _Place) -> int | None:
    mine = at.rank()
    return None if mine is None else mine - (not at.given.get("keepdims", 1))


def _gathered(at: _Place) -> int | None:
    one, two = at.rank(0), at.rank(1)
    return None if one is None or two is None else one + two - 1


def _one_hot(at: _Place) -> int | None:
    mine = at.rank()
    return None if mine is None else mine + 1


def _sum_of_lengths(at: _Place) -> int | None:
    lengths = [each for slot in range(at.count) if (each := at.length(slot)) is not None]
    return sum(lengths) if len(lengths) == at.count else None


def _largest_length(at: _Place) -> int | None:
    lengths = [1 if at.rank(slot) == 0 else at.length(slot) for slot in range(at.count)]
    ready = [each for each in lengths if each is not None]
    return max(ready) if ready and len(ready) == at.count else None


def _cut_length(at: _Place) -> int | None:
    """Entries that a Slice leaves of a list."""
    length, step = at.length(), at.listed("steps", 4) if at.name(4) else (1,)
    starts, ends = at.listed("starts", 1), at.listed("ends", 2)
    if length is None or not (starts and ends and step) or not step[0]:
        return None
    return len(range(*slice(starts[0], ends[0], step[0]).indices(length)))


def _reshaped_length(at: _Place) -> int | None:
    wanted = at.listed("shape", 1)
    if not wanted or wanted[0] == 0:
        return None
    return wanted[0] if wanted[0] > 0 else at.length()


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
KEEP = (
    *("Identity", "Dropout", "Cast", "Transpose", "Pad", "Slice", "Resize", "Upsample", "Tile"),
    *("Split", "CumSum", "DepthToSpace", "SpaceToDepth", "Trilu", "ReverseSequence"),
    *("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "HardSwish", "Mish"),
    *("Sigmoid", "HardSigmoid", "Tanh", "Softplus", "Softsign", "ThresholdedRelu", "Swish"),
    *("Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Reciprocal", "Sin", "Cos", "Sign", "Not"),
    *("Floor", "Ceil", "Round", "IsNaN", "BatchNormalization", "InstanceNormalization"),
    *("LayerNormalization", "GroupNormalization", "RMSNormalization", "LRN"),
    *("LpNormalization", "Softmax", "LogSoftmax", "Hardmax", "MaxPool", "AveragePool", "LpPool"),
    *("GlobalAveragePool", "GlobalMaxPool", "QuantizeLinear", "DequantizeLinear"),
    *("DynamicQuantizeLinear", "GatherElements", "ScatterElements", "ScatterND"),
)
BROADCAST = (
    *("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Sum", "Mean", "Mod", "Where"),
    *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor"),
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(KEEP, _first),
    **dict.fromkeys(BROADCAST, _largest),
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger"), _any_of(0, 1)),
    "QLinearConv": _any_of(0, 3),
    "Concat": lambda at: _any_of(*range(at.count))(at),
    **dict.fromkeys(("MatMul", "MatMulInteger"), _matmul),
    **dict.fromkeys(("Flatten", "Gemm", "NonZero"), _always(2)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _always(4)),
    **dict.fromkeys(("Shape", "Range"), _always(1)),
    "Size": _always(0),
    "Reshape": _length_of(1),
    "ConstantOfShape": _length_of(0),
    "Expand": _expand,
    "Unsqueeze": _more(1),
    "Squeeze": _more(-1),
    "Gather": _gathered,
    "OneHot": _one_hot,
    **{f"Reduce{each}": _reduced for each in REDUCTIONS},
    **dict.fromkeys(("ArgMax", "ArgMin"), _found),
}
"""By op of the standard domain."""

LENGTHS: dict[str, Rule] = {
    **dict.fromkeys(("Identity", "Cast", "Abs", "Neg"), lambda at: at.length()),
    **dict.fromkeys(BROADCAST, _largest_length),
    "Shape": lambda at: None if {"start", "end"} & set(at.given) else at.rank(),
    "Concat": _sum_of_lengths,
    "Gather": lambda at: at.length(1),
    "Unsqueeze": _always(1),
    "Slice": _cut_length,
    "Reshape": _reshaped_length,
}
"""Entries of results that have one axis."""
