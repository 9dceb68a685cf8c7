"""Weights from JAX's other libraries, each judged by that library's own run."""

from typing import Any

import equinox
import flax.linen as nn
import haiku
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
from flax import nnx
from peers import B, H, I, X, assert_runs_as, shaken
from trees import assert_identical

import jaxlstm
import jaxlstm.nnx
from jaxlstm.interop._equinox import from_equinox
from jaxlstm.interop._flax import from_flax, to_flax
from jaxlstm.interop._haiku import from_haiku
from jaxlstm.interop._keras import from_keras
from jaxlstm.interop._torch import from_torch, to_torch

LINEN = {
    "LSTMCell": nn.RNN(nn.LSTMCell(H)),
    "OptimizedLSTMCell": nn.RNN(nn.OptimizedLSTMCell(H)),
    "Bidirectional": nn.Bidirectional(nn.RNN(nn.LSTMCell(H)), nn.RNN(nn.OptimizedLSTMCell(H))),
    "GRUCell": nn.RNN(nn.GRUCell(H)),
    "Bidirectional GRU": nn.Bidirectional(nn.RNN(nn.GRUCell(H)), nn.RNN(nn.GRUCell(H))),
}


@pytest.fixture(autouse=True)
def their_rank_promotion():
    with jax.numpy_rank_promotion("allow"):  # All of them lean on it.
        yield


@pytest.mark.parametrize("kind", LINEN)
def test_linen(kind):
    module = LINEN[kind]
    variables = shaken(module.init(jax.random.key(0), X))
    expected = module.apply(variables, X)
    for given in (variables, variables["params"]):
        assert_runs_as(from_flax(given), expected)
    (layer,) = to_flax(from_flax(variables))
    ours = {"params": layer if "forward_rnn" in layer else {"cell": layer}}
    assert jax.tree.structure(ours) == jax.tree.structure(variables)
    np.testing.assert_allclose(module.apply(ours, X), expected, rtol=0, atol=1e-6)


class Stack(nn.Module):
    """Two directions under one, as a Linen user stacks them; the cells' names don't tell which is which."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Bidirectional(nn.RNN(nn.LSTMCell(H)), nn.RNN(nn.LSTMCell(H)))(x)
        return nn.Bidirectional(nn.RNN(nn.LSTMCell(H)), nn.RNN(nn.LSTMCell(H)))(x)


def test_linen_stack_is_a_list_over_layers():
    variables = shaken(Stack().init(jax.random.key(0), X))
    cells = [variables["params"][f"LSTMCell_{k}"] for k in range(4)]
    params = from_flax([(cells[0], cells[1]), (cells[2], cells[3])])
    assert_runs_as(params, Stack().apply(variables, X))
    with pytest.raises(ValueError, match="params: missing or surplus"):
        from_flax(variables)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", [jaxlstm.cells.LSTM, jaxlstm.cells.GRU], ids=["LSTM", "GRU"])
def test_ours_to_flax_and_back(cell, num_layers, bidirectional, bias):
    params = jaxlstm.init_fold(jax.random.key(0), cell, I, H, num_layers, bidirectional=bidirectional, bias=bias)
    y, _ = jaxlstm.fold(cell, params, X, batch_first=True)
    layers = to_flax(params)
    assert_runs_as(from_flax(layers), y)
    single, both = ("LSTMCell", "Bidirectional") if cell == jaxlstm.cells.LSTM else ("GRUCell", "Bidirectional GRU")
    module = LINEN[both if bidirectional else single]
    x = X
    for layer in layers:
        x = module.apply({"params": layer if bidirectional else {"cell": layer}}, x)
    np.testing.assert_allclose(y, x, rtol=0, atol=1e-6)


def test_leaves_that_are_wrapped(tmp_path):
    """As orbax restores a state that it is told nothing about, as Linen boxes parameters, and under a module's name."""
    theirs = nnx.RNN(nnx.OptimizedLSTMCell(I, H, rngs=nnx.Rngs(0)))
    ours = jaxlstm.nnx.LSTM(I, H, num_layers=2, dropout=0.5, rngs=nnx.Rngs(0))
    checkpointer = orbax.checkpoint.StandardCheckpointer()
    for name, module, read in (("theirs", theirs, from_flax), ("ours", ours, from_torch)):
        checkpointer.save(tmp_path / name, nnx.state(module, nnx.Param))
        checkpointer.wait_until_finished()
        assert_identical(read(checkpointer.restore(tmp_path / name)), read(module))
    assert_identical(from_torch(nnx.state(ours)), from_torch(ours))

    init = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
    variables = nn.RNN(nn.OptimizedLSTMCell(H, kernel_init=init)).init(jax.random.key(0), X)
    plain = from_flax(nn.meta.unbox(variables))
    assert_identical(from_flax(variables), plain)
    for name in ("ScanOptimizedLSTMCell_0", "OptimizedLSTMCell_0"):
        assert_identical(from_flax({"params": {name: variables["params"]["cell"]}}), plain)

    variables = jaxlstm.LSTM(I, H).init(jax.random.key(0), X)
    assert_identical(from_torch(variables), from_torch(variables["params"]))
    assert_identical(from_torch({"params": {"enc": variables["params"]}}, "enc"), from_torch(variables))


IMPORTERS: dict[str, tuple[Any, Any]] = {
    "torch": (from_torch, to_torch(jaxlstm.init_lstm(jax.random.key(0), I, H))),
    "flax": (from_flax, to_flax(jaxlstm.init_lstm(jax.random.key(0), I, H))),
    "keras": (from_keras, [np.ones((I, 4 * H), "f"), np.ones((H, 4 * H), "f"), np.ones(4 * H, "f")]),
    "haiku": (from_haiku, {"w": np.ones((I + H, 4 * H), "f"), "b": np.ones(4 * H, "f")}),
    "equinox": (from_equinox, equinox.nn.LSTMCell(I, H, key=jax.random.key(0))),
}


@pytest.mark.parametrize("library", IMPORTERS)
@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_traced_weights_are_refused_with_words(transform, library):
    importer, weights = IMPORTERS[library]
    importer(weights)
    arrays, static = equinox.partition(weights, equinox.is_array_like)
    with pytest.raises(
        (ValueError, TypeError), match=r"a traced value\. Weights are read outside of jit, vmap and grad"
    ):
        transform(lambda arrays: importer(equinox.combine(arrays, static)))(jax.tree.map(lambda a: a[None], arrays))


@pytest.mark.parametrize("num_layers", [1, 2])
def test_haiku(num_layers):
    def run(x: jax.Array) -> Any:
        core = haiku.DeepRNN([haiku.LSTM(H) for _ in range(num_layers)])
        return haiku.dynamic_unroll(core, x, core.initial_state(B), time_major=False)[0]

    transformed = haiku.without_apply_rng(haiku.transform(run))
    modules = shaken(transformed.init(jax.random.key(0), X))
    expected = transformed.apply(modules, X)
    layers = [modules["lstm/linear"], modules["lstm_1/linear"]] if num_layers == 2 else modules
    assert_runs_as(from_haiku(layers), expected)
    if num_layers == 2:
        with pytest.raises(ValueError, match="a list over layers of these, got lstm/linear, lstm_1/linear"):
            from_haiku(modules)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("kind", [equinox.nn.LSTMCell, equinox.nn.GRUCell])
def test_equinox(kind, bias, bidirectional):
    def run(cell: Any, xs: jax.Array, reverse: bool) -> jax.Array:
        def step(state: Any, x: jax.Array) -> Any:
            state = cell(x, state)
            return state, state[0] if isinstance(state, tuple) else state

        start = (jnp.zeros(H), jnp.zeros(H)) if kind is equinox.nn.LSTMCell else jnp.zeros(H)
        return jax.lax.scan(step, start, xs, reverse=reverse)[1]

    layers, expected, width = [], X, I
    for _ in range(2):
        keys = jax.random.split(jax.random.key(len(layers)), 1 + bidirectional)
        cells = tuple(kind(width, H, use_bias=bias, key=key) for key in keys)
        ways = [jax.vmap(run, (None, 0, None))(cell, expected, k == 1) for k, cell in enumerate(cells)]
        layers.append(cells if bidirectional else cells[0])
        expected, width = jnp.concatenate(ways, -1), H * len(cells)
    assert_runs_as(from_equinox(layers), expected)
    assert (from_equinox(layers)[0][0].bias_ih is None) == (not bias)


CELL = to_flax(jaxlstm.init_lstm(jax.random.key(0), I, H))[0]
REFUSED: dict[str, tuple[Any, Any, str]] = {
    "flax: no such names": (from_flax, jaxlstm.linen.LSTM(I, H).init(jax.random.key(0), X), r"params: .* from_torch"),
    "flax: one gate missing": (
        from_flax,
        {k: v for k, v in CELL.items() if k != "hf"},
        "params: .*: hf.bias, hf.kernel",
    ),
    "flax: one too many": (
        from_flax,
        CELL | {"hp": {"kernel": np.ones((H, H))}},
        "params: missing or surplus: hp.kernel",
    ),
    "flax: another shape": (
        from_flax,
        CELL | {"ig": {"kernel": np.ones((I, 5), np.float32)}},
        r"params: ig.kernel: expected \[I, H\] = \[\?, 4\], got \[3, 5\]",
    ),
    "flax: not an array": (from_flax, CELL | {"io": {"kernel": "x"}}, "params: io.kernel: expected one of float32"),
    "flax: not a mapping": (from_flax, np.ones(3), "params: expected a nested dict, .* got ndarray"),
    "haiku: a linear layer": (from_haiku, {"w": np.ones((3, 8), "f")}, "params: expected a mapping .* got ndarray"),
    "haiku: other names": (from_haiku, {"w_x": 0, "b": 0}, "params: .* got w_x, b"),
    "haiku: no input": (from_haiku, {"w": np.ones((2, 8), "f"), "b": np.ones(8, "f")}, r"params: w, b: .* \[2, 8\]"),
    "haiku: not gates": (from_haiku, {"w": np.ones((9, 7), "f"), "b": np.ones(7, "f")}, r"params: w, b: .* \[7\]"),
    "flax: a minimal gated unit": (
        from_flax,
        nn.RNN(nn.MGUCell(H)).init(jax.random.key(0), X),
        "params: missing or surplus: .*hn.kernel",
    ),
    "haiku: a GRU": (from_haiku, {"gru": {"w_i": 0, "w_h": 0, "b": 0}}, "params: a haiku.GRU: its reset gate acts"),
    "equinox: no cell": (from_equinox, equinox.nn.Linear(I, H, key=jax.random.key(0)), "cells: .* got Linear"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_lstm_is_refused_with_words(case):
    importer, given, words = REFUSED[case]
    with pytest.raises(ValueError, match=f"^{words}"):
        importer(given)


def test_flax_has_no_projection_and_its_simple_cell_is_left_alone():
    with pytest.raises(ValueError, match="params: expected an LSTM's or a GRU's, got an RNN's"):
        to_flax(jaxlstm.init_fold(jax.random.key(0), jaxlstm.cells.RNN, I, H))
    with pytest.raises(ValueError, match="Flax's LSTM has none"):
        to_flax(jaxlstm.init_lstm(jax.random.key(0), I, H, proj_size=2))
