"""What only Linen has: modules inside modules, lifted transformations, boxed parameters, `nn.Sequential`, `nn.RNN`."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import freeze
from jax.sharding import PartitionSpec
from modules import IN, B, H, T, rand
from trees import assert_close, assert_identical

import jaxlstm
import jaxlstm.nnx
from jaxlstm.interop import from_torch


def test_keeps_partition_metadata():
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
    assert_identical(module.apply(variables, x), module.apply(nn.unbox(variables), x))


def test_inside_other_modules():
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


def test_vmaps_over_parameters():
    model, x = jaxlstm.LSTM(IN, H), rand(T, B, IN)
    ensemble = jax.vmap(model.init, in_axes=(0, None))(jax.random.split(jax.random.key(0), 3), x)
    outputs, _ = jax.vmap(model.apply, in_axes=(0, None))(ensemble, x)
    for k in range(3):
        one = jax.tree.map(lambda leaf, k=k: leaf[k], ensemble)
        np.testing.assert_allclose(outputs[k], model.apply(one, x)[0], atol=1e-6)


def split(kind):
    """`nn.vmap` over a leading axis of everything."""
    return nn.vmap(kind, variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True})


@pytest.mark.parametrize("lift", [nn.remat, nn.jit, split])
@pytest.mark.parametrize("deterministic", [True, False])
def test_dropout_under_lifted_transformations(lift, deterministic):
    # All is dropped at the rate 1, so that no stream of keys needs to be known.
    model = lift(jaxlstm.LSTM)(IN, H, 2, dropout=1.0, deterministic=deterministic)
    x = rand(2, T, B, IN) if lift is split else rand(T, B, IN)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables: Any = model.init(rngs, x)

    def run(params, x):
        return jaxlstm.lstm(params, x, dropout=1.0, dropout_key=None if deterministic else jax.random.key(2))

    params: Any = jaxlstm.from_named_parameters(variables["params"])
    expected, _ = jax.vmap(run)(params, x) if lift is split else run(params, x)

    def output(variables):
        got: Any = model.apply(variables, x, rngs=None if deterministic else {"dropout": jax.random.key(1)})
        return got[0]

    np.testing.assert_allclose(jax.jit(output)(variables), expected, atol=1e-6)
    assert jax.tree.leaves(jax.grad(lambda v: output(v).sum())(variables))


def test_rows_of_a_vmap_drop_apart():
    model = split(jaxlstm.LSTM)(IN, H, 2, dropout=0.5, deterministic=False)
    x = jnp.broadcast_to(rand(T, B, IN), (2, T, B, IN))
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables: Any = model.init(rngs, x)
    same = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), variables)
    output: Any = model.apply(same, x, rngs={"dropout": jax.random.key(1)})[0]
    assert not np.allclose(output[0], output[1])


def test_deterministic_is_told_once():
    x, key = rand(T, B, IN), jax.random.key(0)
    model = jaxlstm.LSTM(IN, H, 2, dropout=0.5, deterministic=False)
    variables = model.init({"params": key, "dropout": key}, x)
    plain = jaxlstm.LSTM(IN, H, 2, dropout=0.5)
    rngs = {"dropout": key}
    assert_identical(model.apply(variables, x, rngs=rngs), plain.apply(variables, x, deterministic=False, rngs=rngs))
    assert_identical(plain.apply(variables, x), plain.clone(deterministic=True).apply(variables, x))
    assert_identical(plain.apply(variables, x), plain.apply(variables, x, deterministic=True))
    with pytest.raises(ValueError, match='"deterministic" was passed to the constructor and at call time'):
        model.apply(variables, x, deterministic=True)
    with pytest.raises(TypeError, match=r"deterministic: expected True or False, .* tell the constructor"):
        nn.remat(jaxlstm.LSTM)(IN, H, 2, dropout=0.5).apply(variables, x, deterministic=False, rngs=rngs)


def test_dropout_is_fresh_in_every_call():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            lstm = jaxlstm.LSTM(IN, H, 2, dropout=0.5, deterministic=False)
            return lstm(x)[0], lstm(x)[0]

    key = jax.random.key(0)
    first, second = Twice().init_with_output({"params": key, "dropout": key}, rand(T, B, IN))[0]
    assert not np.allclose(first, second)


class Inside(nn.Module):
    """Layers that are built where they run: they belong to this module, not to the Sequential."""

    @nn.compact
    def __call__(self, x):
        return nn.Sequential([jaxlstm.LSTM(IN, H), jaxlstm.LSTM(H, H)])(x)


REFUSED = {
    "two": nn.Sequential([jaxlstm.LSTM(IN, H), jaxlstm.LSTM(H, H)]),
    "inside another module": Inside(),
    "in remat": nn.Sequential([nn.remat(jaxlstm.LSTM)(IN, H), nn.remat(jaxlstm.LSTM)(H, H)]),
    "in jit": nn.Sequential([nn.jit(jaxlstm.LSTM)(IN, H), nn.jit(jaxlstm.LSTM)(H, H)]),
    "remat of it": nn.remat(nn.Sequential)([jaxlstm.LSTM(IN, H), jaxlstm.LSTM(H, H)]),
    "nested": nn.Sequential([jaxlstm.LSTM(IN, H), nn.Sequential([jaxlstm.LSTM(H, H)])]),
    "NNX's": nn.Sequential([nnx.bridge.to_linen(jaxlstm.nnx.LSTM, n, H) for n in (IN, H)]),
}


@pytest.mark.parametrize("model", REFUSED.values(), ids=REFUSED)
def test_sequential_hands_no_state_on(model):
    with pytest.raises(ValueError, match=r"state: .* Put `lambda output, state: output` between the two"):
        jax.jit(model.init)(jax.random.key(0), rand(T, B, IN))


def test_sequential_hands_no_cells_state_on():
    model = nn.Sequential([jaxlstm.LSTMCell(H, H), jaxlstm.LSTMCell(H, H)])
    with pytest.raises(ValueError, match=r"state: .* what Sequential unpacked from the layer before"):
        model.init(jax.random.key(0), rand(B, H))


def test_sequential_with_the_outputs_alone():
    first, second = jaxlstm.LSTM(IN, H), jaxlstm.LSTM(H, H)
    model = nn.Sequential([first, lambda output, _: output, second])
    x, state = rand(T, B, IN), jaxlstm.LSTMState(rand(1, B, H), rand(1, B, H))
    variables: Any = model.init(jax.random.key(0), x)
    params = [jaxlstm.from_named_parameters(variables["params"][f"layers_{k}"]) for k in (0, 2)]
    # The first layer's state is the caller's own.
    assert_identical(model.apply(variables, x, state), jaxlstm.lstm(params[1], jaxlstm.lstm(params[0], x, state)[0]))


def test_a_decoder_starts_from_the_encoders_state():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, y):
            output, state = jaxlstm.LSTM(IN, H, name="encoder")(x)
            decoder = jaxlstm.LSTM(H, H, name="decoder")
            return decoder(y, state), decoder(output, state)

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x, y):
            return nn.Sequential([lambda x: (x, y), Model(name="model")])(x)

    x, y, model = rand(T, B, IN), rand(T, B, H), Outer()
    variables: Any = model.init(jax.random.key(0), x, y)
    encoder, decoder = (jaxlstm.from_named_parameters(variables["params"]["model"][k]) for k in ("encoder", "decoder"))
    output, state = jaxlstm.lstm(encoder, x)
    for got, read in zip(jax.jit(model.apply)(variables, x, y), (y, output), strict=True):
        expected = jaxlstm.lstm(decoder, read, state)
        assert_close(got, expected)


@pytest.mark.parametrize("kind", [jaxlstm.LSTM, jaxlstm.LSTMCell])
def test_flaxs_rnn_is_told_what_to_use(kind):
    rnn, x = nn.RNN(kind(IN, H)), rand(B, T, IN)
    for model in (rnn, nn.Bidirectional(rnn, nn.RNN(kind(IN, H)))):
        with pytest.raises(
            TypeError, match=f"{kind.__name__}: Flax's RNN and Bidirectional call .* Use jaxlstm's LSTM"
        ):
            model.init(jax.random.key(0), x)
    with pytest.raises(TypeError, match=r"x: expected an array, got LSTMState"):
        rnn.init(jax.random.key(0), x, initial_carry=kind(IN, H).zero_state(B))


@pytest.mark.parametrize("kind", [jaxlstm.LSTM, jaxlstm.LSTMCell])
def test_leaves_become_parameters_and_back(kind):
    boxed = nn.with_partitioning(jax.nn.initializers.normal(), ("gates", None))
    x = rand(T, B, IN) if kind is jaxlstm.LSTM else rand(B, IN)
    plain: Any = kind(IN, H).init(jax.random.key(0), x)["params"]
    for leaves in (plain, freeze(plain), kind(IN, H, weight_init=boxed).init(jax.random.key(0), x)["params"]):
        there = jax.jit(jaxlstm.from_named_parameters)(leaves)
        assert_identical(there, from_torch(nn.unbox(leaves)))
        assert list(jaxlstm.named_parameters(there)) == list(leaves)
        assert_identical(jax.jit(jaxlstm.named_parameters)(there), dict(nn.unbox(leaves)))
