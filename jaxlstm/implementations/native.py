"""The LSTM and the GRU on a CPU's cores by kernels in C++ (`jaxlstm/native`), called through `jax.ffi`.

XLA's loop runs the small product of a step on a core or two, and wakes threads for each. These kernels share out the
batch by rows, once: each thread takes its rows through all steps, and no step waits for another thread. Every sum has
an order of its own, so a row's bits depend neither on the rest of the batch nor on the number of threads.

Four calls, each a job for the pool of threads that XLA has:

    pack        a weight, laid out for products
    forward     y, the state, and as residuals active gates and the c before each step: 20 H bytes a step and row
    backward    d_x, d_state, and d_z in the gates' place
    weights     d_W_ih, d_W_hh, d_b, d_W_hr: sums over all steps and rows, cut by rows of the weights

Of a unit they know four sums, each with its bias and its d_z: an LSTM's i, f, g, o, a GRU's r and z, n's of x, and n's
of h. A GRU keeps the last in the place of a fourth gate, and finds the h before each step in y: 16 H bytes.

Their arrays have a leading axis M of models, 1 until `vmap` maps over parameters.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.custom_batching
import jax.numpy as jnp

from jaxlstm.implementations import _native_calls
from jaxlstm.implementations._models import mapped_first, merge, merge_rows, unmerge, unmerge_rows
from jaxlstm.implementations._native_calls import LANES, Residuals, State, library
from jaxlstm.implementations._protocol import Masks, Operands

NOT_BUILT = (
    "its kernels were left out when jaxlstm was installed, for want of a C++17 compiler; with one (g++ or clang++) on "
    "the PATH, `pip install -e .` in a checkout of jaxlstm builds them"
)


def why_not(operands: Operands) -> str | None:
    """Why these kernels can't run a layer on these operands; None if they can."""
    _, x, state = operands
    others = {str(a.dtype) for a in jax.tree.leaves(operands)} - {"float32"}
    if others:
        return f"it computes in float32 only, not {min(others)}"
    sizes = (*x.shape, *(size for field in state for size in field.shape))
    if not all(isinstance(size, int) for size in sizes):
        return f"it needs to know T and B, and x is [T, B, I] = [{', '.join(map(str, x.shape))}]"
    if 0 in sizes:
        return f"it needs at least one row, step and input, and x is [T, B, I] = {list(x.shape)}"
    return NOT_BUILT if library() is None else None


def why_slower(x: jax.Array, state: State) -> str | None:
    """Why `xla` is the faster of the two on such sizes; None if it is not. One core of a Zen 4, ours / xla's time.

    Weights are packed at each call: 1.8 forward at B, T, H = 1, 2, 256 and 1.4 at 16, 2, 256, but 0.9 at 1, 16, 256.
    One step alone reads them as they lie: on two cores 0.98 forward and 1.6 in training at B, I, H = 1, 256, 256, but
    0.62 and 0.90 at B = 4, 0.82 and 0.72 at 32. With a projection it packs them too.
    Rows of H < 16 leave lanes idle, and `xla` fills them with other rows: 1.9 at B, H = 256, 8, but 0.5 at 8, 8.
    """
    (T, B, _), (P, H) = x.shape, (state.h.shape[1], state[-1].shape[1])
    if not all(isinstance(size, int) for size in (T, B)):
        return None  # It can't serve them at all.
    alone = T == 1 and P == H
    if alone and B < 4:
        return f"one step of B = {B} rows reads the weights no faster"
    if not alone and (T == 1 or (T < 16 and T * B < 64)):
        return f"packing the weights takes longer than it saves in T = {T} steps of B = {B} rows"
    if H < LANES and B >= 32:
        return f"H = {H} leaves lanes of a vector idle, which B = {B} rows fill"
    return None


def forward(
    operands: Operands, masks: Masks, *, reverse: bool, keep: bool
) -> tuple[tuple[jax.Array, State], Residuals | None]:
    """One direction of one layer, as `jaxlstm._stack.Layer` describes it, and what `backward` needs if `keep`."""
    y, state, residuals = _the_model(_forward(reverse, keep)(*_of_one_model((operands, _in_range(masks, operands.x)))))
    return (y, state), residuals


def backward(
    operands: Operands,
    masks: Masks,
    outputs: tuple[jax.Array, State],
    residuals: Residuals,
    cotangents: tuple[jax.Array, State],
    *,
    reverse: bool,
) -> Operands:
    """The cotangents of the operands, from `forward`'s outputs, its residuals, and the outputs' cotangents."""
    masks = _in_range(masks, operands.x)
    return _the_model(_backward(reverse)(*_of_one_model((operands, masks, outputs[0], residuals, cotangents))))


def _in_range(masks: Masks, x: jax.Array) -> Masks:
    lengths = masks.lengths
    if lengths is not None:  # Before a narrower type would wrap it around.
        wide = lengths.astype(jnp.int32) if lengths.dtype.itemsize < 4 else lengths
        lengths = jnp.clip(wide, 0, x.shape[0]).astype(jnp.int32)
    return Masks(lengths, masks.resets)


def _of_one_model(tree: Any) -> Any:
    return jax.tree.map(lambda a: a[None], tree)


def _the_model(tree: Any) -> Any:
    return jax.tree.map(lambda a: a[0], tree)


@functools.cache
def _forward(reverse: bool, keep: bool) -> Callable:
    @jax.custom_batching.custom_vmap
    def run(operands: Operands, masks: Masks):
        return _native_calls.forward(operands, masks, reverse=reverse, keep=keep)

    @run.def_vmap
    def batch(size: int, mapped, operands: Operands, masks: Masks):
        mapped_operands, mapped_masks = mapped
        (params, x, state), masks = mapped_first(size, (mapped_operands, mapped_masks), (operands, masks))
        if any(jax.tree.leaves(mapped_operands.params)):
            out = unmerge(size, run(*merge((Operands(params, x, state), masks))))
        else:
            x, state, masks = merge_rows((x, state, masks))
            out = unmerge_rows(size, run(Operands(operands.params, x, state), masks))
        return out, jax.tree.map(lambda _: True, out)

    return run


@functools.cache
def _backward(reverse: bool) -> Callable:
    @jax.custom_batching.custom_vmap
    def run(*arguments):
        return _native_calls.backward(*arguments, reverse=reverse)

    @run.def_vmap
    def batch(size: int, mapped, *arguments):
        out = unmerge(size, run(*merge(mapped_first(size, tuple(mapped), arguments))))
        return out, jax.tree.map(lambda _: True, out)

    return run
