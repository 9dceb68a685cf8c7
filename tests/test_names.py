"""Parameters by PyTorch's names and back, as they are, under every transformation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from trees import assert_close, assert_identical

import jaxlstm
from jaxlstm import from_named_parameters, named_parameters

KEY = jax.random.key(0)
CELL = jaxlstm.init_lstm_cell(KEY, 3, 5)
STACK = jaxlstm.init_lstm(KEY, 3, 5, num_layers=2, bidirectional=True, proj_size=2)
NAMED = named_parameters(STACK)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("proj_size", [0, 2])
@pytest.mark.parametrize(("num_layers", "bidirectional"), [(1, False), (1, True), (12, False), (3, True)])
def test_there_and_back(bias, proj_size, num_layers, bidirectional):
    stack = jaxlstm.init_lstm(KEY, 3, 5, num_layers, bias=bias, bidirectional=bidirectional, proj_size=proj_size)
    assert_identical(from_named_parameters(named_parameters(stack)), stack)
    assert_identical(from_named_parameters(named_parameters(stack[0][0])), stack[0][0])


def test_under_every_transformation():
    x = jnp.ones((4, 2, 3))

    def loss(params, x):
        return jnp.sum(jaxlstm.lstm(params, x)[0] ** 2)

    def named_loss(named, x):
        return loss(from_named_parameters(named), x)

    grads, expected = jax.grad(named_loss)(NAMED, x), named_parameters(jax.grad(loss)(STACK, x))
    assert_close(grads, expected)

    ensemble = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), STACK)
    there = jax.jit(named_parameters)(ensemble)
    assert_identical(from_named_parameters(there), ensemble)
    losses = jax.vmap(named_loss, in_axes=(0, None))(there, x)
    np.testing.assert_allclose(losses[1], loss(jax.tree.map(lambda leaf: 2 * leaf, STACK), x), rtol=1e-6)


def test_leaves_of_any_kind_pass_as_they_are():
    specs = jaxlstm.LSTMCellParams(PartitionSpec("x"), PartitionSpec(), None, None, None)  # type: ignore
    assert named_parameters(specs) == {"weight_ih": PartitionSpec("x"), "weight_hh": PartitionSpec()}
    assert from_named_parameters(named_parameters(specs)) == specs


def without(*names: str) -> dict[str, Any]:
    return {name: leaf for name, leaf in NAMED.items() if name not in names}


@pytest.mark.parametrize(
    ("leaves", "error", "words"),
    [
        (without("bias_hh_l1_reverse"), ValueError, "leaves: missing: bias_hh_l1_reverse. Expected the names of one"),
        (without("weight_ih_l1"), ValueError, "leaves: surplus: bias_hh_l1, .*weight_hr_l1_reverse"),
        (without("weight_hh_l0", "weight_hh_l1"), ValueError, "leaves: missing: weight_hh_l0, weight_hh_l1[.]"),
        (NAMED | {"kernel": jnp.ones(3)}, ValueError, "leaves: surplus: kernel[.]"),
        (NAMED | {"weight_ih": jnp.ones(3)}, ValueError, "leaves: surplus: weight_ih[.]"),
        ({"params": NAMED}, ValueError, "leaves: missing: weight_hh, weight_ih[.]"),
        ({}, ValueError, "leaves: missing: weight_hh, weight_ih[.]"),
        (NAMED | {"bias_ih_l0": None}, TypeError, "bias_ih_l0: expected an array, got NoneType. Leave out"),
        (NAMED | {"bias_ih_l0": [1, 2]}, TypeError, "bias_ih_l0: expected an array, got list"),
        (STACK, TypeError, r'leaves: expected a mapping .* got tuple. Linen has one in variables\["params"\]'),
    ],
)
def test_what_is_no_lstms_is_named(leaves, error, words):
    with pytest.raises(error, match=words):
        from_named_parameters(leaves)


@pytest.mark.parametrize("params", [NAMED, (CELL,), [[jnp.ones(3)]], 3, None])
def test_what_is_no_parameters_is_named(params):
    with pytest.raises(TypeError, match=r"params: expected LSTMParams or LSTMCellParams, got .* from_named_parameters"):
        named_parameters(params)
