"""`fold` with rules written as a user writes them: what `lstm` computes, and states that no LSTM has."""

import dataclasses
import functools
from typing import Any, NamedTuple

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_close, assert_identical

import jaxlstm
from jaxlstm import Cell, LSTMState
from jaxlstm.cells import HiddenState

T, B, I, H = 6, 4, 3, 5  # noqa: E741


def gated(state, i, f, g, o):
    c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return LSTMState(h, c), h


def lstm(extra, state, x_sums, h_sums):
    del extra
    return gated(state, *(x_sums + h_sums))


OWN = Cell(lstm, num_gates=4)
CASES = [
    cases.Case(),
    cases.Case(bias=False, num_layers=2),
    cases.Case(batched=False, with_state=True),
    cases.Case(bidirectional=True, ragged=True, proj_size=cases.P, num_layers=2, with_state=True),
    cases.Case(bidirectional=True, ragged=True, batch_first=True),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_lstm_of_ones_own_equals_lstm(case, dtype):
    given = cases.arrays(case, dtype)
    with jax.enable_x64(dtype == np.float64):
        got, wanted = cases.run(case, given, OWN), cases.run(case, given)
    cases.assert_same(got, wanted, **cases.TOLERANCES[dtype])


ANEW = LSTMState(jnp.full((4, H), 0.5), jnp.full((4, H), -0.5))
OPTIONS: dict[str, dict[str, Any]] = {
    "resets": {"resets": True},
    "reset_state": {"resets": True, "reset_state": ANEW},
    "checkpoint_every": {"resets": True, "lengths": [6, 0, 3, 4], "checkpoint_every": 4},
    "unroll": {"unroll": 4},
    "dropout": {"dropout": 0.5, "dropout_key": jax.random.key(3)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_that_of_lstm(name):
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, 2, bidirectional=True)
    x = jax.random.normal(jax.random.key(1), (T, B, I))
    options = OPTIONS[name] | (
        {"resets": jax.random.bernoulli(jax.random.key(2), 0.4, (T, B))} if "resets" in OPTIONS[name] else {}
    )

    def loss(function, params, x):
        y, final = function(params, x, **options)
        return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.sin(final.c)), (y, final)

    by_fold, by_lstm = (
        jax.value_and_grad(lambda params, x, f=f: loss(f, params, x), argnums=(0, 1), has_aux=True)(params, x)
        for f in (lambda *args, **kwargs: jaxlstm.fold(OWN, *args, **kwargs), jaxlstm.lstm)
    )
    assert_close(by_fold[0], by_lstm[0], atol=2e-6)
    assert_close(by_fold[1], by_lstm[1], atol=3e-5)


# Each has one addition, and only the first adds the two sums.
ADDITIONS = {
    "both": lambda _, x_sums, h_sums: x_sums + h_sums,
    "x alone": lambda _, x_sums, _h_sums: x_sums + 1,
    "h alone": lambda _, _x_sums, h_sums: h_sums + 1,
    "x twice": lambda _, x_sums, _h_sums: x_sums + x_sums,
    "h of one's own": lambda state, x_sums, _: x_sums + 0.5 * state.h[None],  # Li et al. 2018, IndRNN
}


@pytest.mark.parametrize("name", ADDITIONS)
def test_sums_are_added_only_where_the_rule_adds_them(name):
    def rule(extra, state, x_sums, h_sums):
        del extra
        (h,) = jnp.tanh(ADDITIONS[name](state, x_sums, h_sums))
        return HiddenState(h), h

    cell = Cell(rule, num_gates=1, state=HiddenState)
    params, x = jaxlstm.init_fold(jax.random.key(0), cell, I, H), jax.random.normal(jax.random.key(1), (T, B, I))
    weights, h = params[0][0], jnp.zeros((B, H))
    assert weights.bias_ih is not None
    assert weights.bias_hh is not None
    for x_t in x:
        x_sums, h_sums = (
            x_t @ weights.weight_ih.T + weights.bias_ih[None],
            h @ weights.weight_hh.T + weights.bias_hh[None],
        )
        h = jnp.tanh(ADDITIONS[name](HiddenState(h), x_sums[None], h_sums[None]))[0]
    np.testing.assert_allclose(jaxlstm.fold(cell, params, x)[1].h[0], h, rtol=0, atol=2e-6)


# As people take the gates out of one array.
TAKEN = {
    "unpacked": lambda sums: sums,
    "indexed": lambda sums: [sums[k] for k in range(4)],
    "split": lambda sums: [a.squeeze(0) for a in jnp.split(sums, 4)],
}


@pytest.mark.parametrize("name", TAKEN)
def test_no_gate_of_ones_own_rule_is_transposed(name):
    def rule(extra, state, x_sums, h_sums):
        del extra
        return gated(state, *TAKEN[name](x_sums + h_sums))

    params, x = jaxlstm.init_lstm(jax.random.key(0), I, H), jnp.ones((T, B, I))

    def transposes(cell):
        loss = lambda params, x: jaxlstm.fold(cell, params, x, implementation="xla")[0].sum()  # noqa: E731
        program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, x).as_text()
        return sorted(line.split("->")[1] for line in program.splitlines() if "stablehlo.transpose" in line)

    assert transposes(Cell(rule, num_gates=4)) == transposes(jaxlstm.cells.LSTM)


TRANSFORMED = {
    "grad": lambda loss: jax.grad(loss, argnums=(0, 1)),
    "grad of jit": lambda loss: jax.grad(jax.jit(loss), argnums=(0, 1)),
    "jvp": lambda loss: lambda *args: jax.jvp(loss, args, args),
    "vmap": lambda loss: lambda bias, params: jax.vmap(jax.grad(loss), (0, None))(jnp.stack([bias, -bias]), params),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_a_rule_may_close_over_what_jax_traces(name):
    """As a body of `lax.scan` may: a forget bias, and which units have it, are what they would be as `extra`."""
    params = jaxlstm.init_lstm(jax.random.key(0), I, H)
    x = jax.random.normal(jax.random.key(1), (T, B, I))

    def loss(bias, params, *, by_extra):
        around = bias, bias * bias > 0.1

        def rule(extra, state, x_sums, h_sums):
            bias, which = extra if by_extra else around
            i, f, g, o = x_sums + h_sums
            return gated(state, i, jnp.where(which, f + bias, f), g, o)

        if by_extra:
            params = tuple(tuple(cell._replace(extra=around) for cell in layer) for layer in params)
        return jnp.sum(jnp.sin(jaxlstm.fold(Cell(rule, num_gates=4), params, x)[0]))

    got, wanted = (
        TRANSFORMED[name](functools.partial(loss, by_extra=by_extra))(jnp.linspace(-1, 1, H), params)
        for by_extra in (False, True)
    )
    assert_close(got, wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, B, I), (T, 0, I)], ids=["T = 1", "B = 0"])
def test_a_single_step_and_a_batch_of_no_row(shape):
    """As the beginning of a longer run is, which a loop takes: the value, and the gradients."""
    params, x = jaxlstm.init_lstm(jax.random.key(0), I, H), jax.random.normal(jax.random.key(1), shape)

    def alone(params, x):
        return jaxlstm.fold(OWN, params, x)[0]

    def begun(params, x):
        longer = jnp.concatenate([x, jnp.zeros_like(x)])
        return jaxlstm.lstm(params, longer, lengths=[shape[0]] * shape[1])[0][: shape[0]]

    got, wanted = ((y, pullback(jnp.ones_like(y))) for y, pullback in (jax.vjp(f, params, x) for f in (alone, begun)))
    assert_close(got, wanted, atol=2e-6)


def test_bfloat16_accumulates_in_float32():
    """A counter that adds 1/256 from 1 on stands still in bfloat16."""
    seen = []

    def add(extra, state, x_sums, h_sums):
        seen.extend(a.dtype for a in (*state, x_sums, h_sums, extra))
        c = state.c + extra
        return LSTMState(c, c), c

    params = jaxlstm.init_fold(jax.random.key(0), Cell(add, num_gates=1), I, H, dtype=jnp.bfloat16)
    params = ((params[0][0]._replace(extra=jnp.bfloat16(2**-8)),),)
    state = LSTMState(jnp.ones((1, B, H), jnp.bfloat16), jnp.ones((1, B, H), jnp.bfloat16))
    y, final = jaxlstm.fold(Cell(add, num_gates=1), params, jnp.ones((128, B, I), jnp.bfloat16), state)
    assert (y.dtype, final.c.dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert set(seen) == {jnp.dtype(jnp.float32)}
    np.testing.assert_array_equal(final.c.astype(jnp.float32), 1.5)


class Zoneout(NamedTuple):
    """h, a matrix a row, a count of steps, and the key that the next step draws from."""

    h: jax.Array
    memory: jax.Array
    taken: jax.Array
    key: jax.Array


def zoneout(extra, state, x_sums, h_sums):
    key, draw = jax.random.split(state.key)
    (new,) = jnp.tanh(x_sums + h_sums)
    h = jnp.where(jax.random.bernoulli(draw, 0.3, new.shape), state.h, new * extra)
    return Zoneout(h, 0.5 * state.memory + jnp.outer(h, jnp.ones(2, h.dtype)), state.taken + 1, key), h


ZONEOUT = Cell(zoneout, num_gates=1, state=Zoneout, init_extra=lambda _, size, dtype: jnp.ones(size, dtype))


def zoneout_problem(directions: int = 1, dtype: Any = jnp.float32) -> tuple:
    keys = jax.random.split(jax.random.key(0), 4)
    params = jaxlstm.init_fold(keys[0], ZONEOUT, I, H, bidirectional=directions == 2, dtype=dtype)
    x = jax.random.normal(keys[1], (T, B, I), dtype)
    state = Zoneout(
        jax.random.normal(keys[2], (directions, B, H), dtype),
        jax.random.normal(keys[3], (directions, B, H, 2), dtype),
        jnp.full((directions, B), 10, jnp.int32),
        jax.random.split(jax.random.key(7), (directions, B)),
    )
    return params, x, state


def by_loop(params, x, state, lengths, resets, anew, reverse) -> tuple:
    """One direction, row by row and step by step, by the rule alone."""
    outputs, finals = np.zeros((T, B, H), np.float32), []
    for row in range(B):
        now = jax.tree.map(lambda a, row=row: a[row], state)
        begin = jax.tree.map(lambda a, row=row: a[row], anew)
        steps = range(int(lengths[row]))
        for t in reversed(steps) if reverse else steps:
            if resets[t, row] and not reverse:
                now = begin if anew.key is not None else begin._replace(key=now.key)
            x_sums = params.weight_ih @ x[t, row] + params.bias_ih
            h_sums = params.weight_hh @ now.h + params.bias_hh
            now, outputs[t, row] = zoneout(params.extra, now, x_sums[None], h_sums[None])
            if resets[t, row] and reverse:
                now = begin if anew.key is not None else begin._replace(key=now.key)
        finals.append(now)
    return outputs, finals


@pytest.mark.parametrize("given", [False, True], ids=["zero", "reset_state"])
def test_lengths_and_resets_of_any_state(given):
    """What has no zero, a key, travels on where a row begins anew; a count begins at 0; an empty row keeps its own."""
    params, x, state = zoneout_problem(directions=2)
    lengths, resets = np.array([6, 0, 3, 5]), np.array(jax.random.bernoulli(jax.random.key(5), 0.3, (T, B)))
    resets[0, 0] = True
    if given:
        anew = jax.tree.map(lambda a: a[:, ::-1], state)
    else:
        zeros = jax.tree.map(lambda a: None if a is state.key else jnp.zeros_like(a), state)
        anew = zeros
    reset_state = anew if given else None
    y, final = jaxlstm.fold(ZONEOUT, params, x, state, lengths=lengths, resets=resets, reset_state=reset_state)
    for direction in range(2):
        parts = (jax.tree.map(lambda a, d=direction: a[d], tree) for tree in (state, anew))
        wanted, finals = by_loop(params[0][direction], x, next(parts), lengths, resets, next(parts), direction == 1)
        np.testing.assert_allclose(y[..., direction * H : (direction + 1) * H], wanted, rtol=0, atol=2e-6)
        for row, want in enumerate(finals):
            got = jax.tree.map(lambda a, d=direction, row=row: a[d, row], final)
            np.testing.assert_array_equal(jax.random.key_data(got.key), jax.random.key_data(want.key))
            assert int(got.taken) == int(want.taken)
            np.testing.assert_allclose(got.h, want.h, rtol=0, atol=2e-6)
            np.testing.assert_allclose(got.memory, want.memory, rtol=0, atol=2e-6)


@pytest.mark.parametrize("cell", [jaxlstm.cells.GRU, jaxlstm.cells.lstm(layer_norm=True, peephole=True), ZONEOUT])
def test_nan_in_padding_and_in_an_empty_rows_state_reaches_nothing(cell):
    lengths = jnp.array([6, 0, 3, 5])
    if cell is ZONEOUT:
        params, x, state = zoneout_problem()
    else:
        params, x = jaxlstm.init_fold(jax.random.key(0), cell, I, H), jax.random.normal(jax.random.key(1), (T, B, I))
        state = jax.tree.map(jnp.ones_like, jaxlstm.fold(cell, params, x)[1])
    floats = {name: a for name, a in state._asdict().items() if jnp.issubdtype(a.dtype, jnp.floating)}

    def loss(params, x, floats):
        y, final = jaxlstm.fold(cell, params, x, state._replace(**floats), lengths=lengths)
        return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.sin(final.h[:, lengths > 0])), y

    run = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    wanted = run(params, x, floats)
    padding = jnp.arange(T)[:, None, None] >= lengths[None, :, None]
    spoiled = {name: a.at[:, 1].set(jnp.nan) for name, a in floats.items()}
    got = run(params, jnp.where(padding, jnp.nan, x), spoiled)
    assert_identical(got, wanted)


def test_an_equal_cell_is_compiled_once():
    traces = []

    @dataclasses.dataclass(frozen=True)
    class Rule:
        scale: float

        def __call__(self, extra, state, x_sums, h_sums):
            traces.append(self.scale)
            return lstm(extra, state, self.scale * x_sums, h_sums)

    params, x = jaxlstm.init_lstm(jax.random.key(0), I, H), jnp.ones((T, B, I))
    jaxlstm.fold(Cell(Rule(2.0), num_gates=4), params, x)
    count = len(traces)
    jaxlstm.fold(Cell(Rule(2.0), num_gates=4), params, x)
    assert len(traces) == count
