"""Batches that models are timed on: of a file, or made from what a model declares."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from nettrim_cli.data.dataset import Calibration
from nettrim_cli.errors import BadInput, WrongUsage
from nettrim_cli.graph.model import Model
from nettrim_cli.latency.inputs import file_inputs, made_inputs
from tests.support.small import build, normal

BERT = """g (int64[B,S] ids, int64[B,S] mask, float[B,4] x, uint8[B,2] image, bool[B] flag)
    => (float[B,S,8] y) {
        e = Gather(table, ids)
        m = Cast<to = 1>(mask)
        u = Unsqueeze(m, axes)
        p = Mul(e, u)
        q = MatMul(x, w)
        i = Cast<to = 1>(image)
        j = ReduceSum(i)
        f = Cast<to = 1>(flag)
        k = ReduceSum(f)
        r = Add(j, k)
        s = Unsqueeze(q, one)
        t = Add(p, s)
        y = Add(t, r)
}"""


def bert() -> Model:
    tensors = {"table": normal(11, 8), "w": normal(4, 8)}
    return Model(build(BERT, **tensors, axes=np.array([2]), one=np.array([1])))


def chain(axes: str) -> Model:
    return Model(build(f"g (float[{axes}] x) => (float[{axes}] y) {{ y = Relu(x) }}"))


def test_made_inputs_have_the_declared_types_and_shapes() -> None:
    inputs = made_inputs(bert(), [1, 3], {"ids": (1, 5)})
    assert [batch.count for batch in inputs.batches] == [1, 3]
    feeds = inputs.batches[1].feeds
    assert {name: (array.dtype.name, array.shape) for name, array in feeds.items()} == {
        "ids": ("int64", (3, 5)),
        "mask": ("int64", (3, 5)),  # its axis has the same name
        "x": ("float32", (3, 4)),
        "image": ("uint8", (3, 2)),
        "flag": ("bool", (3,)),
    }
    assert 0 <= feeds["ids"].min() <= feeds["ids"].max() < 11
    assert len(np.unique(feeds["ids"])) > 1
    assert (feeds["mask"] == 1).all()
    assert feeds["flag"].all()
    assert inputs.origins[0] == (
        "ids (batch x 5, int64): random below 11, the rows of the table that it reads"
    )
    assert inputs.origins[1] == "mask (batch x 5, int64): ones"
    assert inputs.origins[2] == "x (batch x 4, float32): standard normal"


def test_equal_calls_make_equal_inputs() -> None:
    first, second = (made_inputs(chain("N,3"), [2]).batches[0].feeds["x"] for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize(
    ("sizes", "shapes", "count"),
    [((), {}, 1), ((), {"x": (7, 3)}, 7), ((2,), {"x": (7, 3)}, 2), ((2, 2), {}, 2)],
    ids=["one", "the shape's", "the option before the shape's", "each size once"],
)
def test_the_size_of_a_batch(sizes, shapes, count) -> None:
    (batch,) = made_inputs(chain("N,3"), sizes, shapes).batches
    assert batch.count == count
    assert batch.feeds["x"].shape == (count, 3)


def test_a_fixed_batch_is_the_only_one() -> None:
    inputs = made_inputs(chain("4,3"), [])
    assert inputs.batches[0].feeds["x"].shape == (4, 3)
    assert inputs.origins == ("x (4 x 3, float32): standard normal",)
    with pytest.raises(BadInput, match=r"--batch 64 is not possible.*batches of 4"):
        made_inputs(chain("4,3"), [4, 64])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, r"'ids'.*free axis.*--data.*--shape ids=1x128"),
        ({"x": (1, 4)}, r"'ids'.*free axis"),
    ],
)
def test_free_axes_are_asked_for(shapes, message) -> None:
    with pytest.raises(BadInput, match=message):
        made_inputs(bert(), [1], shapes)


def test_an_input_without_a_shape_takes_one_of_the_user() -> None:
    model = Model(build("g (float x) => (float y) { y = Relu(x) }"))
    model.inputs = (model.inputs[0].__class__("x", "float32", None),)
    with pytest.raises(BadInput, match=r"no declared shape.*--shape x="):
        made_inputs(model, [1])
    assert made_inputs(model, [5], {"x": (1, 9)}).batches[0].feeds["x"].shape == (5, 9)


@pytest.mark.parametrize(
    ("shape", "message"),
    [({"y": (1, 3)}, "no such input; its inputs are x"), ({"x": (1, 4)}, "--shape x=1x4 does not")],
)
def test_shapes_that_do_not_fit_are_wrong_usage(shape, message) -> None:
    with pytest.raises(WrongUsage, match=message):
        made_inputs(chain("N,3"), [1], shape)


def test_text_cannot_be_made() -> None:
    model = Model(build("g (string[N] x) => (string[N] y) { y = Identity(x) }"))
    with pytest.raises(BadInput, match=r"none can be made for the input 'x'.*--data"):
        made_inputs(model, [1])


def test_samples_of_a_file_are_repeated_where_a_batch_needs_more(tmp_path) -> None:
    path = tmp_path / "data.h5"
    values = normal(5, 3)
    with h5py.File(path, "w") as file:
        file["x"] = values
    with Calibration.open(path, chain("N,3").inputs) as samples:
        few, many = file_inputs(samples, [2, 8]).batches
        assert (few.feeds["x"] == values[:2]).all()
        assert many.feeds["x"].shape == (8, 3)
        assert {row.tobytes() for row in many.feeds["x"]} == {row.tobytes() for row in values}
        assert file_inputs(samples, [8]).origins == (f"the 5 samples of {path}, repeated",)
        assert file_inputs(samples, []).origins == (f"the first samples of {path}",)
        (held_out,) = file_inputs(samples, [1], np.array([3, 4])).batches
        assert (held_out.feeds["x"] == values[3:4]).all()
    with Calibration.open(path, chain("2,3").inputs) as samples:
        with pytest.raises(BadInput, match="--batch 1 is not possible"):
            file_inputs(samples, [1])
        assert file_inputs(samples, []).batches[0].count == 2
