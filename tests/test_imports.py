"""Arrows point down: no module imports from a folder above its own, and no imports go round in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sklmm"
# From the ground up; what stands in one entry may import each other, in one direction.
LAYERS = [
    {"_kernels", "exceptions", "messages"},
    {"families", "priors"},
    {"design", "passes", "optimize"},
    {"likelihood", "estimating"},
    {"inference", "fitted"},
    {"prediction"},
    {"posterior"},
    {"estimators", "diagnostics", "reporting"},
    {"mixed", "gee", "linear"},
    {"accuracy", "compose", "encoding", "scorers", "datasets"},
    {"command", "__main__", "sklmm"},
]


def modules():
    """Files by the dotted name of their module."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name, everywhere=False):
    """Modules of the package that a module imports when it is loaded, or ``everywhere`` in it."""
    path, found = MODULES[name], set()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.add(inner if inner in MODULES else source)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {source for source in found if source == "sklmm" or source.startswith("sklmm.")}


def layer(name):
    part = name.split(".")[1] if "." in name else "sklmm"
    return next((k for k, parts in enumerate(LAYERS) if part in parts), len(LAYERS))


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_import_points_up(name):
    up = {source for source in imports(name, everywhere=True) if layer(source) > layer(name)}
    assert not up, f"{name} imports from above"


def test_private_names_stay_in_their_folder():
    """But for modules of `_kernels`, which are private to the package as a whole."""
    found = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklmm"):
                names = {alias.name for alias in node.names} - {"__version__"}
                if node.module.rpartition(".")[0] != name.rpartition(".")[0]:
                    found += [f"{name}: {node.module}.{one}" for one in names if one.startswith("_")]
    assert not found


def test_imports_do_not_go_round_in_circles():
    try:
        list(TopologicalSorter({name: imports(name) & set(MODULES) for name in MODULES}).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
