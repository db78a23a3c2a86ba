"""Which inputs of a model number the rows of a table, and how many rows there are."""

from __future__ import annotations

from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported


def index_bounds(model: Model) -> dict[str, int]:
    """Rows of the shortest constant table that an input, as it is or reshaped, takes rows from."""
    index = model.index
    bounds = {tensor.name: _rows(index, tensor.name) for tensor in model.inputs}
    return {name: min(rows) for name, rows in bounds.items() if rows}


def _rows(index: Index, name: str) -> list[int]:
    rows: list[int] = []
    for use in index.users(name):
        node = index.nodes[use.node]
        if index.spec(node).indices == use.slot:
            axis = int(index.attributes(node).get("axis", 0))
            try:
                shape = index.view(node.input[0]).shape
            except Unsupported:
                continue
            if -len(shape) <= axis < len(shape):
                rows.append(shape[axis])
        elif index.spec(node).same_numbers and use.slot == 0:
            rows += _rows(index, node.output[0])
    return rows
