"""Einsum with a constant operand agrees with onnxruntime, or is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.graph import ops
from nettrim_cli.graph.ops import Unsupported, read_geometry
from tests.support.effort import examples
from tests.support.one_node import OneNode, assert_linear
from tests.support.small import normal


@st.composite
def equations(draw):
    """An equation of two operands, with shapes of the constant and of x, and the slot."""
    kinds = [draw(st.integers(low, 2)) for low in (0, 1, 0, 0)]
    letters = iter("iBaZtcxM")
    block, inner, outer, kept = ([next(letters) for _ in range(count)] for count in kinds)
    size = {letter: draw(st.integers(1, 3)) for letter in block + inner + outer + kept}
    weight = draw(st.permutations(block + inner + outer))
    x = draw(st.permutations(block + inner + kept))
    summed = draw(st.sampled_from([[], kept[:1]]))
    y = draw(st.permutations([a for a in block + outer + kept if a not in summed]))
    shapes = [
        [1 if draw(st.integers(0, 5)) == 0 and a in x and a in weight else size[a] for a in term]
        for term in (weight, x)
    ]
    rest = draw(st.sampled_from([None, (), (2,), (2, 1)]))
    if rest is not None:
        at, behind = draw(st.integers(0, len(x))), draw(st.integers(0, len(y)))
        x[at:at], shapes[1][at:at], y[behind:behind] = ["..."], rest, ["..."]
    terms, slot = ["".join(weight), "".join(x)], draw(st.integers(0, 1))
    left = ",".join(terms[::-1] if slot else terms)
    return f"{left}->{''.join(y)}", *map(tuple, shapes), slot


@examples(150)
@given(equations(), st.integers(0, 99))
def test_einsum(case, seed):
    equation, weight, x, slot = case
    inputs = {"w": normal(*weight, seed=seed), "x": normal(*x, seed=seed + 1)}
    names = ["x", "w"] if slot else ["w", "x"]
    node = OneNode("Einsum", {name: np.asarray(inputs[name]) for name in names}, equation=equation)
    assert_linear(node, slot)


@examples(100)
@given(equations(), st.data(), st.integers(0, 99))
def test_einsum_of_three(case, data, seed):
    """The signal is what two operands make; axes that both have may be of size 1 in one."""
    equation, weight, x, slot = case
    left, y = equation.split("->")
    terms = left.split(",")
    if "..." in terms[1 - slot]:
        return
    axes = dict(zip(terms[1 - slot], x, strict=True))
    taken = [[a for a in axes if data.draw(st.booleans())] for _ in range(2)]
    taken[0] += [a for a in axes if a not in taken[0] + taken[1]]
    signals = ["".join(data.draw(st.permutations(each))) for each in taken]
    shapes = [
        tuple(
            1 if data.draw(st.integers(0, 4)) == 0 and a in taken[1] else axes[a]
            for a in signals[0]
        ),
        tuple(axes[a] for a in signals[1]),
    ]
    given_inputs = [
        ("x", np.asarray(normal(*shapes[0], seed=seed))),
        ("x2", np.asarray(normal(*shapes[1], seed=seed + 1))),
    ]
    at = data.draw(st.integers(0, 2))
    given_inputs.insert(at, ("w", np.asarray(normal(*weight, seed=seed + 2))))
    signals.insert(at, terms[slot])
    node = OneNode("Einsum", dict(given_inputs), equation=f"{','.join(signals)}->{y}")
    assert_linear(node, at)


@pytest.mark.parametrize(
    ("equation", "shape", "blocks", "axis"),
    [
        ("bsd, de -> bse", (3, 5), ((3, 5),), 2),
        ("...d,de->...e", (3, 5), ((3, 5),), -1),
        ("...d,de->e...", (3, 5), ((3, 5),), 0),
        ("bd,de", (3, 5), ((3, 5),), 1),
        ("...d,de", (3, 5), ((3, 5),), -1),
        ("bsd,dhk->bhsk", (6, 2, 3), ((6, 6),), None),
        ("bhsk,hkd->bsd", (2, 3, 6), ((6, 6),), 2),
        ("ebd,edf->ebf", (4, 2, 3), ((2, 3),) * 4, 2),
    ],
)
def test_blocks_and_axes(equation, shape, blocks, axis):
    geometry = read_geometry("Einsum", 1, {"equation": equation}, shape)
    assert ops.blocks(geometry, shape) == blocks
    assert ops.output_axis(geometry) == axis


@pytest.mark.parametrize(
    ("equation", "shape", "reason"),
    [
        ("bd", (3, 5), "does not match its operands"),
        ("d,dd->d", (3, 3), "diagonal"),
        ("bd,de->b", (3, 5), "sums up an axis of the weight alone"),
        ("b...d,...de->b...e", (2, 3, 5), "'...' in the weight"),
        ("bd,d->bd", (3,), "no products"),
        ("...d,de->e", (3, 5), "sums up '...'"),
        ("bd,d->b", (3, 5), "does not match"),
    ],
)
def test_what_is_refused(equation, shape, reason):
    with pytest.raises(Unsupported, match=reason):
        read_geometry("Einsum", 1, {"equation": equation}, shape)


def test_all_operands_may_be_weights():
    assert ops.slots("Einsum", 3) == (0, 1, 2)
    assert ops.slots("Einsum", 1) == ()
    assert ops.is_product("Einsum")
