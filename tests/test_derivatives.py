"""The derivative rule against automatic differentiation of the plain scan, and against finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import (
    MIXED,
    P,
    everything,
    everything_of_reference,
    loss_of,
    of_floats,
    plain_layer,
    problem,
)
from jax.test_util import check_grads
from trees import assert_close

import jaxlstm
from jaxlstm import _stack
from jaxlstm._floats import floats
from jaxlstm.cells import GRU, LSTM, HiddenState, lstm


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


# Each option alone, and all together, is what a rule can get wrong; the full product costs minutes of compilation.
EVERYTHING = {"num_layers": 1, "bidirectional": True, "ragged": True, "resets": True, "proj_size": P}
ALONE = [{}, {"bias": False}, {"proj_size": P}, {"bidirectional": True}, {"ragged": True}, {"resets": True}]


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("options", "checkpoint_every"),
    [({"num_layers": 1} | options, None) for options in ALONE]
    + [(EVERYTHING, None), ({"num_layers": 1}, 2), (EVERYTHING, 2)],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else f"checkpoint_every={value}",
)
def test_rule_equals_differentiated_scan(options, checkpoint_every):
    args, direction, kwargs = problem(**options)
    ours = functools.partial(jaxlstm.lstm, checkpoint_every=checkpoint_every, **kwargs)
    plain = functools.partial(_stack.stack, plain_layer, LSTM, **kwargs)
    got, wanted = everything(ours, args, direction), everything_of_reference(plain, args, direction)
    assert_close(got, wanted, atol=1e-10)


def leaky(extra, state, x_sums, h_sums):
    """It only adds the two sums, and needs h besides."""
    (new,) = jnp.tanh(x_sums + h_sums)
    share = jax.nn.sigmoid(extra)
    h = share * state.h + (1 - share) * new
    return HiddenState(h), h


LEAKY = jaxlstm.Cell(
    leaky, 1, HiddenState, lambda key, hidden_size, dtype: jax.random.normal(key, (hidden_size,), dtype)
)
VARIANT = lstm(layer_norm=True, peephole=True)
RAGGED = {"num_layers": 1, "ragged": True, "resets": True}
CELLS: dict[str, tuple[jaxlstm.Cell, dict, int | None]] = {
    "GRU": (GRU, RAGGED, None),
    "leaky": (LEAKY, RAGGED, None),
    "projected variant": (VARIANT, RAGGED | {"proj_size": P}, None),
    "mixed": (MIXED, RAGGED, None),
    "mixed, in pieces": (MIXED, RAGGED, 2),
}


@pytest.mark.parametrize("name", CELLS)
def test_any_cells_rule_equals_its_differentiated_scan(name):
    cell, options, checkpoint_every = CELLS[name]
    (params, x, state), direction, kwargs = problem(cell=cell, **options)
    ours = functools.partial(jaxlstm.fold, cell, checkpoint_every=checkpoint_every, **kwargs)
    plain = functools.partial(_stack.stack, plain_layer, cell, **kwargs)
    args = params, x, floats(state)
    got = everything(of_floats(ours, state), args, direction)
    wanted = everything_of_reference(of_floats(plain, state), args, direction)
    assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_finite_differences_to_second_order_in_both_modes():
    (params, x, state), _, kwargs = problem(**EVERYTHING)
    call = jax.jit(lambda params, x, state: jaxlstm.lstm(params, x, state, **kwargs))
    check_grads(call, (params, x, state), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


def test_hessian_is_symmetric_and_that_of_the_plain_scan():
    (params, x, state), _, _ = problem(num_layers=2)

    def loss(run):
        return lambda x: loss_of(run)(params, x, state)

    got = jax.jit(jax.hessian(loss(jaxlstm.lstm)))(x).reshape(x.size, x.size)
    plain = jax.hessian(loss(functools.partial(_stack.stack, plain_layer, LSTM)))
    wanted = jax.jit(plain)(x).reshape(x.size, x.size)
    np.testing.assert_allclose(got, got.T, atol=1e-10)
    np.testing.assert_allclose(got, wanted, atol=1e-10)


@pytest.mark.parametrize("cell", [LSTM, GRU, MIXED], ids=["LSTM", "GRU", "mixed"])
@pytest.mark.parametrize("over", ["inputs", "parameters"])
def test_vmap_is_a_loop(over, cell):
    (params, x, state), _, kwargs = problem(cell=cell, **(EVERYTHING if cell is LSTM else RAGGED))
    axes = {"inputs": (None, 0, None), "parameters": (0, None, None)}[over]
    given = params, x, floats(state)
    stacked = jax.tree.map(lambda a: jnp.stack([a, -a]), given)
    args = tuple(many if axis == 0 else one for one, many, axis in zip(given, stacked, axes, strict=True))

    @jax.jit
    def both(*args):
        call = of_floats(functools.partial(jaxlstm.fold, cell, **kwargs), state)
        return call(*args), jax.grad(loss_of(call), argnums=(0, 1, 2))(*args)

    got = jax.vmap(both, in_axes=axes)(*args)
    for row in range(2):
        one = tuple(
            jax.tree.map(lambda a, row=row: a[row], a) if axis == 0 else a for a, axis in zip(args, axes, strict=True)
        )
        wanted = both(*one)
        mine = jax.tree.map(lambda a, row=row: a[row], got)
        assert_close(mine, wanted, atol=1e-10)


def test_jax_checkpoint_changes_nothing():
    args, _, kwargs = problem(**EVERYTHING)
    call = functools.partial(jaxlstm.lstm, **kwargs)
    wanted = jax.jit(jax.grad(loss_of(call), argnums=(0, 1, 2)))(*args)
    got = jax.jit(jax.grad(loss_of(jax.checkpoint(call)), argnums=(0, 1, 2)))(*args)
    assert_close(got, wanted, atol=1e-10)


@pytest.mark.parametrize("cell", [LSTM, GRU, VARIANT], ids=["LSTM", "GRU", "variant"])
def test_weight_gradients_are_deferred(cell):
    """No loop of the gradient adds up arrays of a weight's shape, as the differentiated scan does at every step."""
    params = jaxlstm.init_fold(jax.random.key(0), cell, 24, 40, dtype=jnp.float32)
    x = jnp.ones((6, 8, 24), jnp.float32)
    state = cell.state(*[jnp.zeros((1, 8, 40), jnp.float32)] * len(cell.state._fields))
    rows = 40 * cell.num_gates

    def additions(run):
        loss = lambda params, x: run(params, x, state)[0].sum()  # noqa: E731
        text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, x).as_text()
        shapes = [shape for k in (24, 40, 64) for shape in (f"{rows}x{k}x", f"<{k}x{rows}x")]
        return [line for line in text.splitlines() if "stablehlo.add" in line and any(s in line for s in shapes)]

    assert additions(functools.partial(_stack.stack, plain_layer, cell))
    assert not additions(functools.partial(jaxlstm.fold, cell))


@pytest.mark.optimized
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


@pytest.mark.optimized
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
