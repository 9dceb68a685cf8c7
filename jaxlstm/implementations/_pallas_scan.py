"""`jax.lax.scan` as a Pallas kernel for TPUs: a grid step a time step, with the weight and the carry held in VMEM."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128
"""Elements along the last axis of a tile of VMEM."""


def scan(
    name: str,
    body: Callable,
    weight: jax.Array,
    carry: Any,
    inputs: Any,
    marks: jax.Array | None,
    *,
    rows: int,
    reverse: bool,
    interpret: bool,
) -> tuple[Any, Any]:
    """Fold `body` over time, for one tile of batch rows after another.

    While a step computes, the next one's inputs stream in and the last one's outputs stream out.

    Args:
        name: of the kernel, in profiles and in the compiled program.
        body: `body(weight, carry, inputs, mark)` of one step and one tile gives the next carry, of the same shapes,
            and any tree of outputs `[rows, ...]`; mark is int32 `[rows, 1]`, or None.
        weight: of any shape, whole at every step.
        carry: arrays `[B, width]`.
        inputs: arrays `[T, B, width]`; each width here is a multiple of 128.
        marks: int32 `[B, T]`, T padded to a multiple of 128, or None.
        rows: of a tile; divides B, and is a multiple of the tiling (8 for float32, 16 for bfloat16).
        reverse: from step T-1 down to 0.
        interpret: run in plain JAX on any platform, slowly.

    Returns:
        The carry after the last step taken, and each output as `[T, B, width]`.
    """
    num_steps, batch = jax.tree.leaves(inputs)[0].shape[:2]

    def time(step):
        return num_steps - 1 - step if reverse else step

    def of_step(a):
        return pl.BlockSpec((None, rows, a.shape[-1]), lambda tile, step: (time(step), tile, 0))

    def of_rows(a):
        return pl.BlockSpec((rows, a.shape[-1]), lambda tile, _: (tile, 0))

    def lane(divide, step):
        # Not by `//` and `%`, which ask for a sign, and Pallas lowers a sign only where a TPU is at hand.
        return divide(time(step), LANES)

    of_marks = pl.BlockSpec((rows, LANES), lambda tile, step: (tile, lane(lax.div, step)))

    def kernel(weight, start, inputs, marks, carry, outputs):
        step = pl.program_id(1)

        # The end's block is one and the same at all steps of a tile, so it stays in VMEM until the last: the carry.
        @pl.when(step == 0)
        def _():
            _store(carry, _load(start))

        mark = None if marks is None else _column(marks[...], lane(lax.rem, step))
        after, values = body(weight[...], _load(carry), _load(inputs), mark)
        _store(carry, after)
        _store(outputs, values)

    def tile_of(a):
        return jax.ShapeDtypeStruct((rows, a.shape[-1]), a.dtype)

    mark = None if marks is None else jax.ShapeDtypeStruct((rows, 1), marks.dtype)
    _, values = jax.eval_shape(body, weight, *jax.tree.map(tile_of, (carry, inputs)), mark)
    outputs = jax.tree.map(lambda a: jax.ShapeDtypeStruct((num_steps, batch, a.shape[-1]), a.dtype), values)
    whole = pl.BlockSpec(memory_space=pltpu.VMEM)  # Held once: only blocks that change are double-buffered.
    run = pl.pallas_call(
        kernel,
        name=name,
        out_shape=(carry, outputs),
        grid=(batch // rows, num_steps),
        in_specs=(
            whole,
            jax.tree.map(of_rows, carry),
            jax.tree.map(of_step, inputs),
            None if marks is None else of_marks,
        ),
        out_specs=(jax.tree.map(of_rows, carry), jax.tree.map(of_step, outputs)),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=interpret,
    )
    with jax.enable_x64(False):  # With it, indices of blocks are int64, and the TPU's compiler refuses them.
        return run(weight, carry, inputs, marks)


def _load(refs: Any) -> Any:
    return jax.tree.map(lambda ref: ref[...], refs)


def _store(refs: Any, values: Any) -> None:
    def store(ref, value):
        ref[...] = value

    jax.tree.map(store, refs, values)


def _column(a: jax.Array, k: jax.Array) -> jax.Array:
    """Column k of non-negative a `[rows, 128]`, as `[rows, 1]`: a lane can't be indexed by a number known that late."""
    lanes = lax.broadcasted_iota(jnp.int32, a.shape, 1)
    return jnp.max(jnp.where(lanes == k, a, 0), axis=1, keepdims=True)
