"""Random sizes and options, by hypothesis: the native kernels agree with `xla` in value and gradient.

HYPOTHESIS_EXAMPLES=2000 looks at so many, for an hour: each is a program of its own.
"""

import functools
import os

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from derivatives import fast_jit, loss_of

import jaxlstm
from jaxlstm.cells import GRU, LSTM

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "0"))


@st.composite
def problems(draw):
    cell, H = draw(st.sampled_from([LSTM, GRU])), draw(st.integers(1, 40))
    T, B, I = (draw(st.integers(1, most)) for most in (12, 20, 40))  # noqa: E741
    bidirectional, proj_size = draw(st.booleans()), 0
    if cell == LSTM and H > 1 and draw(st.booleans()):
        proj_size = draw(st.integers(1, H - 1))
    keys = iter(jax.random.split(jax.random.key(draw(st.integers(0, 2**31 - 1))), 5))
    params = jaxlstm.init_fold(
        next(keys), cell, I, H, bias=draw(st.booleans()), bidirectional=bidirectional, proj_size=proj_size
    )
    x = jax.random.normal(next(keys), (T, B, I))
    lead = (1 + bidirectional, B)
    h = jax.random.normal(next(keys), (*lead, proj_size or H))
    state = cell.state(h, *(jax.random.normal(next(keys), (*lead, H)) for _ in cell.state._fields[1:]))
    key = next(keys)
    options = {
        "lengths": jax.random.randint(key, (B,), 0, T + 1) if draw(st.booleans()) else None,
        "resets": jax.random.bernoulli(key, 0.3, (T, B)) if draw(st.booleans()) else None,
    }
    return cell, (params, x, state), options


@hypothesis.settings(max_examples=EXAMPLES or 6, deadline=None, derandomize=not EXAMPLES)
@hypothesis.given(problems())
def test_native_agrees_with_xla(problem):
    cell, args, options = problem

    @functools.partial(fast_jit, static_argnums=0)
    def results(implementation, args, options):
        run = functools.partial(jaxlstm.fold, cell, implementation=implementation, **options)
        return run(*args), jax.grad(loss_of(run), argnums=(0, 1, 2))(*args)

    got, wanted = (results(name, args, options) for name in ("native", "xla"))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * max(1, float(jnp.abs(b).max())))
