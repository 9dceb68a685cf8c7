"""A run over time in chunks, whose steps are computed again in the backward pass: memory for one chunk at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def checkpointed(run: Callable, state: Any, inputs: Any, every: int, *, reverse: bool) -> tuple[jax.Array, Any]:
    """`run(state, inputs)` over chunks of at most `every` steps, so that only the states between them are kept.

    Args:
        run: from a state and some steps' inputs to their output and the state after the last one taken.
        state: where it sets out from.
        inputs: of all steps, T first.
        every: at least 1.
        reverse: whether it sets out from the last step.

    Returns:
        The output of all steps and the final state.
    """
    run = jax.checkpoint(run, prevent_cse=False)
    num_steps = jax.tree.leaves(inputs)[0].shape[0]
    length = _chunk_length(num_steps, min(every, num_steps))
    rest = num_steps % length
    whole = num_steps - rest
    chunks = jax.tree.map(lambda a: a[:whole].reshape(whole // length, length, *a.shape[1:]), inputs)
    tail = jax.tree.map(lambda a: a[whole:], inputs)

    def chunk(state, inputs):
        y, state = run(state, inputs)
        return state, y

    y_tail = None
    if reverse and rest != 0:
        y_tail, state = run(state, tail)
    state, y = lax.scan(chunk, state, chunks, reverse=reverse)
    y = y.reshape(whole, *y.shape[2:])
    if not reverse and rest != 0:
        y_tail, state = run(state, tail)
    return (y if y_tail is None else jnp.concatenate([y, y_tail])), state


def _chunk_length(num_steps: int, every: int) -> int:
    """`every`, or a length down to its half that leaves no rest: cutting a rest off copies the whole input."""
    return next((length for length in range(every, every // 2, -1) if num_steps % length == 0), every)
