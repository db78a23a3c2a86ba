"""The scores behind an output of probabilities.

A Softmax or a Sigmoid at the end flattens all changes but those of samples that are in doubt.
"""

from __future__ import annotations

from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.ops.softmax import maker, origin


def before_softmax(index: Index, name: str) -> str:
    """The tensor that a Softmax or a Sigmoid makes an output of; the output where none does."""
    node = maker(index, origin(index, name))
    scores = ""
    if node is not None and node.spec.probabilities:
        scores = node.name(0)
    elif node is not None and node.spec.scores is not None:
        scores = node.spec.scores(node)
    return name if not scores or scores in index.constants else scores
