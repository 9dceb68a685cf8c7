"""A jitted `lstm` goes through `jax.export`, of any batch and time, for every platform, and back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxlstm

I, H = 3, 4  # noqa: E741


def exported(params: Any, *, lengths: bool, dtype: Any) -> export.Exported:
    batch, time = export.symbolic_shape("batch, time")
    x = jax.ShapeDtypeStruct((time, batch, I), dtype)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    if not lengths:
        return export.export(jax.jit(jaxlstm.lstm), platforms=["cpu", "cuda", "tpu"])(shapes, x)
    run = jax.jit(lambda params, x, lengths: jaxlstm.lstm(params, x, lengths=lengths))
    lengths_shape = jax.ShapeDtypeStruct((batch,), jnp.int32)
    return export.export(run, platforms=["cpu", "cuda", "tpu"])(shapes, x, lengths_shape)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_program_of_any_batch_and_time_there_and_back(lengths, dtype):
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, num_layers=2, bidirectional=True, dtype=dtype)
    program = export.deserialize(exported(params, lengths=lengths, dtype=dtype).serialize())
    assert program.platforms == ("cpu", "cuda", "tpu")
    for num_steps, batch in ((5, 2), (1, 1), (3, 7)):
        random = np.random.default_rng(0)
        x = jnp.asarray(random.normal(size=(num_steps, batch, I)), dtype)
        rows = jnp.asarray(random.integers(0, num_steps + 1, batch), jnp.int32) if lengths else None
        y, (h, c) = program.call(params, x, *([rows] if lengths else []))
        expected, state = jaxlstm.lstm(params, x, lengths=rows)
        assert (y.shape, y.dtype) == ((num_steps, batch, 2 * H), dtype)
        for got, want in ((y, expected), (h, state.h), (c, state.c)):
            # A single step of known T is compiled in another order of sums: one rounding apart.
            np.testing.assert_allclose(
                np.asarray(got, np.float64), np.asarray(want, np.float64), rtol=0, atol=float(jnp.finfo(dtype).eps)
            )
