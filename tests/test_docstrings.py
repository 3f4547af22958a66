"""The examples of docstrings run as printed."""

import doctest
import importlib
import pkgutil

import pytest

import sklmm

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(sklmm.__path__, "sklmm.")
    if not module.name.endswith("__main__") and "._kernels" not in module.name
)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")
def test_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert not failed


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    with_examples = [
        name for name in MODULES if any(test.examples for test in finder.find(importlib.import_module(name)))
    ]
    assert len(with_examples) >= 15
