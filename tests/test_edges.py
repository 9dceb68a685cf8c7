"""Odd sizes, odd values, odd containers: what holds for every call holds for these."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_close

import jaxlstm

T, B, I, H = 6, 3, 3, 4  # noqa: E741
PARAMS = jaxlstm.init_lstm(jax.random.key(0), I, H, num_layers=2, bidirectional=True)
X = jax.random.normal(jax.random.key(1), (T, B, I))


def loss(params, x, state=None, **options):
    y, final = jaxlstm.lstm(params, x, state, **options)
    return sum(jnp.sum(jnp.sin(a)) for a in (y, *final))


def test_nothing_of_an_empty_row_reaches_a_gradient_but_through_the_state_that_it_hands_on():
    state = jaxlstm.zero_state(PARAMS, B)
    poisoned = jax.tree.map(lambda a: a.at[:, 1].set(jnp.nan), state)
    run = functools.partial(loss, lengths=[T, 0, 2], resets=jnp.ones((T, B), bool))

    def but_row_1(params, x, state):
        y, final = jaxlstm.lstm(params, x, state, lengths=[T, 0, 2], resets=jnp.ones((T, B), bool))
        return sum(jnp.sum(jnp.sin(jnp.delete(a, 1, axis=1))) for a in (y, *final))

    wanted = jax.grad(but_row_1, argnums=(0, 1))(PARAMS, X, state)
    assert_close(jax.grad(but_row_1, argnums=(0, 1))(PARAMS, X, poisoned), wanted)
    assert_close(jax.grad(run, argnums=(0, 1))(PARAMS, X, poisoned), wanted)
    d_state = jax.grad(run, argnums=2)(PARAMS, X, state)
    np.testing.assert_array_equal(d_state.h[:, 1], 1)  # cos(0), and no step between


@pytest.mark.parametrize(
    "options", [{}, {"checkpoint_every": 2}, {"lengths": []}, {"resets": np.zeros((T, 0), bool)}], ids=str
)
def test_an_empty_batch_has_zero_derivatives(options):
    x, state = jnp.zeros((T, 0, I)), jaxlstm.zero_state(PARAMS, 0)
    gradient = jax.grad(functools.partial(loss, **options), argnums=(0, 1, 2))
    zeros = jax.tree.map(jnp.zeros_like, (PARAMS, x, state))
    assert_close(gradient(PARAMS, x, state), zeros)
    pushed = jax.jvp(lambda *args: gradient(*args), (PARAMS, x, state), (PARAMS, x, state))[1]
    assert_close(pushed, zeros)


def test_an_input_of_no_width():
    cell = jaxlstm.init_lstm_cell(jax.random.key(0), I, H)._replace(weight_ih=jnp.zeros((4 * H, 0)))
    gradient = jax.grad(loss, argnums=(0, 1))(((cell,),), jnp.zeros((T, B, 0)))
    wider = cell._replace(weight_ih=jnp.zeros((4 * H, 1)))
    ((wanted,),), _ = jax.grad(loss, argnums=(0, 1))(((wider,),), jnp.zeros((T, B, 1)))
    assert_close(gradient[0][0][0]._replace(weight_ih=None), wanted._replace(weight_ih=None))


def test_checkpoint_every_of_more_than_there_is():
    assert_close(jaxlstm.lstm(PARAMS, X, checkpoint_every=30_000_000), jaxlstm.lstm(PARAMS, X))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["eager", "jit", "checkpoint"])
def test_lengths_as_a_list(wrap):
    lengths = [T, 3, 0]
    got = wrap(lambda params, x, lengths: jaxlstm.lstm(params, x, lengths=lengths))(PARAMS, X, lengths)
    assert_close(got, jaxlstm.lstm(PARAMS, X, lengths=np.array(lengths)))


@pytest.mark.optimized
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_states_come_out_as_they_came_in_so_that_loops_carry_them(dtype):
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, dtype=dtype)
    xs = X.astype(dtype)
    state: Any

    def step(state: Any, x: jax.Array) -> Any:
        y, state = jaxlstm.lstm(params, x[None], state)
        return state, y

    for state in (jaxlstm.zero_state(params, B), tuple(jaxlstm.zero_state(params, B))):
        final, ys = jax.lax.scan(step, state, xs)
        assert type(final) is type(state)
        assert_close(ys[:, 0], jaxlstm.lstm(params, xs)[0], atol=float(jnp.finfo(dtype).eps))
        start = jax.tree.map(lambda a: a[0], state)
        last, _ = jax.lax.scan(functools.partial(jaxlstm.lstm_cell, params[0][0]), start, xs)
        assert type(last) is type(state)
    assert type(jaxlstm.lstm(params, xs, None)[1]) is jaxlstm.LSTMState


def test_zero_state_has_the_layout_of_states():
    projected = jaxlstm.init_lstm(jax.random.key(0), I, H, 2, bidirectional=True, proj_size=2)
    shapes = lambda state: tuple(a.shape for a in state)  # noqa: E731
    assert shapes(jaxlstm.zero_state(projected, B)) == ((4, B, 2), (4, B, H))
    assert shapes(jaxlstm.zero_state(projected)) == ((4, 2), (4, H))
    assert shapes(jaxlstm.zero_state(projected[0][0], B)) == ((B, 2), (B, H))
    assert jaxlstm.zero_state(projected, 0, jnp.bfloat16).h.dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="batch_size: expected an integer of at least 0, got -1"):
        jaxlstm.zero_state(projected, -1)
    with pytest.raises(TypeError, match="dtype: expected one of float32"):
        jaxlstm.zero_state(projected, dtype=int)


def test_dropout_masks_differ_by_layer():
    """Layers of zero weights hand a mask on to nothing: so the masks of equal layers are read off equal inputs."""
    width = 8
    through = jaxlstm.LSTMCellParams(
        weight_ih=jnp.zeros((4 * width, width)).at[2 * width : 3 * width].set(jnp.eye(width)),
        weight_hh=jnp.zeros((4 * width, width)),
        bias_ih=jnp.repeat(jnp.array([20.0, -20, 0, 20]), width),
        bias_hh=jnp.zeros(4 * width),
    )
    x = jnp.ones((T, B, width))
    key = jax.random.key(0)
    one = jaxlstm.lstm(((through,),) * 2, x, dropout=0.5, dropout_key=key)[0] == 0
    two = jaxlstm.lstm(((through,),) * 3, x, dropout=0.5, dropout_key=key)[0] == 0
    assert (two & one == one).all()  # What the first mask drops stays dropped,
    assert two.sum() > one.sum()  # and the second one drops others.


def test_unroll_is_obeyed():
    loops = {
        unroll: str(jax.make_jaxpr(lambda x, u=unroll: jaxlstm.lstm(PARAMS[:1], x, unroll=u))(X)) for unroll in (1, 3)
    }
    assert {unroll: set(re.findall(r"unroll=(\d)", text)) for unroll, text in loops.items()} == {1: {"1"}, 3: {"3"}}


@pytest.mark.parametrize("num_steps", [1, 3])
def test_both_biases_are_summed_in_float32(num_steps):
    """Read off the program, since XLA may compute a sum in bfloat16 with more precision than was asked for."""
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, dtype=jnp.bfloat16)
    run = functools.partial(jaxlstm.lstm, implementation="xla")
    text = jax.jit(run).lower(params, X[:num_steps].astype(jnp.bfloat16)).as_text()
    sums = re.findall(r"stablehlo\.add .*: tensor<(?:\S*x)?(\w+)>", text)
    assert "f32" in sums
    assert "bf16" not in sums


@pytest.mark.parametrize("num_steps", [1, 3])
def test_every_product_of_half_precision_accumulates_in_float32(num_steps):
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, num_layers=2, proj_size=2, dtype=jnp.bfloat16)
    x = X[:num_steps].astype(jnp.bfloat16)
    state = jaxlstm.LSTMState(jnp.ones((B, 2), jnp.bfloat16), jnp.ones((B, H), jnp.bfloat16))
    programs = {
        "gradient": jax.jit(jax.grad(lambda *args: jnp.float32(loss(*args)), argnums=(0, 1))).lower(params, x),
        "tangent": jax.jit(lambda *args: jax.jvp(loss, args, args)).lower(params, x),
        "cell": jax.jit(jaxlstm.lstm_cell).lower(params[0][0], state, x[0]),
    }
    for name, program in programs.items():
        results = re.findall(r"stablehlo\.dot_general.*-> tensor<\S*x(\w+)>", program.as_text())
        assert len(results) >= 3, name
        assert set(results) == {"f32"}, name


def test_profiles_name_layers_and_directions():
    text = jax.jit(jaxlstm.lstm).lower(PARAMS, X).as_text(debug_info=True)
    assert all(f"lstm{name}/" in text for name in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"))


def test_settings_of_jax_do_not_matter():
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, dtype=jnp.bfloat16)
    wanted = jaxlstm.lstm(params, X, lengths=np.array([T, 3, 0], np.int8))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert_close(jaxlstm.lstm(params, X, lengths=np.array([T, 3, 0], np.int8)), wanted, atol=0)
    with jax.debug_nans(True), jax.check_tracer_leaks(True), jax.enable_custom_prng(True):
        assert_close(jaxlstm.lstm(params, X, lengths=np.array([T, 3, 0], np.int8)), wanted, atol=0)
