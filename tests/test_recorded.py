"""jaxlstm against PyTorch's recorded values and gradients: what stands for PyTorch where it is not installed."""

import cases
import jax
import numpy as np
import pytest
import recorded


@pytest.mark.optimized
@pytest.mark.parametrize("case", recorded.CASES, ids=str)
def test_equals_recorded_torch(case):
    dtype = np.float32 if case.bias else np.float64
    with jax.enable_x64(dtype == np.float64):
        got = cases.run(case, cases.arrays(case, dtype))
    cases.assert_same(got, recorded.load(case), **cases.TOLERANCES[dtype])
