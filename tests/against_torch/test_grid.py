"""Every option of nn.LSTM against PyTorch itself: outputs, states, and gradients of parameters, input and states."""

import cases
import jax
import numpy as np
import pytest

from . import torch_oracle

# With projections PyTorch says that it leaves oneDNN for its own loop.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")


# The mathematics in float64; in float32 what users run, in two layers, which hold all that one does.
CASES = [pytest.param(case, np.float64, id=f"{case}-float64") for case in cases.grid()]
CASES += [
    pytest.param(case, np.float32, id=f"{case}-float32", marks=pytest.mark.optimized)
    for case in cases.grid()
    if case.num_layers == 2
]


@pytest.mark.parametrize(("case", "dtype"), CASES)
def test_equals_torch(case, dtype):
    given = cases.arrays(case, dtype)
    with jax.enable_x64(dtype == np.float64):
        got = cases.run(case, given)
    assert {leaf.dtype for leaf in got.values()} == {np.dtype(dtype)}
    cases.assert_same(got, torch_oracle.run(case, given), **cases.TOLERANCES[dtype])
