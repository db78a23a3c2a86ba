"""How many axes the tensors of a model have, as far as the rules of the ops tell.

Nothing is looked at but ranks, lengths of lists, attributes and short constants, as declared
shapes may be wrong and models of any size are read.  The lengths are there for shapes that are
computed: a Reshape gives as many axes as its list has entries, whatever these are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nettrim_cli.graph.ops.context import NodeContext


@dataclass(frozen=True)
class Ranks:
    """What is known so far, by tensor; grows node by node.

    Attributes
    ----------
    ranks
        Numbers of axes.
    lengths
        Numbers of entries, of tensors with one axis.
    """

    ranks: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)

    def add_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Take up the shape of a constant."""
        self.ranks[name] = len(shape)
        if len(shape) == 1:
            self.lengths[name] = shape[0]

    def add_node(self, context: NodeContext) -> None:
        """Take up the outputs of a node; what is known of them already stays."""
        names = [name for name in context.node.output if name]
        rank = context.spec.rank(context)
        if rank is not None:
            for name in names if context.spec.every_output else names[:1]:
                self.ranks.setdefault(name, rank)
        if names and self.ranks.get(names[0]) == 1:
            length = context.spec.length(context)
            if length is not None:
                self.lengths.setdefault(names[0], length)
