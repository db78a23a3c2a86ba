"""What a sample makes of memory on its way through a network, against the tensors themselves."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.data.engine import Engine
from nettrim_cli.graph.analysis.tensor_sizes import sizes
from nettrim_cli.graph.model import Model
from tests.support.networks import NETWORKS, input_samples
from tests.support.small import build, normal, run


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_of_all_tensors(name) -> None:
    proto = NETWORKS[name]()
    x = input_samples(proto, 3)
    names = [output for node in proto.graph.node for output in node.output]
    found = Engine(sizes(Model(proto)), threads=1).run({"x": x})
    assert list(map(int, found)) == [each.size for each in run(proto, names, {"x": x})]


def test_constants_and_inner_tensors_are_left_out() -> None:
    proto = build(
        """g (float[N,4] x, bool c) => (float[N,4] y) {
            v = Identity(w)
            y = If(c) <
                then_branch = t () => (float[N,4] u) { a = MatMul(x, v) u = Relu(a) },
                else_branch = e () => (float[N,4] k) { k = Identity(x) }
            >
        }""",
        w=normal(4, 4),
    )
    feeds = {"x": normal(3, 4), "c": np.array(True)}
    assert Engine(sizes(Model(proto)), threads=1).run(feeds) == [12]
