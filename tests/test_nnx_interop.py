"""Weights from Flax's NNX, judged by its own run; a module at hand tells its equations, too."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from peers import H, I, X, assert_runs_as, shaken

import jaxlstm
from jaxlstm.interop._flax import from_flax


@pytest.fixture(autouse=True)
def their_rank_promotion():
    with jax.numpy_rank_promotion("allow"):
        yield


def nnx_modules() -> dict[str, Any]:
    rngs = nnx.Rngs(0)
    cells = [cell(I, H, rngs=rngs) for cell in (*(nnx.LSTMCell, nnx.OptimizedLSTMCell) * 2, nnx.GRUCell)]
    return {
        "LSTMCell": nnx.RNN(cells[0]),
        "OptimizedLSTMCell": nnx.RNN(cells[1]),
        "Bidirectional": nnx.Bidirectional(nnx.RNN(cells[2]), nnx.RNN(cells[3])),
        "GRUCell": nnx.RNN(cells[4]),
    }


@pytest.mark.parametrize("kind", ["LSTMCell", "OptimizedLSTMCell", "Bidirectional", "GRUCell"])
def test_nnx(kind):
    module = nnx_modules()[kind]
    nnx.update(module, shaken(nnx.state(module, nnx.Param)))
    expected = module(X)
    state = nnx.state(module, nnx.Param)
    for given in (module, nnx.state(module), state, nnx.to_pure_dict(state)):
        assert_runs_as(from_flax(given), expected)


def cell_of(kind: Any = nnx.OptimizedLSTMCell, **options: Any) -> Any:
    return kind(I, H, rngs=nnx.Rngs(0), **options)


class Doubled(nnx.LSTMCell):
    def __call__(self, carry: Any, inputs: Any) -> Any:
        carry, h = super().__call__(carry, inputs)
        return carry, 2 * h


OTHER_EQUATIONS: dict[str, tuple[Any, str]] = {
    "gate_fn": (nnx.RNN(cell_of(gate_fn=nnx.hard_sigmoid)), "gate_fn: expected sigmoid, .* got hard_sigmoid"),
    "activation_fn": (
        nnx.RNN(cell_of(nnx.LSTMCell, activation_fn=nnx.relu)),
        "activation_fn: expected tanh, .* got relu",
    ),
    "a GRU's gate_fn": (nnx.RNN(cell_of(nnx.GRUCell, gate_fn=nnx.relu)), "gate_fn: expected sigmoid, .* got relu"),
    "a cell alone": (cell_of(gate_fn=nnx.relu), "gate_fn: expected sigmoid"),
    "reverse": (nnx.RNN(cell_of(), reverse=True), "reverse: this RNN runs over time in reverse"),
    "merge_fn": (nnx.Bidirectional(nnx.RNN(cell_of()), nnx.RNN(cell_of()), merge_fn=jnp.add), "merge_fn: .* got add"),
    "backward only": (
        nnx.Bidirectional(nnx.RNN(cell_of()), nnx.RNN(cell_of(gate_fn=nnx.relu))),
        "gate_fn: expected sigmoid, .* got relu",
    ),
    "forward of a pair": ((nnx.RNN(cell_of(), reverse=True), nnx.RNN(cell_of())), "reverse: "),
    "a call of its own": (nnx.RNN(cell_of(Doubled)), "Doubled: a class of its own equations"),
}


@pytest.mark.parametrize("case", OTHER_EQUATIONS)
def test_nnx_modules_of_other_equations_are_refused(case):
    module, words = OTHER_EQUATIONS[case]
    with pytest.raises(ValueError, match=f"^params: {words}"):
        from_flax(module)


def test_a_pair_of_nnx_modules_may_run_both_ways():
    forward: Any = nnx.RNN(cell_of())
    backward: Any = nnx.RNN(cell_of(), reverse=True, keep_order=True)
    assert_runs_as(from_flax((forward, backward)), jnp.concatenate([forward(X), backward(X)], -1))


def test_a_carry_of_flax_is_turned_around_as_from_flax_says():
    module = nnx.RNN(cell_of(), return_carry=True)
    nnx.update(module, shaken(nnx.state(module, nnx.Param)))
    carry, _ = module(X)
    c, h = carry
    _, expected = module(X, initial_carry=carry)
    y, _ = jaxlstm.lstm(from_flax(module), X, (h[None], c[None]), batch_first=True)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)
