"""What API.md promises of `lstm` and `lstm_cell`, beyond equality with PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_close

import jaxlstm

T, B, I, H = 7, 3, 3, 5  # noqa: E741


@pytest.fixture(scope="module")
def params():
    return jaxlstm.init_lstm(jax.random.key(0), I, H, num_layers=2, bidirectional=True)


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(1), (T, B, I))


def test_initial_parameters_are_uniform_within_one_over_root_h():
    cell = jaxlstm.init_lstm_cell(jax.random.key(0), 30, 100, proj_size=20)
    for leaf in jax.tree.leaves(cell):
        assert jnp.abs(leaf).max() <= 0.1
        assert jnp.abs(leaf).max() > 0.09
        assert abs(leaf.mean()) < 0.01
    leaves = jax.tree.leaves(jaxlstm.init_lstm(jax.random.key(0), H, H, num_layers=2, bidirectional=True))
    first_numbers = {float(leaf.reshape(-1)[0]) for leaf in leaves}
    assert len(first_numbers) == len(leaves), "every leaf is drawn by its own key"


def test_folding_the_cell_is_the_layer(x):
    cell = jaxlstm.init_lstm_cell(jax.random.key(0), I, H, proj_size=2)
    state = jaxlstm.LSTMState(jnp.zeros((B, 2)), jnp.zeros((B, H)))
    final, y = jax.lax.scan(functools.partial(jaxlstm.lstm_cell, cell), state, x)
    output, (h_n, c_n) = jaxlstm.lstm(((cell,),), x)
    assert_close((output, h_n[0], c_n[0]), (y, *final))


def test_cells_of_different_sizes_stack_by_hand():
    cell_0, cell_1 = (
        jaxlstm.init_lstm_cell(jax.random.key(i), *sizes) for i, sizes in enumerate([(100, 30), (30, 20)])
    )
    state_0, state_1 = (jaxlstm.LSTMState(jnp.zeros((3, n)), jnp.zeros((3, n))) for n in (30, 20))
    for step in range(4):
        state_0, h = jaxlstm.lstm_cell(cell_0, state_0, jnp.full((3, 100), float(step)))
        state_1, h = jaxlstm.lstm_cell(cell_1, state_1, h)
        assert h.shape == (3, 20)
        np.testing.assert_array_equal(h, state_1.h)


def test_unbatched_cell_is_one_row():
    cell = jaxlstm.init_lstm_cell(jax.random.key(0), I, H)
    state = (jnp.ones(H), jnp.ones(H))
    got, _ = jaxlstm.lstm_cell(cell, state, jnp.ones(I))
    wanted, _ = jaxlstm.lstm_cell(cell, jax.tree.map(lambda a: a[None], state), jnp.ones((1, I)))
    assert_close(got, jax.tree.map(lambda a: a[0], wanted))


def test_unbatched_lengths_and_resets_are_one_row(params, x):
    resets = jnp.arange(T) == 3
    got = jaxlstm.lstm(params, x[:, 0], lengths=jnp.int32(5), resets=resets)
    y, final = jaxlstm.lstm(params, x[:, :1], lengths=jnp.array([5]), resets=resets[:, None])
    assert_close(got, (y[:, 0], jaxlstm.LSTMState(final.h[:, 0], final.c[:, 0])))


def test_batch_first_moves_input_output_and_resets_only(params, x):
    resets = jax.random.bernoulli(jax.random.key(2), 0.3, (T, B))
    y, final = jaxlstm.lstm(params, x, resets=resets)
    y_bt, final_bt = jaxlstm.lstm(params, x.swapaxes(0, 1), resets=resets.T, batch_first=True)
    assert_close((y_bt.swapaxes(0, 1), final_bt), (y, final))


def test_state_layout(params, x):
    y, (h_n, _) = jaxlstm.lstm(params, x)
    np.testing.assert_array_equal(h_n[-2], y[-1, :, :H])
    np.testing.assert_array_equal(h_n[-1], y[0, :, H:])


def test_length_zero_hands_the_state_on(params, x):
    state = jaxlstm.LSTMState(*jax.random.normal(jax.random.key(3), (2, 4, B, H)))
    y, final = jaxlstm.lstm(params, x, state, lengths=[T, 0, 2])
    np.testing.assert_array_equal(y[:, 1], 0)
    np.testing.assert_array_equal(final.h[:, 1], state.h[:, 1])
    np.testing.assert_array_equal(final.c[:, 1], state.c[:, 1])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint32"])
def test_lengths_of_any_integer_dtype(params, dtype):
    x = jnp.ones((200, 1, I))  # more steps than int8 counts
    got = jaxlstm.lstm(params, x, lengths=jnp.array([100], dtype))
    assert_close(got, jaxlstm.lstm(params, x, lengths=jnp.array([100])), atol=0)


def test_empty_batch_works(params):
    y, final = jaxlstm.lstm(params, jnp.zeros((T, 0, I)), lengths=np.zeros(0, int))
    assert y.shape == (T, 0, 2 * H)
    assert final.h.shape == (4, 0, H)


def test_reset_at_the_first_step_in_both_directions(params, x):
    """Forward ignores the initial state; in reverse, the state handed past step 0 is zero."""
    ones = jaxlstm.LSTMState(jnp.ones((4, B, H)), jnp.ones((4, B, H)))
    resets = jnp.zeros((T, B), bool).at[0].set(True)
    y, final = jaxlstm.lstm(params, x, ones, resets=resets)
    forward_zero = jaxlstm.LSTMState(*(s.at[::2].set(0) for s in ones))
    wanted_y, wanted = jaxlstm.lstm(params, x, forward_zero)
    assert_close(y, wanted_y)
    assert_close(final, jax.tree.map(lambda s: s.at[1::2].set(0), wanted))


def test_nothing_at_padding_reaches_values_or_gradients(params, x):
    lengths = np.array([4, 0, T])
    padding = np.arange(T)[:, None] >= lengths
    poison = jnp.where(padding[:, :, None], jnp.nan, x)
    tangent = jnp.where(padding[:, :, None], jnp.inf, jnp.ones_like(x))

    def loss(params, x):
        y, final = jaxlstm.lstm(params, x, lengths=lengths, resets=jnp.asarray(padding))
        return sum(jnp.sum(a**2) for a in (y, *final))

    clean, (d_params, d_x) = jax.value_and_grad(loss, argnums=(0, 1))(params, poison)
    wanted, (wanted_params, _) = jax.value_and_grad(loss, argnums=(0, 1))(params, jnp.where(padding[:, :, None], 0, x))
    assert clean == wanted
    assert_close(d_params, wanted_params)
    np.testing.assert_array_equal(d_x[padding], 0)
    _, pushed = jax.jvp(functools.partial(loss, params), (poison,), (tangent,))
    assert jnp.isfinite(pushed)


@pytest.mark.parametrize("x_dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("params_dtype", ["float32", "bfloat16", "float16"])
def test_dtype_is_the_common_one(x_dtype, params_dtype, x):
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, dtype=params_dtype)
    with jax.numpy_dtype_promotion("standard"):
        common = jnp.promote_types(x_dtype, params_dtype)
    state = jaxlstm.LSTMState(jnp.zeros((1, B, H)), jnp.zeros((1, B, H)))
    y, final = jaxlstm.lstm(params, x.astype(x_dtype), state)
    assert (y.dtype, final.h.dtype, final.c.dtype) == (common, common, common)
    _, h = jaxlstm.lstm_cell(params[0][0], (state.h[0], state.c[0]), x[0].astype(x_dtype))
    assert h.dtype == common


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_accumulates_in_float32(dtype):
    """2000 steps, each adding to c less than half a unit of its last place: kept low, c would stand still."""
    num_steps, cell = 2000, jaxlstm.LSTMCellParams(jnp.zeros((4, 1)), jnp.zeros((4, 1)), jnp.zeros(4), jnp.zeros(4))
    # f = 1, i = 1, g = tanh(0.002)
    cell = cell._replace(bias_ih=jnp.array([20.0, 20.0, 0.002, 0.0]))
    cell = jax.tree.map(lambda a: a.astype(dtype), cell)
    _, final = jaxlstm.lstm(((cell,),), jnp.zeros((num_steps, 1), dtype))
    np.testing.assert_allclose(float(final.c[0, 0]), num_steps * 0.002, rtol=0.01)


def test_dropout_between_layers_only(x):
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, num_layers=3)
    key = jax.random.key(5)
    plain = jaxlstm.lstm(params, x)
    assert_close(jaxlstm.lstm(params, x, dropout=0.5), plain)
    assert_close(jaxlstm.lstm(params, x, dropout=0.0, dropout_key=key), plain)
    assert_close(jaxlstm.lstm(params[:1], x, dropout=0.5, dropout_key=key), jaxlstm.lstm(params[:1], x))

    y, final = jaxlstm.lstm(params, x, dropout=0.5, dropout_key=key)
    assert_close((y, final), jaxlstm.lstm(params, x, dropout=0.5, dropout_key=key), atol=0)
    np.testing.assert_array_equal(final.h[0], plain[1].h[0])  # layer 0 stands below every dropout
    assert not np.allclose(y, plain[0])
    assert not np.allclose(y, jaxlstm.lstm(params, x, dropout=0.5, dropout_key=jax.random.key(6))[0])
    np.testing.assert_array_equal(final.h[-1], y[-1])


def test_dropout_of_everything_gives_what_zeros_give(params, x):
    def loss(x, rate):
        return jaxlstm.lstm(params, x, dropout=rate, dropout_key=jax.random.key(0))[0]

    upper, _ = jaxlstm.lstm(params[1:], jnp.zeros((T, B, 2 * H)))
    assert_close(loss(x, 1.0), upper)
    assert_close(jax.grad(lambda x: loss(x, 1.0).sum())(x), jnp.zeros_like(x))


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_dropout_keeps_its_share_fresh_at_each_step_and_row(rate):
    """A lower layer whose output is constant, and an upper one that hands its input on through g."""
    width, num_steps, batch = 64, 8, 4
    constant = jaxlstm.LSTMCellParams(
        jnp.zeros((4 * width, 1)),
        jnp.zeros((4 * width, width)),
        jnp.repeat(jnp.array([20.0, -20, 20, 20]), width),
        jnp.zeros(4 * width),
    )
    select = jnp.zeros((4 * width, width)).at[2 * width : 3 * width].set(0.1 * jnp.eye(width))
    gates = jnp.repeat(jnp.array([20.0, -20, 0, 20]), width)
    through = jaxlstm.LSTMCellParams(select, jnp.zeros((4 * width, width)), gates, jnp.zeros(4 * width))
    y, _ = jaxlstm.lstm(
        ((constant,), (through,)), jnp.zeros((num_steps, batch, 1)), dropout=rate, dropout_key=jax.random.key(0)
    )
    kept = np.abs(y) > 1e-3
    assert abs(kept.mean() - (1 - rate)) < 0.03
    scaled = np.tanh(np.tanh(0.1 * np.tanh(1) / (1 - rate)))
    np.testing.assert_allclose(np.asarray(y)[kept], scaled, rtol=1e-5)
    masks = kept.reshape(num_steps * batch, width)
    assert len(np.unique(masks, axis=0)) == num_steps * batch


def test_options_of_the_loop_change_nothing(params, x):
    wanted = jaxlstm.lstm(params, x)
    assert_close(jaxlstm.lstm(params, x, unroll=3), wanted)
    for every in (1, 3, T, 100):
        assert_close(jaxlstm.lstm(params, x, checkpoint_every=every), wanted)
    assert_close(jaxlstm.lstm(params, x, implementation="xla"), wanted)


def test_second_call_does_not_retrace(params):
    x = jax.random.normal(jax.random.key(1), (T + 4, B, I))  # a shape of this test's own
    jaxlstm.lstm(params, x, lengths=jnp.array([1, 2, 3]))
    with jax.log_compiles(False), jax.check_tracer_leaks(False):
        traces = jaxlstm._fold._run._cache_size()
        jaxlstm.lstm(params, x + 1, lengths=jnp.array([3, 2, 1]))
    assert jaxlstm._fold._run._cache_size() == traces


def test_compiled_size_does_not_depend_on_time(params):
    def size(num_steps, **options):
        loss = lambda params, x: jaxlstm.lstm(params, x, **options)[0].sum()  # noqa: E731
        x = jax.ShapeDtypeStruct((num_steps, B, I), jnp.float32)
        text = jax.jit(jax.grad(loss)).lower(params, x).compile().as_text()
        assert text is not None
        return text.count(" = ")

    assert size(10_000) == size(100)
    assert size(10_000, checkpoint_every=10) == size(100, checkpoint_every=10)


def test_layers_of_one_shape_scan(x):
    """`lax.scan` over stacked parameters is the stack."""
    params = jaxlstm.init_lstm(jax.random.key(0), H, H, num_layers=3)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    x = jax.random.normal(jax.random.key(1), (T, B, H))
    y, states = jax.lax.scan(lambda y, layer: jaxlstm.lstm((layer,), y), x, stacked)
    assert_close((y, jax.tree.map(lambda s: s[:, 0], states)), jaxlstm.lstm(params, x))
