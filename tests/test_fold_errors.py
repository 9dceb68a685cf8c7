"""What `fold` refuses: at the door, while tracing, in the rule's own terms and with the cell's name."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import jaxlstm
from jaxlstm import Cell, LSTMState
from jaxlstm.cells import GRU, RNN, HiddenState

T, B, I, H = 5, 6, 3, 4  # noqa: E741
X = jnp.zeros((T, B, I))
GRUS = jaxlstm.init_gru(jax.random.key(0), I, H, 2)
RNNS = jaxlstm.init_fold(jax.random.key(0), RNN, I, H)
ONE = jaxlstm.init_lstm(jax.random.key(0), I, H)


def fickle(returns, extra, state, x_sums, h_sums):
    del extra, h_sums
    return returns(state, x_sums[0])


def cell_of(returns, **fields) -> Cell:
    rule: Any = functools.partial(fickle, returns)
    functools.update_wrapper(rule, fickle)
    settings: dict[str, Any] = {"num_gates": 4} | fields
    return Cell(rule, **settings)


KEEPS = cell_of(lambda state, y: (state, y)).rule


class Unhashable:
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __call__(self, extra, state, x_sums, h_sums):
        del extra, x_sums, h_sums
        return state, state.h


class Memory(NamedTuple):
    h: jax.Array
    m: jax.Array


class CFirst(NamedTuple):
    c: jax.Array
    h: jax.Array


RULE = "the rule of the cell fickle"
CALLS = {
    # What the rule gives back.
    "one result": (cell_of(lambda state, y: y), ONE, {}, TypeError, f"{RULE}: expected (state, y), the state after the step and the output, got"),
    "a plain tuple": (cell_of(lambda state, y: ((y, y), y)), ONE, {}, TypeError, f"the state from {RULE}: expected LSTMState(h, c), got a tuple of 2. "),
    "another NamedTuple": (cell_of(lambda state, y: (HiddenState(y), y)), ONE, {}, TypeError, f"the state from {RULE}: expected LSTMState(h, c), got HiddenState(h). "),
    "a field lost": (cell_of(lambda state, y: (LSTMState(y, None), y)), ONE, {}, TypeError, f"the state from {RULE}: expected "),  # pyright: ignore[reportArgumentType]
    "shape": (cell_of(lambda state, y: (LSTMState(y, y[:2]), y)), ONE, {}, ValueError, f"state.c from {RULE}: expected float32[4], got float32[2]. It must have the shape and dtype"),
    "dtype": (cell_of(lambda state, y: (LSTMState(y, y.astype(jnp.float16)), y)), ONE, {}, ValueError, f"state.c from {RULE}: expected float32[4], got float16[4]. "),
    "a Python number": (cell_of(lambda state, y: (LSTMState(y, 0.0), y)), ONE, {}, ValueError, f"state.c from {RULE}: expected float32[4], got float32[]"),  # pyright: ignore[reportArgumentType]
    "y's shape": (cell_of(lambda state, y: (state, y[:2])), ONE, {}, ValueError, f"y from {RULE}: expected [H] = float32[4], got float32[2]. "),
    "y a tree": (cell_of(lambda state, y: (state, (y, y))), ONE, {}, ValueError, f"y from {RULE}: expected [H] = float32[4], got tuple. "),
    # Parameters, states and options.
    "rows": (GRU, ONE, {}, ValueError, "params[0][0].weight_ih_l0: expected [3H, I], got 4H rows: [16, 3]. These are an LSTM's: jaxlstm.lstm takes them, and explain and fold with cell=jaxlstm.cells.LSTM."),
    "weight_hh's rows": (
        GRU, ((GRUS[0][0]._replace(weight_hh=jnp.zeros((16, 4))),),), {}, ValueError,
        "params[0][0].weight_hh_l0: expected [3H, P] = [12, 4], got [16, 4]. All parameters of a cell must agree in H, P and I. The cell gru has G = 3",
    ),
    "extra": (GRU, ((GRUS[0][0]._replace(extra="a"),),), {}, TypeError, "params[0][0].extra_l0: expected a pytree of arrays, got str."),
    "one cell": (GRU, GRUS[0][0], {}, TypeError, "params: expected LSTMParams, a tuple over layers of a tuple over directions of CellParams, got CellParams. Make it with init_fold"),
    "an LSTM's state": (GRU, GRUS, {"state": LSTMState(X[:2], X[:2])}, TypeError, "state: expected HiddenState(h) or a tuple (h,), got LSTMState. It is the state of the cell gru. It is h alone: "),
    "h alone": (GRU, GRUS, {"state": jnp.zeros((2, B, H))}, TypeError, "state: expected HiddenState(h) or a tuple (h,), got ArrayImpl"),
    "h's shape": (GRU, GRUS, {"state": (jnp.zeros((1, B, H)),)}, ValueError, "state.h: expected [L*D, B, P] = [2, 6, 4], got [1, 6, 4]"),
    "another field's rows": (
        Cell(KEEPS, 4, Memory), ONE,
        {"state": (jnp.zeros((1, B, H)), jnp.zeros((1, 2, 7)))}, ValueError, "state.m: expected [L*D, B, ...] = [1, 6, ...], got [1, 2, 7]",
    ),
    "native": (RNN, RNNS, {"implementation": "native"}, NotImplementedError, "it computes the LSTM and the GRU, not the cell rnn"),
    "cudnn": (GRU, GRUS, {"implementation": "cudnn"}, NotImplementedError, "the cell gru"),
    "implementation": (GRU, GRUS, {"implementation": "eigen"}, ValueError, "implementation: expected None or one of"),
    # The cell.
    "a function": (fickle, ONE, {}, TypeError, "cell: expected a jaxlstm.Cell, got function. Make one: jaxlstm.Cell(rule, num_gates)."),
    "no rule": (Cell("lstm", 4), ONE, {}, TypeError, "cell.rule: expected a function of (extra, state, x_sums, h_sums), got 'lstm'."),  # pyright: ignore[reportArgumentType]
    "no gates": (Cell(KEEPS, 0), ONE, {}, ValueError, "cell.num_gates: expected an integer of at least 1, got 0"),
    "h not first": (Cell(KEEPS, 4, CFirst), ONE, {}, TypeError, "cell.state: expected a NamedTuple type whose first field is h, got "),
    "a state, no type": (Cell(KEEPS, 4, HiddenState(X)), ONE, {}, TypeError, "cell.state: expected a NamedTuple type whose first field is h, got "),
    "unhashable": (Cell(Unhashable(), 4), ONE, {}, TypeError, "cell.rule: expected a hashable function, got "),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_fold_refuses(name):
    cell, params, options, error, words = CALLS[name]
    with pytest.raises(error, match=re.escape(words)):
        jax.eval_shape(lambda x: jaxlstm.fold(cell, params, x, **options), X)


GRU_CALLS = {
    "lstm's state": (lambda: jaxlstm.gru(GRUS, X, (X[:2], X[:2])), TypeError, "state: expected HiddenState(h) or a tuple (h,), got tuple. It is the state of the cell gru. It is h alone: gru and gru_cell take h itself, fold takes (h,)."),  # pyright: ignore[reportArgumentType]
    "a cell's state": (lambda: jaxlstm.gru_cell(GRUS[0][0], jnp.zeros((2, H)), X[0]), ValueError, "state.h: expected [B, P] = [6, 4], got [2, 4]"),
    "a stack for a cell": (lambda: jaxlstm.gru_cell(GRUS, jnp.zeros((2, H)), X[0]), TypeError, "params: expected CellParams, got tuple. Make it with"),  # pyright: ignore[reportArgumentType]
    "pallas": (lambda: jaxlstm.gru(GRUS, X, implementation="pallas"), NotImplementedError, "it computes the LSTM, not the cell gru"),
    "lstm of a gru": (lambda: jaxlstm.lstm(GRUS, jnp.zeros((T, B, I))), ValueError, "weight_ih_l0: expected [4H, I], got 3H rows: [12, 3]. These are a GRU's: jaxlstm.gru takes them, and explain and fold with cell=jaxlstm.cells.GRU."),
    "explain of a gru": (lambda: jaxlstm.explain(GRUS, X), ValueError, "explain and fold with cell=jaxlstm.cells.GRU."),
    "init_fold": (lambda: jaxlstm.init_fold(jax.random.key(0), "gru", 3, 4), TypeError, "cell: expected a jaxlstm.Cell, got str"),  # pyright: ignore[reportArgumentType]
    "sizes": (lambda: jaxlstm.init_gru(jax.random.key(0), 3, 0), ValueError, "hidden_size: expected an integer of at least 1, got 0"),
    "clip": (lambda: jaxlstm.cells.lstm(clip=-1), ValueError, "clip: expected a bound above 0, got -1. None is for no bound."),
    "activation": (lambda: jaxlstm.cells.lstm(cell_activation="relu"), TypeError, "cell_activation: expected a function of an array, got 'relu'. Try jax.nn.relu."),  # pyright: ignore[reportArgumentType]
}  # fmt: skip


@pytest.mark.parametrize("name", GRU_CALLS)
def test_gru_and_cells_refuse(name):
    call, error, words = GRU_CALLS[name]
    with pytest.raises(error, match=re.escape(words)):
        call()
