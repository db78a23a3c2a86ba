"""A smaller model without some units: constants cut, sizes, bounds and counts changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.channels.editor import Editor
from nettrim_cli.graph.channels.find import Found, find
from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops.channel_context import (
    Counted,
    Divided,
    Edit,
    Labels,
    Picked,
    Resized,
    compressed,
    varying,
)

Mask = NDArray[np.bool_]


def delete_units(model: Model, kept: Mapping[str, NDArray[np.intp]]) -> Model:
    """A new model without some units; its inputs and outputs have the shapes that they had.

    It gives the same outputs, up to rounding, if the rows of what goes are zero in all readers.

    Parameters
    ----------
    model
        The model, which stays as it is.
    kept
        By name of the group: numbers (N,) of the units that stay, or a mask; groups that are not
        named stay whole.

    Raises
    ------
    ValueError
        There is no such group, or none of its units would stay.
    """
    return delete_found(find(model), kept)


def delete_found(search: Found, kept: Mapping[str, NDArray[np.intp]]) -> Model:
    """As `delete_units`, of units that have been found, by numbers (N,) or masks.

    Raises
    ------
    ValueError
        There is no such group, or none of its units would stay.
    """
    gone = np.zeros(int(search.classes.max(initial=-1)) + 1, bool)
    for name, units in kept.items():
        if name not in search.members:
            raise ValueError(f"no group of units is named {name}")
        members = search.members[name]
        if not members[units].size:
            raise ValueError(f"at least one unit of {name} has to stay")
        gone[np.setdiff1d(members, members[units])] = True
    return _Deletion(search, gone).model()


@dataclass(frozen=True)
class _Deletion:
    """Units that go."""

    search: Found
    gone: Mask

    def model(self) -> Model:
        """The smaller model."""
        walk = self.search.walk
        editor = Editor(walk.model.clone())
        for number, edits in walk.edits.items():
            concerned = [edit for edit in edits if self._concerns(edit)]
            if concerned:
                self._edit(editor, editor.index.nodes[number], concerned)
        changed = (name for name, labels in walk.labels.items() if self._loses(labels))
        return editor.finished(changed)

    def _loses(self, labels: Labels) -> bool:
        return bool(self.gone[self.search.classes[labels]].any())

    def _concerns(self, edit: Edit) -> bool:
        parts = edit.parts if isinstance(edit, Divided) else (edit.labels,)
        return any(self._loses(labels) for labels in parts)

    def _survivors(self, labels: Labels) -> tuple[int, Mask]:
        """The axis along which entries go, and which of them stay."""
        classes = compressed(self.search.classes[labels])
        axes = varying(classes)
        return (axes[0] if axes else -1), ~self.gone[classes.reshape(-1)]

    def _left(self, labels: Labels, axis: int) -> int:
        """Entries that stay along an axis."""
        place, mask = self._survivors(labels)
        return int(mask.sum()) if place == axis else labels.shape[axis]

    def _edit(self, editor: Editor, node: Node, edits: list[Edit]) -> None:
        cuts: dict[int, dict[int, Mask]] = {}
        sizes: dict[int, dict[int, int]] = {}
        for edit in edits:
            if isinstance(edit, Counted):
                stay = ~self.gone[self.search.classes[edit.labels]]
                editor.set_attribute(node, edit.attribute, int(stay.sum()))
            elif isinstance(edit, Divided):
                editor.set_parts(node, [self._left(part, edit.axis) for part in edit.parts])
            elif isinstance(edit, Picked):
                self._pick(editor, node, edit)
            else:
                axis, mask = self._survivors(edit.labels)
                if isinstance(edit, Resized):
                    offset = axis - edit.labels.ndim
                    sizes.setdefault(edit.slot, {})[offset] = int(mask.sum())
                elif axis in edit.axes:
                    cuts.setdefault(edit.slot, {})[edit.axes.index(axis)] = mask
        for slot, masks in cuts.items():
            editor.cut(node, slot, masks)
        for slot, numbers in sizes.items():
            name = node.input[slot] if slot < len(node.input) else ""
            length = self.search.walk.sizes.of(name)
            editor.set_sizes(node, slot, numbers, length[0] if length else None)

    def _pick(self, editor: Editor, node: Node, edit: Picked) -> None:
        axis, mask = self._survivors(edit.labels)
        if axis != edit.axis:
            return
        positions = np.cumsum(mask) - 1
        entries = edit.entries if edit.entries.ndim == 0 else edit.entries[mask[edit.entries]]
        if edit.indices_slot is not None:
            editor.set_list(node, edit.indices_slot, positions[entries])
        else:
            first = int(mask[: edit.entries[0]].sum()) if edit.entries.size else 0
            editor.set_bounds(node, axis, edit.labels.ndim, first, first + len(entries))
