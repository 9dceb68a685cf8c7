"""A cell's rule as `fold` needs it: for all rows of a batch at once, and with its derivative.

The derivative is a Jacobian-vector product, linear in its tangents, which JAX transposes for the backward pass. For
the LSTM and the GRU that of the gates is written by hand, from their values (`BY_HAND`), and `jax.jvp` does the rest;
for any other rule `jax.jvp` makes all of it (`of_cell`).

Arrays have the batch as their last axis: h `[P, B]`, other fields of a state `[..., B]`, gate inputs `[G*H, B]`. So a
gate is a contiguous block, and each product reads its left operand along its rows, which XLA's CPU backend does best.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun

from jaxlstm import _gru_cell, _lstm_cell
from jaxlstm._floats import floats, joined
from jaxlstm._types import Cell, HiddenState, LSTMState


class GateInputs(NamedTuple):
    """The gate inputs, `W_ih x + b_ih` and `W_hh h + b_hh`, already added up wherever the rule would only add them."""

    x: jax.Array
    """`[G*H, B]`: `W_ih x + b_ih`, plus those rows of `W_hh h + b_hh` that are not in `h`."""
    h: jax.Array | None
    """The rows of `W_hh h + b_hh` that the rule uses by themselves; None for an LSTM, those of n for a GRU."""


class Rule(NamedTuple):
    """A rule over a batch, and its derivative from the residuals that a step leaves for it."""

    merge: Callable
    """`GateInputs` from x_sums and h_sums, or from their tangents, `[G*H, ...]`."""
    adds: bool
    """Whether `merge` only adds them."""
    run: Callable
    """From `(extra, state, sums)` to the state, y `[H, B]`, and the residuals."""
    tangent: Callable
    """From `(extra, residuals, d_extra, d_state, d_sums)` to `(d_state, d_y)`; a tangent is None if not of floats."""
    output: Callable
    """y, from `(extra, residuals)`."""
    residual_h: Callable | None
    """The h that the step was given, from the residuals; None where `jaxlstm._stack.h_before` has it from the outputs,
    for y is the h after a step."""


def of_cell(cell: Cell, extra: Any, state: Any, hidden_size: int) -> Rule:
    """The rule of a cell whose `extra` and state, `[..., B]`, have these shapes."""
    if cell.rule in BY_HAND:
        return BY_HAND[cell.rule]
    one_row = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[:-1], a.dtype), state)
    adds, ignores_h = _uses(cell, jax.tree.map(_shape, extra), one_row, hidden_size)
    rows = jax.vmap(_without_squeeze(cell.rule), in_axes=(None, -1, -1, -1), out_axes=-1)

    def apply(extra, state, sums: GateInputs):
        x, h = sums.x, jnp.zeros_like(sums.x) if sums.h is None else sums.h
        by_gate = (cell.num_gates, hidden_size, x.shape[1])
        return rows(extra, state, x.reshape(by_gate), h.reshape(by_gate))

    def run(extra, state, sums: GateInputs):
        state_after, y = apply(extra, state, sums)
        return state_after, y, (state._replace(h=None) if ignores_h else state, sums)

    def tangent(extra, residuals, d_extra, d_state, d_sums: GateInputs):
        state, sums = residuals
        if ignores_h:
            state = state._replace(h=jnp.zeros_like(d_state.h))

        def of_floats(float_extra, float_state, sums):
            after, y = apply(joined(float_extra, extra), joined(float_state, state), sums)
            return floats(after), y

        return jax.jvp(of_floats, (floats(extra), floats(state), sums), (d_extra, d_state, d_sums))[1]

    def output(extra, residuals):
        state, sums = residuals
        if ignores_h:
            state = state._replace(h=jnp.zeros((hidden_size, sums.x.shape[1]), sums.x.dtype))
        return apply(extra, state, sums)[1]

    merge, residual_h = _sum if adds else GateInputs, None if ignores_h else lambda residuals: residuals[0].h
    return Rule(merge, adds, run, tangent, output, residual_h)


def _sum(x: jax.Array, h: jax.Array) -> GateInputs:
    return GateInputs(x + h, None)


def _lstm_run(extra: None, state: LSTMState, sums: GateInputs):
    del extra
    i, f, g, o = jnp.split(sums.x, 4)
    gates = _lstm_cell.activate((i, f, g, o))
    h, c = _lstm_cell.advance(gates, state.c)
    return LSTMState(h, c), h, (gates, state.c)


def _lstm_tangent(extra: None, residuals, d_extra: None, d_state: LSTMState, d_sums: GateInputs):
    del extra, d_extra
    gates, _ = residuals
    d_i, d_f, d_g, d_o = jnp.split(d_sums.x, 4)
    d_gates = _lstm_cell.activate_tangent(gates, (d_i, d_f, d_g, d_o))
    _, (h, c) = jax.jvp(_lstm_cell.advance, residuals, (d_gates, d_state.c))
    return LSTMState(h, c), h


def _lstm_output(extra: None, residuals):
    del extra
    return _lstm_cell.advance(*residuals)[0]


def _gru_merge(x: jax.Array, h: jax.Array) -> GateInputs:
    n = 2 * x.shape[0] // 3
    return GateInputs(jnp.concatenate([x[:n] + h[:n], x[n:]]), h[n:])


def _gru_run(extra: None, state: HiddenState, sums: GateInputs):
    del extra
    r, z, x_n = jnp.split(sums.x, 3)
    assert sums.h is not None
    gates = _gru_cell.activate(r, z, x_n, sums.h, state.h)
    h = _gru_cell.advance(gates)
    return HiddenState(h), h, gates


def _gru_tangent(extra: None, residuals: _gru_cell.Gates, d_extra: None, d_state: HiddenState, d_sums: GateInputs):
    del extra, d_extra
    d_r, d_z, d_x_n = jnp.split(d_sums.x, 3)
    assert d_sums.h is not None
    d_gates = _gru_cell.activate_tangent(residuals, d_r, d_z, d_x_n, d_sums.h, d_state.h)
    _, h = jax.jvp(_gru_cell.advance, (residuals,), (d_gates,))
    return HiddenState(h), h


def _gru_output(extra: None, residuals: _gru_cell.Gates):
    del extra
    return _gru_cell.advance(residuals)


BY_HAND = {
    # Residuals of the LSTM are the gates and c, 5 H numbers a step and row, so that no exponential is computed twice.
    _lstm_cell.lstm: Rule(_sum, True, _lstm_run, _lstm_tangent, _lstm_output, None),
    _gru_cell.gru: Rule(_gru_merge, False, _gru_run, _gru_tangent, _gru_output, None),
}
"""The rules of which the gates' derivative is written by hand."""


def _without_squeeze(rule: Callable) -> Callable:
    """The rule, with `unstack` where it has `squeeze`, as in `i, f, g, o = x_sums + h_sums`.

    `jax.vmap` of `squeeze` brings the mapped axis to the front, which transposes each gate: 1.15 of the time to train.
    """
    unstack = jax.make_jaxpr(jnp.unstack)(jnp.zeros(1)).eqns[0].primitive

    def replaced(equation):
        if equation.primitive.name != "squeeze" or len(equation.params["dimensions"]) != 1:
            return equation
        (axis,) = equation.params["dimensions"]
        return equation.replace(primitive=unstack, params={"axis": axis})

    def of_row(*args):
        closed, result = jax.make_jaxpr(rule, return_shape=True)(*args)
        closed = closed.replace(jaxpr=closed.jaxpr.replace(eqns=[replaced(e) for e in closed.jaxpr.eqns]))
        leaves = jaxpr_as_fun(closed)(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(result), leaves)

    return of_row


def _uses(cell: Cell, extra: Any, state: Any, hidden_size: int) -> tuple[bool, bool]:
    """What the rule's jaxpr shows: whether it only adds x_sums and h_sums; whether it ignores h, and returns y as h."""
    sums = jax.ShapeDtypeStruct((cell.num_gates, hidden_size), state.h.dtype)
    jaxpr = jax.make_jaxpr(cell.rule)(extra, state, sums, sums).jaxpr
    *_, x_sums, h_sums = jaxpr.invars
    h = jaxpr.invars[len(jax.tree.leaves(extra))]
    h_after, *_, y = jaxpr.outvars

    def uses(*variables):
        return [equation for equation in jaxpr.eqns if any(a is b for a in equation.invars for b in variables)]

    def returned(*variables):
        return any(a is b for a in jaxpr.outvars for b in variables)

    of_sums = uses(x_sums, h_sums)
    of_both = len(of_sums) == 1 and uses(x_sums) == uses(h_sums)
    adds = of_both and of_sums[0].primitive.name == "add" and not returned(x_sums, h_sums)
    return adds, h_after is y and not uses(h) and not returned(h)


def _shape(a: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(a.shape, a.dtype)
