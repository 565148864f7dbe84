"""The examples in the docstrings of the installed package run."""

import doctest
import importlib
import pkgutil

import pytest

import gaia_redshift

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(gaia_redshift.__path__, "gaia_redshift.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        test
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        if test.examples
    ]
    assert len(examples) >= 3
