"""The flat view of a model: every node of every graph, with tensor names of one scope.

Nodes of local functions appear once per call, with the names of the caller's tensors for the
function's arguments and results: calls are inlined.  Nodes of subgraphs (of If, Loop, Scan and any
other op with a graph as an attribute) come before the node that owns the graph.  Names of the main
graph stay as they are; others get the scope in front.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import onnx

from nettrim_cli.graph.storage.tensors import Holder

STANDARD = ("", "ai.onnx")
ENTER = "nettrim.enter"
"""Domain of the nodes whose results are the inputs of the subgraph of a Loop or a Scan."""


@dataclass(eq=False)
class Node:
    """A node as the flat view has it; reads like a NodeProto.

    Attributes
    ----------
    attribute
        Attributes, with values in place of references to those of a function's call.
    source
        The node in the model; None for one that stands for inputs or results.
    holder
        Holder of a Constant's value in the model itself (see ``storage.tensors``).
    parent
        The subgraph that the node is in; None for the main graph.
    subgraphs
        Its own subgraphs.
    captured
        Tensors from outside that its subgraphs read.
    function
        Name of the local function that it is in.
    refusal
        The reason why no layer in it can be pruned; empty for none.
    number
        Its position in the flat view.
    """

    op_type: str
    domain: str
    name: str
    input: tuple[str, ...]
    output: tuple[str, ...]
    attribute: Sequence[onnx.AttributeProto] = ()
    source: onnx.NodeProto | None = None
    holder: Holder | None = None
    parent: Subgraph | None = None
    subgraphs: tuple[Subgraph, ...] = ()
    captured: frozenset[str] = frozenset()
    function: str = ""
    refusal: str = ""
    number: int = -1

    @property
    def title(self) -> str:
        """Name of the node, or of its first result."""
        return self.name or next(filter(None, self.output), self.op_type)

    @cached_property
    def reads(self) -> frozenset[str]:
        """Tensors that it or its subgraphs read from where it stands."""
        return frozenset(filter(None, self.input)) | self.captured

    @cached_property
    def subgraph_outputs(self) -> tuple[str, ...]:
        """Outputs of its subgraphs, which it reads."""
        return tuple(name for subgraph in self.subgraphs for name in subgraph.outputs)

    @property
    def outermost(self) -> Node:
        """The node of the main graph that it is, or is inside of."""
        return self if self.parent is None else self.parent.owner.outermost

    @property
    def iterates(self) -> bool:
        """Whether its subgraph may run any number of times."""
        return any(subgraph.inputs for subgraph in self.subgraphs)

    @property
    def carries(self) -> bool:
        """Whether it is a Loop, which can hand any value from iteration to iteration."""
        return self.op_type == "Loop"


@dataclass(eq=False)
class Subgraph:
    """A subgraph with its parts under flat names.

    Attributes
    ----------
    owner
        The node that runs it.
    attribute
        Name of the owner's attribute that holds it.
    graph
        The graph in the model.
    """

    owner: Node
    attribute: str
    graph: onnx.GraphProto
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    sparse: dict[str, onnx.SparseTensorProto] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    @property
    def key(self) -> tuple[int, int]:
        """Number of its owner, and its position among the owner's subgraphs."""
        return self.owner.number, self.owner.subgraphs.index(self)

    @property
    def enclosing(self) -> Iterator[Subgraph]:
        """The subgraph and those around it, from the inside out."""
        subgraph: Subgraph | None = self
        while subgraph is not None:
            yield subgraph
            subgraph = subgraph.owner.parent


@dataclass
class FlatGraph:
    """All nodes of a model in dataflow order.

    Attributes
    ----------
    nodes
        Every node; a Loop's or Scan's ENTER node before those of its body.
    main_nodes
        The nodes of the main graph, with functions inlined.
    initializers, sparse
        Stored tensors of all scopes by flat name.
    versions
        Version of the operators of each domain, also of those that functions alone import.
    """

    nodes: list[Node] = field(default_factory=list)
    main_nodes: list[Node] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    sparse: dict[str, onnx.SparseTensorProto] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)


def depends_on(nodes: Iterable[Node], sources: Iterable[str]) -> set[str]:
    """`sources` and every tensor that is computed from one of them."""
    dependent, nodes, changed = set(sources), list(nodes), True
    while changed:  # a Loop's outputs are its inputs in the next iteration
        changed = False
        for node in nodes:
            if dependent.isdisjoint(node.reads) and dependent.isdisjoint(node.subgraph_outputs):
                continue
            dependent.update(name for name in node.output if name)
            for subgraph in node.subgraphs:
                inputs, outputs = subgraph.inputs, subgraph.outputs
                if not dependent.issuperset(inputs) and not dependent.isdisjoint(outputs):
                    dependent.update(inputs)
                    changed = True
    return dependent
