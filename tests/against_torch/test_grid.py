"""Every option of nn.LSTM against PyTorch itself: outputs, states, and gradients of parameters, input and states."""

import cases
import jax
import numpy as np
import pytest

from . import torch_oracle

# With projections PyTorch says that it leaves oneDNN for its own loop.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", cases.grid(), ids=str)
def test_equals_torch(case, dtype):
    given = cases.arrays(case, dtype)
    with jax.enable_x64(dtype == np.float64):
        got = cases.run(case, given)
    assert {leaf.dtype for leaf in got.values()} == {np.dtype(dtype)}
    cases.assert_same(got, torch_oracle.run(case, given), **cases.TOLERANCES[dtype])
