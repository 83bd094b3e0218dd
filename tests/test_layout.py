"""The package's layout: imports only go down, first imports stay light, and code stays short."""

import ast
import subprocess
import sys

import pytest
from notebooks import ROOT

PACKAGE = ROOT / "openmodels"
MODULE_LINES, FUNCTION_LINES, NESTING = 700, 60, 4
# Files with a module or function over these limits.
PENDING: set[str] = set()
# From top to bottom. A package may import those below it; root modules are below all packages.
LAYERS = (
    "exercises",
    "widgets",
    "workflows",
    "serving",
    "inside",
    "training",
    "gguf",
    "minis",
    "isolation",
    "harbour",
    "plots",
)
HEAVY = ("torch", "transformers", "starlette")
LIGHT = (
    "openmodels",
    "openmodels.catalog",
    "openmodels.check",
    "openmodels.widgets",
    "openmodels.exercises.lab0",
    "openmodels.exercises.lab1",
    "openmodels.exercises.lab2",
    "openmodels.exercises.lab3",
    "openmodels.exercises.lab4",
)


def depth(module: str) -> int:
    """Return the place of a module in LAYERS; root modules come last."""
    part = module.split(".")[1]
    return LAYERS.index(part) if part in LAYERS else len(LAYERS)


def imported(tree: ast.AST) -> set[str]:
    """Return the course's modules that code imports, wherever the import stands.

    An import under `if TYPE_CHECKING:` is left out: nothing is loaded by it.
    """
    typed = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typed:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "openmodels":
            found |= {f"openmodels.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.startswith("openmodels.")}


def upward(module: str, source: str) -> list[str]:
    """Return the imports of a module's source that go up the layers."""
    names = imported(ast.parse(source))
    return sorted(name for name in names if depth(name) < depth(module))


def modules() -> dict[str, str]:
    """Return every module of the package below its root, with its source."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != PACKAGE / "__init__.py"  # hands out `load` and `connect` on first use
    }


def test_imports_only_go_down():
    found = {name: up for name, source in modules().items() if (up := upward(name, source))}
    assert found == {}


def test_every_package_has_its_layer():
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages <= set(LAYERS)


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("openmodels.minis.train", "from openmodels import catalog, paths", []),
        ("openmodels.minis.train", "from openmodels.serving.engine import Engine", ["serving"]),
        ("openmodels.gguf.export", "def f():\n    import openmodels.inside.experts", ["inside"]),
        ("openmodels.catalog", "from openmodels import minis", ["minis"]),
        ("openmodels.inside.x", "if TYPE_CHECKING:\n    from openmodels.serving import app", []),
    ],
)
def test_an_upward_import_is_seen(module, source, expected):
    assert [name.split(".")[1] for name in upward(module, source)] == expected


@pytest.mark.parametrize("module", LIGHT)
def test_importing_stays_light(module):
    code = f"import sys, {module}; print([n for n in {HEAVY} if n in sys.modules])"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- Size -----------------------------------------------------------------------------------------

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match,
    *FUNCTIONS, ast.ClassDef,
)  # fmt: skip


def nesting(node: ast.AST) -> int:
    """Return how deep the blocks inside a node are nested; `elif` is no deeper than its `if`."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        step = int(isinstance(child, BLOCKS) and not is_elif)
        deepest = max(deepest, step + nesting(child))
    return deepest


def over_size(source: str) -> list[str]:
    """Return what in a module is too long or nested too deep."""
    lines = source.count("\n")
    problems = [f"{lines} lines"] if lines > MODULE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, FUNCTIONS):
            continue
        length, depth = node.end_lineno - node.lineno + 1, nesting(node)
        problems += [f"{node.name} has {length} lines"] * (length > FUNCTION_LINES)
        problems += [f"{node.name} is nested {depth} deep"] * (depth > NESTING)
    return problems


def code_files() -> list:
    """Return the files of the package, the tools and start.py."""
    folders = (PACKAGE, ROOT / "tools")
    return [*(path for folder in folders for path in folder.rglob("*.py")), ROOT / "start.py"]


def test_size_limits():
    problems = {
        path.relative_to(ROOT).as_posix(): over_size(path.read_text(encoding="utf-8"))
        for path in code_files()
    }
    assert {name: lines for name, lines in problems.items() if lines and name not in PENDING} == {}
    assert [name for name in sorted(PENDING) if not problems.get(name)] == []  # remove these


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("x = 1\n" * 701, "701 lines"),
        ("def f():\n" + "    x = 1\n" * 60, "f has 61 lines"),
        ("def f():\n" + "    x = 1\n" * 59, None),
        (
            "def f():\n if a:\n  for b in c:\n   while d:\n    with e:\n     if g: pass",
            "f is nested 5 deep",
        ),
        ("def f():\n if a:\n  for b in c:\n   while d:\n    with e: pass", None),
        ("def f():\n if a: pass\n elif b: pass\n elif c: pass\n elif d: pass\n elif e: pass", None),
    ],
)
def test_what_is_too_large_is_seen(source, problem):
    assert over_size(source) == ([problem] if problem else [])
