"""Graphs that lie about their structure: names, types, operator sets, subgraphs, functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx
from onnx import TensorProto, helper

from tests.support.hostile.cases import (
    BAD,
    FINE,
    ILL_LAYER,
    NOTHING,
    UNCLEAR,
    UNRUNNABLE,
    Case,
    Codes,
    edited,
    model_case,
    text,
)
from tests.support.small import HEAD, normal

Edit = tuple[str, Callable[[Any], Any], Codes, str]


def plain() -> onnx.ModelProto:
    return text(
        """g (float[N,6] x) => (float[N,4] y) {
            h = Gemm(x, w, b)
            r = Relu(h)
            y = MatMul(r, v)
        }""",
        w=normal(6, 5, seed=1),
        b=normal(5, seed=2),
        v=normal(5, 4, seed=3),
    )


def put(path: str, value: Any) -> Callable[[Any], None]:
    """A change that sets a field: ``graph.node[1].op_type``."""

    def edit(proto: onnx.ModelProto) -> None:
        *above, last = path.split(".")
        place: Any = proto
        for step in above:
            name, _, at = step.rstrip("]").partition("[")
            place = getattr(place, name)[int(at)] if at else getattr(place, name)
        name, _, at = last.rstrip("]").partition("[")
        if at:
            getattr(place, name)[int(at)] = value
        elif isinstance(value, (list, tuple)):
            getattr(place, name)[:] = value
        else:
            setattr(place, name, value)

    return edit


def drop(path: str, at: int | None = None) -> Callable[[Any], None]:
    """A change that clears a field, or takes one entry of a repeated one away."""

    def edit(proto: onnx.ModelProto) -> None:
        *above, last = path.split(".")
        place: Any = proto
        for step in above:
            name, _, number = step.rstrip("]").partition("[")
            place = getattr(place, name)[int(number)] if number else getattr(place, name)
        if at is None:
            place.ClearField(last)
        else:
            del getattr(place, last)[at]

    return edit


def axis(value: Any, at: int = 0, *, output: bool = False) -> Callable[[Any], None]:
    """A change of an axis of the input or the output."""

    def edit(proto: onnx.ModelProto) -> None:
        held = (proto.graph.output if output else proto.graph.input)[0]
        dim = held.type.tensor_type.shape.dim[at]
        dim.Clear()
        if isinstance(value, str):
            dim.dim_param = value
        elif value is not None:
            dim.dim_value = value

    return edit


def twice(field: str) -> Callable[[Any], None]:
    """A change that repeats the first entry of a field of the graph."""
    return lambda proto: getattr(proto.graph, field).append(getattr(proto.graph, field)[0])


def sequence_input(proto: onnx.ModelProto) -> None:
    value = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, ["N", 6])
    proto.graph.input[0].CopyFrom(value)


def renamed(old: str, new: str) -> Callable[[Any], None]:
    """A change of a tensor's name wherever it is used."""

    def edit(proto: onnx.ModelProto) -> None:
        for node in proto.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if each == old else each for each in names]
        for each in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
            each.name = new if each.name == old else each.name

    return edit


WAIT = "wait for each other"
STRUCTURE: tuple[Edit, ...] = (
    ("node-reads-itself", put("graph.node[1].input[0]", "r"), BAD, "its own result"),
    ("cycle-of-three", put("graph.node[0].input[0]", "y"), BAD, WAIT),
    ("nothing-makes-an-input", put("graph.node[1].input[0]", "gone"), BAD, "gone"),
    ("nothing-makes-the-output", put("graph.output[0].name", "gone"), BAD, "gone"),
    ("no-nodes", drop("graph.node"), BAD, "nothing makes"),
    ("no-outputs", drop("graph.output"), BAD, "no outputs"),
    ("no-inputs", drop("graph.input"), BAD, "nothing makes the tensor 'x'"),
    ("no-initializers", drop("graph.initializer"), BAD, "nothing makes"),
    ("no-graph", drop("graph"), BAD, "no graph"),
    ("graph-without-name", drop("graph.name"), UNCLEAR, ""),
    ("nodes-in-reverse", lambda p: p.graph.node.reverse(), FINE, ""),
    ("input-twice", twice("input"), BAD, "twice"),
    ("output-twice", twice("output"), FINE, ""),
    ("node-twice", twice("node"), BAD, "twice"),
    ("initializer-twice", twice("initializer"), BAD, "two initializers"),
    ("output-is-the-input", put("graph.output[0].name", "x"), UNCLEAR, ""),
    ("output-is-a-weight", put("graph.output[0].name", "w"), UNCLEAR, ""),
    ("output-is-hidden", put("graph.output[0].name", "r"), UNCLEAR, ""),
    ("weight-is-made-too", put("graph.node[0].output[0]", "v"), BAD, "twice"),
    ("input-is-made-too", put("graph.node[1].output[0]", "x"), BAD, ""),
    ("node-without-op", drop("graph.node[1].op_type"), BAD, "op_type"),
    ("node-of-unknown-op", put("graph.node[1].op_type", "Frobnicate"), BAD, "Frobnicate"),
    ("node-of-unknown-domain", put("graph.node[1].domain", "org.nobody"), BAD, "org.nobody"),
    ("node-without-output", drop("graph.node[1].output"), BAD, ""),
    ("node-with-empty-output", put("graph.node[1].output[0]", ""), BAD, ""),
    ("node-reads-nothing", put("graph.node[1].input[0]", ""), BAD, ""),
    ("graph-of-a-novel", put("graph.doc_string", "word " * 200_000), FINE, ""),
)

TYPES: tuple[Edit, ...] = (
    ("input-without-type", drop("graph.input[0].type"), UNRUNNABLE, ""),
    ("input-of-no-type", put("graph.input[0].type.tensor_type.elem_type", 0), UNRUNNABLE, ""),
    ("input-of-type-4711", put("graph.input[0].type.tensor_type.elem_type", 4711), UNRUNNABLE, ""),
    ("input-of-text", put("graph.input[0].type.tensor_type.elem_type", 8), UNRUNNABLE, ""),
    ("input-of-integers", put("graph.input[0].type.tensor_type.elem_type", 7), UNRUNNABLE, ""),
    ("input-of-half-a-byte", put("graph.input[0].type.tensor_type.elem_type", 22), UNRUNNABLE, ""),
    ("input-a-sequence", sequence_input, UNRUNNABLE, "sequence"),
    ("axis-zero", axis(0), UNRUNNABLE, ""),
    ("axis-negative", axis(-7), UNCLEAR, ""),
    ("axis-2^62", axis(2**62), UNRUNNABLE, ""),
    ("axis-nameless", axis(""), FINE, ""),
    ("axis-unknown", axis(None), FINE, ""),
    ("axis-of-another-size", axis(5, 1), UNRUNNABLE, ""),
    ("axis-features-zero", axis(0, 1), UNRUNNABLE, ""),
    ("axis-features-2^40", axis(2**40, 1), UNRUNNABLE, ""),
    ("axis-features-negative", axis(-6, 1), UNRUNNABLE, ""),
    ("axis-named-as-a-control", axis("\x1b[31mN\x07"), FINE, ""),
    ("axis-both-of-one-name", axis("N", 1), UNCLEAR, ""),
    ("output-axis-of-another-size", axis(9, 1, output=True), UNCLEAR, ""),
    ("output-axis-2^62", axis(2**62, 1, output=True), UNCLEAR, ""),
    ("output-of-integers", put("graph.output[0].type.tensor_type.elem_type", 7), UNRUNNABLE, ""),
    ("output-of-nothing", put("graph.output[0].type.tensor_type.elem_type", 0), UNRUNNABLE, ""),
)

LONG = "n" * 200_000
NAMES: tuple[Edit, ...] = tuple(
    (f"{what}-named-{how}", renamed(old, new), codes, "")
    for old, what in (("r", "tensor"), ("w", "weight"))
    for how, new, codes in (
        ("with-a-newline", "a\nb\r\nnettrim: done", FINE),
        ("as-colours", "\x1b[31mred\x1b]0;title\x07", FINE),
        ("as-markup", "[bold]x[/bold] [/] [link=file:///]", FINE),
        ("with-a-zero", "a\x00b", UNCLEAR),
        ("backwards", "\u202eabc\u2066\u200b", FINE),
        ("as-emoji", "\U0001f9ff" * 40, FINE),
        ("at-length", LONG, FINE),
        ("as-a-path", "../../../etc/passwd", FINE),
        ("as-a-format", "{0.__class__} %s %n", FINE),
        ("as-a-table", "| a | b |\n|---|---|", FINE),
        ("as-nettrims-own", "changed:judge:w:size", FINE),
    )
)

VERSIONS: tuple[Edit, ...] = (
    ("opset-none", drop("opset_import"), BAD, "opset"),
    ("opset-zero", put("opset_import[0].version", 0), UNRUNNABLE, ""),
    ("opset-negative", put("opset_import[0].version", -1), UNRUNNABLE, ""),
    ("opset-1", put("opset_import[0].version", 1), UNRUNNABLE, ""),
    ("opset-most", put("opset_import[0].version", 2**63 - 1), UNRUNNABLE, ""),
    (
        "opset-twice",
        lambda p: p.opset_import.append(helper.make_opsetid("", 11)),
        UNCLEAR,
        "",
    ),
    (
        "opset-of-long-domain",
        lambda p: p.opset_import.append(helper.make_opsetid(LONG, 1)),
        UNCLEAR,
        "",
    ),
    ("ir-none", drop("ir_version"), UNRUNNABLE, ""),
    ("ir-zero", put("ir_version", 0), UNCLEAR, ""),
    ("ir-1", put("ir_version", 1), UNCLEAR, ""),
    ("ir-negative", put("ir_version", -8), UNCLEAR, ""),
    ("ir-most", put("ir_version", 2**63 - 1), UNRUNNABLE, ""),
    ("metadata-twice", lambda p: [p.metadata_props.add(key="nettrim", value="{")] * 2, FINE, ""),
    ("metadata-of-controls", lambda p: p.metadata_props.add(key="\x1b[2J", value="\x00"), FINE, ""),
)

IF = "b = ReduceMax<keepdims = 0>(x) z = Constant<value = float {0.0}>() c = Greater(b, z)"
SUBGRAPHS: dict[str, tuple[str, Codes]] = {
    "if-of-one-branch": (
        f"{IF} y = If(c) <then_branch = t () => (float[N,4] a) {{ a = MatMul(x, w) }}>",
        UNRUNNABLE,
    ),
    "if-without-branches": (f"{IF} y = If(c)", UNRUNNABLE),
    "if-of-unequal-branches": (
        f"{IF} y = If(c) <then_branch = t () => (float[N,4] a) {{ a = MatMul(x, w) }}, "
        "else_branch = e () => (float[N,4] a2, float[N,4] a3) "
        "{ a2 = MatMul(x, w) a3 = Relu(a2) }>",
        UNRUNNABLE,
    ),
    "if-that-reads-what-comes-later": (
        f"{IF} y = If(c) <then_branch = t () => (float[N,4] a) {{ a = Relu(y) }}, "
        "else_branch = e () => (float[N,4] a2) { a2 = MatMul(x, w) }>",
        BAD,
    ),
    "if-that-hides-a-name": (
        f"{IF} y = If(c) <then_branch = t () => (float[N,4] w) {{ w = MatMul(x, w) }}, "
        "else_branch = e () => (float[N,4] a2) { a2 = MatMul(x, w) }>",
        UNRUNNABLE,
    ),
    "if-by-a-float": (
        "y = If(x) <then_branch = t () => (float[N,4] a) { a = MatMul(x, w) }, "
        "else_branch = e () => (float[N,4] a2) { a2 = MatMul(x, w) }>",
        UNRUNNABLE,
    ),
    "if-of-empty-branches": (
        f"{IF} y = If(c) <then_branch = t () => () {{ }}, else_branch = e () => () {{ }}>",
        ILL_LAYER,
    ),
    "loop-without-body": ("h = MatMul(x, w) y = Loop(, , h)", UNRUNNABLE),
    "loop-of-too-few-outputs": (
        "n = Constant<value = int64 {3}>() h = MatMul(x, w) "
        "y = Loop(n, , h) <body = b (int64 i, bool c, float[N,4] v) => (bool d) "
        "{ d = Identity(c) }>",
        UNRUNNABLE,
    ),
    "loop-of-too-many-inputs": (
        "n = Constant<value = int64 {3}>() h = MatMul(x, w) "
        "y = Loop(n, , h) <body = b (int64 i, bool c, float[N,4] v, float u, float t) => "
        "(bool d, float[N,4] o) { d = Identity(c) o = Relu(v) }>",
        UNRUNNABLE,
    ),
    "loop-of-minus-three": (
        "n = Constant<value = int64 {-3}>() h = MatMul(x, w) "
        "y = Loop(n, , h) <body = b (int64 i, bool c, float[N,4] v) => "
        "(bool d, float[N,4] o) { d = Identity(c) o = Relu(v) }>",
        UNCLEAR,
    ),
    "loop-by-a-float": (
        "n = Constant<value = float {3.0}>() h = MatMul(x, w) "
        "y = Loop(n, , h) <body = b (int64 i, bool c, float[N,4] v) => "
        "(bool d, float[N,4] o) { d = Identity(c) o = Relu(v) }>",
        UNRUNNABLE,
    ),
    "scan-of-no-inputs": (
        "h = MatMul(x, w) y = Scan<num_scan_inputs = 0, "
        "body = b (float[N,4] v) => (float[N,4] o) { o = Relu(v) }>(h)",
        UNRUNNABLE,
    ),
    "scan-of-2^62-inputs": (
        f"h = MatMul(x, w) y = Scan<num_scan_inputs = {2**62}, "
        "body = b (float[4] v) => (float[4] o) { o = Relu(v) }>(h)",
        UNRUNNABLE,
    ),
}


def function(body: list[onnx.NodeProto], **more: Any) -> onnx.ModelProto:
    """The plain model with its Relu replaced by a function."""
    proto = plain()
    known = list(proto.opset_import)
    made = helper.make_function("mine", "F", ["a"], ["b"], body, known, **more)
    made.opset_import.append(helper.make_opsetid("mine", 1))
    proto.functions.append(made)
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    proto.graph.node[1].op_type, proto.graph.node[1].domain = "F", "mine"
    return proto


def functions() -> Iterator[Case]:
    relu = helper.make_node("Relu", ["a"], ["b"])
    call = helper.make_node("F", ["a"], ["b"], domain="mine")
    yield model_case("function", function([relu]), FINE)
    yield model_case("function-of-itself", function([call]), BAD, says="F")
    yield model_case("function-of-nothing", function([]), UNRUNNABLE)
    dangling = helper.make_node("Relu", ["gone"], ["b"])
    yield model_case("function-that-reads-nothing", function([dangling]), UNRUNNABLE)
    outside = helper.make_node("MatMul", ["a", "w"], ["b"])
    yield model_case("function-that-reads-outside", function([outside]), UNRUNNABLE)
    proto = function([relu])
    proto.functions.append(proto.functions[0])
    yield model_case("function-twice", proto, UNRUNNABLE)
    proto = function([relu])
    proto.functions[0].input.append("more")
    yield model_case("function-of-more-inputs", proto, UNCLEAR)
    proto = function([relu])
    del proto.functions[0].output[:]
    yield model_case("function-of-no-outputs", proto, UNRUNNABLE)
    proto = function([helper.make_node("G", ["a"], ["b"], domain="mine")])
    made = helper.make_function("mine", "G", ["a"], ["b"], [call], list(proto.opset_import))
    proto.functions.append(made)
    yield model_case("functions-of-each-other", proto, BAD)
    proto = function([relu])
    for depth in range(200):
        inner = helper.make_node(f"F{depth}" if depth else "F", ["a"], ["b"], domain="mine")
        known = list(proto.opset_import)
        made = helper.make_function("mine", f"F{depth + 1}", ["a"], ["b"], [inner], known)
        proto.functions.append(made)
    proto.graph.node[1].op_type = "F200"
    yield model_case("functions-200-deep", proto, UNCLEAR)


def doubling(levels: int) -> onnx.ModelProto:
    """Functions of which each calls the one below twice: 2^levels nodes in a few kB."""
    proto = function([helper.make_node("Relu", ["a"], ["b"])])
    for level in range(levels):
        below = f"F{level}" if level else "F"
        body = [
            helper.make_node(below, ["a"], ["m"], domain="mine"),
            helper.make_node(below, ["m"], ["b"], domain="mine"),
        ]
        known = list(proto.opset_import)
        made = helper.make_function("mine", f"F{level + 1}", ["a"], ["b"], body, known)
        proto.functions.append(made)
    proto.graph.node[1].op_type = f"F{levels}"
    return proto


def cases() -> Iterator[Case]:
    """All of them."""
    for edits in (STRUCTURE, TYPES, NAMES, VERSIONS):
        yield from edited(plain, *edits)
    for name, (body, codes) in SUBGRAPHS.items():
        proto = text(f"g (float[N,6] x) => (float[N,4] y) {{ {body} }}", w=normal(6, 4))
        yield model_case(name, proto, codes)
    yield from functions()
    yield model_case("functions-doubling", doubling(40), BAD)
    body = "y = Relu(x)"
    proto = text(f"g (float[N,6] x) => (float[N,6] y) {{ {body} }}")
    yield model_case("no-layer", proto, NOTHING)
    old = HEAD.replace("8", "3")
    proto = text(
        "g (float[N,6] x) => (float[N,4] y) { y = MatMul(x, w) }", head=old, w=normal(6, 4)
    )
    yield model_case("old-weights-that-are-no-inputs", proto, UNCLEAR)
