"""`lstm` against a loop over rows and steps in numpy, which shares nothing with it: not a layer, not a mask."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_close

import jaxlstm

T, B, I, H = 6, 4, 3, 5  # noqa: E741


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def by_hand(params, x, state, reset_state, lengths, resets):
    """The whole of `jaxlstm.lstm` for x `[T, B, I]`, one row after another."""
    below = np.asarray(x)
    h_n, c_n = np.array(state[0]), np.array(state[1])
    for layer, directions in enumerate(params):
        outputs = []
        for direction, cell in enumerate(directions):
            k = layer * len(directions) + direction
            w_ih, w_hh, b_ih, b_hh, w_hr = (None if leaf is None else np.asarray(leaf) for leaf in cell[:5])
            output = np.zeros((T, B, h_n.shape[2]))
            for row in range(B):
                h, c = h_n[k, row], c_n[k, row]
                steps = range(lengths[row])
                for t in reversed(steps) if direction else steps:
                    if resets[t, row] and not direction:
                        h, c = reset_state[0][k, row], reset_state[1][k, row]
                    sums = w_ih @ below[t, row] + w_hh @ h + (0 if b_ih is None else b_ih + b_hh)
                    i, f, g, o = np.split(sums, 4)
                    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                    h = sigmoid(o) * np.tanh(c)
                    h = h if w_hr is None else w_hr @ h
                    output[t, row] = h
                    if resets[t, row] and direction:
                        h, c = reset_state[0][k, row], reset_state[1][k, row]
                h_n[k, row], c_n[k, row] = h, c
            outputs.append(output)
        below = np.concatenate(outputs, axis=2)
    return below, h_n, c_n


@functools.partial(jax.jit, static_argnames="options")
def ours(params, x, state, reset_state, lengths, resets, options):
    y, (h_n, c_n) = jaxlstm.lstm(
        params, x, state, lengths=lengths, resets=resets, reset_state=reset_state, **dict(options)
    )
    return y, h_n, c_n


@pytest.mark.parametrize("options", [(), (("checkpoint_every", 4),)], ids=str)
@pytest.mark.parametrize(
    ("num_layers", "bidirectional", "proj_size", "bias"), [(1, False, 0, False), (2, True, 0, True), (2, True, 2, True)]
)
@hypothesis.given(
    st.integers(0, 2**31 - 1),
    st.lists(st.integers(0, T), min_size=B, max_size=B),
    st.lists(st.booleans(), min_size=T * B, max_size=T * B),
)
@hypothesis.settings(deadline=None, max_examples=25, derandomize=True)
def test_equals_a_loop_over_rows_and_steps(num_layers, bidirectional, proj_size, bias, options, seed, lengths, resets):
    with jax.enable_x64(True):
        random = np.random.default_rng(seed)
        shapes = jaxlstm.init_lstm(
            jax.random.key(0), I, H, num_layers, bias=bias, bidirectional=bidirectional, proj_size=proj_size
        )
        states = (jaxlstm.zero_state(shapes, B),) * 2
        draw = lambda tree: jax.tree.map(lambda a: random.uniform(-1, 1, a.shape), tree)  # noqa: E731
        params, x, state, reset_state = *map(draw, (shapes, np.zeros((T, B, I)))), *map(draw, states)
        args = params, x, state, reset_state, np.array(lengths), np.array(resets).reshape(T, B)
        for got, wanted in zip(ours(*args, options=options), by_hand(*args), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12)


def test_a_state_to_begin_anew_from_serves_every_row_and_is_learned():
    """One for all rows is that one for each; and its gradient is that of the runs which begin from it."""
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, bidirectional=True)
    x = jax.random.normal(jax.random.key(1), (T, B, I))
    anew = jax.tree.map(lambda a: jnp.full(a.shape, 0.5), jaxlstm.zero_state(params))
    resets = jnp.zeros((T, B), bool).at[2].set(True)

    def packed(anew, rows):
        state = jax.tree.map(lambda a: jnp.broadcast_to(a[:, None], (2, B, H)), anew) if rows else anew
        return jnp.sum(jaxlstm.lstm(params, x, resets=resets, reset_state=state)[0] ** 2)

    def apart(anew):
        start = jax.tree.map(lambda a: jnp.broadcast_to(a[:, None], (2, B, H)), anew)
        zero = jax.tree.map(jnp.zeros_like, start)
        forward = lambda one, two: jaxlstm.LSTMState(*(a.at[1].set(b[1]) for a, b in zip(one, two, strict=True)))  # noqa: E731
        # Forward, the first part sets out from zero; in reverse, the second one does.
        first = jaxlstm.lstm(params, x[:2], forward(zero, start))[0]
        second = jaxlstm.lstm(params, x[2:], forward(start, zero))[0]
        return jnp.sum(first**2) + jnp.sum(second**2)

    wanted = jax.value_and_grad(apart)(anew)
    for rows in (False, True):
        got = jax.value_and_grad(functools.partial(packed, rows=rows))(anew)
        assert_close(got, wanted, rtol=1e-5)
