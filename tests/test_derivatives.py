"""The derivative rule against automatic differentiation of the plain scan, and against finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import P, everything, loss_of, plain_layer, problem
from jax.test_util import check_grads

import jaxlstm
from jaxlstm import _stack
from jaxlstm.cells import GRU, LSTM, lstm


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


# Each option alone, and all together, is what a rule can get wrong; the full product costs minutes of compilation.
EVERYTHING = {"bidirectional": True, "ragged": True, "resets": True, "proj_size": P}
OPTIONS = [
    {},
    {"bias": False},
    {"proj_size": P},
    {"bidirectional": True},
    {"ragged": True},
    {"resets": True},
    EVERYTHING,
]


@pytest.mark.parametrize(
    ("options", "checkpoint_every"),
    [(options, None) for options in OPTIONS] + [({}, 2), (EVERYTHING, 2)],
    ids=lambda value: "-".join(value) or "plain" if isinstance(value, dict) else f"checkpoint_every={value}",
)
def test_rule_equals_differentiated_scan(options, checkpoint_every):
    args, direction, kwargs = problem(**options)
    ours = functools.partial(jaxlstm.lstm, checkpoint_every=checkpoint_every, **kwargs)
    plain = functools.partial(_stack.stack, plain_layer, LSTM, **kwargs)
    got, wanted = (everything(lambda *args, f=f: f(*args), args, direction) for f in (ours, plain))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-10), got, wanted)


@pytest.mark.parametrize("cell", [GRU, lstm(peephole=True)], ids=["GRU", "extra"])
def test_any_cells_rule_equals_its_differentiated_scan(cell):
    args, direction, kwargs = problem(num_layers=1, cell=cell, ragged=True, resets=True)
    ours = functools.partial(jaxlstm.fold, cell, **kwargs)
    plain = functools.partial(_stack.stack, plain_layer, cell, **kwargs)
    got, wanted = (everything(lambda *args, f=f: f(*args), args, direction) for f in (ours, plain))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10), got, wanted)


def test_finite_differences_to_second_order_in_both_modes():
    (params, x, state), _, kwargs = problem(**EVERYTHING)
    call = jax.jit(lambda params, x, state: jaxlstm.lstm(params, x, state, **kwargs))
    check_grads(call, (params, x, state), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


def test_hessian_is_symmetric_and_that_of_the_plain_scan():
    (params, x, state), _, _ = problem()

    def loss(run):
        return lambda x: loss_of(run)(params, x, state)

    got = jax.jit(jax.hessian(loss(jaxlstm.lstm)))(x).reshape(x.size, x.size)
    wanted = jax.jit(jax.hessian(loss(functools.partial(_stack.stack, plain_layer, LSTM))))(x).reshape(x.size, x.size)
    np.testing.assert_allclose(got, got.T, atol=1e-10)
    np.testing.assert_allclose(got, wanted, atol=1e-10)


@pytest.mark.parametrize("over", ["inputs", "parameters"])
def test_vmap_is_a_loop(over):
    (params, x, state), _, kwargs = problem(**EVERYTHING)
    axes = {"inputs": (None, 0, None), "parameters": (0, None, None)}[over]
    stacked = jax.tree.map(lambda a: jnp.stack([a, -a]), (params, x, state))
    args = tuple(many if axis == 0 else one for one, many, axis in zip((params, x, state), stacked, axes, strict=True))

    @jax.jit
    def both(params, x, state):
        call = functools.partial(jaxlstm.lstm, **kwargs)
        return call(params, x, state), jax.grad(loss_of(call), argnums=(0, 1, 2))(params, x, state)

    got = jax.vmap(both, in_axes=axes)(*args)
    for row in range(2):
        one = tuple(
            jax.tree.map(lambda a, row=row: a[row], a) if axis == 0 else a for a, axis in zip(args, axes, strict=True)
        )
        wanted = both(*one)
        mine = jax.tree.map(lambda a, row=row: a[row], got)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-10), mine, wanted)


def test_jax_checkpoint_changes_nothing():
    args, _, kwargs = problem(**EVERYTHING)
    call = functools.partial(jaxlstm.lstm, **kwargs)
    wanted = jax.jit(jax.grad(loss_of(call), argnums=(0, 1, 2)))(*args)
    got = jax.jit(jax.grad(loss_of(jax.checkpoint(call)), argnums=(0, 1, 2)))(*args)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-10), got, wanted)


def test_weight_gradients_are_deferred():
    """No loop of the gradient adds up arrays of a weight's shape, as the differentiated scan does at every step."""
    params = jaxlstm.init_lstm(jax.random.key(0), 24, 40, dtype=jnp.float32)
    x = jnp.ones((6, 8, 24), jnp.float32)
    state = jaxlstm.LSTMState(jnp.zeros((1, 8, 40), jnp.float32), jnp.zeros((1, 8, 40), jnp.float32))

    def additions(run):
        loss = lambda params, x: run(params, x, state)[0].sum()  # noqa: E731
        text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, x).as_text()
        shapes = ("160x24", "24x160", "160x40", "40x160", "160x64", "64x160")
        return [line for line in text.splitlines() if "stablehlo.add" in line and any(s in line for s in shapes)]

    assert additions(functools.partial(_stack.stack, plain_layer, LSTM))
    assert not additions(jaxlstm.lstm)


def test_no_product_reads_a_weight_across_its_rows():
    """Forward, backward, and for the weights' and x's gradients, the left operand is always read along its rows."""
    params = jaxlstm.init_lstm(jax.random.key(0), 24, 40, dtype=jnp.float32)
    loss = lambda params, x: jaxlstm.lstm(params, x, implementation="xla")[0].sum()  # noqa: E731
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    text = gradient.lower(params, jnp.ones((6, 16, 24), jnp.float32)).compile().as_text()
    assert text is not None
    products = [line for line in text.splitlines() if " dot(" in line]
    assert len(products) == 6
    assert all("lhs_contracting_dims={1}" in line for line in products)


def test_checkpoint_every_bounds_memory():
    params = jaxlstm.init_lstm(jax.random.key(0), 16, 16, dtype=jnp.float32)
    x = jax.ShapeDtypeStruct((1024, 4, 16), jnp.float32)

    def temporary_bytes(every):
        loss = lambda params, x: jaxlstm.lstm(params, x, checkpoint_every=every)[0].sum()  # noqa: E731
        analysis = jax.jit(jax.grad(loss)).lower(params, x).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert temporary_bytes(32) < 0.25 * temporary_bytes(None)
    assert temporary_bytes(45) < 0.25 * temporary_bytes(None)  # does not divide T
