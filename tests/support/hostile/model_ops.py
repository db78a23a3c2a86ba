"""Nodes with attributes and constant inputs that no exporter writes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.support.hostile.cases import (
    BAD,
    FINE,
    ILL_LAYER,
    UNCLEAR,
    UNRUNNABLE,
    Case,
    Codes,
    model_case,
    text,
)
from tests.support.small import normal

HUGE, MOST = 2**31, 2**63 - 1

# On (N, 2, 6, 6) with a kernel of (3, 2, 3, 3).
CONVOLUTIONS: dict[str, tuple[str, Codes]] = {
    "pads-short": ("pads = [1, 1, 1]", ILL_LAYER),
    "pads-long": ("pads = [1, 1, 1, 1, 1, 1]", ILL_LAYER),
    "pads-negative": ("pads = [-1, -1, -1, -1]", UNCLEAR),
    "pads-below-the-kernel": ("pads = [-9, -9, -9, -9]", ILL_LAYER),
    "pads-2^30": (f"pads = [{2**30}, {2**30}, {2**30}, {2**30}]", BAD),
    "pads-2^62": (f"pads = [{2**62}, {2**62}, {2**62}, {2**62}]", ILL_LAYER),
    "pads-most": (f"pads = [{MOST}, 0, {MOST}, 0]", ILL_LAYER),
    "pads-a-float": ("pads = [1.5, 1.5, 1.5, 1.5]", BAD),
    "pads-text": ('pads = "same"', BAD),
    "strides-zero": ("strides = [0, 0]", ILL_LAYER),
    "strides-negative": ("strides = [-1, -1]", ILL_LAYER),
    "strides-short": ("strides = [1]", ILL_LAYER),
    "strides-long": ("strides = [1, 1, 1]", ILL_LAYER),
    "strides-2^31": (f"strides = [{HUGE}, {HUGE}]", UNCLEAR),
    "strides-most": (f"strides = [{MOST}, {MOST}]", UNCLEAR),
    "dilations-zero": ("dilations = [0, 0]", ILL_LAYER),
    "dilations-negative": ("dilations = [-1, 1]", ILL_LAYER),
    "dilations-short": ("dilations = [1]", ILL_LAYER),
    "dilations-2^31": (f"dilations = [{HUGE}, 1]", BAD),
    "dilations-most": (f"dilations = [{MOST}, {MOST}]", ILL_LAYER),
    "group-zero": ("group = 0", ILL_LAYER),
    "group-negative": ("group = -1", ILL_LAYER),
    "group-that-does-not-divide": ("group = 4", ILL_LAYER),
    "group-2^31": (f"group = {HUGE}", ILL_LAYER),
    "group-most": (f"group = {MOST}", ILL_LAYER),
    "kernel-other-than-the-weights": ("kernel_shape = [2, 2]", ILL_LAYER),
    "kernel-zero": ("kernel_shape = [0, 0]", ILL_LAYER),
    "kernel-negative": ("kernel_shape = [-3, -3]", ILL_LAYER),
    "kernel-long": ("kernel_shape = [3, 3, 3]", ILL_LAYER),
    "padding-unknown": ('auto_pad = "SOMEHOW"', ILL_LAYER),
    "padding-twice": ('auto_pad = "SAME_UPPER", pads = [1, 1, 1, 1]', UNCLEAR),
    "attribute-unknown": ("frobnicate = 3", BAD),
}

# h = MatMul(x, w) is (N, 5); what a node behind it does.
BEHIND: dict[str, tuple[str, Codes]] = {
    "transpose-twice-one-axis": ("y = Transpose<perm = [0, 0]>(h)", UNRUNNABLE),
    "transpose-far-axis": ("y = Transpose<perm = [0, 7]>(h)", UNRUNNABLE),
    "transpose-negative-axis": ("y = Transpose<perm = [-1, 0]>(h)", UNRUNNABLE),
    "transpose-too-many": ("y = Transpose<perm = [0, 1, 2]>(h)", UNRUNNABLE),
    "concat-far-axis": ("y = Concat<axis = 9>(h, h)", UNRUNNABLE),
    "concat-least-axis": (f"y = Concat<axis = {-MOST}>(h, h)", UNRUNNABLE),
    "concat-without-axis": ("y = Concat(h, h)", BAD),
    "softmax-far-axis": ("y = Softmax<axis = 99>(h)", UNRUNNABLE),
    "flatten-far-axis": ("y = Flatten<axis = 99>(h)", UNRUNNABLE),
    "flatten-least-axis": ("y = Flatten<axis = -99>(h)", UNRUNNABLE),
    "cast-to-nothing": ("y = Cast<to = 999>(h)", UNRUNNABLE),
    "cast-to-undefined": ("y = Cast<to = 0>(h)", UNRUNNABLE),
    "reshape-two-free-axes": (
        "s = Constant<value = int64[2] {-1, -1}>() y = Reshape(h, s)",
        UNRUNNABLE,
    ),
    "reshape-negative": ("s = Constant<value = int64[2] {-2, 5}>() y = Reshape(h, s)", UNRUNNABLE),
    "reshape-2^62": (
        f"s = Constant<value = int64[2] {{{2**62}, 4}}>() y = Reshape(h, s)",
        UNRUNNABLE,
    ),
    "reshape-of-floats": (
        "s = Constant<value = float[2] {-1.0, 5.0}>() y = Reshape(h, s)",
        UNRUNNABLE,
    ),
    "reshape-by-itself": ("y = Reshape(h, h)", UNRUNNABLE),
    "gather-far": ("i = Constant<value = int64[1] {99}>() y = Gather<axis = 1>(h, i)", UNRUNNABLE),
    "gather-least": (
        f"i = Constant<value = int64[1] {{{-MOST}}}>() y = Gather<axis = 1>(h, i)",
        UNRUNNABLE,
    ),
    "gather-far-axis": (
        "i = Constant<value = int64[1] {0}>() y = Gather<axis = 9>(h, i)",
        UNRUNNABLE,
    ),
    "split-not-the-sum": (
        "s = Constant<value = int64[2] {2, 9}>() y, z = Split<axis = 1>(h, s)",
        UNRUNNABLE,
    ),
    "split-negative": (
        "s = Constant<value = int64[2] {-2, 7}>() y, z = Split<axis = 1>(h, s)",
        UNRUNNABLE,
    ),
    "slice-step-zero": (
        "a = Constant<value = int64[1] {0}>() y = Slice(h, a, a, a, a)",
        UNRUNNABLE,
    ),
    "squeeze-of-five": ("a = Constant<value = int64[1] {1}>() y = Squeeze(h, a)", UNRUNNABLE),
    "unsqueeze-twice": ("a = Constant<value = int64[2] {1, 1}>() y = Unsqueeze(h, a)", UNRUNNABLE),
    "expand-to-other": ("s = Constant<value = int64[2] {1, 3}>() y = Expand(h, s)", UNRUNNABLE),
    "expand-negative": ("s = Constant<value = int64[2] {1, -3}>() y = Expand(h, s)", UNRUNNABLE),
    "tile-negative": ("s = Constant<value = int64[2] {1, -3}>() y = Tile(h, s)", UNRUNNABLE),
    "tile-short": ("s = Constant<value = int64[1] {2}>() y = Tile(h, s)", UNRUNNABLE),
    "pad-short": ("s = Constant<value = int64[3] {0, 0, 0}>() y = Pad(h, s)", UNRUNNABLE),
    "pad-negative": ("s = Constant<value = int64[4] {0, -9, 0, -9}>() y = Pad(h, s)", UNRUNNABLE),
    "pad-unknown-mode": (
        's = Constant<value = int64[4] {0, 1, 0, 1}>() y = Pad<mode = "odd">(h, s)',
        UNRUNNABLE,
    ),
    "clip-min-above-max": (
        "a = Constant<value = float {3.0}>() b = Constant<value = float {-3.0}>() "
        "y = Clip(h, a, b)",
        UNCLEAR,
    ),
    "add-that-does-not-fit": ("c = Constant<value = float[3] {1,2,3}>() y = Add(h, c)", UNRUNNABLE),
    "matmul-that-does-not-fit": (
        "c = Constant<value = float[3,2] {1,2,3,4,5,6}>() y = MatMul(h, c)",
        UNRUNNABLE,
    ),
    "gemm-of-rank-1": (
        "c = Constant<value = float[5] {1,2,3,4,5}>() y = Gemm(h, c)",
        UNRUNNABLE,
    ),
    "matmul-of-a-scalar": ("c = Constant<value = float {1.0}>() y = MatMul(h, c)", UNRUNNABLE),
    "matmul-of-integers": (
        "c = Constant<value = int64[5,2] {1,2,3,4,5,6,7,8,9,0}>() y = MatMul(h, c)",
        UNRUNNABLE,
    ),
    "topk-more-than-there-are": (
        "k = Constant<value = int64[1] {99}>() y, i = TopK(h, k)",
        UNRUNNABLE,
    ),
    "one-input-too-many": ("y = Relu(h, h, h)", BAD),
    "one-input-too-few": ("y = Add(h)", BAD),
    "no-input": ("y = Relu()", BAD),
    "one-output-too-many": ("y, z = Relu(h)", BAD),
    "normalised-far-axis": (
        "c = Constant<value = float[5] {1,2,3,4,5}>() y = LayerNormalization<axis = 9>(h, c)",
        UNRUNNABLE,
    ),
    "normalised-epsilon-negative": (
        "c = Constant<value = float[5] {1,2,3,4,5}>() y = LayerNormalization<epsilon = -9.0>(h, c)",
        UNCLEAR,
    ),
    "batchnorm-of-wrong-size": (
        "c = Constant<value = float[3] {1,2,3}>() y = BatchNormalization(h, c, c, c, c)",
        UNRUNNABLE,
    ),
    "batchnorm-negative-variance": (
        "c = Constant<value = float[5] {-1,-2,-3,-4,-5}>() y = BatchNormalization(h, c, c, c, c)",
        UNCLEAR,
    ),
    "dropout-all": (
        "r = Constant<value = float {1.0}>() t = Constant<value = bool {1}>() y = Dropout(h, r, t)",
        UNCLEAR,
    ),
    "division-by-zero": ("c = Constant<value = float {0.0}>() y = Div(h, c)", UNCLEAR),
    "logarithm-of-negatives": ("y = Log(h)", UNCLEAR),
    "exponential-of-much": (
        "c = Constant<value = float {1e30}>() m = Mul(h, c) y = Exp(m)",
        UNCLEAR,
    ),
}

# y = Einsum<equation>(x, w) of (N, 6) and (6, 5).
EQUATIONS: dict[str, Codes] = {
    "": ILL_LAYER,
    "->": ILL_LAYER,
    "ni,ij": FINE,
    "ni,ij->": UNCLEAR,
    "ni,ij->nk": ILL_LAYER,
    "ni,ij,jk->nk": ILL_LAYER,
    "ni,ji->nj": ILL_LAYER,
    "n i , i j -> n j": FINE,
    "ni,ij->nj->nj": ILL_LAYER,
    "...i,ij->...j": FINE,
    "..i,ij->..j": ILL_LAYER,
    "ni,ii->n": ILL_LAYER,
    "nn,ij->ij": ILL_LAYER,
    "nij,jk->nik": ILL_LAYER,
    "n1,1j->nj": ILL_LAYER,
    "ni,ij->" + "n" * 300: ILL_LAYER,
}

RECURRENT: dict[str, tuple[str, Codes]] = {
    "hidden-zero": ("hidden_size = 0", ILL_LAYER),
    "hidden-negative": ("hidden_size = -4", ILL_LAYER),
    "hidden-other": ("hidden_size = 5", ILL_LAYER),
    "hidden-2^31": (f"hidden_size = {HUGE}", ILL_LAYER),
    "hidden-most": (f"hidden_size = {MOST}", ILL_LAYER),
    "direction-unknown": ('hidden_size = 4, direction = "sideways"', ILL_LAYER),
    "direction-both": ('hidden_size = 4, direction = "bidirectional"', ILL_LAYER),
    "activations-unknown": ('hidden_size = 4, activations = ["A", "B", "C"]', ILL_LAYER),
    "activations-few": ('hidden_size = 4, activations = ["Tanh"]', ILL_LAYER),
    "clip-negative": ("hidden_size = 4, clip = -1.0", UNCLEAR),
    "layout-unknown": ("hidden_size = 4, layout = 7", UNCLEAR),
}

QUANTIZED: dict[str, tuple[str, dict[str, np.ndarray], Codes]] = {
    "far-axis": ("axis = 13", {"s": np.full(5, 0.1, np.float32)}, ILL_LAYER),
    "least-axis": (f"axis = {-MOST}", {"s": np.full(5, 0.1, np.float32)}, ILL_LAYER),
    "scales-too-few": ("axis = 1", {"s": np.full(3, 0.1, np.float32)}, ILL_LAYER),
    "scales-none": ("axis = 1", {"s": np.zeros(0, np.float32)}, ILL_LAYER),
    "scale-zero": ("axis = 1", {"s": np.zeros(5, np.float32)}, UNCLEAR),
    "scale-nan": ("axis = 1", {"s": np.full(5, np.nan, np.float32)}, UNCLEAR),
    "scale-negative": ("axis = 1", {"s": np.full(5, -0.1, np.float32)}, UNCLEAR),
    "scale-infinite": ("axis = 1", {"s": np.full(5, np.inf, np.float32)}, UNCLEAR),
    "scale-of-integers": ("axis = 1", {"s": np.ones(5, np.int64)}, ILL_LAYER),
    "zero-point-of-another-type": (
        "axis = 1",
        {"s": np.full(5, 0.1, np.float32), "z": np.zeros(5, np.uint8)},
        ILL_LAYER,
    ),
    "zero-point-of-another-size": (
        "axis = 1",
        {"s": np.full(5, 0.1, np.float32), "z": np.zeros(4, np.int8)},
        ILL_LAYER,
    ),
}


def cases() -> Iterator[Case]:
    """All of them."""
    kernel = normal(3, 2, 3, 3)
    for op in ("Conv", "ConvTranspose"):
        for name, (attributes, codes) in CONVOLUTIONS.items():
            weights = kernel if op == "Conv" else kernel.transpose(1, 0, 2, 3).copy()
            body = f"g (float[N,2,6,6] x) => (float[N,A,B,C] y) {{ y = {op}<{attributes}>(x, w) }}"
            wide = {**dict.fromkeys(TRANSPOSED, UNCLEAR)} if op == "ConvTranspose" else {}
            yield model_case(f"{op}-{name}", text(body, w=weights), wide.get(name, codes))
    for name, (body, codes) in BEHIND.items():
        proto = text(
            f"g (float[N,6] x) => (float[A,B] y) {{ h = MatMul(x, w) {body} }}", w=normal(6, 5)
        )
        yield model_case(name, proto, codes)
    for equation, codes in EQUATIONS.items():
        rank = "A" * len(equation.partition(">")[2].replace("...", "i").replace(" ", "")) or "AB"
        shape = ",".join(rank[:5])
        node = f'y = Einsum<equation = "{equation}">(x, w)'
        body = f"g (float[N,6] x) => (float[{shape}] y) {{ {node} }}"
        yield model_case(f"einsum-{equation[:20]}", text(body, w=normal(6, 5)), codes)
    for name, (attributes, codes) in RECURRENT.items():
        body = (
            f"g (float[5,N,3] x) => (float[5,A,N,4] y) {{ y, h, c = LSTM<{attributes}>(x, w, r) }}"
        )
        proto = text(body, w=normal(1, 16, 3), r=normal(1, 16, 4, seed=1))
        yield model_case(f"lstm-{name}", proto, codes)
    for name, (attributes, constants, codes) in QUANTIZED.items():
        more = ", z" if "z" in constants else ""
        body = f"""g (float[N,6] x) => (float[N,5] y) {{
            w = DequantizeLinear<{attributes}>(q, s{more}) y = MatMul(x, w) }}"""
        whole = (20 * normal(6, 5)).astype(np.int8)
        yield model_case(f"quantized-{name}", text(body, q=whole, **constants), codes)


TRANSPOSED = ("pads-2^30",)
