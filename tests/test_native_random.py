"""Random sizes and options, by hypothesis: the native kernels agree with `xla` in value and gradient.

HYPOTHESIS_EXAMPLES=2000 looks at so many, for an hour: each is a program of its own.
"""

import functools
import os

import hypothesis
import hypothesis.strategies as st
import jax
from derivatives import loss_of
from trees import assert_within_rounding

import jaxlstm
from jaxlstm.cells import GRU, LSTM

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "0"))


@hypothesis.settings(max_examples=EXAMPLES or 4, deadline=None, derandomize=not EXAMPLES)
@hypothesis.given(
    cell=st.sampled_from([LSTM, GRU]),
    sizes=st.tuples(st.just(1) | st.integers(2, 12), *(st.integers(1, most) for most in (20, 40, 40))),
    proj_size=st.integers(0, 39),
    seed=st.integers(0, 2**31 - 1),
    bias=st.booleans(),
    bidirectional=st.booleans(),
    ragged=st.booleans(),
    resets=st.booleans(),
)
def test_native_agrees_with_xla(cell, sizes, proj_size, seed, bias, bidirectional, ragged, resets):
    T, B, I, H = sizes  # noqa: E741
    P = proj_size if cell == LSTM and proj_size < H else 0
    keys = jax.random.split(jax.random.key(seed), 6)
    params = jaxlstm.init_fold(keys[0], cell, I, H, bias=bias, bidirectional=bidirectional, proj_size=P)
    lead = (1 + bidirectional, B)
    fields = [jax.random.normal(keys[1], (*lead, P or H)), jax.random.normal(keys[2], (*lead, H))]
    args = params, jax.random.normal(keys[3], (T, B, I)), cell.state(*fields[: len(cell.state._fields)])
    options = {
        "lengths": jax.random.randint(keys[4], (B,), 0, T + 1) if ragged else None,
        "resets": jax.random.bernoulli(keys[5], 0.3, (T, B)) if resets else None,
    }

    @functools.partial(jax.jit, static_argnums=0)
    def results(implementation, args, options):
        run = functools.partial(jaxlstm.fold, cell, implementation=implementation, **options)
        return run(*args), jax.grad(loss_of(run), argnums=(0, 1, 2))(*args)

    assert_within_rounding(results("native", args, options), results("xla", args, options), 2e-5)
