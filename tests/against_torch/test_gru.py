"""PyTorch's other recurrent layers, over every option that they have, and its GRUCell."""

from typing import Any

import cases
import jax
import numpy as np
import pytest
import torch

import jaxlstm

from . import torch_oracle

# In float64, and of the plain RNN, those that differ in how a row is run; what else there is, is the stack's.
GRUS, RNNS = ([case for case in cases.grid_of(cell) if case.bias and case.num_layers == 2] for cell in ("GRU", "RNN"))
CASES = [(case, np.float32) for case in cases.grid_of("GRU")] + [(case, np.float64) for case in GRUS + RNNS]


@pytest.mark.parametrize(("case", "dtype"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_equals_torch(case, dtype):
    given = cases.arrays(case, dtype)
    with jax.enable_x64(dtype == np.float64):
        got = cases.run(case, given)
    assert {leaf.dtype for leaf in got.values()} == {np.dtype(dtype)}
    cases.assert_same(got, torch_oracle.run(case, given), **cases.TOLERANCES[dtype])


@pytest.mark.parametrize("batch", [(), (3,)], ids=["unbatched", "batched"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_gru_cell_equals_torch(bias, batch):
    random = np.random.default_rng(0)
    x, h = (random.uniform(-1, 1, (*batch, size)).astype(np.float32) for size in (cases.I, cases.H))
    module = torch.nn.GRUCell(cases.I, cases.H, bias=bias)
    leaves: dict[str, Any] = {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}
    params = jaxlstm.CellParams(**leaves)
    after, y = jaxlstm.gru_cell(params, h, x)
    np.testing.assert_array_equal(after, y)
    np.testing.assert_allclose(after, module(torch.tensor(x), torch.tensor(h)).detach().numpy(), rtol=0, atol=2e-6)
