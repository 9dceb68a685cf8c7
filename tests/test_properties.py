"""Properties that hold for every LSTM and every input, searched by hypothesis."""

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

# One compilation serves all examples of a test, for T and B are fixed and the rest is data.
hypothesis.settings.register_profile("jaxlstm", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("jaxlstm")

seeds = st.integers(0, 2**31 - 1)
ragged = st.lists(st.integers(0, T), min_size=B, max_size=B).map(np.array)
resets = st.lists(st.booleans(), min_size=T * B, max_size=T * B).map(lambda bits: np.array(bits).reshape(T, B))


def draw(seed, *, bidirectional=True):
    keys = jax.random.split(jax.random.key(seed), 4)
    params = jaxlstm.init_lstm(keys[0], I, H, 2, bidirectional=bidirectional)
    state = jaxlstm.LSTMState(*jax.random.normal(keys[1], (2, 2 * (1 + bidirectional), B, H)))
    return params, jax.random.normal(keys[2], (T, B, I)), state


@hypothesis.given(seeds, ragged, st.sampled_from([0.0, 1e30, np.nan, np.inf]))
def test_padding_content_never_matters(seed, lengths, filling):
    params, x, state = draw(seed)
    padding = np.arange(T)[:, None, None] >= lengths[:, None]
    run = functools.partial(jaxlstm.lstm, params, state=state, lengths=jnp.asarray(lengths))
    assert_close(run(jnp.where(padding, filling, x)), run(x), atol=0)


@hypothesis.given(seeds, ragged, st.permutations(range(B)))
def test_permuting_rows_permutes_results(seed, lengths, order):
    params, x, state = draw(seed)
    order = np.array(order)
    y, final = jaxlstm.lstm(params, x, state, lengths=jnp.asarray(lengths))
    permuted = jaxlstm.lstm(
        params, x[:, order], jax.tree.map(lambda s: s[:, order], state), lengths=jnp.asarray(lengths[order])
    )
    assert_close(permuted, (y[:, order], jax.tree.map(lambda s: s[:, order], final)))


@pytest.mark.parametrize("at", [1, T // 2])
@hypothesis.given(seeds, resets)
def test_splitting_in_time_and_carrying_the_state_is_one_run(at, seed, resets):
    params, x, state = draw(seed, bidirectional=False)
    y, final = jaxlstm.lstm(params, x, state, resets=jnp.asarray(resets))
    head, between = jaxlstm.lstm(params, x[:at], state, resets=jnp.asarray(resets[:at]))
    tail, carried = jaxlstm.lstm(params, x[at:], between, resets=jnp.asarray(resets[at:]))
    assert_close((jnp.concatenate([head, tail]), carried), (y, final))


@hypothesis.given(seeds, st.integers(1, T - 1))
def test_resets_are_separate_sequences(seed, at):
    """Two documents packed in one row: as two rows of their own lengths, in both directions."""
    params, x, _ = draw(seed)
    packed, _ = jaxlstm.lstm(params, x, resets=jnp.broadcast_to(jnp.arange(T)[:, None] == at, (T, B)))
    alone = jnp.concatenate([x, jnp.roll(x, -at, axis=0)], axis=1)
    lengths = jnp.repeat(jnp.array([at, T - at]), B)
    apart, _ = jaxlstm.lstm(params, alone, lengths=lengths)
    np.testing.assert_allclose(packed[:at], apart[:at, :B], atol=1e-6)
    np.testing.assert_allclose(packed[at:], apart[: T - at, B:], atol=1e-6)


@hypothesis.given(seeds, ragged)
def test_reversing_the_input_swaps_the_directions(seed, lengths):
    """Each row reversed within its length, by parameters with the two directions exchanged."""
    params, x, state = draw(seed)
    params, state = params[:1], jax.tree.map(lambda s: s[:2], state)
    lengths = jnp.asarray(lengths)

    steps = jnp.arange(T)[:, None]
    source = jnp.where(steps < lengths[None], lengths[None] - 1 - steps, steps)

    def reverse_rows(a):
        return jnp.take_along_axis(a, source[:, :, None], axis=0)

    y, final = jaxlstm.lstm(params, x, state, lengths=lengths)
    swapped_y, swapped = jaxlstm.lstm(
        ((params[0][1], params[0][0]),), reverse_rows(x), jax.tree.map(lambda s: s[::-1], state), lengths=lengths
    )
    assert_close(reverse_rows(jnp.roll(swapped_y, H, axis=-1)), y)
    assert_close(jax.tree.map(lambda s: s[::-1], swapped), final)


@functools.partial(jax.jit, static_argnames="every")
def value_and_gradient(params, x, state, lengths, resets, every):
    def loss(params, x, state):
        y, final = jaxlstm.lstm(params, x, state, lengths=lengths, resets=resets, checkpoint_every=every)
        return sum(jnp.sum(jnp.sin(a)) for a in (y, *final))

    return jax.value_and_grad(loss, argnums=(0, 1, 2))(params, x, state)


@pytest.mark.parametrize("every", [1, 4])
@hypothesis.given(seeds, ragged, resets)
def test_checkpoint_every_changes_nothing(every, seed, lengths, resets):
    args = *draw(seed), jnp.asarray(lengths), jnp.asarray(resets)
    assert_close(value_and_gradient(*args, every=every), value_and_gradient(*args, every=None), atol=1e-5)
