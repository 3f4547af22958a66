"""Fixtures that run a promise for each estimator of the list."""

import pytest
from contracts.estimators import CASES, ENTRIES, MAIN_CASES, visits


@pytest.fixture(params=ENTRIES, ids=str)
def entry(request):
    return request.param


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


@pytest.fixture(params=MAIN_CASES, ids=str)
def main_case(request):
    return request.param


@pytest.fixture
def data():
    return visits()
