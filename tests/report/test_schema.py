"""The JSON Schema: every field that a run writes is in it, and every field in it is written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import h5py
import pytest
from jsonschema import Draft202012Validator

from nettrim_cli.cli import run
from nettrim_cli.report.bench_result import (
    BatchTiming,
    Bench,
    BenchedModel,
    Estimate,
    LatencyCheck,
    OpTime,
)
from nettrim_cli.report.comparison_result import Conversion
from nettrim_cli.report.curve.result import Curve, CurvePoint, Trend
from nettrim_cli.report.data_result import DatasetFacts, DataSummary
from nettrim_cli.report.model_summary import (
    ModelSummary,
    TensorFacts,
    layer_facts,
    layer_totals,
)
from nettrim_cli.report.plan_result import Plan, PlannedLayer
from nettrim_cli.report.saving import FORMATS
from nettrim_cli.report.verification_result import Finding, Verification
from tests.support import schema_file
from tests.support.options import FAST
from tests.support.reports import comparison, node, strict

ABOUT = Estimate(0.5, 0.49, math.inf)
BENCH = Bench(
    (BenchedModel("a.onnx", "a", 100, 10, 10), BenchedModel("b.onnx", "b", 90, 10, 5)),
    (BatchTiming(1, (ABOUT, ABOUT), (ABOUT,), 9, (OpTime("Gemm", (0.1, 0.1), (1, 1), (None,)),)),),
    *(("x: ones",), 1, "onnxruntime 1.0", (LatencyCheck("b", 1, 0.8, ABOUT),), ("busy",)),
)
CURVE = Curve(
    *("model.onnx", "calib.h5", (CurvePoint(0.5, 0.01, None, None, 9, 8, 7),)),
    Trend((0.0, 0.5), (0.0, 0.01)),
    *(False, None, 20, 100, 110, "zeros", 1.5, "0.1.0"),
)
LAYERS = (
    layer_facts(node("fc1"), 15_000, (0.01, 0.02, 0.3)),
    layer_facts(node("odd|", "no shape", (0, 0)), None),
)
SUMMARY = ModelSummary(
    *("m.onnx", LAYERS, layer_totals(LAYERS, 40_000)),
    inputs=(TensorFacts("x", "float32", ("N", 3), ("samples", 3)),),
)
PLAN = Plan(
    *("a.onnx", "calib.h5", "b.onnx", (PlannedLayer("fc", "Gemm", (2, 3), 6, 6, 0.5, 0.1),)),
    *(("sparsity", 0.5), 8, 2, 0.5, 0.1, None, 9, 8, False, (1.0, 2.0), None, 1.0),
    *("zeros", "0.1.0"),
)
VERIFICATION = Verification("b.onnx", "r.json", (Finding("output", None, "text"),), "0.1.0")
SCHEMA = json.loads(schema_file.FILE.read_text("utf-8"))
COMMANDS = {
    "prune": ["prune", "{model}", "--data", "{data}", *FAST, "--bench", "--store", "compact"],
    "search": ["prune", "{model}", "--data", "{data}", "--max-error", "20%", "--force"],
    "missed": ["prune", "{model}", "--data", "{data}", "--max-error", "1e-9", "--force"],
    "compare": ["compare", "{model}", "{output}", "--data", "{data}", "--max-drop", "90%"],
}


def test_the_file_is_up_to_date() -> None:
    assert schema_file.FILE.read_text("utf-8") == schema_file.text(), "run make docs"
    Draft202012Validator.check_schema(SCHEMA)


def test_every_field_is_described() -> None:
    for name, definition in SCHEMA["$defs"].items():
        for field, rules in properties(definition):
            assert rules["description"], f"{name}.{field}"


def properties(definition: Any) -> Iterator[tuple[str, Any]]:
    """All properties below a definition, by name."""
    if isinstance(definition, dict):
        yield from definition.get("properties", {}).items()
    inner = definition.values() if isinstance(definition, dict) else definition
    for each in inner if isinstance(definition, (dict, list)) else ():
        yield from properties(each)


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> dict[str, Any]:
    """What commands write, on a model small enough for all of them."""
    from tests.support.networks import mlp, save_data, save_model

    folder = tmp_path_factory.mktemp("documents")
    proto = mlp()
    places = {
        "folder": folder,
        "model": save_model(folder / "model.onnx", proto),
        "data": save_data(folder / "calib.h5", proto, 150),
        "output": folder / "model.pruned.onnx",
    }
    with h5py.File(places["data"]) as file:
        assert "labels" in file
    written = {}
    for name, words in COMMANDS.items():
        report = folder / f"{name}.json"
        code = run([word.format(**places) for word in words] + ["--report", str(report)])
        assert code == (3 if name == "missed" else 0)
        written[name] = json.loads(report.read_text("utf-8"))
    return written


def test_what_commands_write_keeps_to_the_schema(documents) -> None:
    documents = {**documents, "bench": strict(BENCH.render(".json"))}
    for name, document in documents.items():
        errors = [
            f"{name}: {list(error.absolute_path)}: {error.message[:300]}"
            for error in Draft202012Validator(SCHEMA).iter_errors(document)
        ]
        assert not errors
        assert document["schema_version"] == 1
    assert [documents[name]["schema"] for name in ("prune", "missed", "compare", "bench")] == [
        *("nettrim-prune", "nettrim-prune", "nettrim-compare", "nettrim-bench"),
    ]


def test_a_field_that_is_not_in_the_schema_is_found(documents) -> None:
    document = {**documents["prune"], "layers": [{**documents["prune"]["layers"][0], "more": 1}]}
    (error, *_) = Draft202012Validator(SCHEMA).iter_errors(document)
    assert "'more' was unexpected" in error.message
    less = {key: value for key, value in documents["compare"].items() if key != "samples"}
    assert not Draft202012Validator(SCHEMA).is_valid(less)
    assert not Draft202012Validator(SCHEMA).is_valid({**documents["compare"], "schema_version": 2})


def test_every_definition_is_met_by_a_document(documents) -> None:
    facts = DatasetFacts("x", (1, 2), "float32")
    others = [
        Conversion(comparison().reference, comparison().candidate),
        DataSummary("calib.h5", 1, (facts,), {0: 1}),
        *(BENCH, CURVE, SUMMARY, PLAN, VERIFICATION),
    ]
    for result, suffix in product(others, FORMATS):
        assert result.render(suffix).endswith("\n")
    met: set[str] = set()
    for document in [*documents.values(), *(json.loads(each.render(".json")) for each in others)]:
        (name,) = (
            each["then"]["$ref"].rpartition("/")[2]
            for each in SCHEMA["allOf"]
            if each["if"]["properties"]["schema"]["const"] == document["schema"]
        )
        assert Draft202012Validator(SCHEMA).is_valid(document)
        visit(SCHEMA["$defs"][name], document, met, name)
    assert set(SCHEMA["$defs"]) == met


def visit(rules: Any, value: Any, met: set[str], name: str = "") -> None:
    """Note the definitions that a value reaches."""
    if "$ref" in rules:
        name = rules["$ref"].rpartition("/")[2]
        rules = SCHEMA["$defs"][name]
    if name:
        met.add(name)
    for choice in rules.get("anyOf", ()):
        if Draft202012Validator({**choice, "$defs": SCHEMA["$defs"]}).is_valid(value):
            visit(choice, value, met)
    if isinstance(value, dict):
        for key, item in value.items():
            others = rules.get("additionalProperties") or {}
            visit(rules.get("properties", {}).get(key, others), item, met)
    elif isinstance(value, list) and isinstance(rules.get("items"), dict):
        for item in value:
            visit(rules["items"], item, met)


def test_a_report_of_a_missed_target_tells_what_was_measured_and_on_what(documents) -> None:
    missed = documents["missed"]
    assert missed["missed"]
    assert [file["role"] for file in missed["provenance"]["files"]] == ["model", "data"]
    assert [curve["name"] for curve in missed["curves"]] == [
        layer["name"] for layer in missed["layers"]
    ]
