"""The Linen and the NNX modules, by one body: they hold parameters under PyTorch's names and call lstm()."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

import jaxlstm
from jaxlstm._names import flatten
from jaxlstm.interop import from_torch

IN, H, T, B = 3, 5, 6, 4


class Built(NamedTuple):
    """A module with its parameters: leaves by name, and how to call it, in training mode and not."""

    leaves: dict[str, Any]
    call: Callable
    train: Callable


def linen(kind: str, *args, **options) -> Built:
    module = getattr(jaxlstm.linen, kind)(*args, **options)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 1, args[0]) if kind == "LSTM" else (1, args[0])))

    def train(x, key):
        return module.apply(variables, x, deterministic=False, rngs={"dropout": key})

    return Built(variables["params"], lambda *a, **k: module.apply(variables, *a, **k), train)


def of_nnx(kind: str, *args, **options) -> Built:
    module = getattr(jaxlstm.nnx, kind)(*args, **options, rngs=nnx.Rngs(0, dropout=1))
    leaves = {name: param[...] for name, param in nnx.state(module, nnx.Param).items()}
    module.eval()

    def train(x, key):
        module.train()
        nnx.reseed(module, dropout=key)
        result = module(x)
        module.eval()
        return result

    return Built(leaves, module, train)


both = pytest.mark.parametrize("build", [linen, of_nnx])


def rand(*shape):
    return jax.random.normal(jax.random.key(sum(shape)), shape)


def assert_same(got, expected):
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@both
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("proj_size", [0, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_calls_lstm_on_its_leaves(build, num_layers, bidirectional, proj_size, bias):
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "proj_size": proj_size, "bias": bias}
    leaves, call, _ = build("LSTM", IN, H, batch_first=True, **options)

    expected = flatten(jaxlstm.init_lstm(jax.random.key(0), IN, H, **options))
    assert jax.tree.map(jnp.shape, dict(leaves)) == {name: leaf.shape for name, leaf in expected.items()}

    lead = num_layers * (1 + bidirectional)
    state = jaxlstm.LSTMState(rand(lead, B, proj_size or H), rand(lead, B, H) + 1)
    arguments: dict[str, Any] = {"lengths": jnp.array([6, 1, 0, 4]), "resets": rand(B, T) > 1}
    x = rand(B, T, IN)
    assert_same(call(x, state, **arguments), jaxlstm.lstm(from_torch(leaves), x, state, batch_first=True, **arguments))


@both
@pytest.mark.parametrize("batch", [(B,), ()], ids=["batched", "unbatched"])
@pytest.mark.parametrize("bias", [True, False])
def test_cell_calls_lstm_cell_on_its_leaves(build, batch, bias):
    leaves, call, _ = build("LSTMCell", IN, H, bias)
    params = from_torch(leaves)
    assert isinstance(params, jaxlstm.LSTMCellParams)
    x, state = rand(*batch, IN), (rand(*batch, H), rand(*batch, H) + 1)

    h, c = call(x, state)
    assert_same((h, c), tuple(jaxlstm.lstm_cell(params, state, x)[0]))
    zeros = jnp.zeros((*batch, H))
    assert_same(call(x), call(x, (zeros, zeros)))
    assert isinstance(call(x), jaxlstm.LSTMState)


@both
def test_cells_of_two_sizes_stacked_by_hand(build):
    (leaves_0, cell_0, _), (leaves_1, cell_1, _) = build("LSTMCell", 100, 30), build("LSTMCell", 30, 20)
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
    _, call, _ = build("LSTM", IN, H)
    x = rand(T, B, IN)
    whole, last = call(x)
    first, state = call(x[:2])
    second, state = call(x[2:], state)
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, atol=1e-6)
    np.testing.assert_allclose(state.c, last.c, atol=1e-6)


@both
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
def test_starts_as_pytorch_does(build, kind):
    leaves, _, _ = build(kind, 40, 64)
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
    leaves, _, _ = build(kind, IN, H, param_dtype=jnp.bfloat16, weight_init=constant(3), bias_init=constant(2))
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
    _, call, _ = build(kind, IN, H, dtype=dtype, param_dtype=param_dtype)
    result = call(rand(T, IN).astype(x_dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(expected)}
    # A state in float32 must not lift the results.
    state = (jnp.zeros((T, H)), jnp.zeros((T, H))) if kind == "LSTMCell" else (jnp.zeros((1, H)), jnp.zeros((1, H)))
    assert_same(call(rand(T, IN).astype(x_dtype), state), result)


@both
def test_dropout_is_lstms(build):
    leaves, call, train = build("LSTM", IN, H, 2, dropout=0.5)
    params, x = from_torch(leaves), rand(T, B, IN)
    assert_same(call(x), jaxlstm.lstm(params, x))

    first, again, other = (train(x, jax.random.key(k))[0] for k in (1, 1, 2))
    assert_same(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first, call(x)[0])

    _, _, train = build("LSTM", IN, H, 2, dropout=1.0)
    all_dropped = jaxlstm.lstm(params, x, dropout=1.0, dropout_key=jax.random.key(0))
    assert_same(train(x, jax.random.key(1)), all_dropped)


@both
def test_idle_dropout_warns_once_where_the_user_stands(build):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, call, train = build("LSTM", IN, H, dropout=0.5)
        x = rand(T, IN)
        assert_same(train(x, jax.random.key(0)), call(x))  # nowhere to drop
        jax.jit(call)(x)
    assert [str(w.message) for w in caught] == [
        "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
        "num_layers greater than 1, but got dropout=0.5 and num_layers=1"
    ]
    assert caught[0].filename == __file__


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
    _, call, _ = build("LSTM", IN, H)
    with pytest.raises(ValueError, match="x: expected"):
        call(rand(T, B, IN + 1))
    _, call, _ = build("LSTM", IN, H, batch_first=True)
    with pytest.raises(ValueError, match=r"state.h: expected \[L\*D, B, P\] = \[1, 4, 5\], got \[4, 1, 5\]"):
        call(rand(B, T, IN), (rand(B, 1, H), rand(B, 1, H)))
    with pytest.raises(NotImplementedError, match="cudnn"):
        build("LSTM", IN, H, bias=False, implementation="cudnn").call(rand(T, B, IN))


def test_linen_keeps_partition_metadata():
    module = jaxlstm.LSTM(
        IN,
        H,
        weight_init=nn.with_partitioning(jax.nn.initializers.lecun_normal(), ("gates", None)),
        bias_init=nn.with_partitioning(jax.nn.initializers.zeros, ("gates",)),
    )
    x = rand(T, B, IN)
    variables = module.init(jax.random.key(0), x)
    assert nn.get_partition_spec(variables)["params"] == {
        "weight_ih_l0": PartitionSpec("gates", None),
        "weight_hh_l0": PartitionSpec("gates", None),
        "bias_ih_l0": PartitionSpec("gates"),
        "bias_hh_l0": PartitionSpec("gates"),
    }
    assert_same(module.apply(variables, x), module.apply(nn.unbox(variables), x))


def test_nnx_keeps_partition_metadata():
    mesh = jax.make_mesh((1,), ("gates",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        module = jaxlstm.nnx.LSTM(
            IN,
            H,
            weight_init=nnx.with_partitioning(jax.nn.initializers.lecun_normal(), ("gates", None)),
            bias_init=nnx.with_metadata(jax.nn.initializers.zeros, role="bias"),
            rngs=nnx.Rngs(0),
        )
        specs: Any = nnx.get_partition_spec(nnx.state(module))
        assert specs["weight_hh_l0"].get_value() == PartitionSpec("gates", None)
        assert module(rand(T, B, IN))[0].shape == (T, B, H)
    parameters: Any = nnx.state(module, nnx.Param)
    assert parameters["bias_hh_l0"].get_metadata("role") == "bias"


def test_linen_inside_other_modules():
    class Stack(nn.Module):
        encoder: nn.Module

        def setup(self):
            self.decoder = jaxlstm.LSTM(H, H, 2, dropout=0.5)

        @nn.compact
        def __call__(self, x, *, deterministic=True):
            x, _ = self.encoder(x)
            x, _ = self.decoder(x, deterministic=deterministic)
            return nn.remat(jaxlstm.LSTM)(H, 2, name="head")(x)[0]

    model, x = Stack(encoder=jaxlstm.LSTM(IN, H)), rand(T, B, IN)
    variables: Any = model.init(jax.random.key(0), x)
    assert set(variables["params"]) == {"encoder", "decoder", "head"}
    assert variables["params"]["decoder"]["weight_ih_l1"].shape == (4 * H, H)

    y = jaxlstm.lstm(from_torch(variables["params"]["encoder"]), x)[0]
    y = jaxlstm.lstm(from_torch(variables["params"]["decoder"]), y)[0]
    y = jaxlstm.lstm(from_torch(variables["params"]["head"]), y)[0]
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), y, atol=1e-6)
    with pytest.raises(Exception, match="dropout"):
        model.apply(variables, x, deterministic=False)

    def loss(variables):
        y: Any = model.apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(1)})
        return jnp.sum(jnp.square(y))

    assert all(np.any(leaf) for leaf in jax.tree.leaves(jax.grad(loss)(variables)))


def test_linen_vmaps_over_parameters():
    model, x = jaxlstm.LSTM(IN, H), rand(T, B, IN)
    ensemble = jax.vmap(model.init, in_axes=(0, None))(jax.random.split(jax.random.key(0), 3), x)
    outputs, _ = jax.vmap(model.apply, in_axes=(0, None))(ensemble, x)
    for k in range(3):
        one = jax.tree.map(lambda leaf, k=k: leaf[k], ensemble)
        np.testing.assert_allclose(outputs[k], model.apply(one, x)[0], atol=1e-6)


def count(module) -> int:
    """How many keys the module's dropout stream has given out."""
    return int(module.rngs.count[...])


def test_nnx_jit_draws_keys_only_to_drop():
    module, x = jaxlstm.nnx.LSTM(IN, H, 2, dropout=0.5, rngs=nnx.Rngs(0)), rand(T, B, IN)
    call = nnx.jit(lambda module, x: module(x))

    before = count(module)
    dropped = call(module, x)[0]
    assert count(module) == before + 1
    assert not np.allclose(call(module, x)[0], dropped)

    module.eval()
    before = count(module)
    assert_same(call(module, x), call(module, x))
    assert count(module) == before
    # What draws nothing can be closed over: a changed stream would be refused here.
    np.testing.assert_allclose(jax.jit(lambda x: module(x)[0])(x), call(module, x)[0], atol=1e-6)

    module.train()
    assert not np.allclose(call(module, x)[0], call(module, x)[0])
    assert "nothing is dropped" in nnx.view_info(module)
    still = nnx.view(module, deterministic=True)
    assert_same(call(still, x), call(still, x))
    assert jaxlstm.nnx.LSTM(IN, H, rngs=nnx.Rngs(params=0)).rngs is None


def test_nnx_grad_split_merge_and_vmap():
    module, x = jaxlstm.nnx.LSTM(IN, H, 2, rngs=nnx.Rngs(0)), rand(T, B, IN)
    grads = nnx.grad(lambda module: (module(x)[0] ** 2).sum())(module)
    params = from_torch({name: leaf[...] for name, leaf in nnx.state(module, nnx.Param).items()})
    expected = flatten(jax.grad(lambda params: (jaxlstm.lstm(params, x)[0] ** 2).sum())(params))
    assert set(grads) == set(expected)
    for name, grad in expected.items():
        np.testing.assert_allclose(grads[name][...], grad, atol=1e-6)

    graph, state = nnx.split(module)
    assert_same(nnx.merge(graph, state)(x), module(x))

    ensemble = nnx.vmap(lambda rngs: jaxlstm.nnx.LSTM(IN, H, 2, rngs=rngs))(nnx.Rngs(0).split(3))
    outputs, _ = nnx.vmap(lambda module, x: module(x), in_axes=(0, None))(ensemble, x)
    assert outputs.shape == (3, T, B, H)
    graph, stacked = nnx.split(ensemble)
    one = nnx.merge(graph, jax.tree.map(lambda leaf: leaf[1], stacked))
    np.testing.assert_allclose(outputs[1], one(x)[0], atol=1e-6)
