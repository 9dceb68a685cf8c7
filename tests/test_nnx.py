"""What only NNX has: random streams, lifted transformations, metadata, `nnx.Sequential`, `nnx.RNN`, `nnx.tabulate`."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec
from modules import IN, B, H, T, rand
from trees import assert_close, assert_identical

import jaxlstm
import jaxlstm.linen
import jaxlstm.nnx
from jaxlstm._names import flatten
from jaxlstm.interop import from_torch


def test_keeps_partition_metadata():
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


def count(module) -> int:
    """How many keys the module's dropout stream has given out."""
    return int(module.rngs.count[...])


def test_jit_draws_keys_only_to_drop():
    module, x = jaxlstm.nnx.LSTM(IN, H, 2, dropout=0.5, rngs=nnx.Rngs(0)), rand(T, B, IN)
    call = nnx.jit(lambda module, x: module(x))

    before = count(module)
    dropped = call(module, x)[0]
    assert count(module) == before + 1
    assert not np.allclose(call(module, x)[0], dropped)

    module.eval()
    before = count(module)
    assert_identical(call(module, x), call(module, x))
    assert count(module) == before
    # What draws nothing can be closed over: a changed stream would be refused here.
    np.testing.assert_allclose(jax.jit(lambda x: module(x)[0])(x), call(module, x)[0], atol=1e-6)

    module.train()
    assert not np.allclose(call(module, x)[0], call(module, x)[0])
    assert "nothing is dropped" in nnx.view_info(module)
    still = nnx.view(module, deterministic=True)
    assert_identical(call(still, x), call(still, x))
    assert jaxlstm.nnx.LSTM(IN, H, rngs=nnx.Rngs(params=0)).rngs is None


def test_grad_split_merge_and_vmap():
    module, x = jaxlstm.nnx.LSTM(IN, H, 2, rngs=nnx.Rngs(0)), rand(T, B, IN)
    grads = nnx.grad(lambda module: (module(x)[0] ** 2).sum())(module)
    params = from_torch({name: leaf[...] for name, leaf in nnx.state(module, nnx.Param).items()})
    expected = flatten(jax.grad(lambda params: (jaxlstm.lstm(params, x)[0] ** 2).sum())(params))
    assert set(grads) == set(expected)
    for name, grad in expected.items():
        np.testing.assert_allclose(grads[name][...], grad, atol=1e-6)

    graph, state = nnx.split(module)
    assert_identical(nnx.merge(graph, state)(x), module(x))

    ensemble = nnx.vmap(lambda rngs: jaxlstm.nnx.LSTM(IN, H, 2, rngs=rngs))(nnx.Rngs(0).split(3))
    outputs, _ = nnx.vmap(lambda module, x: module(x), in_axes=(0, None))(ensemble, x)
    assert outputs.shape == (3, T, B, H)
    graph, stacked = nnx.split(ensemble)
    one = nnx.merge(graph, jax.tree.map(lambda leaf: leaf[1], stacked))
    np.testing.assert_allclose(outputs[1], one(x)[0], atol=1e-6)


def test_the_stream_is_forked_from_the_callers():
    rngs = nnx.Rngs(0, dropout=1)
    first, second = (jaxlstm.nnx.LSTM(IN, H, 2, dropout=0.5, rngs=rngs) for _ in range(2))
    nnx.update(second, nnx.state(first, nnx.Param))
    given_out, x = int(rngs.dropout.count[...]), rand(T, B, IN)
    outputs = [module(x)[0] for module in (first, second, first, second)]
    assert int(rngs.dropout.count[...]) == given_out  # a call draws from the module's own
    for k in range(4):
        for other in outputs[:k]:
            assert not np.allclose(outputs[k], other)  # neither two modules nor two calls drop alike


def test_dropout_under_lifted_transformations():
    module, x = jaxlstm.nnx.LSTM(IN, H, 2, dropout=0.5, rngs=nnx.Rngs(0)), rand(T, B, IN)
    dropped = nnx.clone(module)(x)[0]

    @nnx.remat
    def call(module, x):
        return module(x)[0]

    def loss(module, x):
        return call(module, x).sum()

    np.testing.assert_allclose(call(nnx.clone(module), x), dropped, atol=1e-6)
    before = count(module)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(nnx.grad(loss)(module, x)))
    assert count(module) == before + 1

    axes = nnx.StateAxes({nnx.RngState: 0, ...: None})

    @nnx.split_rngs(splits=2)
    @nnx.vmap(in_axes=(axes, None))
    def both(module, x):
        return module(x)[0]

    first, second = both(module, x)
    assert not np.allclose(first, second)
    module.eval()
    first, second = both(module, x)
    assert_identical(first, second)
    np.testing.assert_allclose(first, module(x)[0], atol=1e-6)


def layers(*kinds):
    return [kind(n, H, rngs=nnx.Rngs(0)) for kind, n in zip(kinds, (IN, H), strict=True)]


def test_sequential_hands_no_state_on():
    model, x = nnx.Sequential(*layers(jaxlstm.nnx.LSTM, jaxlstm.nnx.LSTM)), rand(T, B, IN)
    for call in (lambda model, x: model(x), nnx.jit(lambda model, x: model(x))):
        with pytest.raises(ValueError, match=r"state: .* Put `lambda output, state: output` between the two"):
            call(model, x)
    with pytest.raises(ValueError, match=r"state: .* what Sequential unpacked from the layer before"):
        nnx.Sequential(*layers(jaxlstm.nnx.LSTMCell, jaxlstm.nnx.LSTMCell))(rand(B, IN))
    linen = [nnx.bridge.ToNNX(jaxlstm.linen.LSTM(n, H), rngs=nnx.Rngs(0)) for n in (IN, H)]
    with pytest.raises(ValueError, match=r"state: .* what Sequential unpacked from the layer before"):
        nnx.bridge.lazy_init(nnx.Sequential(*linen), x)


def test_sequential_with_the_outputs_alone():
    first, second = layers(jaxlstm.nnx.LSTM, jaxlstm.nnx.LSTM)
    x, state = rand(T, B, IN), jaxlstm.LSTMState(rand(1, B, H), rand(1, B, H))
    model = nnx.Sequential(first, lambda output, _: output, second)
    # The first layer's state is the caller's own.
    assert_identical(model(x, state), second(first(x, state)[0]))


def test_a_decoder_starts_from_the_encoders_state():
    encoder, decoder = layers(jaxlstm.nnx.LSTM, jaxlstm.nnx.LSTM)
    output, state = encoder(rand(T, B, IN))
    # Whoever writes it out means it, and may let it read the encoder's outputs too.
    for y in (rand(T, B, H), output):
        got = nnx.jit(lambda decoder, y, state: decoder(y, state))(decoder, y, state)
        assert_close(got, decoder(y, state))


@pytest.mark.parametrize("kind", [jaxlstm.nnx.LSTM, jaxlstm.nnx.LSTMCell])
def test_flaxs_rnn_is_told_what_to_use(kind):
    cell = kind(IN, H, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=f"{kind.__name__}: Flax's RNN and Bidirectional call .* Use jaxlstm's LSTM"):
        nnx.RNN(cell, rngs=nnx.Rngs(0))(rand(B, T, IN))
    with pytest.raises(TypeError, match=r"x: expected an array, got LSTMState"):
        nnx.RNN(cell, rngs=nnx.Rngs(0))(rand(B, T, IN), initial_carry=cell.zero_state(B))


def test_tabulate():
    lstm, cell = (kind(IN, H, rngs=nnx.Rngs(0)) for kind in (jaxlstm.nnx.LSTM, jaxlstm.nnx.LSTMCell))
    assert "Total Parameters: 200" in nnx.tabulate(lstm, rand(T, B, IN), tuple(lstm.zero_state(B)))
    assert "Total Parameters: 200" in nnx.tabulate(cell, rand(B, IN))


@pytest.mark.parametrize("kind", [jaxlstm.nnx.LSTM, jaxlstm.nnx.LSTMCell, jaxlstm.nnx.GRU, jaxlstm.nnx.GRUCell])
def test_a_seed_is_no_rngs(kind):
    with pytest.raises(TypeError, match=r"rngs: expected nnx.Rngs, got int. Pass rngs=nnx.Rngs\(0\)"):
        kind(IN, H, rngs=0)


@pytest.mark.parametrize("kind", [jaxlstm.nnx.LSTM, jaxlstm.nnx.LSTMCell])
def test_leaves_become_parameters_and_back(kind):
    module = kind(IN, H, rngs=nnx.Rngs(0))
    state: Any = nnx.state(module, nnx.Param)
    expected = from_torch({name: leaf[...] for name, leaf in state.items()})
    for leaves in (state, nnx.to_pure_dict(state)):
        assert_identical(jax.jit(jaxlstm.from_named_parameters)(leaves), expected)

    x = rand(T, B, IN) if kind is jaxlstm.nnx.LSTM else rand(B, IN)
    before = module(x)
    nnx.update(module, jax.tree.map(lambda leaf: 2 * leaf, jaxlstm.named_parameters(expected)))
    assert_identical(
        jaxlstm.from_named_parameters(nnx.state(module, nnx.Param)), jax.tree.map(lambda a: 2 * a, expected)
    )
    assert not np.allclose(module(x)[0], before[0])


SURPLUS = {
    "a layer": ({"num_layers": 2}, {}, "bias_hh_l1, bias_ih_l1, weight_hh_l1, weight_ih_l1"),
    "a direction": ({"bidirectional": True}, {}, "bias_hh_l0_reverse"),
    "biases": ({}, {"bias": False}, "bias_hh_l0, bias_ih_l0"),
}


@pytest.mark.parametrize("name", SURPLUS)
def test_weights_without_a_place_are_refused(name):
    theirs, ours, surplus = SURPLUS[name]
    leaves = jaxlstm.named_parameters(jaxlstm.init_lstm(jax.random.key(0), IN, H, **theirs))
    words = f"params: expected the parameters of LSTM: weight_ih_l0, .*, got besides them {surplus}"
    x = rand(T, B, IN)
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(jaxlstm.LSTM(IN, H, **ours).apply, {"params": leaves}, x)

    module = jaxlstm.nnx.LSTM(IN, H, **ours, rngs=nnx.Rngs(0))
    nnx.update(module, leaves)
    with pytest.raises(ValueError, match=words):
        module(x)
