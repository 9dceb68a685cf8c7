"""Every refusal at the door: while tracing, with the argument's name, what was expected, what came."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxlstm
import jaxlstm.nnx

T, B, I, H = 5, 6, 3, 4  # noqa: E741
PARAMS = jax.tree.map(jnp.zeros_like, jaxlstm.init_lstm(jax.random.key(0), I, H, 2))
CELL = PARAMS[0][0]
PROJECTED = jaxlstm.init_lstm_cell(jax.random.key(0), I, H, proj_size=2)
X = jnp.zeros((T, B, I))
STATE = jaxlstm.LSTMState(jnp.zeros((2, B, H)), jnp.zeros((2, B, H)))
FIT = "agree in H, P and I"


class Torchs:
    """What torch's modules look like from outside; torch itself is in tests/against_torch only."""

    __module__ = "torch.nn.modules.rnn"


class TorchsTensor:
    __module__ = "torch"
    shape, dtype = (16,), "torch.float32"


class PackedSequence(NamedTuple):
    data: Any
    batch_sizes: Any
    sorted_indices: Any
    unsorted_indices: Any


PackedSequence.__module__ = "torch.nn.utils.rnn"


def cell(**changes):
    return ((CELL._replace(**changes),),)


LSTM_CALLS = {
    # params
    "a bare cell": ((CELL, X), {}, TypeError, r"params: expected LSTMParams.*got CellParams.*\(\(cell,\),\)"),
    "a flat tuple": (((CELL,), X), {}, TypeError, r"params\[0\]: expected a tuple over 1 or 2 directions"),
    "no layers": (((), X), {}, TypeError, r"params: expected LSTMParams"),
    "three directions": ((((CELL,) * 3,), X), {}, TypeError, r"params\[0\]: expected a tuple over 1 or 2 directions"),
    "directions differ": (((PARAMS[0], PARAMS[1] * 2), X), {}, ValueError, r"params\[1\]: expected D = 1 .*got 2"),
    "not a cell": ((((X,),), X), {}, TypeError, r"params\[0\]\[0\]: expected LSTMCellParams"),
    "no weight": ((cell(weight_hh=None), X), {}, TypeError, r"weight_hh_l0: expected an array, got None"),
    "a list": ((cell(bias_ih=[0.0] * 16), X), {}, TypeError, r"bias_ih_l0: expected an array, got list"),
    "integer weights": ((cell(bias_ih=jnp.zeros(16, int)), X), {}, TypeError, r"bias_ih_l0: expected one of float32"),
    "one bias": ((cell(bias_hh=None), X), {}, ValueError, r"bias_ih_l0, bias_hh_l0: expected both or neither"),
    "not four gates": ((cell(weight_ih=jnp.zeros((15, I))), X), {}, ValueError, r"weight_ih_l0: expected \[4H, I\], got \[15, 3\]"),
    "weight_hh": ((cell(weight_hh=jnp.zeros((16, 3))), X), {}, ValueError, r"weight_hh_l0: expected \[4H, P\] = \[16, 4\], got \[16, 3\]"),
    "bias": ((cell(bias_hh=jnp.zeros(4)), X), {}, ValueError, r"bias_hh_l0: expected \[4H\] = \[16\], got \[4\]"),
    "weight_hr": ((((PROJECTED._replace(weight_hr=jnp.zeros((2, 5))),),), X), {}, ValueError, r"weight_hr_l0: expected \[P, H\] = \[2, 4\]"),
    "P not below H": ((cell(weight_hr=jnp.zeros((4, 4))), X), {}, ValueError, r"weight_hr_l0: expected 0 < P < H = 4, got P = 4"),
    "upper layer's I": (((PARAMS[0], PARAMS[0]), X), {}, ValueError, r"weight_ih_l1: expected \[4H, I\] = \[16, 4\], got \[16, 3\]"),
    "upper layer's H": (
        ((PARAMS[0], (jaxlstm.init_lstm_cell(jax.random.key(0), H, 5),)), X),
        {}, ValueError, r"params\[1\]\[0\]: expected H = 4, P = 4, as layer 0, got H = 5, P = 5",
    ),
    "a state_dict": (({"weight_ih_l0": np.ones((16, 3))}, X), {}, TypeError, r"params: expected LSTMParams.* got dict. .*interop.from_torch\(params\)"),
    "Linen's variables": (({"params": {}}, X), {}, TypeError, r"params: .*interop.from_torch\(params\[.params.\]\)"),
    "a GRU's": ((jaxlstm.init_gru(jax.random.key(0), I, H), X), {}, ValueError, r"weight_ih_l0: expected \[4H, I\], got 3H rows: \[12, 3\]. These are a GRU's: jaxlstm.gru takes them"),
    "an NNX module": ((jaxlstm.nnx.LSTM(I, H, rngs=nnx.Rngs(0)), X), {}, TypeError, r"params: .* got LSTM. A module's weights are jaxlstm.interop.from_torch\(module\)"),
    "a Linen module": ((jaxlstm.LSTM(I, H), X), {}, TypeError, r"params: .* got LSTM. .* of a Linen module, from_torch\(variables\)"),
    "a module of torch": ((Torchs(), X), {}, TypeError, r"params: .* got Torchs. A module's weights are jaxlstm.interop.from_torch\(module\)"),
    "leaves of torch": ((cell(bias_ih=TorchsTensor()), X), {}, TypeError, r"bias_ih_l0: expected one of float32.*got torch.float32. .*interop.from_torch\(state_dict\)"),
    # x
    "packed": ((PARAMS, PackedSequence(0, 0, None, 0)), {}, TypeError, r"x: expected an array, got PackedSequence. Pad it: x, lengths = torch.nn.utils.rnn.pad_packed_sequence\(x\), and pass lengths="),
    "a string": ((PARAMS, "abc"), {}, TypeError, r"x: expected an array, got str 'abc'"),
    "x of one axis": ((PARAMS, X[0, 0]), {}, ValueError, r"x: expected \[T, B, I\] or, unbatched, \[T, I\], got \[3\]"),
    "input_size": ((PARAMS, jnp.zeros((T, B, 7))), {}, ValueError, r"x: expected \[T, B, I\] with I = 3, got I = 7 in \[5, 6, 7\]"),
    "input_size, batch first": ((PARAMS, jnp.zeros((B, T, 7))), {"batch_first": True}, ValueError, r"x: expected \[B, T, I\] with I = 3"),
    "input_size, unbatched": ((PARAMS, jnp.zeros((T, 7))), {}, ValueError, r"x: expected \[T, I\] with I = 3, got I = 7"),
    "integer x": ((PARAMS, X.astype(int)), {}, TypeError, r"x: expected one of float32.*got int32.*astype"),
    "complex x": ((PARAMS, X.astype(complex)), {}, TypeError, r"x: expected one of float32.*got complex64"),
    "no array": ((PARAMS, "text"), {}, TypeError, r"x: expected an array, got str"),
    "T = 0": ((PARAMS, X[:0]), {}, ValueError, r"x: expected T of at least 1, got T = 0"),
    # state
    "batch-first state": (
        (PARAMS, X, (STATE.h.swapaxes(0, 1), STATE.c)),
        {}, ValueError, r"state.h: expected \[L\*D, B, P\] = \[2, 6, 4\], got \[6, 2, 4\]",
    ),
    "state to broadcast": ((PARAMS, X, (STATE.h, STATE.c[:, :1])), {}, ValueError, r"state.c: expected \[L\*D, B, H\] = \[2, 6, 4\], got \[2, 1, 4\]"),
    "batched state, unbatched x": ((PARAMS, X[:, 0], STATE), {}, ValueError, r"state.h: expected \[L\*D, P\] = \[2, 4\]"),
    "one array": ((PARAMS, X, STATE.h), {}, TypeError, r"state: expected LSTMState\(h, c\) or a tuple"),
    "reset_state's axes": ((PARAMS, X), {"reset_state": (STATE.h[:, 0], STATE.c[:1, 0])}, ValueError, r"reset_state.c: expected \[L\*D, H\] = \[2, 4\], got \[1, 4\]"),
    "reset_state's rows": ((PARAMS, X), {"reset_state": (STATE.h[:, :2], STATE.c)}, ValueError, r"reset_state.h: expected \[L\*D, B, P\] = \[2, 6, 4\], got \[2, 2, 4\]"),
    "integer state": ((PARAMS, X, (STATE.h.astype(int), STATE.c)), {}, TypeError, r"state.h: expected one of float32"),
    "results swapped": ((PARAMS, X, (X, STATE)), {}, TypeError, r"state.c: expected an array, got LSTMState. A call returns \(output, state\)"),
    # lengths
    "too long": ((PARAMS, X), {"lengths": np.array([1, 2, 3, 4, 5, 6])}, ValueError, r"lengths: expected values from 0 to T = 5, got 6"),
    "negative": ((PARAMS, X), {"lengths": [1, -2, 3, 4, 5, 5]}, ValueError, r"lengths: expected values from 0 to T = 5, got -2"),
    "lengths' batch": ((PARAMS, X), {"lengths": np.array([1, 2])}, ValueError, r"lengths: expected \[B\] = \[6\], got \[2\]"),
    "lengths of two axes": ((PARAMS, X), {"lengths": [[1, 2], [3]]}, TypeError, r"lengths: expected one integer for each row, got list \[\[1, 2\], \[3\]\]. Pass a flat list"),
    "a mask [T, B]": ((PARAMS, X), {"lengths": np.ones((T, B), bool)}, TypeError, r"lengths: expected int\[B\], got bool\[5, 6\]. .*mask.sum\(0\)"),
    "a mask [B, T]": ((PARAMS, X), {"lengths": np.ones((B, T), bool)}, TypeError, r"lengths: .*mask.sum\(1\)"),
    "no lengths": ((PARAMS, X), {"lengths": []}, ValueError, r"lengths: expected \[B\] = \[6\], got \[0\]"),
    "float lengths": ((PARAMS, X), {"lengths": np.ones(6)}, TypeError, r"lengths: expected an integer dtype"),
    "lengths, unbatched": ((PARAMS, X[:, 0]), {"lengths": np.array([3])}, ValueError, r"lengths: expected \[\] = \[\], got \[1\]"),
    # resets
    "integer resets": ((PARAMS, X), {"resets": jnp.zeros((T, B), int)}, TypeError, r"resets: expected dtype bool, got int32"),
    "resets' axes": ((PARAMS, X), {"resets": jnp.zeros((B, T), bool)}, ValueError, r"resets: expected \[T, B\] = \[5, 6\], got \[6, 5\]"),
    # options
    "dropout": ((PARAMS, X), {"dropout": 1.5}, ValueError, r"dropout: expected a probability from 0 to 1, got 1.5"),
    "dropout NaN": ((PARAMS, X), {"dropout": float("nan")}, ValueError, r"dropout: expected a probability"),
    "dropout true": ((PARAMS, X), {"dropout": True}, TypeError, r"dropout: expected a number from 0 to 1, got bool True"),
    "dropout numpy true": ((PARAMS, X), {"dropout": np.True_}, TypeError, r"dropout: expected a number from 0 to 1"),
    "dropouts": ((PARAMS, X), {"dropout": jnp.ones(2)}, TypeError, r"dropout: expected a number from 0 to 1"),
    "dropout_key 0": ((PARAMS, X), {"dropout_key": 0}, TypeError, r"dropout_key: expected one jax.random key, got int 0. Pass jax.random.key"),
    "dropout_key a": ((PARAMS, X), {"dropout_key": "a"}, TypeError, r"dropout_key: expected one jax.random key, got str 'a'"),
    "three keys": ((PARAMS, X), {"dropout_key": jax.random.split(jax.random.key(0), 3)}, ValueError, r"dropout_key: .* got an array of keys \[3\]"),
    "three old keys": ((PARAMS, X), {"dropout_key": np.zeros((3, 2), np.uint32)}, TypeError, r"dropout_key: .* got uint32\[3, 2\]"),
    "batch_first": ((PARAMS, X), {"batch_first": 2}, TypeError, r"batch_first: expected True or False, got 2"),
    "checkpoint_every": ((PARAMS, X), {"checkpoint_every": 0}, ValueError, r"checkpoint_every: expected an integer of at least 1, got 0"),
    "unroll": ((PARAMS, X), {"unroll": 2.5}, TypeError, r"unroll: expected an integer of at least 1, got 2.5"),
    "unroll true": ((PARAMS, X), {"unroll": True}, TypeError, r"unroll: expected an integer"),
    "implementation": ((PARAMS, X), {"implementation": "eigen"}, ValueError, r'implementation: expected None or one of "xla", "native", "pallas", "cudnn", got .eigen.'),
    "cudnn": ((PARAMS, X), {"implementation": "cudnn"}, NotImplementedError, r"cudnn"),
    "pallas": ((PARAMS, X), {"implementation": "pallas"}, NotImplementedError, r"pallas"),
}  # fmt: skip


@pytest.mark.parametrize("name", LSTM_CALLS)
def test_lstm_refuses(name):
    args, kwargs, error, words = LSTM_CALLS[name]
    with pytest.raises(error, match=words):
        jaxlstm.lstm(*args, **kwargs)


CELL_CALLS = {
    "a stack": ((PARAMS, (STATE.h[0], STATE.c[0]), X[0]), TypeError, r"params: expected LSTMCellParams, got tuple"),
    "x": ((CELL, (STATE.h[0], STATE.c[0]), X), ValueError, r"x: expected \[B, I\] or, unbatched, \[I\], got \[5, 6, 3\]"),
    "input_size": ((CELL, (STATE.h[0], STATE.c[0]), jnp.zeros((B, 7))), ValueError, r"x: expected \[B, I\] with I = 3"),
    "state": ((CELL, (STATE.h[0], STATE.c[0, :2]), X[0]), ValueError, r"state.c: expected \[B, H\] = \[6, 4\], got \[2, 4\]"),
    "x before the state": ((CELL, X[0], (STATE.h[0], STATE.c[0])), TypeError, r"state, x: expected the state before x, got x = tuple. .*lstm_cell\(params, \(h, c\), x\)"),
    "results as h and c": ((CELL, (STATE, STATE.h[0]), X[0]), TypeError, r"state.h: expected an array, got LSTMState. A call returns \(state, output\), and a state is \(h, c\)"),
    "packed": ((CELL, STATE, PackedSequence(0, 0, None, 0)), TypeError, r"x: expected an array, got PackedSequence. Pad it"),
    "a module": ((jaxlstm.LSTMCell(I, H), STATE, X[0]), TypeError, r"params: .*interop.from_torch\(module\)"),
    "no state": ((CELL, None, X[0]), TypeError, r"state: expected LSTMState"),
}  # fmt: skip


@pytest.mark.parametrize("name", CELL_CALLS)
def test_lstm_cell_refuses(name):
    args, error, words = CELL_CALLS[name]
    with pytest.raises(error, match=words):
        jaxlstm.lstm_cell(*args)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"input_size": 0}, ValueError, r"input_size: expected an integer of at least 1, got 0"),
        ({"hidden_size": -1}, ValueError, r"hidden_size: expected an integer of at least 1, got -1"),
        ({"hidden_size": 4.0}, TypeError, r"hidden_size: expected an integer"),
        ({"num_layers": 0}, ValueError, r"num_layers: expected an integer of at least 1, got 0"),
        ({"proj_size": 4}, ValueError, r"proj_size: expected 0 < P < H = 4, or 0 for none, got 4"),
        ({"proj_size": -1}, ValueError, r"proj_size: expected an integer of at least 0"),
        ({"dtype": jnp.int32}, TypeError, r"dtype: expected one of float32"),
    ],
)
def test_init_refuses(changes, error, words):
    with pytest.raises(error, match=words):
        jaxlstm.init_lstm(jax.random.key(0), **{"input_size": 3, "hidden_size": 4} | changes)


INITS = {
    "init_lstm": lambda: jaxlstm.init_lstm(12, 24, 2),  # pyright: ignore[reportArgumentType]
    "init_lstm_cell": lambda: jaxlstm.init_lstm_cell(12, 24, 2),  # pyright: ignore[reportArgumentType]
    "init_gru": lambda: jaxlstm.init_gru(12, 24, 2),  # pyright: ignore[reportArgumentType]
    "init_gru_cell": lambda: jaxlstm.init_gru_cell(12, 24, 2),  # pyright: ignore[reportArgumentType]
}


@pytest.mark.parametrize("name", INITS)
def test_init_without_a_key_is_refused(name):
    with pytest.raises(
        TypeError, match=r"key: expected one jax.random key, got int 12. Pass jax.random.key\(0\) first"
    ):
        INITS[name]()


@pytest.mark.parametrize(
    "half", [0.5, np.float32(0.5), np.array(0.5), jnp.float32(0.5)], ids=lambda a: type(a).__name__
)
def test_any_concrete_number_is_a_dropout(half):
    key = jax.random.key(0)
    wanted = jaxlstm.lstm(PARAMS, X, dropout=0.5, dropout_key=key)[0]
    np.testing.assert_array_equal(jaxlstm.lstm(PARAMS, X, dropout=half, dropout_key=key)[0], wanted)


def test_a_traced_dropout_is_refused():
    with pytest.raises(
        TypeError, match=r"dropout: expected a number from 0 to 1, got a traced value\. It must be known"
    ):
        jax.jit(lambda rate: jaxlstm.lstm(PARAMS, X, dropout=rate))(0.5)


def test_refusals_come_while_tracing():
    with pytest.raises(ValueError, match="x: expected"):
        jax.eval_shape(functools.partial(jaxlstm.lstm, PARAMS), jax.ShapeDtypeStruct((T, B, 7), jnp.float32))


def test_constants_are_checked_inside_jit_and_tracers_pass():
    lengths = jnp.array([9] * B)
    with pytest.raises(ValueError, match="lengths: expected values"):
        jax.jit(lambda x: jaxlstm.lstm(PARAMS, x, lengths=lengths))(X)
    jax.jit(lambda x, lengths: jaxlstm.lstm(PARAMS, x, lengths=lengths))(X, lengths)
