"""onnxruntime, the only place that starts it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.errors import EngineFailed, OutOfMemory
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.process.channel import engine_call

Array = NDArray[Any]
FOLDER = "session.model_external_initializers_file_folder_path"
LARGE_BYTES = 1 << 28
TELEMETRY = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")
"""Variables that keep onnxruntime from reporting its use; which one depends on its version."""

# A call that takes longer than this is taken for one that never ends, unless --time-limit is set.
PATIENT_SECONDS, PATIENT_BYTES_PER_SECOND = 45.0, 1_000_000
NO_MEMORY = re.compile(r"bad_alloc|Failed to allocate memory|bad allocation")


def silent_onnxruntime() -> Any:
    """onnxruntime, kept from reporting its use.

    Its wheels do so by default, recent ones on Linux, too (microsoft/onnxruntime, pull request
    27379): they keep a number for the device and events below ``~/.cache``, and send them.  The
    variables must be set before it is first imported; the call is for those who had done so.
    """
    os.environ.update(dict.fromkeys(TELEMETRY, "1"))
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def runtime() -> str:
    """Name and version of the engine."""
    return f"onnxruntime {silent_onnxruntime().__version__}"


class Engine:
    """A model ready to run.

    Parameters
    ----------
    model
        A model, or a serialized ModelProto without external data.
    threads
        Threads inside an operator.
    optimise
        Whether onnxruntime may rewrite the graph, unless its weights are large.  Off for
        recording: fused nodes would hide the tensors asked for or change their values.
    arena
        Whether onnxruntime keeps the memory of tensors for others.  Off where all outputs are
        kept: they would hold far more memory than they need.

    as_listed
        Whether nodes run in the model's own order, as far as they can, instead of the engine's.

    Raises
    ------
    EngineFailed
        onnxruntime cannot load the model.
    OutOfMemory
        It has no room for it.
    """

    def __init__(
        self,
        model: bytes | Runnable,
        *,
        threads: int,
        optimise: bool = False,
        arena: bool = True,
        as_listed: bool = False,
    ) -> None:
        onnxruntime = silent_onnxruntime()
        if isinstance(model, bytes):
            model = Runnable(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A thread that spins for its next task would take a core from BLAS.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if model.folder:
            # The engine maps files from there.
            options.add_session_config_entry(FOLDER, model.folder)
        if model.external_bytes > LARGE_BYTES:
            # Packed or transposed copies of the weights would hold the model twice.
            options.add_session_config_entry("session.disable_prepacking", "1")
            optimise, arena, as_listed = False, False, True
        options.enable_cpu_mem_arena = arena
        if as_listed:
            options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._replaced = replace_weights(
                options, model, share=bool(model.folder) and not optimise
            )
            self._bytes = len(model.payload) + model.external_bytes
            with engine_call(patience(self._bytes)):
                self._session = onnxruntime.InferenceSession(
                    model.payload, options, providers=["CPUExecutionProvider"]
                )
        except Exception as error:
            raise failed("load", error) from error
        self.inputs = tuple(tensor.name for tensor in self._session.get_inputs())
        self.outputs = tuple(tensor.name for tensor in self._session.get_outputs())
        self.types = {tensor.name: str(tensor.type) for tensor in self._session.get_outputs()}

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Any]:
        """Outputs for one batch, in the order asked for (default: all).

        Raises
        ------
        EngineFailed
            A node failed on these samples.
        """
        names = list(self.outputs if outputs is None else outputs)
        fed = {name: feeds[name] for name in self.inputs}
        try:
            with engine_call(patience(self._bytes + fed_bytes(fed))):
                return list(self._session.run(names, fed))
        except Exception as error:
            raise failed("run", error) from error


def patience(size: int) -> float:
    """Seconds in which a model and a batch of so many bytes are done with on any machine."""
    return PATIENT_SECONDS + size / PATIENT_BYTES_PER_SECOND


def fed_bytes(feeds: Mapping[str, Any]) -> int:
    """Bytes of what is fed; sequences, which are small, count nothing."""
    return sum(int(getattr(value, "nbytes", 0)) for value in feeds.values())


def failed(action: str, error: Exception) -> EngineFailed | OutOfMemory:
    """What a failure of the engine means."""
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        return OutOfMemory(
            f"onnxruntime has no memory to {action} the model: {brief(error)}; use fewer --samples "
            "or smaller ones"
        )
    return EngineFailed(f"onnxruntime cannot {action} the model: {explain(error)}")


def replace_weights(options: Any, model: Runnable, *, share: bool) -> list[Any]:
    """Hand over the weights that are not those of the files; gives what must outlive the session.

    They can be shared only where the engine does not compute with weights while it loads, which
    it would do with those of the files.
    """
    from onnxruntime import OrtValue

    values = [
        OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), kind)
        for array, kind in model.replaced.values()
    ]
    if not share:
        options.add_external_initializers(list(model.replaced), values)
        return []
    for name, value in zip(model.replaced, values, strict=True):
        options.add_initializer(name, value)
    return [*values, *model.replaced.values()]


REMEDIES = (
    (
        r"Fatal error: (?P<domain>[^ ]*):(?P<op>[^ :(]+)\(-?\d*\) is not a registered function/op",
        "it does not know the op {op} of the domain '{domain}'; export the model with standard "
        "ops, or with {op} as a local function",
    ),
    (
        r"Could not find an implementation for (?P<op>\w+)\((?P<opset>\d+)\) node with name "
        r"'(?P<name>[^']*)'",
        "its CPU provider has no kernel for {op} of opset {opset} with these types (node "
        "'{name}'); convert the model to float32 (weights may stay as they are behind a Cast)",
    ),
    (
        r"No corresponding Numpy type for Tensor Type. (?P<kind>\w+)",
        "a layer reads {kind}, which its CPU provider does not compute with; convert the model "
        "to float32 (weights may stay in {kind} behind a Cast)",
    ),
    (
        r"Got invalid dimensions for input: (?P<name>.*?) for the following indices\s+"
        r"index: (?P<axis>\d+) Got: (?P<size>\d+) Expected: (?P<fixed>\d+)",
        "its input '{name}' has a fixed size of {fixed} on axis {axis}, and {size} were fed",
    ),
    (
        r"two nodes with same node name \((?P<name>[^)]*)\)",
        "two nodes are named '{name}'; give each a name of its own, or none",
    ),
    (
        r"Opset (?P<opset>\d+) is under development.*?till opset (?P<last>\d+)",
        "opset {opset} is newer than it knows ({last}); export the model with an older opset, or "
        "install a newer onnxruntime",
    ),
    (
        r"Unsupported model IR version: (?P<ir>\d+), max supported IR version: (?P<last>\d+)",
        "IR version {ir} is newer than it knows ({last}); export the model with an older one, or "
        "install a newer onnxruntime",
    ),
)
"""What onnxruntime says, as patterns, and what that means for the user."""


def explain(error: BaseException) -> str:
    """Why a model cannot be loaded or run, and where it is known, what to do."""
    text = str(error)
    for pattern, remedy in REMEDIES:
        match = re.search(pattern, text, re.DOTALL)
        if match:
            return remedy.format(**match.groupdict())
    return brief(error)


def brief(error: BaseException) -> str:
    """The first line of an engine's message, without its codes."""
    text = str(error).strip().splitlines()
    line = text[0] if text else type(error).__name__
    return line.split(" : ", 3)[-1].strip() if "ONNXRuntimeError" in line else line


def is_array(value: object) -> bool:
    """Whether an output of the engine is a tensor (and not a sequence, a map or nothing)."""
    return isinstance(value, np.ndarray)
