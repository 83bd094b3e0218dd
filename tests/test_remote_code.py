"""No code that comes with a model is ever run: `trust_remote_code=False` at every loading call.

A concrete class (`Qwen2ForCausalLM`) cannot load such code; an Auto class can, and so can a
class that is chosen at run time.
"""

import ast

import nbformat
import pytest
from notebooks import ROOT, code_cells, name, notebooks

LOADERS = ("from_pretrained", "from_config")
# Loads with options in a dictionary; tests/test_loading.py checks the calls themselves.
ELSEWHERE = ("openmodels/loading.py",)


def may_run_remote_code(receiver: ast.expr) -> bool:
    """Return whether a loading call on this expression is one of an Auto or a computed class."""
    if not isinstance(receiver, ast.Name | ast.Attribute):
        return True  # model_class(config).from_pretrained(...)
    last = ast.unparse(receiver).rpartition(".")[2]
    return last.startswith("Auto") or not last[0].isupper()


def unsafe_calls(source: str) -> list[str]:
    """Return the loading calls in code that could run a model's own code."""
    calls = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in LOADERS or not may_run_remote_code(node.func.value):
            continue
        options = {k.arg: k.value for k in node.keywords}
        value = options.get("trust_remote_code")
        if not (isinstance(value, ast.Constant) and value.value is False):
            calls.append(ast.unparse(node))
    return calls


def python_files() -> list:
    folders = ("openmodels", "tools")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in [*files, ROOT / "start.py"] if name(path) not in ELSEWHERE]


def test_code_never_runs_a_models_own_code():
    calls = {name(path): unsafe_calls(path.read_text(encoding="utf-8")) for path in python_files()}
    assert {path: lines for path, lines in calls.items() if lines} == {}


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=name(p)) for p in notebooks("chapters", "solutions", "labs")],
)
def test_cells_never_run_a_models_own_code(path):
    notebook = nbformat.read(path, as_version=4)
    assert [call for cell in code_cells(notebook) for call in unsafe_calls(cell.source)] == []


@pytest.mark.parametrize(
    ("call", "unsafe"),
    [
        ("AutoModel.from_pretrained(folder)", True),
        ("transformers.AutoConfig.from_pretrained(folder, dtype=d)", True),
        ("AutoModelForCausalLM.from_config(config)", True),
        ("AutoTokenizer.from_pretrained(folder, trust_remote_code=True)", True),
        ("AutoTokenizer.from_pretrained(folder, trust_remote_code=flag)", True),
        ("model_class.from_pretrained(folder)", True),
        ("sizing.model_class(config).from_pretrained(folder)", True),
        ("AutoModel.from_pretrained(folder, trust_remote_code=False)", False),
        ("Qwen2ForCausalLM.from_pretrained(folder)", False),
        ("PeftModel.from_pretrained(model, folder)", False),
    ],
)
def test_an_unsafe_call_is_seen(call, unsafe):
    assert bool(unsafe_calls(call)) == unsafe
