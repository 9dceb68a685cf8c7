"""A layer made of a kernel's two functions, forward and backward, and differentiable like any other.

The kernel gives the layer's value and its gradient. Forward mode and higher derivatives come from a reference, the same
layer in operations that JAX differentiates. What JAX lacks (0.10.2 and 0.12.0 were read): a function with a gradient of
its own, by `jax.custom_vjp`, has no forward mode. tests/test_jax_lacks.py fails once it has.

From a value to its derivatives:

    _value                  the layer without a derivative: by `forward`, which keeps nothing
    _value_and_residuals    in its place where there is one: by `forward`, which keeps residuals
    _known                  what that found, as a function of the operands: computes nothing, and a second derivative
                            needs no second run
    _tangent                of `_value` and `_known`, linear in the operands': computed by the reference, transposed by
                            `backward`; what is differentiated further is the reference
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm.implementations._linear import Linear, linear
from jaxlstm.implementations._platform import SUMMED, UNUSED, WHOLE, Way, by_platform, shapes_of
from jaxlstm.implementations._protocol import Entry, Masks, Operands, refused


class Run(NamedTuple):
    """Everything about a run that is no array."""

    entries: tuple[Entry, ...]
    """The kernels to choose from, at most one for a platform."""
    otherwise: Callable | None
    """A layer of the cell, which runs where none of them can; None refuses, for the kernel was named."""
    reference: Callable | None
    """A layer of the cell, which gives the derivatives that a kernel has not; None refuses, as above."""
    reverse: bool


# Along which axis the rows of the batch lie, as tree prefixes.
OPERAND_ROWS: Any = Operands(params=WHOLE, x=1, state=0)  # pyright: ignore[reportArgumentType]
GRADIENT_ROWS: Any = OPERAND_ROWS._replace(params=SUMMED)
MASK_ROWS: Any = Masks(lengths=0, resets=1)  # pyright: ignore[reportArgumentType]
OUTPUT_ROWS = (1, 0)
RESIDUAL_ROWS = 1


def layer(run: Run, operands: Operands, masks: Masks) -> tuple[jax.Array, Any]:
    """One direction of one layer by a kernel."""
    return _value(run, operands, masks)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _value(run: Run, operands: Operands, masks: Masks):
    def forward(entry: Entry, operands: Operands, masks: Masks):
        return _forward(run, entry, operands, masks, keep=False)[0]

    _, x, state = operands
    y = jax.ShapeDtypeStruct((*x.shape[:2], state.h.shape[1]), x.dtype)
    rows = (OPERAND_ROWS, MASK_ROWS), OUTPUT_ROWS
    ways = [_way(entry, functools.partial(forward, entry), rows) for entry in run.entries]
    return by_platform(ways, functools.partial(_otherwise, run), (y, state), operands, masks)


def _value_and_residuals(run: Run, operands: Operands, masks: Masks):
    """The layer's result, and a list of what each way to run it keeps for the backward pass: zeros of all but one."""
    forwards = [functools.partial(_forward, run, entry, keep=True) for entry in run.entries]
    if run.otherwise is not None:
        forwards.append(functools.partial(_forward_and_residuals, run.otherwise, run))
    shapes = [shapes_of(forward, operands, masks) for forward in forwards]
    all_residuals = [residuals for _, residuals in shapes]

    def among_all(number: int, operands: Operands, masks: Masks):
        out, residuals = forwards[number](operands, masks)
        return out, _only(number, residuals, [jax.tree.map(_zeros, other) for other in all_residuals])

    def otherwise(reason: str, operands: Operands, masks: Masks):
        if run.otherwise is None:
            return _otherwise(run, reason, operands, masks)
        return among_all(len(forwards) - 1, operands, masks)

    ways = []
    for number, entry in enumerate(run.entries):
        rows = (OPERAND_ROWS, MASK_ROWS), (OUTPUT_ROWS, _only(number, RESIDUAL_ROWS, [UNUSED] * len(forwards)))
        ways.append(_way(entry, functools.partial(among_all, number), rows))
    return by_platform(ways, otherwise, (shapes[0][0], all_residuals), operands, masks)


def _only(number: int, item: Any, others: list) -> list:
    return [*others[:number], item, *others[number + 1 :]]


def _zeros(like: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(like.shape, like.dtype)


def _way(entry: Entry, function: Callable, rows: tuple) -> Way:
    return Way(entry.platform, function, rows if entry.by_rows else None, entry.exports)


def _forward(run: Run, entry: Entry, operands: Operands, masks: Masks, *, keep: bool):
    return entry.kernel.forward(operands, masks, reverse=run.reverse, keep=keep)


def _otherwise(run: Run, reason: str, operands: Operands, masks: Masks):
    if run.otherwise is None:
        raise refused(run.entries[0].name, f"it runs on {run.entries[0].platform.upper()}, and {reason}")
    return _by(run.otherwise, run, masks, operands)


def _pullback(layer: Callable, run: Run, operands: Operands, masks: Masks):
    """A layer's result and the function from its cotangent to that of the operands."""
    return jax.vjp(functools.partial(_by, layer, run, masks), operands)


def _forward_and_residuals(layer: Callable, run: Run, operands: Operands, masks: Masks):
    """A layer's result and the arrays in its pullback."""
    out, pullback = _pullback(layer, run, operands, masks)
    return out, jax.tree.leaves(pullback)


def _by(layer: Callable, run: Run, masks: Masks, operands: Operands):
    # Without `Options`: where there are any, no kernel runs, and so nothing here.
    return layer(*operands, None, **masks._asdict(), reverse=run.reverse)


@_value.defjvp
def _value_jvp(run: Run, primals, tangents):
    known = *primals, *_value_and_residuals(run, *lax.stop_gradient(primals))
    return _known(run, *known), _tangent(run, known, tangents[0])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _known(run: Run, operands: Operands, masks: Masks, out, residuals):
    """`_value`, of which `out` and residuals are known."""
    del run, operands, masks, residuals
    return out


@_known.defjvp
def _known_jvp(run: Run, primals, tangents):
    return _known(run, *primals), _tangent(run, primals, tangents[0])


def _tangent(run: Run, known, d_operands: Operands):
    by_jax = functools.partial(_forward_mode, run)
    function = Linear(by_jax, by_jax)
    transpose = Linear(functools.partial(_backward, run), functools.partial(_reverse_mode, run))
    _, _, out, _ = known
    return linear(function, transpose, known, d_operands, out)


def _reference(run: Run) -> Callable:
    if run.reference is None:
        raise refused(run.entries[0].name, "it has no forward mode and no second derivative")
    return run.reference


def _forward_mode(run: Run, known, d_operands: Operands):
    operands, masks, _, _ = known
    return jax.jvp(functools.partial(_by, _reference(run), run, masks), (operands,), (d_operands,))[1]


def _reverse_mode(run: Run, known, cotangents):
    operands, masks, _, _ = known
    _, pullback = _pullback(_reference(run), run, operands, masks)
    return pullback(cotangents)[0]


def _backward(run: Run, known, cotangents) -> Operands:
    def backward(number: int, known: tuple[Operands, Masks, Any, list], cotangents):
        operands, masks, out, residuals = known
        kernel = run.entries[number].kernel
        return kernel.backward(operands, masks, out, residuals[number], cotangents, reverse=run.reverse)

    def otherwise(reason: str, known: tuple[Operands, Masks, Any, list], cotangents):
        operands, masks, _, residuals = known
        if run.otherwise is None:
            return _otherwise(run, reason, operands, masks)
        _, like = shapes_of(functools.partial(_pullback, run.otherwise, run), operands, masks)
        (d_operands,) = jax.tree.unflatten(jax.tree.structure(like), residuals[-1])(cotangents)
        return d_operands

    ways = []
    for number, entry in enumerate(run.entries):
        residual_rows = _only(number, RESIDUAL_ROWS, [UNUSED] * len(known[3]))
        rows = ((OPERAND_ROWS, MASK_ROWS, OUTPUT_ROWS, residual_rows), OUTPUT_ROWS), GRADIENT_ROWS
        ways.append(_way(entry, functools.partial(backward, number), rows))
    return by_platform(ways, otherwise, known[0], known, cotangents)
