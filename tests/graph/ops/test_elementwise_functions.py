"""Elementwise functions to their last digits, against SciPy."""

from __future__ import annotations

import numpy as np
from scipy import special

from nettrim_cli.graph.ops import elementwise


def test_the_error_function_is_scipys() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), [0.0, -0.0, 1e-30, 50, -50, 1e30]])
    found = elementwise.erf(x.astype(np.float32))
    assert found.dtype == np.float32
    assert np.abs(found - special.erf(x)).max() < 2e-7
    assert np.isnan(elementwise.erf(np.float32([np.nan]))[0])


def test_the_sigmoid_and_its_integral_are_scipys() -> None:
    x = np.concatenate([np.linspace(-20, 20, 20001), [-0.0, -1e-30, 90, -90, 1e30, -1e30]])
    x = x.astype(np.float32)
    wide = x.astype(np.float64)
    found = elementwise.sigmoid(x)
    assert found.dtype == np.float32
    assert np.abs(found - special.expit(wide)).max() < 1.5e-7
    found = elementwise.softplus(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.logaddexp(wide, 0), rtol=3e-7, atol=1e-38)
    small = np.float32([-30, -60, -86])
    np.testing.assert_allclose(elementwise.sigmoid(small), np.exp(small.astype(float)), rtol=1e-5)
    for function in (elementwise.sigmoid, elementwise.softplus):
        assert np.isnan(function(np.float32([np.nan]))[0])
