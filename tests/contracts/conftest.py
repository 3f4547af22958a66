"""Fixtures that run a promise for each estimator of the list."""

import pytest
import sklearn
from contracts.estimators import ENTRIES, visits


@pytest.fixture(params=ENTRIES, ids=str)
def entry(request):
    return request.param


@pytest.fixture(params=[(entry, name) for entry in ENTRIES for name in entry.variants], ids=lambda c: f"{c[0]}, {c[1]}")
def case(request):
    """An entry and the name of one of its variants."""
    return request.param


@pytest.fixture
def data():
    return visits()


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield
