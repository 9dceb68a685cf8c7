"""`jaxlstm.sharding`: which specs what gets, and what does not fit its mesh."""

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

import jaxlstm
from jaxlstm.sharding import input_spec, param_specs, shardings, state_specs

I, H = 3, 8  # noqa: E741
MODELS: dict[str, Callable[[], Any]] = {
    "functional": lambda: jaxlstm.init_lstm(jax.random.key(0), I, H, bidirectional=True),
    "projected": lambda: jaxlstm.init_lstm(jax.random.key(0), I, H, proj_size=4),
    "Linen": lambda: jaxlstm.LSTM(I, H, num_layers=2).init(jax.random.key(0), jnp.zeros((1, 1, I))),
    "NNX": lambda: nnx.state(jaxlstm.nnx.LSTM(I, H, bias=False, rngs=nnx.Rngs(0)), nnx.Param),
}


@pytest.mark.parametrize("kind", MODELS)
def test_specs_have_the_tree_of_what_they_place(kind):
    params = MODELS[kind]()
    tree = {"params": params, "moments": optax.adam(1e-3).init(params)}
    assert jax.tree.structure(param_specs(tree)) == jax.tree.structure(tree)
    assert set(jax.tree.leaves(param_specs(tree))) == {P()}
    # Adam keeps two moments of each, and one count.
    specs = jax.tree.leaves(param_specs(tree, "model"))
    assert specs.count(P()) == 1
    assert len(specs) == 3 * len(jax.tree.leaves(params)) + 1


def test_only_an_lstms_parameters_are_split():
    params = {"lstm": MODELS["Linen"]()["params"], "dense": {"kernel": jnp.ones((H, 3)), "bias": jnp.ones(3)}}
    specs = param_specs(params, "model")
    assert set(specs["lstm"].values()) == {P("model")}
    assert set(specs["dense"].values()) == {P()}


def test_what_is_only_named_like_a_parameter_is_not_split():
    # Adafactor keeps one element in place of each moment that it factors, and in place of each factor that it doesn't.
    params: Any = jaxlstm.init_lstm_cell(jax.random.key(0), I, H, proj_size=4)
    state = optax.adafactor(1e-3, min_dim_size_to_factor=3).init(params)
    places = shardings(
        jax.make_mesh((1, 1), ("batch", "model"), axis_types=(AxisType.Auto,) * 2), param_specs(state, "model"), state
    )
    split = [a.shape for a, at in zip(jax.tree.leaves(state), jax.tree.leaves(places), strict=True) if at.spec]
    assert split == [(4 * H,), (4 * H,)]


def test_parameters_stacked_by_vmap_are_split_in_their_own_rows():
    init = functools.partial(jaxlstm.init_lstm_cell, input_size=I, hidden_size=H, proj_size=4)
    stacked = jax.eval_shape(jax.vmap(init), jax.random.split(jax.random.key(0), 3))
    rows, units = P(None, "model"), P(None, None, "model")
    assert param_specs(stacked, "model")[:5] == (rows, rows, rows, rows, units)


def test_a_grus_rows_are_three_times_its_units():
    """H = 8 lies on eight devices though 3H / 4 = 6 would not; named parameters and optimizer's moments alike."""
    params: Any = jaxlstm.init_gru(jax.random.key(0), I, 8, 2, bidirectional=True)
    mesh = AbstractMesh((1, 8), ("batch", "model"), axis_types=(AxisType.Auto,) * 2)
    for tree in (params, jaxlstm.named_parameters(params), optax.trace(0.9).init(params)):
        places = shardings(mesh, param_specs(tree, "model"), tree)
        assert {at.spec for at in jax.tree.leaves(places)} == {P("model")}
    with pytest.raises(ValueError, match=r"expected H to be a multiple of 8, .* got H = 4 in \[12, 3\]"):
        shardings(mesh, P("model"), jaxlstm.init_gru(jax.random.key(0), I, 4))


def test_states_of_stack_and_cell():
    assert state_specs() == (P(None, "batch"), P(None, "batch"))
    assert state_specs(("x", "y"), "model", cell=True) == (P(("x", "y")), P(("x", "y"), "model"))
    assert input_spec(batch_first=True) == P("batch")


EIGHT = AbstractMesh((4, 2), ("batch", "model"), axis_types=(AxisType.Auto,) * 2)
ODD = jaxlstm.init_lstm(jax.random.key(0), 2, 5, proj_size=4)
MEND = "Use a mesh whose axis divides it, or "
PAD, RESIZE = MEND + "fill the batch up with rows of length 0.", MEND + "another hidden_size."
REFUSED = {
    "x": (
        (input_spec(), np.zeros((5, 6, 3))),
        f"arrays: expected B to be a multiple of 4, the size of mesh axis 'batch', got B = 6 in [5, 6, 3]. {PAD}",
    ),
    "lengths over two axes": (
        (P(("batch", "model")), {"lengths": np.zeros(4)}),
        "arrays['lengths']: expected B to be a multiple of 8, the size of mesh axis 'batch' x 'model', "
        f"got B = 4 in [4]. {PAD}",
    ),
    "state": (
        (state_specs(model="model"), jaxlstm.LSTMState(jnp.zeros((1, 4, 3)), jnp.zeros((1, 4, 5)))),
        f"arrays.c: expected H to be a multiple of 2, the size of mesh axis 'model', got H = 5 in [1, 4, 5]. {RESIZE}",
    ),
    "gate rows": (
        (param_specs(ODD, "model"), ODD),
        "arrays[0][0].weight_ih: expected H to be a multiple of 2, the size of mesh axis 'model', "
        f"got H = 5 in [20, 2]. {RESIZE}",
    ),
    "projection": (
        (P(None, "model"), {"weight_hr_l0": ODD[0][0].weight_hr}),
        "arrays['weight_hr_l0']: expected H to be a multiple of 2, the size of mesh axis 'model', "
        f"got H = 5 in [4, 5]. {RESIZE}",
    ),
    "a kernel of the user's": (
        (P(None, "model"), {"kernel": np.zeros((3, 5))}),
        "arrays['kernel']: expected axis 1 to be a multiple of 2, the size of mesh axis 'model', "
        f"got axis 1 = 5 in [3, 5]. {MEND}another size.",
    ),
    "too many axes": (
        (input_spec(), (np.zeros(4),)),
        "arrays[0]: expected at least the 2 axes of P(None, 'batch'), got [4]. "
        "Check that the specs stand in the order of the arrays.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    arguments, message = REFUSED[case]
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        shardings(EIGHT, *arguments)
