"""The native kernels: right in each instruction set, the same bits for a row in any company, under transformations."""

import concurrent.futures
import ctypes
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivatives import everything, loss_of, plain_layer, problem
from jax import export
from trees import assert_identical, assert_within_rounding

import jaxlstm
from jaxlstm import _stack
from jaxlstm.cells import GRU, LSTM
from jaxlstm.implementations import native
from jaxlstm.implementations._protocol import Operands

ROOT = Path(__file__).parents[1]
LIBRARY: Any = native.library()
assert LIBRARY is not None, native.NOT_BUILT
LIBRARY.jaxlstm_instruction_set.restype = ctypes.c_char_p


def instruction_sets() -> list[str]:
    """Those that this machine can run, widest first."""
    names: list[str] = []
    while name := LIBRARY.jaxlstm_instruction_set(len(names)):
        names.append(name.decode())
    return names


@pytest.fixture(params=instruction_sets())
def instruction_set(request):
    LIBRARY.jaxlstm_choose(instruction_sets().index(request.param))
    yield
    LIBRARY.jaxlstm_choose(0)


lstm = functools.partial(jaxlstm.lstm, implementation="native")


def in_float32(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float32), tree)


def value_and_gradient(run, args):
    return jax.jit(lambda args: (run(*args), jax.grad(loss_of(run), argnums=(0, 1, 2))(*args)))(args)


@functools.cache
def solved(cell=LSTM, **options):
    """A problem, and its solution by the plain scan in float64."""
    with jax.enable_x64(True):
        args, _, kwargs = problem(num_layers=1, cell=cell, **options)
        return args, kwargs, value_and_gradient(functools.partial(_stack.stack, plain_layer, cell, **kwargs), args)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(
    "options",
    [
        {"bias": False},
        {"bidirectional": True, "ragged": True, "resets": True},
        {"bidirectional": True, "ragged": True, "resets": True, "proj_size": 2},
        {"cell": GRU, "bias": False},
        {"cell": GRU, "bidirectional": True, "ragged": True, "resets": True},
        {"steps": 1, "bidirectional": True, "ragged": True, "resets": True},
        {"steps": 1, "cell": GRU, "ragged": True, "resets": True},
    ],
    ids=lambda options: "-".join(options),
)
def test_value_and_gradient_are_those_of_the_plain_scan_in_float64(options):
    args, kwargs, wanted = solved(**options)
    run = functools.partial(jaxlstm.fold, options.get("cell", LSTM), implementation="native", **kwargs)
    assert_within_rounding(value_and_gradient(run, in_float32(args)), wanted)


def test_all_derivatives_of_a_gru():
    with jax.enable_x64(True):
        args, direction, kwargs = problem(num_layers=1, cell=GRU, ragged=True, resets=True)
        wanted = everything(functools.partial(_stack.stack, plain_layer, GRU, **kwargs), args, direction)
    run = functools.partial(jaxlstm.fold, GRU, implementation="native", **kwargs)
    assert_within_rounding(everything(run, *in_float32((args, direction))), wanted)


PARAMS = jaxlstm.init_lstm(jax.random.key(0), 24, 80, bidirectional=True)
X = jax.random.normal(jax.random.key(1), (20, 37, 24))  # enough for a second thread


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("steps", [1, 20])
def test_bits_of_a_row_do_not_depend_on_the_others(steps):
    run = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(lstm(PARAMS, x)[0]))))
    values = jax.jit(functools.partial(lstm, PARAMS))
    x = X[:steps]
    output, state = values(x)
    _, d_x = run(x)
    for rows in (slice(0, 1), slice(5, 8), slice(20, 37)):
        alone, alone_state = values(x[:, rows])
        assert_identical(alone, output[:, rows])
        assert_identical(alone_state, jax.tree.map(lambda a, rows=rows: a[:, rows], state))
        assert_identical(run(x[:, rows])[1], d_x[:, rows])


def test_the_same_call_gives_the_same_bits():
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(jnp.sin(lstm(params, X)[0]))))
    first = gradient(PARAMS)
    for _ in range(5):
        assert_identical(gradient(PARAMS), first)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-42])
def test_extreme_values_travel_as_in_xla(value):
    x = X.at[7, 2, 5].set(value).at[3, 30, 0].set(-value)
    state = jaxlstm.zero_state(PARAMS, batch_size=37)
    state = state._replace(c=state.c.at[0, 9, 4].set(value))

    def results(implementation):
        return jax.jit(functools.partial(jaxlstm.lstm, implementation=implementation))(PARAMS, x, state)

    for got, wanted in zip(*(jax.tree.leaves(results(name)) for name in ("native", "xla")), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)  # NaN equals NaN here


@pytest.mark.parametrize(
    ("cell", "outer", "inner"),
    [
        *((LSTM, outer, inner) for outer in [(None, 0), (0, None)] for inner in [(None, 0), (0, None), (0, 0)]),
        (GRU, (None, 0), (0, None)),
    ],
)
def test_nested_vmap(cell, outer, inner):
    run = functools.partial(jaxlstm.fold, cell, implementation="native")
    gradients = jax.grad(loss_of(run), argnums=(0, 1))
    operands = jaxlstm.init_fold(jax.random.key(2), cell, 3, 5), jax.random.normal(jax.random.key(3), (4, 2, 3))
    for axes in (inner, outer):
        operands = tuple(
            a if axis is None else jax.tree.map(lambda a: jnp.stack([a, 2 * a, -a]), a)
            for a, axis in zip(operands, axes, strict=True)
        )
    got = jax.jit(jax.vmap(jax.vmap(gradients, inner), outer))(*operands)
    one = jax.jit(gradients)

    def element(axes, operands, k):
        return tuple(
            a if axis is None else jax.tree.map(lambda a: a[k], a) for a, axis in zip(operands, axes, strict=True)
        )

    for j in range(3):
        for k in range(3):
            wanted = one(*element(inner, element(outer, operands, j), k))
            assert_within_rounding(jax.tree.map(lambda a, j=j, k=k: a[j, k], got), wanted)


def test_shared_parameters_make_one_batch_of_a_mapped_axis():
    text = jax.jit(jax.vmap(functools.partial(lstm, PARAMS))).lower(jnp.stack([X, X])).as_text()
    assert "M = 1 : i64" in text
    assert "B = 74 : i64" in text


def test_what_is_kept_serves_twice():
    """The backward pass writes over it; who still needs it must not notice."""
    args = PARAMS, X
    weights = jax.random.normal(jax.random.key(5), (2, 20, 37, 160))

    def twice(params, x):
        (output, _), pullback = jax.vjp(lambda *args: lstm(*args), params, x)
        zero = jaxlstm.zero_state(params, batch_size=37)
        return output, [pullback((w, zero)) for w in weights]

    output, both = jax.jit(twice)(*args)
    eager_output, eager = twice(*args)
    assert_identical(eager_output, output)
    for got, of_eager, w in zip(both, eager, weights, strict=True):
        wanted = jax.jit(jax.grad(lambda *args, w=w: jnp.sum(lstm(*args)[0] * w), argnums=(0, 1)))(*args)
        assert_within_rounding(got, wanted)
        assert_within_rounding(of_eager, wanted)


def test_donated_buffers():
    state = jaxlstm.zero_state(PARAMS, batch_size=37)
    step = functools.partial(lstm, PARAMS)
    wanted = step(X, step(X, state)[1])
    donating = jax.jit(lambda x, state: step(x, state), donate_argnums=(1,))
    _, state = donating(X, state)
    assert_within_rounding(donating(X, state), wanted)


def test_many_threads_at_once():
    run = jax.jit(jax.grad(lambda params, x: jnp.sum(jnp.sin(lstm(params, x)[0])), argnums=(0, 1)))
    inputs = [X * scale for scale in (0.5, 1, 2)]
    wanted = [run(PARAMS, x) for x in inputs]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        results = [pool.submit(run, PARAMS, inputs[k % 3]) for k in range(30)]
        for k, result in enumerate(results):
            assert_identical(result.result(), wanted[k % 3])


DEVICES = """
import jax, jax.numpy as jnp, jaxlstm, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
params = jaxlstm.init_lstm(jax.random.key(0), 24, 80)
x = jax.random.normal(jax.random.key(1), (20, 36, 24))
run = jax.jit(jax.grad(lambda params, x: jnp.sum(jaxlstm.lstm(params, x, implementation="native")[0] ** 2), (0, 1)))
wanted = run(params, x)
for _ in range(5):
    results = [run(*jax.device_put((params, x), device)) for device in jax.devices()]  # all under way at once
    for got in results:
        jax.tree.map(np.testing.assert_array_equal, got, wanted)
print(len(results))
"""


def test_several_devices_at_once():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    result = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True, env=environment)
    assert result.stdout == "4\n", result.stderr


def shapes_of(*, num_steps: Any = 5, batch: int = 2, input_size: int = 3, dtype: Any = jnp.float32) -> Operands:
    params = jax.eval_shape(lambda key: jaxlstm.init_lstm_cell(key, input_size, 4, dtype=dtype), jax.random.key(0))
    state: Any = jax.ShapeDtypeStruct((batch, 4), jnp.float32)
    x: Any = jax.ShapeDtypeStruct((num_steps, batch, input_size), dtype)
    return Operands(params, x, jaxlstm.LSTMState(state, state))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (shapes_of(), None),
        (shapes_of(dtype=jnp.bfloat16), "float32 only, not bfloat16"),
        (shapes_of(batch=0), r"\[5, 0, 3\]"),
        (shapes_of(num_steps=export.symbolic_shape("T")[0]), r"\[T, 2, 3\]"),
    ],
)
def test_why_not(given, reason):
    got = native.why_not(given)
    assert (got is None) == (reason is None)
    if reason is not None:
        with pytest.raises(NotImplementedError, match=reason):
            raise NotImplementedError(got)


@pytest.mark.parametrize(
    ("num_steps", "batch", "hidden", "better"),
    [(20, 1, 64, True), (2, 32, 64, True), (2, 4, 64, False), (20, 8, 8, True), (20, 64, 8, False)],
)
def test_none_leaves_to_xla_what_xla_does_faster(num_steps, batch, hidden, better):
    params = jaxlstm.init_lstm(jax.random.key(0), 3, hidden)
    assert jaxlstm.explain(params, jnp.zeros((num_steps, batch, 3)))["cpu"].implementation == (
        "native" if better else "xla"
    )


def test_none_takes_it_for_a_gru():
    params = jaxlstm.init_gru(jax.random.key(0), 24, 80)
    text = jax.jit(jax.grad(lambda params: jnp.sum(jaxlstm.gru(params, X)[0]))).lower(params).as_text()
    assert all(f"@jaxlstm_{name}" in text for name in ("forward", "backward", "weights"))
    assert jaxlstm.explain(params, X, cell=GRU)["cpu"].implementation == "native"


def test_where_it_is_not_built(monkeypatch):
    monkeypatch.setattr(native, "library", lambda: None)
    with pytest.raises(NotImplementedError, match=r'^implementation="native": .*for want of a C\+\+17 compiler'):
        jaxlstm.lstm(PARAMS, X[:3], implementation="native")
    assert jaxlstm.explain(PARAMS, X[:3])["cpu"].implementation == "xla"
    assert_within_rounding(jaxlstm.lstm(PARAMS, X[:3]), jaxlstm.lstm(PARAMS, X[:3], implementation="xla"))
