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


OPEN = export.symbolic_shape("batch, time")
X_OPEN = jax.ShapeDtypeStruct((OPEN[1], OPEN[0], I), jnp.float32)
PARAMS = jaxlstm.init_lstm(jax.random.key(0), I, H)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"checkpoint_every": 4}, "checkpoint_every: expected None, as T is unknown, got 4 with T = time. Export for"),
        ({"unroll": 2}, "unroll: expected None, as T is unknown, got 2 with T = time. Export for a fixed T."),
    ],
)
def test_what_needs_a_known_time_is_refused_in_words(options, words):
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(lambda x: jaxlstm.lstm(PARAMS, x, **options), X_OPEN)


def test_concrete_lengths_of_an_open_time():
    """The most that can be known of them is known: none is below 0, and at run time none counts past T."""
    (time,) = export.symbolic_shape("time")
    x = jax.ShapeDtypeStruct((time, 3, I), jnp.float32)
    program = export.export(jax.jit(lambda x: jaxlstm.lstm(PARAMS, x, lengths=[4, 0, 9])[0]))(x)
    x = jax.random.normal(jax.random.key(1), (5, 3, I))
    np.testing.assert_allclose(program.call(x), jaxlstm.lstm(PARAMS, x, lengths=[4, 0, 5])[0], atol=1e-6)
    with pytest.raises(ValueError, match="lengths: expected values from 0 to T = time, got -1"):
        jax.eval_shape(lambda x: jaxlstm.lstm(PARAMS, x, lengths=[4, -1, 9]), jax.ShapeDtypeStruct((time, 3, I), "f"))
