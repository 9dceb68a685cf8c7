"""The Linen and the NNX modules, by one body: they hold parameters under PyTorch's names and call lstm()."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import modules
import numpy as np
import pytest
from flax import nnx
from modules import IN, B, H, T, both, linen, rand
from trees import assert_identical

import jaxlstm
from jaxlstm._names import flatten
from jaxlstm.interop import from_torch


@both
@pytest.mark.parametrize(("num_layers", "bidirectional"), [(1, False), (1, True), (2, False), (2, True)])
@pytest.mark.parametrize(("proj_size", "bias"), [(0, True), (0, False), (2, True), (2, False)])
def test_calls_lstm_on_its_leaves(build, num_layers, bidirectional, proj_size, bias):
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "proj_size": proj_size, "bias": bias}
    leaves, call, *_ = build("LSTM", IN, H, batch_first=True, **options)

    expected = flatten(jaxlstm.init_lstm(jax.random.key(0), IN, H, **options))
    assert jax.tree.map(jnp.shape, dict(leaves)) == {name: leaf.shape for name, leaf in expected.items()}

    lead = num_layers * (1 + bidirectional)
    state = jaxlstm.LSTMState(rand(lead, B, proj_size or H), rand(lead, B, H) + 1)
    arguments: dict[str, Any] = {"lengths": jnp.array([6, 1, 0, 4]), "resets": rand(B, T) > 1}
    x = rand(B, T, IN)
    wanted = jaxlstm.lstm(from_torch(leaves), x, state, batch_first=True, **arguments)
    assert_identical(call(x, state, **arguments), wanted)


@both
@pytest.mark.parametrize("batch", [(B,), ()], ids=["batched", "unbatched"])
@pytest.mark.parametrize("bias", [True, False])
def test_cell_calls_lstm_cell_on_its_leaves(build, batch, bias):
    leaves, call, *_ = build("LSTMCell", IN, H, bias)
    params = from_torch(leaves)
    assert isinstance(params, jaxlstm.LSTMCellParams)
    x, state = rand(*batch, IN), (rand(*batch, H), rand(*batch, H) + 1)

    h, c = call(x, state)
    assert_identical((h, c), tuple(jaxlstm.lstm_cell(params, state, x)[0]))
    zeros = jnp.zeros((*batch, H))
    assert_identical(call(x), call(x, jaxlstm.LSTMState(zeros, zeros)))


@both
def test_cells_of_two_sizes_stacked_by_hand(build):
    (leaves_0, cell_0, *_), (leaves_1, cell_1, *_) = build("LSTMCell", 100, 30), build("LSTMCell", 30, 20)
    xs = rand(T, 3, 100)
    (h0, c0), (h1, c1) = (jnp.zeros((3, 30)),) * 2, (jnp.zeros((3, 20)),) * 2
    for x in xs:
        h0, c0 = cell_0(x, (h0, c0))
        h1, c1 = cell_1(h0, (h1, c1))

    y, _ = jaxlstm.lstm(((from_torch(leaves_0),),), xs)
    _, (h_n, c_n) = jaxlstm.lstm(((from_torch(leaves_1),),), y)
    np.testing.assert_allclose(h1, h_n[0], atol=1e-6)
    np.testing.assert_allclose(c1, c_n[0], atol=1e-6)


@both
def test_state_carries_over(build):
    _, call, *_ = build("LSTM", IN, H)
    x = rand(T, B, IN)
    whole, last = call(x)
    first, state = call(x[:2])
    second, state = call(x[2:], state)
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, atol=1e-6)
    np.testing.assert_allclose(state.c, last.c, atol=1e-6)


@both
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_starts_as_pytorch_does(build, kind):
    leaves, *_ = build(kind, 40, 64)
    bound = 1 / 8
    flat = np.concatenate([np.ravel(leaf) for leaf in leaves.values()])
    assert np.abs(flat).max() <= bound
    assert len(np.unique(flat)) > 0.99 * flat.size  # no two leaves from one key
    for leaf in leaves.values():
        assert np.abs(leaf).max() > 0.95 * bound
        # Uniform on +-1/8 has a deviation of 0.072; 256 biases and more estimate it to well within a tenth.
        np.testing.assert_allclose(np.std(leaf), bound / np.sqrt(3), rtol=0.1)


@both
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_initializers_and_param_dtype_are_the_users(build, kind):
    constant = jax.nn.initializers.constant
    leaves, *_ = build(kind, IN, H, param_dtype=jnp.bfloat16, weight_init=constant(3), bias_init=constant(2))
    for name, leaf in leaves.items():
        assert leaf.dtype == jnp.bfloat16
        np.testing.assert_array_equal(leaf, 3 if name.startswith("weight") else 2)


@both
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
@pytest.mark.parametrize(
    ("dtype", "param_dtype", "x_dtype", "expected"),
    [
        (None, jnp.float32, jnp.float32, jnp.float32),
        (None, jnp.bfloat16, jnp.bfloat16, jnp.bfloat16),
        (None, jnp.float32, jnp.bfloat16, jnp.float32),
        (jnp.bfloat16, jnp.float32, jnp.float32, jnp.bfloat16),
        (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float16),
        (jnp.float32, jnp.bfloat16, jnp.bfloat16, jnp.float32),
    ],
)
def test_dtype_of_results(build, kind, dtype, param_dtype, x_dtype, expected):
    _, call, *_ = build(kind, IN, H, dtype=dtype, param_dtype=param_dtype)
    result = call(rand(T, IN).astype(x_dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(expected)}
    # A state in float32 must not lift the results.
    zeros = jnp.zeros((T, H) if kind == "LSTMCell" else (1, H))
    state = jaxlstm.LSTMState(zeros, zeros)
    assert_identical(call(rand(T, IN).astype(x_dtype), state), result)


@both
def test_dropout_is_lstms(build):
    leaves, call, train, _ = build("LSTM", IN, H, 2, dropout=0.5)
    params, x = from_torch(leaves), rand(T, B, IN)
    assert_identical(call(x), jaxlstm.lstm(params, x))

    first, again, other = (train(x, jax.random.key(k))[0] for k in (1, 1, 2))
    assert_identical(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first, call(x)[0])

    _, _, train, _ = build("LSTM", IN, H, 2, dropout=1.0)
    all_dropped = jaxlstm.lstm(params, x, dropout=1.0, dropout_key=jax.random.key(0))
    assert_identical(train(x, jax.random.key(1)), all_dropped)


@both
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "Fold"])
def test_idle_dropout_warns_once_where_the_user_stands(build, kind):
    cell = (jaxlstm.cells.GRU,) if kind == "Fold" else ()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, call, train, _ = build(kind, *cell, IN, H, dropout=0.5)
        x = rand(T, IN)
        assert_identical(train(x, jax.random.key(0)), call(x))  # nowhere to drop
        jax.jit(call)(x)
    assert [str(w.message) for w in caught] == [
        "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
        "num_layers greater than 1, but got dropout=0.5 and num_layers=1"
    ]
    assert caught[0].filename == modules.__file__


@both
@pytest.mark.parametrize(
    ("kind", "sizes", "options", "error", "words"),
    [
        ("LSTM", (0, H), {}, ValueError, "input_size: expected an integer of at least 1, got 0"),
        ("LSTM", (IN, 2.5), {}, TypeError, "hidden_size: expected an integer"),
        ("LSTM", (IN, H), {"num_layers": 0}, ValueError, "num_layers: expected"),
        ("LSTM", (IN, H), {"proj_size": H}, ValueError, "proj_size: expected 0 < P < H = 5"),
        ("LSTM", (IN, H), {"dropout": 1.5}, ValueError, "dropout: expected a probability from 0 to 1, got 1.5"),
        ("LSTM", (IN, H), {"dropout": "half"}, TypeError, "dropout: expected a number"),
        ("LSTM", (IN, H), {"dropout": True}, (TypeError, ValueError), "dropout: expected .* True"),
        ("LSTM", (True, H), {}, TypeError, "input_size: expected an integer of at least 1, got True"),
        ("LSTM", (IN, H), {"num_layers": True}, TypeError, "num_layers: expected an integer of at least 1, got True"),
        ("LSTM", (IN, H), {"bidirectional": 2}, TypeError, "bidirectional: expected True or False, got 2. Pass a Pyth"),
        ("LSTM", (IN, H), {"batch_first": "no"}, TypeError, "batch_first: expected True or False, got 'no'"),
        ("LSTM", (IN, H, 2, 0.5), {}, TypeError, "bias: expected True or False, got 0.5"),
        ("LSTM", (IN, H), {"bias": np.ones(1)}, TypeError, "bias: expected True or False"),
        ("LSTM", (IN, H), {"checkpoint_every": 0}, ValueError, "checkpoint_every: expected an integer of at least 1"),
        ("LSTM", (IN, H), {"unroll": 2.0}, TypeError, "unroll: expected an integer"),
        ("LSTMCell", (IN, H, 3), {}, TypeError, "bias: expected True or False, got 3"),
        ("LSTM", (IN, H), {"param_dtype": jnp.int32}, TypeError, "param_dtype: expected one of .* got int32"),
        ("LSTMCell", (IN, H), {"dtype": jnp.int32}, TypeError, "^dtype: expected one of .* got int32"),
        ("LSTMCell", (IN, -1), {}, ValueError, "hidden_size: expected"),
    ],
)
def test_refused_when_built(build, kind, sizes, options, error, words):
    module = getattr(jaxlstm.linen if build is linen else jaxlstm.nnx, kind)
    with pytest.raises(error, match=words):
        module(*sizes, **options, **({} if build is linen else {"rngs": nnx.Rngs(0)}))


@both
def test_refused_when_called(build):
    _, call, *_ = build("LSTM", IN, H)
    with pytest.raises(ValueError, match="x: expected"):
        call(rand(T, B, IN + 1))
    _, call, *_ = build("LSTM", IN, H, batch_first=True)
    with pytest.raises(ValueError, match=r"state.h: expected \[L\*D, B, P\] = \[1, 4, 5\], got \[4, 1, 5\]"):
        call(rand(B, T, IN), (rand(B, 1, H), rand(B, 1, H)))
    with pytest.raises(NotImplementedError, match="cudnn"):
        build("LSTM", IN, H, bias=False, implementation="cudnn").call(rand(T, B, IN))


@both
def test_numpys_numbers_and_flags_are_pythons(build):
    options = {"num_layers": 2, "bidirectional": True, "proj_size": 2, "dropout": 0.5, "checkpoint_every": 3}
    given = {
        "num_layers": np.array(2),
        "bidirectional": 1,
        "proj_size": np.int8(2),
        "dropout": np.float32(0.5),
        "checkpoint_every": np.int64(3),
        "bias": np.True_,
        "batch_first": jnp.array(False),
    }
    leaves, call, _, module = build("LSTM", np.int64(IN), jnp.int32(H), **given)
    expected, expected_call, _, _ = build("LSTM", IN, H, **options)
    assert_identical(dict(leaves), dict(expected))
    assert_identical(call(rand(T, B, IN)), expected_call(rand(T, B, IN)))
    for name in ("input_size", "hidden_size", *given):
        assert type(getattr(module, name)) in (int, bool, float), name


@both
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
@pytest.mark.parametrize(
    ("batch_size", "dtype", "param_dtype"),
    [(B, None, jnp.float32), (None, None, jnp.bfloat16), (0, jnp.bfloat16, jnp.float32)],
)
def test_scan_carries_zero_state(build, kind, batch_size, dtype, param_dtype):
    options = {"num_layers": 2, "bidirectional": True, "proj_size": 2} if kind == "LSTM" else {}
    _, call, _, module = build(kind, IN, H, dtype=dtype, param_dtype=param_dtype, **options)
    batch = () if batch_size is None else (batch_size,)
    lead, width = ((4, *batch), 2) if kind == "LSTM" else (batch, H)
    state = module.zero_state(batch_size)
    assert isinstance(state, jaxlstm.LSTMState)
    assert (state.h.shape, state.c.shape) == ((*lead, width), (*lead, H))
    assert not any(map(np.any, state))

    def step(state, x):
        result = call(x, state)
        return (result[1] if kind == "LSTM" else result), None

    xs = rand(3, *((T, *batch, IN) if kind == "LSTM" else (*batch, IN))).astype(param_dtype)
    final, _ = jax.lax.scan(step, state, xs)  # which refuses a carry of another shape, dtype or kind
    assert final.h.dtype == (dtype or param_dtype)


@both
def test_zero_state_refuses_a_size_that_is_none(build):
    module = build("LSTM", IN, H).module
    with pytest.raises(ValueError, match="batch_size: expected an integer of at least 0, got -1"):
        module.zero_state(-1)
    with pytest.raises(TypeError, match="batch_size: expected an integer"):
        module.zero_state((2,))


@both
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_a_state_comes_out_as_it_came_in(build, kind):
    _, call, _, module = build(kind, IN, H)
    x, state = (rand(T, B, IN) if kind == "LSTM" else rand(B, IN)), module.zero_state(B)

    def final(*arguments):
        return call(*arguments)[1] if kind == "LSTM" else call(*arguments)

    assert type(final(x)) is type(final(x, state)) is jaxlstm.LSTMState
    assert type(final(x, tuple(state))) is tuple
    assert_identical(final(x, tuple(state)), tuple(final(x)))


@both
@pytest.mark.parametrize("batch", [(B,), ()], ids=["each row's own", "one for all rows"])
def test_a_learned_state_starts_and_resets(build, batch):
    leaves, call, *_ = build("LSTM", IN, H, batch_first=True)
    x, resets = rand(B, T, IN), rand(B, T) > 0
    learned = jaxlstm.LSTMState(rand(1, *batch, H), rand(1, *batch, H) + 1)
    state = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.reshape(leaf, (1, -1, H)), (1, B, H)), learned)
    got = call(x, state, resets=resets, reset_state=learned)
    options: dict[str, Any] = {"resets": resets, "reset_state": learned}
    assert_identical(got, jaxlstm.lstm(from_torch(leaves), x, state, batch_first=True, **options))
    assert not np.allclose(got[0], call(x, state, resets=resets)[0])


@both
def test_checkpoint_every_and_unroll_are_lstms(build):
    def program(call):
        return str(jax.make_jaxpr(jax.grad(lambda x: call(x)[0].sum()))(rand(T, B, IN)))

    for options in ({"checkpoint_every": 2}, {"unroll": 3}):
        leaves, call, *_ = build("LSTM", IN, H, implementation="xla", **options)
        params = from_torch(leaves)
        assert program(call) == program(lambda x, p=params, o=options: jaxlstm.lstm(p, x, implementation="xla", **o))
        assert program(call) != program(build("LSTM", IN, H, implementation="xla").call)


@both
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_flaxs_order_of_arguments_is_refused(build, kind):
    _, call, _, module = build(kind, IN, H)
    with pytest.raises(TypeError, match=r"x: expected an array, got LSTMState. The call is module\(x, state\)"):
        call(module.zero_state(B), rand(B, IN))
