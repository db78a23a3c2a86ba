"""onnxruntime as nettrim starts it: its failures are sentences."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from onnx import helper

from nettrim_cli.data.engine import Engine, brief, is_array
from nettrim_cli.errors import EngineFailed
from tests.support.networks import attention, input_samples, mlp
from tests.support.small import build, run


@pytest.mark.parametrize("optimise", [False, True])
def test_outputs_come_in_the_order_asked_for(optimise) -> None:
    proto = attention()
    proto.graph.output.append(helper.make_tensor_value_info("r", 1, ["N", 5, 8]))
    x = input_samples(proto, 3)
    engine = Engine(proto.SerializeToString(), threads=1, optimise=optimise)
    assert engine.inputs == ("x",)
    assert engine.outputs == ("y", "r")
    y, r = run(proto, ["y", "r"], {"x": x})
    found = engine.run({"x": x, "unasked": x}, ["r", "y"])
    for one, two in zip(found, (r, y), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)
    assert len(engine.run({"x": x})) == 2


def test_recording_is_bit_for_bit_the_unfused_graph() -> None:
    proto = attention()
    x = input_samples(proto, 3)
    (found,) = Engine(proto.SerializeToString(), threads=1).run({"x": x})
    assert np.array_equal(found, run(proto, ["y"], {"x": x})[0])


def test_a_model_that_cannot_be_loaded() -> None:
    proto = build("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    proto.graph.node[0].op_type = "NoSuchOp"
    with pytest.raises(EngineFailed, match=r"cannot load the model.*NoSuchOp"):
        Engine(proto.SerializeToString(), threads=1)


def test_samples_that_cannot_be_run() -> None:
    engine = Engine(mlp().SerializeToString(), threads=1)
    with pytest.raises(EngineFailed, match="cannot run the model") as caught:
        engine.run({"x": np.zeros((2, 7), np.float32)})
    assert "\n" not in str(caught.value)


def test_messages_without_codes() -> None:
    text = "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions\nmore"
    assert brief(RuntimeError(text)) == "Got invalid dimensions"
    assert brief(RuntimeError("")) == "RuntimeError"
    assert brief(RuntimeError("plain : words")) == "plain : words"


def test_what_counts_as_an_array() -> None:
    assert is_array(np.zeros(2))
    assert not is_array([np.zeros(2)])
    assert not is_array(None)


UPLOADERS = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")


@pytest.mark.skipif(sys.platform != "linux", reason="where it would be kept is known for Linux")
@pytest.mark.parametrize("imported_before", [False, True])
def test_onnxruntime_reports_nothing(tmp_path, imported_before) -> None:
    """It would keep a number for the device and what it has to send in the user's cache."""
    (tmp_path / "m.onnx").write_bytes(mlp().SerializeToString())
    program = (
        "from nettrim_cli.data.engine import Engine; import numpy as np\n"
        "engine = Engine(open('m.onnx', 'rb').read(), threads=1)\n"
        "engine.run({'x': np.zeros((2, 16), np.float32)})\n"
    )
    if imported_before:  # at least its events are off; the file itself is there by then
        program = (
            "import onnxruntime; calls = []\n"
            "onnxruntime.disable_telemetry_events = lambda: calls.append(1)\n"
            f"{program}assert calls"
        )
    home = tmp_path / "home"
    home.mkdir()
    clean = {key: value for key, value in os.environ.items() if key not in UPLOADERS}
    clean |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=clean, check=True)
    if not imported_before:
        assert not list(home.rglob("*"))
