"""A layer made of a kernel's two functions, forward and backward, and differentiable like any other.

The kernel gives the layer's value and its gradient. Forward mode and higher derivatives come from a reference, the same
layer in operations that JAX differentiates.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxlstm._stack import Layer
from jaxlstm._types import LSTMCellParams, LSTMState
from jaxlstm.implementations._linear import Linear, linear
from jaxlstm.implementations._platform import only_on


class Kernel(Protocol):
    """What a module that holds a kernel provides; arguments as `jaxlstm._stack.Layer` describes them."""

    def why_not(
        self,
        params: LSTMCellParams,
        x: jax.Array,
        state: LSTMState,
        *,
        lengths: jax.Array | None,
        begins: jax.Array | None,
        reverse: bool,
    ) -> str | None:
        """The reason why it can't serve such arguments, None if it can."""
        ...

    def forward(
        self,
        params: LSTMCellParams,
        x: jax.Array,
        state: LSTMState,
        *,
        lengths: jax.Array | None,
        begins: jax.Array | None,
        reverse: bool,
        keep: bool,
    ) -> tuple[tuple[jax.Array, LSTMState], Any]:
        """The layer's result, and what `backward` needs besides arguments and result if `keep`."""
        ...

    def backward(
        self,
        params: LSTMCellParams,
        x: jax.Array,
        state: LSTMState,
        outputs: tuple[jax.Array, LSTMState],
        kept: Any,
        cotangents: tuple[jax.Array, LSTMState],
        *,
        lengths: jax.Array | None,
        begins: jax.Array | None,
        reverse: bool,
    ) -> tuple[LSTMCellParams, jax.Array, LSTMState]:
        """The cotangents of params, x and state."""
        ...


class Operands(NamedTuple):
    """A layer's arguments that it is differentiated in."""

    params: LSTMCellParams
    x: jax.Array
    state: LSTMState


class Masks(NamedTuple):
    """A layer's other arguments, but the direction."""

    lengths: jax.Array | None
    begins: jax.Array | None


class Run(NamedTuple):
    """Everything about a run that is no array."""

    kernel: Kernel
    platform: str
    """That the kernel is for."""
    elsewhere: Callable
    """What stands in for the kernel in a program for another platform, given the shapes wanted."""
    reference: Layer
    """Gives the derivatives that the kernel has not."""
    reverse: bool


def layer(run: Run, operands: Operands, masks: Masks) -> tuple[jax.Array, LSTMState]:
    """One direction of one layer by a kernel."""
    return _value(run, operands, masks)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _value(run: Run, operands: Operands, masks: Masks):
    def value(operands, masks):
        return _forward(run, operands, masks, keep=False)[0]

    _, x, state = operands
    y = jax.ShapeDtypeStruct((*x.shape[:2], state.h.shape[1]), x.dtype)
    return only_on(run.platform, value, run.elsewhere, (y, state), operands, masks)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _value_and_kept(run: Run, operands: Operands, masks: Masks):
    forward = functools.partial(_forward, run, keep=True)
    return only_on(run.platform, forward, run.elsewhere, jax.eval_shape(forward, operands, masks), operands, masks)


def _forward(run: Run, operands: Operands, masks: Masks, *, keep: bool):
    return run.kernel.forward(*operands, **masks._asdict(), reverse=run.reverse, keep=keep)


@_value.defjvp
def _value_jvp(run: Run, primals, tangents):
    out, kept = _value_and_kept(run, *primals)
    return out, _tangent(run, primals, out, kept, tangents[0])


@_value_and_kept.defjvp
def _value_and_kept_jvp(run: Run, primals, tangents):
    out, kept = _value_and_kept(run, *primals)
    # What is kept is told no tangent: all that uses it is differentiated by the reference, which does without.
    return (out, kept), (_tangent(run, primals, out, kept, tangents[0]), jax.tree.map(jnp.zeros_like, kept))


def _tangent(run: Run, primals, out, kept, d_operands: Operands):
    by_jax = functools.partial(_forward_mode, run)
    function = Linear(by_jax, by_jax)
    transpose = Linear(functools.partial(_backward, run), functools.partial(_reverse_mode, run))
    return linear(function, transpose, (*primals, out, kept), d_operands, out)


def _forward_mode(run: Run, held, d_operands: Operands):
    operands, masks, _, _ = held
    return jax.jvp(functools.partial(_by_reference, run, masks), (operands,), (d_operands,))[1]


def _reverse_mode(run: Run, held, cotangents):
    operands, masks, _, _ = held
    _, pullback = jax.vjp(functools.partial(_by_reference, run, masks), operands)
    return pullback(cotangents)[0]


def _by_reference(run: Run, masks: Masks, operands: Operands):
    return run.reference(*operands, **masks._asdict(), reverse=run.reverse)


def _backward(run: Run, held, cotangents) -> Operands:
    def backward(held: tuple[Operands, Masks, Any, Any], cotangents):
        operands, masks, out, kept = held
        kernel = run.kernel
        return Operands(*kernel.backward(*operands, out, kept, cotangents, **masks._asdict(), reverse=run.reverse))

    return only_on(run.platform, backward, run.elsewhere, held[0], held, cotangents)


def refused(name: str, reason: str) -> NotImplementedError:
    """The error for an implementation that was asked for by name and can't serve."""
    return NotImplementedError(f'implementation="{name}": {reason}. Use "xla" or None.')
