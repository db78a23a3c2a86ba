"""Groups of units that can be deleted, and why others cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.channels.units import NOWHERE, UnitColumns, UnitGroup, UnitRows
from nettrim_cli.graph.channels.walk import Walk, walk
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops.channel_context import Cut, Divided, Labels, compressed, varying
from nettrim_cli.reasons import NO_REASON, Reason

UNREAD = Reason("unread", "no layer that can be pruned reads them")
SIZE = Reason("fixed-partner", "the number of them is used as a size")
Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """The units of a model.

    Attributes
    ----------
    walk
        Labels of tensors, and edits of nodes.
    classes
        Number of the unit of each label.
    reasons
        By unit: why it has to stay; units that are not in it belong to a group.
    groups
        The groups.
    members
        By name of the group: the numbers of its units, in their order.
    """

    walk: Walk
    classes: Classes
    reasons: Mapping[int, Reason]
    groups: tuple[UnitGroup, ...]
    members: Mapping[str, NDArray[np.int64]]


def unit_groups(model: Model) -> tuple[UnitGroup, ...]:
    """All units of a model that can be deleted, in disjoint groups, in dataflow order."""
    return find(model).groups


def refusals(model: Model) -> Mapping[str, Reason]:
    """Why the outputs of layers have to stay, by name, where none of them can be deleted."""
    search = find(model)
    return _refusals(search)


def find(model: Model, *, inner: bool = False) -> Found:
    """The units of a model, with all that it takes to delete them.

    Parameters
    ----------
    inner
        Whether units are entries that products of two signals sum over, in place of whole heads.
    """
    result = walk(model, inner=inner)
    classes = _collapsed(result)
    reasons = _reasons(result, classes)
    groups, members = _groups(result, classes, reasons)
    return Found(result, classes, reasons, groups, members)


def arrays(walk: Walk) -> Iterator[Labels]:
    """All arrays of labels of which one axis alone may lose entries."""
    yield from walk.labels.values()
    for edits in walk.edits.values():
        for edit in edits:
            if isinstance(edit, Divided):
                yield from edit.parts
            else:
                yield edit.labels


def _components(walk: Walk) -> Classes:
    from scipy.sparse import coo_array  # takes long to import
    from scipy.sparse.csgraph import connected_components

    links = np.concatenate([*walk.links, np.zeros((2, 0), np.int64)], axis=1)
    shape = (walk.count, walk.count)
    graph = coo_array((np.ones(links.shape[1], np.int8), (links[0], links[1])), shape=shape)
    classes: Classes = connected_components(graph, directed=False)[1].astype(np.int64)
    return classes


def _collapsed(walk: Walk) -> Classes:
    """Numbers of units; in each tensor they lie along one axis, the longest of several."""
    classes = _components(walk)
    wide = {id(labels): labels for labels in arrays(walk) if len(varying(labels)) > 1}
    changed = True
    while changed:  # what goes together in one tensor may go together in one before it
        changed = False
        for labels in wide.values():
            axes = varying(compressed(classes[labels]))
            if len(axes) < 2:
                continue
            longest = max(axes, key=lambda axis: labels.shape[axis])
            first = labels
            for axis in axes:
                first = first if axis == longest else first.take([0], axis)
            pairs = np.broadcast_arrays(first, labels)
            walk.links.append(np.stack([array.reshape(-1) for array in pairs]))
            classes, changed = _components(walk), True
    return classes


def _reasons(walk: Walk, classes: Classes) -> dict[int, Reason]:
    """Why units have to stay, by number."""
    reasons: dict[int, Reason] = {}
    for labels, reason in walk.refused:
        for unit in np.unique(classes[labels]):
            reasons.setdefault(int(unit), reason)
    counts = np.array([*walk.counted], np.int64)
    numbers = np.isin(classes, classes[counts])
    numbers[counts] = False
    shared = {int(unit) for unit in classes[numbers]}  # of sizes and of entries at once
    refused = shared.union(reasons)
    for label, sources in walk.counted.items():
        unit = int(classes[label])
        for labels, axis in sources if unit in refused else ():
            if axis in varying(compressed(classes[labels])):
                for counted in np.unique(classes[labels]):
                    reasons.setdefault(int(counted), SIZE)
        reasons.setdefault(unit, SIZE)
    reading = [classes[rows] for rows in walk.rows.values()]
    reading += [classes[labels].reshape(-1) for _, pair in walk.multiplied for labels in pair]
    read = np.unique(np.concatenate(reading)) if reading else np.zeros(0, np.int64)
    for unit in np.setdiff1d(np.unique(classes), read):
        reasons.setdefault(int(unit), UNREAD)
    return reasons


def _groups(
    walk: Walk, classes: Classes, reasons: Mapping[int, Reason]
) -> tuple[tuple[UnitGroup, ...], dict[str, NDArray[np.int64]]]:
    """Units that appear in the same tensors, by the layers that make them."""
    count = int(classes.max(initial=-1)) + 1
    free = np.ones(count, bool)
    free[[*reasons]] = False
    places: list[list[int]] = [[] for _ in range(count)]
    for labels in _places(walk):
        for unit in np.unique(classes[labels]):
            if free[unit]:
                places[unit].append(id(labels))
    alike: dict[tuple[int, ...], list[int]] = {}
    order = dict.fromkeys(int(unit) for labels in _makers(walk) for unit in classes[labels])
    for unit in order:
        if free[unit]:
            alike.setdefault(tuple(places[unit]), []).append(unit)
    groups: list[UnitGroup] = []
    members: dict[str, NDArray[np.int64]] = {}
    for where, units in alike.items():
        if len(units) > 1:
            group = _group(walk, classes, np.array(units), {*where}, members)
            groups.append(group)
            members[group.name] = np.array(units)
    return tuple(groups), members


def _makers(walk: Walk) -> Iterator[Labels]:
    """Labels in the order in which the model makes them."""
    yield from walk.columns.values()
    for edits in walk.edits.values():
        for edit in edits:
            if isinstance(edit, Cut):
                yield edit.labels.reshape(-1)


def _places(walk: Walk) -> Iterator[Labels]:
    done: set[int] = set()
    for labels in (*walk.columns.values(), *walk.rows.values(), *arrays(walk)):
        if id(labels) not in done:
            done.add(id(labels))
            yield labels


def _group(
    walk: Walk,
    classes: Classes,
    units: NDArray[np.int64],
    where: Set[int],
    taken: Mapping[str, object],
) -> UnitGroup:
    """The group of some units, which appear in labels with the identities `where`."""
    producers = [
        UnitColumns(*key, _entries(classes[labels], units))
        for key, labels in walk.columns.items()
        if id(labels) in where
    ]
    readers = [
        UnitRows(*key, _entries(classes[labels], units))
        for key, labels in walk.rows.items()
        if id(labels) in where
    ]
    inside = [
        layer for layer, labels in walk.inside.items() if np.isin(classes[labels], units).any()
    ]
    stem = name = producers[0].layer if producers else _table(walk, classes, units)
    suffix = 2
    while name in taken:
        name, suffix = f"{stem}_{suffix}", suffix + 1
    return UnitGroup(name, len(units), tuple(producers), tuple(readers), tuple(inside))


def _table(walk: Walk, classes: Classes, units: NDArray[np.int64]) -> str:
    """Name of the first node that makes units of a constant."""
    for number, edits in walk.edits.items():
        for edit in edits:
            if isinstance(edit, Cut) and np.isin(classes[edit.labels], units).any():
                return walk.model.index.nodes[number].title
    return "constant"


def _entries(classes: Classes, units: NDArray[np.int64]) -> NDArray[np.int64]:
    """(units, entries): where each unit is in a list of units, filled up with ``NOWHERE``."""
    order = np.argsort(classes, kind="stable")
    ordered = classes[order]
    starts, ends = (np.searchsorted(ordered, units, side) for side in ("left", "right"))
    width = int((ends - starts).max(initial=0))
    places = starts[:, None] + np.arange(width)
    result = np.full(places.shape, NOWHERE, np.int64)
    inside = places < ends[:, None]
    result[inside] = order[places[inside]]
    return result


def _refusals(search: Found) -> dict[str, Reason]:
    result: dict[str, Reason] = {}
    columns: dict[str, list[Labels]] = {}
    for (layer, _), labels in search.walk.columns.items():
        columns.setdefault(layer, []).append(labels)
    for layer, labels in search.walk.inside.items():
        columns.setdefault(layer, []).append(labels)
    free = np.concatenate([*search.members.values(), np.zeros(0, np.int64)])
    for layer, parts in columns.items():
        units = np.unique(search.classes[np.concatenate(parts)])
        if not np.isin(units, free).any():
            reasons = (search.reasons.get(int(unit), NO_REASON) for unit in units)
            result[layer] = next(filter(None, reasons), UNREAD)
    return result
