"""No number moves while code is moved: small fits of every kind against what they gave before.

Other processors sum in another order, so that the last digits may differ: with ``SKLMM_BITWISE=1``, on the machine that
made the file, not even these.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from golden.cases import CASES, run

HERE = Path(__file__).parent / "golden"
NUMBERS = json.loads((HERE / "numbers.json").read_text())


def test_every_case_is_in_the_file():
    assert set(NUMBERS) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_numbers(name):
    found = run(name)
    assert list(found) == list(NUMBERS[name])
    for key, values in found.items():
        expected = np.array([float.fromhex(value) for value in NUMBERS[name][key]])
        if os.environ.get("SKLMM_BITWISE") == "1":
            np.testing.assert_array_equal(values, expected, err_msg=key)
        else:
            scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-3)
            np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-8 * scale, err_msg=key)
