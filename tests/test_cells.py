"""The LSTM's variants against a loop in numpy; the modules of the GRU and of any cell against their functions."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from trees import assert_identical

import jaxlstm
import jaxlstm.nnx
from jaxlstm import cells
from jaxlstm.initializers import chrono, forget_bias, per_gate

T, B, I, H = 5, 3, 4, 6  # noqa: E741


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def normalized(a, norm):
    """Over all numbers of a row, whatever axes they stand in."""
    flat = a.reshape(B, -1)
    flat = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-5)
    return np.asarray(norm["gain"]) * flat.reshape(a.shape) + np.asarray(norm["shift"])


def by_hand(params, x, *, peephole=False, layer_norm=False, coupled=False, clip=None, gate=sigmoid, cell=np.tanh):
    w_ih, w_hh, b_ih, b_hh = (np.asarray(0 if leaf is None else leaf) for leaf in params[:4])
    extra = params.extra or {}
    p = {gate: np.asarray(extra[f"peephole_{gate}"]) if peephole else 0 for gate in "ifo"}
    bounded = lambda a: a if clip is None else np.clip(a, -clip, clip)  # noqa: E731
    h, c, outputs = np.zeros((B, H)), np.zeros((B, H)), []
    for x_t in np.asarray(x):
        x_sums, h_sums = ((a @ w.T + b).reshape(B, 4, H) for a, w, b in ((x_t, w_ih, b_ih), (h, w_hh, b_hh)))
        if layer_norm:
            x_sums, h_sums = normalized(x_sums, extra["x_norm"]), normalized(h_sums, extra["h_norm"])
        i, f, g, o = np.moveaxis(x_sums + h_sums, 1, 0)
        i = gate(bounded(i + p["i"] * c))
        f = 1 - i if coupled else gate(bounded(f + p["f"] * c))
        c = f * c + i * cell(bounded(g))
        h = gate(bounded(o + p["o"] * c)) * np.tanh(normalized(c, extra["c_norm"]) if layer_norm else c)
        outputs.append(h)
    return np.stack(outputs)


VARIANTS: dict[str, dict[str, Any]] = {
    "peephole": {"peephole": True},
    "layer_norm": {"layer_norm": True},
    "coupled": {"coupled": True},
    "clip": {"clip": 0.1},
    "all": {"peephole": True, "layer_norm": True, "coupled": True, "clip": 0.3},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_what_they_say(name):
    options = VARIANTS[name]
    with jax.enable_x64(True):
        cell = cells.lstm(**options)
        bias = not options.get("layer_norm", False)
        params: Any = jaxlstm.init_fold(jax.random.key(0), cell, I, H, bias=bias, dtype=jnp.float64)
        drawn = [jax.random.normal(jax.random.key(k), a.shape) for k, a in enumerate(jax.tree.leaves(params))]
        params = jax.tree.unflatten(jax.tree.structure(params), drawn)
        x = jax.random.normal(jax.random.key(1), (T, B, I))
        output, _ = jaxlstm.fold(cell, params, x)
        np.testing.assert_allclose(output, by_hand(params[0][0], x, **options), rtol=0, atol=1e-12)


def test_activations_stand_where_their_names_say():
    gate, cell, output = jax.nn.hard_sigmoid, jax.nn.relu, jnp.sin
    x_sums, h_sums = jax.random.normal(jax.random.key(0), (2, 4, H))
    state = jaxlstm.LSTMState(*jax.random.normal(jax.random.key(1), (2, H)))
    variant = cells.lstm(gate_activation=gate, cell_activation=cell, output_activation=output)
    (h, c), y = variant.rule(None, state, x_sums, h_sums)
    i, f, g, o = x_sums + h_sums
    np.testing.assert_allclose(c, gate(f) * state.c + gate(i) * cell(g), rtol=1e-6)
    np.testing.assert_allclose(h, gate(o) * output(c), rtol=1e-6)
    assert y is h


def test_equal_options_make_equal_cells():
    assert cells.lstm() is cells.LSTM
    variants = [cells.lstm(**options) for options in VARIANTS.values()]
    assert variants == [cells.lstm(**options) for options in VARIANTS.values()]
    assert len(set(variants)) == len(variants)


LAYER_NORMED = cells.lstm(layer_norm=True)
STACKS = {
    "GRU": (jaxlstm.GRU, jaxlstm.nnx.GRU, (), jaxlstm.gru),
    "Fold": (jaxlstm.Fold, jaxlstm.nnx.Fold, (LAYER_NORMED,), lambda *a, **k: jaxlstm.fold(LAYER_NORMED, *a, **k)),
}


@pytest.mark.parametrize("name", STACKS)
def test_modules_are_their_functions(name):
    linen_class, nnx_class, cell, function = STACKS[name]
    x, lengths = jax.random.normal(jax.random.key(0), (B, T, I)), jnp.array([T, 0, 2])
    sizes: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    linen: Any = linen_class(*cell, I, H, **sizes)
    variables = linen.init(jax.random.key(1), x)
    module: Any = nnx_class(*cell, I, H, **sizes, rngs=nnx.Rngs(1))
    nnx.update(module, variables["params"])
    state = jax.tree.map(jnp.ones_like, linen.zero_state(B))
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, module.zero_state(B))
    params = jaxlstm.from_named_parameters(variables["params"])
    assert jax.tree.all(jax.tree.map(np.array_equal, jaxlstm.named_parameters(params), variables["params"]))
    wanted = function(params, x, state, lengths=lengths, batch_first=True)
    for got in (linen.apply(variables, x, state, lengths=lengths), module(x, state, lengths=lengths)):
        assert_identical(got, wanted)
    from_nnx = jaxlstm.from_named_parameters(nnx.state(module, nnx.Param))
    assert_identical(from_nnx, params)


def test_gru_cells_are_their_function():
    x = jax.random.normal(jax.random.key(0), (B, I))
    linen = jaxlstm.GRUCell(I, H)
    variables: Any = linen.init(jax.random.key(1), x)
    module = jaxlstm.nnx.GRUCell(I, H, rngs=nnx.Rngs(1))
    nnx.update(module, variables["params"])
    h = jnp.ones_like(linen.zero_state(B))
    wanted, _ = jaxlstm.gru_cell(jaxlstm.CellParams(**variables["params"]), h, x)
    np.testing.assert_array_equal(linen.apply(variables, x, h), wanted)
    np.testing.assert_array_equal(module(x, h), wanted)
    assert module.zero_state().shape == (H,)


def test_tabulate():
    """Of a stack whose state is a NamedTuple with a plain tuple, as `jaxlstm.nnx.LSTM` says."""
    x = jnp.ones((T, B, I))
    fold = jaxlstm.nnx.Fold(cells.lstm(peephole=True), I, H, rngs=nnx.Rngs(0))
    count = 4 * H * (I + H + 2)
    assert f"Total Parameters: {count + 3 * H}" in nnx.tabulate(fold, x, tuple(fold.zero_state(B)))
    gru = jaxlstm.nnx.GRU(I, H, rngs=nnx.Rngs(0))
    assert f"Total Parameters: {count * 3 // 4}" in nnx.tabulate(gru, x)


def test_dropout_acts_between_layers_of_any_cell():
    model, x = jaxlstm.Fold(cells.RNN, I, H, num_layers=2, dropout=0.5), jnp.ones((T, B, I))
    variables = model.init(jax.random.key(0), x)
    plain, dropped = (
        model.apply(variables, x, deterministic=deterministic, rngs={"dropout": jax.random.key(1)})[0]
        for deterministic in (True, False)
    )
    assert not np.allclose(plain, dropped)
    assert jaxlstm.nnx.GRU(I, H, 2, dropout=0.5, rngs=nnx.Rngs(0)).rngs is not None


def test_a_grus_gates_are_drawn_one_by_one_and_have_no_forget_bias():
    params = jaxlstm.init_gru_cell(jax.random.key(0), I, H, weight_hh_init=per_gate(nn.initializers.orthogonal()))
    for block in jnp.split(params.weight_hh, 3):
        np.testing.assert_allclose(block @ block.T, jnp.eye(H), atol=1e-6)
    for init in (forget_bias(1.0), chrono(10)):
        with pytest.raises(ValueError, match=r"expected the shape of an LSTM's bias, \[4H\], got \[18\]"):
            jaxlstm.init_gru_cell(jax.random.key(0), I, H, bias_init=init)


def test_a_gru_is_exported_for_any_batch_size():
    params = jaxlstm.init_gru(jax.random.key(0), I, H)
    (batch,) = jax.export.symbolic_shape("batch")
    x = jax.ShapeDtypeStruct((T, batch, I), jnp.float32)
    fold = jax.jit(lambda params, x: jaxlstm.fold(cells.GRU, params, x))
    again = jax.export.deserialize(jax.export.export(fold)(params, x).serialize())
    x = jax.random.normal(jax.random.key(1), (T, B, I))
    assert_identical(again.call(params, x), fold(params, x))
