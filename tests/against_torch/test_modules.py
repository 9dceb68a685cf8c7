"""The Flax modules take a PyTorch state_dict as it is, and start and warn as PyTorch's modules do."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from trees import assert_close

import jaxlstm

# B comes first in half of them.
GRID: list[dict[str, Any]] = [
    {
        "num_layers": num_layers,
        "bias": bias,
        "batch_first": bias != bidirectional,
        "bidirectional": bidirectional,
        "proj_size": proj_size,
    }
    for num_layers, bias, bidirectional, proj_size in itertools.product((1, 2), (True, False), (False, True), (0, 2))
]


def linen(kind: str, leaves, x, state, *args, **options):
    return getattr(jaxlstm, kind)(*args, **options).apply({"params": leaves}, x, state)


def of_nnx(kind: str, leaves, x, state, *args, **options):
    module = getattr(jaxlstm.nnx, kind)(*args, **options, rngs=nnx.Rngs(0))
    parameters: Any = nnx.state(module, nnx.Param)
    assert set(parameters) == set(leaves)
    nnx.update(module, {name: parameters[name].replace(jnp.asarray(leaf)) for name, leaf in leaves.items()})
    return module(x, state)


both = pytest.mark.parametrize("run", [linen, of_nnx])


def in_jax(tree):
    return jax.tree.map(lambda tensor: jnp.asarray(tensor.detach().numpy()), tree)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@both
@pytest.mark.parametrize("options", GRID, ids=lambda options: "-".join(map(str, options.values())))
def test_lstm_under_pytorchs_parameters(run, options):
    theirs = torch.nn.LSTM(3, 5, **options)
    x = torch.randn(4, 6, 3)
    lead, batch = options["num_layers"] * (1 + options["bidirectional"]), 4 if options["batch_first"] else 6
    state = torch.randn(lead, batch, options["proj_size"] or 5), torch.randn(lead, batch, 5)
    y, (h, c) = run("LSTM", in_jax(dict(theirs.state_dict())), in_jax(x), in_jax(state), 3, 5, **options)
    assert_close((y, (h, c)), in_jax(theirs(x, state)), atol=2e-6)


@both
@pytest.mark.parametrize("bias", [True, False])
def test_cell_under_pytorchs_parameters(run, bias):
    theirs = torch.nn.LSTMCell(3, 5, bias)
    leaves = in_jax(dict(theirs.state_dict()))
    x, state = torch.randn(4, 3), (torch.randn(4, 5), torch.randn(4, 5))
    assert_close(
        tuple(run("LSTMCell", leaves, in_jax(x), in_jax(state), 3, 5, bias)), in_jax(theirs(x, state)), atol=2e-6
    )
    assert_close(tuple(run("LSTMCell", leaves, in_jax(x), None, 3, 5, bias)), in_jax(theirs(x)), atol=2e-6)


@pytest.mark.parametrize("options", GRID, ids=lambda options: "-".join(map(str, options.values())))
def test_linen_params_load_into_pytorch(options):
    theirs = torch.nn.LSTM(3, 5, **options)
    params: Any = jaxlstm.LSTM(3, 5, **options).init(jax.random.key(0), jnp.zeros((1, 1, 3)))["params"]
    assert {name: leaf.shape for name, leaf in params.items()} == {
        name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()
    }
    theirs.load_state_dict({name: torch.from_numpy(np.array(leaf)) for name, leaf in params.items()})


def test_idle_dropout_warns_in_pytorchs_words():
    makers = (torch.nn.LSTM, jaxlstm.LSTM, functools.partial(jaxlstm.nnx.LSTM, rngs=nnx.Rngs(0)))
    words = []
    for make in makers:
        with pytest.warns(UserWarning, match="^dropout option") as caught:
            make(3, 5, dropout=0.25)
        words.append([str(warning.message) for warning in caught])
    assert words[1] == words[2] == words[0]


@pytest.mark.parametrize("rate", [True, 1.5, -0.1])
def test_both_refuse_what_is_no_rate(rate):
    for make in (torch.nn.LSTM, jaxlstm.LSTM, functools.partial(jaxlstm.nnx.LSTM, rngs=nnx.Rngs(0))):
        with pytest.raises((ValueError, TypeError), match=r"dropout.*(probability|number)"):
            make(3, 5, 2, dropout=rate)


def test_cells_forget_by_one_as_pytorch_users_set_it():
    """The recipe of PyTorch's users fills the forget gate of one bias; ours of both by half, with the same sum."""
    theirs = torch.nn.LSTM(3, 5, 2)
    for name, leaf in theirs.named_parameters():
        if name.startswith("bias"):
            torch.nn.init.zeros_(leaf)
        if name.startswith("bias_ih"):
            torch.nn.init.ones_(leaf[5:10])
    ours = jaxlstm.LSTM(3, 5, 2, bias_init=jaxlstm.initializers.forget_bias(1.0))
    leaves = in_jax(dict(theirs.state_dict()))
    params: Any = ours.init(jax.random.key(0), jnp.zeros((1, 1, 3)))["params"]
    for layer in ("l0", "l1"):
        summed = leaves[f"bias_ih_{layer}"] + leaves[f"bias_hh_{layer}"]
        np.testing.assert_array_equal(params[f"bias_ih_{layer}"] + params[f"bias_hh_{layer}"], summed)


def test_a_tensor_that_numpy_can_read_serves_as_x_and_another_is_told_how():
    params = jaxlstm.init_lstm(jax.random.key(0), 3, 4)
    x: Any = torch.ones(5, 2, 3)
    np.testing.assert_array_equal(jaxlstm.lstm(params, x)[0], jaxlstm.lstm(params, x.numpy())[0])
    for tensor in (x.bfloat16(), x.clone().requires_grad_()):
        with pytest.raises(TypeError, match=r"x: expected an array, got Tensor\. Convert it: x\.detach\(\)\.cpu"):
            jaxlstm.lstm(params, tensor)
