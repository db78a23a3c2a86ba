"""A model beside gradients of random combinations of its outputs.

With signs r, each 1 or -1 at random, ``g = J'r`` is the gradient of ``r'y``, J being the derivative
of the outputs y.  The mean of ``g g'`` is ``J'J`` (Hutchinson, Communications in Statistics 19,
1990).  So to first order the square of an entry of g tells what an error of that entry of a tensor
does to the outputs, and ``(g'e)^2`` what an error e of the whole tensor does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from onnx import TensorProto, helper

from nettrim_cli.graph.gradient.backward import Gradients, backward
from nettrim_cli.graph.gradient.builder import Builder
from nettrim_cli.graph.gradient.flat_model import FlatModel, flat_model
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Runnable

SCALE = "scale:"
"""Before the name of an output: what its signs are multiplied by."""


@dataclass(frozen=True)
class SignGraph:
    """A graph that computes squares and products of gradients, with new signs in every run.

    Its inputs are those of the model and a scale of each output.

    Attributes
    ----------
    runnable
        The graph.
    outputs
        The model's outputs.
    energies
        By tensor, the name of the sums (M,) of squares of its gradient, one sum a channel.
    columns
        By tensor, the name of the sums (P,) of these squares over channels, one sum a place.
    moments
        By tensor, the name of the sums (M, M) of products of its gradient's channels.
    products
        By tensor, the name of the product of its gradient with an error: one sum for each place
        on the first axis where its length varies, as that of samples does, else (1,).
    """

    runnable: Runnable
    outputs: tuple[str, ...]
    energies: Mapping[str, str]
    columns: Mapping[str, str]
    moments: Mapping[str, str]
    products: Mapping[str, str]


def sign_graph(
    index: Index,
    outputs: Iterable[str],
    *,
    channels: Mapping[str, int] | None = None,
    places: Mapping[str, int] | None = None,
    pairs: Mapping[str, int] | None = None,
    copies: Mapping[str, str] | None = None,
    branches: Mapping[str, bool] = MappingProxyType({}),
) -> SignGraph:
    """The graph for some tensors of a model.

    Where gradients do not come through a node, they begin anew before it: with signs, as large on
    average as behind it.  That still tells channels apart, but no product is known there.

    Parameters
    ----------
    index
        The model.
    outputs
        Names of tensors of floating-point numbers.
    channels
        Tensors whose energies are wanted, and the axis of their channels, from the end if negative.
    places, pairs
        The same of those whose sums of each place, and whose moments are wanted.
    copies
        Tensors whose products are wanted, and tensors with the error added.
    branches
        See ``flat_model``; tensors may be in a branch that is taken.

    Raises
    ------
    BadInput
        The model cannot be converted to an operator set with gradients.
    """
    names, channels, places = tuple(outputs), channels or {}, places or {}
    pairs, copies = pairs or {}, copies or {}
    model = flat_model(index, (), [*dict.fromkeys((*names, *copies.values()))], branches)
    graph = model.proto.graph
    del graph.output[:]
    signs = _Signs(model, Builder(graph, model.index.opset, model.index.all_names()))
    for name in names:
        kind = model.facts.types.get(name, TensorProto.FLOAT)
        graph.input.append(helper.make_tensor_value_info(SCALE + name, kind, []))
    seeds = {name: signs.g.Mul(signs.like(name), SCALE + name) for name in names}
    gradients = backward(model, signs.g, seeds, [*channels, *places, *pairs, *copies], signs.before)
    energies, columns, moments, products = {}, {}, {}, {}
    for name, axis in channels.items():
        if name in gradients.names and (energy := signs.energy(gradients, name, axis)):
            energies[name] = energy
    for name, axis in places.items():
        if name in gradients.names and (sums := signs.by_place(gradients, name, axis)):
            columns[name] = sums
    for name, axis in pairs.items():
        if name in gradients.names and (rows := signs.rows(gradients.names[name], name, axis)):
            moments[name] = signs.g.MatMul(signs.g.Transpose(rows, perm=[1, 0]), rows)
    for name, copy in copies.items():
        if name in gradients.names and name not in gradients.guessed:
            error = signs.g.Sub(copy, name)
            products[name] = signs.by_sample(signs.g.Mul(gradients.names[name], error), name)
    wanted = (*energies.values(), *columns.values(), *moments.values(), *products.values())
    computed = dict.fromkeys(wanted)
    graph.output.extend(helper.make_empty_tensor_value_info(name) for name in computed)
    runnable = model.external.runnable(model.proto)
    return SignGraph(runnable, names, energies, columns, moments, products)


class _Signs:
    """Appends nodes for random signs and what is made of gradients."""

    def __init__(self, model: FlatModel, g: Builder) -> None:
        self.model, self.g = model, g
        self._count = 0

    def like(self, name: str) -> str:
        """Signs in the shape of a tensor, others in every run."""
        self._count += 1
        noise = self.g.RandomUniformLike(name, low=-1.0, high=1.0, seed=float(self._count))
        return self.g.Sign(noise)

    def before(self, name: str, behind: str) -> str:
        """Signs for a tensor, as large on average as a gradient; empty where it has no numbers."""
        if self.model.facts.types.get(name) not in (TensorProto.FLOAT, TensorProto.DOUBLE):
            return ""
        squares = self.g.ReduceMean(self.g.Mul(behind, behind), keepdims=0)
        return self.g.Mul(self.like(name), self.g.Sqrt(squares))

    def energy(self, gradients: Gradients, name: str, axis: int) -> str:
        """Sums (M,) of squares over all axes but one; empty where their number is not known."""
        rows = self._squares(gradients, name, axis)
        return self.g.total(rows, [0], keepdims=False) if rows else ""

    def by_place(self, gradients: Gradients, name: str, axis: int) -> str:
        """Sums (P,) of squares over one axis; empty where nothing is known of single places."""
        rows = "" if name in gradients.guessed else self._squares(gradients, name, axis)
        return self.g.total(rows, [1], keepdims=False) if rows else ""

    def by_sample(self, values: str, name: str) -> str:
        """Sums (P,) of values in the shape of a tensor over all axes but the first, or (1,).

        Only a first axis without a fixed length may be that of the samples.
        """
        sizes = self.model.facts.sizes.get(name)
        first = 0 if sizes and isinstance(sizes[0], str) else 1  # 0 copies the length
        rows = self.g.Reshape(values, self.g.constant([first, -1]))
        return self.g.total(rows, [1], keepdims=False)

    def _squares(self, gradients: Gradients, name: str, axis: int) -> str:
        gradient = gradients.names[name]
        return self.rows(self.g.Mul(gradient, gradient), name, axis)

    def rows(self, values: str, name: str, axis: int) -> str:
        """Values in the shape of a tensor as rows (P, M), M being the length of an axis.

        Empty where the number of the axes is not known.
        """
        g, last = self.g, -1
        if axis != -1:
            if name not in self.model.facts.sizes:
                return ""
            rank = len(self.model.facts.sizes[name])
            last = axis % rank
            others = [number for number in range(rank) if number != last]
            if last < rank - 1:
                values = g.Transpose(values, perm=[*others, last])
        size = g.Gather(g.shape(name), g.constant([last]))
        return g.Reshape(values, g.Concat(g.constant([-1]), size, axis=0))
