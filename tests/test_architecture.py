"""Imports run one way, and each room keeps its libraries to itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.support.options import PATIENCE

PACKAGE = Path(__file__).parents[1] / "nettrim_cli"
ALLOWED = {  # of each room: what it may import besides itself, rooms with all that is in them
    "process": set(),
    "files": {"errors", "process.channel"},
    "solve": {"errors", "reasons"},
    "graph": {"errors", "files", "process.channel", "reasons"},
    "data": {
        *("errors", "files.formats", "graph.analysis.tensor_sizes", "graph.layer", "graph.model"),
        *("graph.ops", "process.channel", "reasons", "solve"),
    },
    "report": {"errors", "files.atomic", "process.channel"},
    "execution": {"errors", "process"},
    "evaluation": {"data", "errors", "files", "graph", "report", "settings", "solve"},
    "pruning": {
        *("data", "errors", "evaluation", "execution", "graph", "latency", "reasons", "report"),
        *("files.atomic", "process.deadline", "settings", "solve"),
    },
    "preview": {
        *("data", "errors", "evaluation", "execution", "graph", "latency", "loading", "process"),
        *("pruning", "report", "settings"),
    },
    "verification": {
        *("errors", "evaluation", "files", "graph", "loading", "process", "pruning", "report"),
        "settings",
    },
    "preparation": {
        *("data", "errors", "evaluation", "files", "graph", "latency.inputs", "loading"),
        *("process", "report", "settings"),
    },
    "latency": {
        *("data", "errors", "graph", "loading", "process", "report", "settings"),
    },
    "options": {"errors", "files", "process", "quantities", "report", "settings"},
    "settings": {"errors", "options.declare", "quantities"},
    "api": {
        *("data", "errors", "graph", "latency", "loading", "pipeline", "preview", "report"),
        "settings",
    },
    "commands": {
        *("errors", "files", "latency", "loading", "options", "pipeline", "preparation"),
        *("preview", "report", "settings", "verification"),
    },
}
FOR_TYPES = {"report": {"graph.layer"}}
LIBRARIES = {
    "process": {"threadpoolctl"},
    "files": set(),
    "solve": {"numpy", "scipy", "threadpoolctl"},
    "graph": {"onnx", "numpy", "scipy"},
    "data": {"onnxruntime", "h5py", "numpy", "scipy"},
    "report": {"rich"},
    "execution": {"dask", "distributed", "numpy", "threadpoolctl"},
    "evaluation": {"numpy", "scipy"},
    "pruning": {"numpy", "scipy"},
    "latency": {"numpy", "scipy"},
    "preview": {"numpy"},
    "verification": set(),
    "preparation": {"numpy", "scipy", "PIL", "tokenizers"},
    "options": {"click"},
    "api": {"numpy", "onnx"},  # onnx for its types alone
    "commands": {"click"},
    "settings": {"tomli"},
}
HOME = {"onnx": "graph", "onnxruntime": "data", "h5py": "data", "PIL": "preparation"}
TOP = 9  # modules there, at most
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = PACKAGE.parent / "tests"
PRIVATE = (  # an attribute, an import, and the name of an attribute that is replaced
    r"\b(?!self\b|cls\b|os\b|sys\b)\w+\._[a-z]\w*",
    r"import [^\n]*\b_[a-z]\w*",
    r"[\"'.]_[a-z]\w*[\"']",
)


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All nodes of a module."""
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Absolute names of imported modules, with a flag for those under TYPE_CHECKING."""
    guarded = {
        id(inner)
        for node in nodes(path)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for each in node.body
        for inner in ast.walk(each)
    }
    found = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in guarded) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            for alias in node.names:
                inner = PACKAGE.parent.joinpath(*module.split("."), alias.name)
                is_module = inner.with_suffix(".py").is_file() or inner.is_dir()
                name = f"{module}.{alias.name}" if is_module else module
                found.append((name, id(node) in guarded))
    return found


def place(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


@pytest.mark.parametrize("room", ["", *ALLOWED])
def test_imports_run_one_way(room) -> None:
    for path in (path for path in MODULES if place(path) == room):
        for name, typing in imports(path):
            assert may_import(path, name, typing=typing), f"{path} imports {name}"


def may_import(path: Path, name: str, *, typing: bool) -> bool:
    """Whether a module may import another, at run time or for its types alone."""
    room = place(path)
    top, _, rest = name.partition(".")
    if top in HOME and not (typing or room == HOME[top]):
        return False
    if not room:
        return top != "nettrim_cli" or path.name != "errors.py"
    if top == "nettrim_cli":
        allowed = {room} | ALLOWED[room] | (FOR_TYPES.get(room, set()) if typing else set())
        return not rest or any(f"{rest}.".startswith(f"{module}.") for module in allowed)
    return top in sys.stdlib_module_names or top in LIBRARIES[room]


def test_few_modules_stand_at_the_top_and_the_small_ones_lean_on_nothing() -> None:
    assert len([path for path in MODULES if not place(path)]) <= TOP
    assert {place(path) for path in MODULES} == {"", *ALLOWED}
    for name in ("errors", "quantities", "reasons"):
        for imported, _ in imports(PACKAGE / f"{name}.py"):
            top, _, rest = imported.partition(".")
            known = top in sys.stdlib_module_names or rest in ("errors", "quantities")
            assert known, f"{name} imports {imported}"


def test_nobody_below_imports_the_pipeline_or_the_command_line() -> None:
    for path in MODULES:
        if path.name in ("cli.py", "__main__.py", "__init__.py") or place(path) in (
            "api",
            "commands",
        ):
            continue
        for name, typing in imports(path):
            above = ("nettrim_cli.cli", "nettrim_cli.pipeline", "nettrim_cli.__main__")
            assert typing or name not in above, f"{path.name} imports {name}"
            assert place(path) in ("", "commands", "options") or "click" not in name, (
                f"{path.name} imports {name}"
            )


LIGHT = {  # modules by what their start must not load
    "nettrim_cli.pipeline": "onnx.reference scipy.special scipy.sparse scipy.stats",
    "nettrim_cli.execution.worker, nettrim_cli.pruning.layer_job": "onnx onnxruntime h5py rich",
    "nettrim_cli.preview.inspection": "scipy onnxruntime h5py rich nettrim_cli.pruning.passes",
    "nettrim_cli.cli, nettrim_cli.__main__": "numpy onnx onnxruntime rich scipy h5py PIL "
    "threadpoolctl google.protobuf nettrim_cli.pipeline nettrim_cli.report.result "
    "nettrim_cli.report.terminal",
}


@pytest.mark.parametrize("modules", LIGHT)
def test_starts_load_nothing_that_few_runs_need(modules: str) -> None:
    code = f"import {modules}, sys; print(*set({LIGHT[modules].split()!r}) & set(sys.modules))"
    started = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert not started.stdout.strip()


def test_files_and_functions_stay_readable() -> None:
    for path in MODULES:
        assert len(path.read_text("utf-8").splitlines()) <= 420, f"{path} is too long"
        for node in nodes(path):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                end = node.end_lineno or node.lineno
                assert end - node.lineno <= 90, f"{path}: {node.name} is too long"


def test_docstrings_name_parameters_and_attributes_that_exist() -> None:
    for path in MODULES:
        for node in nodes(path):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (names := listed(node)):
                missing = names - declared(node)
                assert not missing, f"{path}: the docstring of {node.name} names {missing}"


def listed(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """Names in a docstring's sections of parameters and attributes."""
    _, *parts = re.split(r"^(\w+)\n-+\n", ast.get_docstring(node) or "", flags=re.M)
    sections = zip(parts[::2], parts[1::2], strict=True)
    bodies = [body for head, body in sections if head in ("Parameters", "Attributes")]
    heads = re.findall(r"^\w+(?:, \w+)*$", "\n".join(bodies), re.M)
    return {name for head in heads for name in head.split(", ")}


def declared(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """Parameters of a function; those of a class, and its attributes."""
    if isinstance(node, ast.FunctionDef):
        return {inner.arg for inner in ast.walk(node.args) if isinstance(inner, ast.arg)}
    functions = [inner for inner in ast.walk(node) if isinstance(inner, ast.FunctionDef)]
    names = {inner.name for inner in functions}.union(*map(declared, functions))
    for inner in ast.walk(node):
        if isinstance(inner, ast.AnnAssign | ast.Assign):
            targets = [inner.target] if isinstance(inner, ast.AnnAssign) else inner.targets
            parts = [part for target in targets for part in ast.walk(target)]
            names |= {part.attr for part in parts if isinstance(part, ast.Attribute)}
            names |= {part.id for part in parts if isinstance(part, ast.Name)}
    return names


def test_tests_use_what_is_public() -> None:
    paths = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]
    for path in [*paths, *(PACKAGE.parent / "benchmarks").rglob("*.py")]:
        for line in path.read_text("utf-8").splitlines():
            assert not re.search("|".join(PRIVATE), line), f"{path}: {line.strip()}"


def test_each_folder_of_tests_is_that_of_a_room() -> None:
    rooms = {path.parent.relative_to(PACKAGE) for path in MODULES}
    others = {
        Path(name) for name in ("benchmarks", "hostile", "models", "packaging")
    }  # of no room alone
    for path in TESTS.rglob("test_*.py"):
        folder = path.parent.relative_to(TESTS)
        assert folder in rooms | others, f"{path} mirrors no folder of nettrim_cli/"
