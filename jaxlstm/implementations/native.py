"""The LSTM on a CPU's cores by kernels in C++ (`jaxlstm/native`), called through `jax.ffi`.

XLA's loop runs the small product of a step on a core or two, and wakes threads for each. These kernels share out the
batch by rows, once: each thread takes its rows through all steps, and no step waits for another thread. Every sum has
an order of its own, so a row's bits depend neither on the rest of the batch nor on the number of threads.

Four calls, each a job for the pool of threads that XLA has:

    pack        a weight, laid out for products
    forward     y and the state; to be kept, the active gates and the c before each step: 20 H bytes a step and row
    backward    d_x, d_state, and d_z in the gates' place
    weights     d_W_ih, d_W_hh, d_b, d_W_hr: sums over all steps and rows, cut by rows of the weights

Their arrays have a leading axis M of models, 1 until `vmap` maps over parameters.
"""

import ctypes
import functools
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.custom_batching
import jax.numpy as jnp
import numpy as np

from jaxlstm._types import LSTMCellParams, LSTMState

FILE = "jaxlstm/native/jaxlstm_native.so"

NOT_BUILT = (
    "its kernels were left out when jaxlstm was installed, for want of a C++17 compiler; with one (g++ or clang++) on "
    "the PATH, `pip install --force-reinstall --no-deps --no-cache-dir jaxlstm` builds them"
)

LANES = 16
"""What columns of a packed matrix are padded to (`native/lstm.h`)."""


class Masks(NamedTuple):
    """What of a layer's arguments is not differentiated."""

    lengths: jax.Array | None  # int32[M, B]
    begins: jax.Array | None  # bool[M, T, B]


class Kept(NamedTuple):
    """What the backward pass needs."""

    gates: jax.Array  # [T, B, 4H], active
    c: jax.Array  # [T, B, H], before the step


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, made known to XLA; None if they were not built."""
    here = Path(__file__).parents[2] / FILE
    if not here.exists():  # An editable install leaves it among the installed packages.
        try:
            here = Path(str(importlib.metadata.distribution("jaxlstm").locate_file(FILE)))
        except importlib.metadata.PackageNotFoundError:
            return None
        if not here.exists():
            return None
    loaded = ctypes.CDLL(str(here))
    for name in ("pack", "forward", "backward", "weights"):
        jax.ffi.register_ffi_target(
            f"jaxlstm_{name}", jax.ffi.pycapsule(getattr(loaded, f"jaxlstm_{name}")), platform="cpu"
        )
    return loaded


def why_not(
    params: LSTMCellParams,
    x: jax.Array,
    state: LSTMState,
    *,
    lengths: jax.Array | None,
    begins: jax.Array | None,
    reverse: bool,
) -> str | None:
    """Why these kernels can't run a layer on these arguments of `jaxlstm._stack.Layer`; None if they can."""
    del lengths, begins, reverse  # They serve any.
    others = {str(a.dtype) for a in jax.tree.leaves((params, x, state))} - {"float32"}
    if others:
        return f"it computes in float32 only, not {min(others)}"
    sizes = (*x.shape, *state.c.shape, *state.h.shape)
    if not all(isinstance(size, int) for size in sizes):
        return f"it needs to know T and B, and x is [T, B, I] = [{', '.join(map(str, x.shape))}]"
    if 0 in sizes:
        return f"it needs at least one row, step and input, and x is [T, B, I] = {list(x.shape)}"
    return NOT_BUILT if library() is None else None


def why_not_unasked(x: jax.Array, state: LSTMState) -> str | None:
    """Why `xla` is the faster of the two on such sizes; None if it is not. One core of a Zen 4, ours / xla's time.

    Weights are packed at each call: 1.8 forward at B, T, H = 1, 2, 256 and 1.4 at 16, 2, 256, but 0.9 at 1, 16, 256.
    Rows of H < 16 leave lanes idle, and `xla` fills them with other rows: 1.9 at B, H = 256, 8, but 0.5 at 8, 8.
    """
    (T, B, _), H = x.shape, state.c.shape[1]
    if not all(isinstance(size, int) for size in (T, B)):
        return None  # It can't serve them at all.
    if T < 16 and T * B < 64:
        return f"packing the weights takes longer than it saves in T = {T} steps of B = {B} rows"
    if H < LANES and B >= 32:
        return f"H = {H} leaves lanes of a vector idle, which B = {B} rows fill"
    return None


def forward(
    params: LSTMCellParams,
    x: jax.Array,
    state: LSTMState,
    *,
    lengths: jax.Array | None,
    begins: jax.Array | None,
    reverse: bool,
    keep: bool,
) -> tuple[tuple[jax.Array, LSTMState], Kept | None]:
    """One direction of one layer, as `jaxlstm._stack.Layer` describes it, and what `backward` needs if `keep`."""
    operands = _of_one_model((params, x, state, _masks(lengths, begins, x.shape[0])))
    y, state, kept = _the_model(_forward(reverse, keep)(*operands))
    return (y, state), kept if keep else None


def backward(
    params: LSTMCellParams,
    x: jax.Array,
    state: LSTMState,
    outputs: tuple[jax.Array, LSTMState],
    kept: Kept,
    cotangents: tuple[jax.Array, LSTMState],
    *,
    lengths: jax.Array | None,
    begins: jax.Array | None,
    reverse: bool,
) -> tuple[LSTMCellParams, jax.Array, LSTMState]:
    """The cotangents of params, x and state, from `forward`'s outputs, what it kept, and the outputs' cotangents."""
    masks = _masks(lengths, begins, x.shape[0])
    operands = _of_one_model((params, x, state, masks, outputs[0], kept, cotangents))
    return _the_model(_backward(reverse)(*operands))


def _masks(lengths: jax.Array | None, begins: jax.Array | None, num_steps: int) -> Masks:
    if lengths is not None:  # Before a narrower type would wrap it around.
        wide = lengths.astype(jnp.int32) if lengths.dtype.itemsize < 4 else lengths
        lengths = jnp.clip(wide, 0, num_steps).astype(jnp.int32)
    return Masks(lengths, begins)


def _of_one_model(tree: Any) -> Any:
    return jax.tree.map(lambda a: a[None], tree)


def _the_model(tree: Any) -> Any:
    return jax.tree.map(lambda a: a[0], tree)


@functools.cache
def _forward(reverse: bool, keep: bool) -> Callable:
    @jax.custom_batching.custom_vmap
    def run(params: LSTMCellParams, x: jax.Array, state: LSTMState, masks: Masks):
        y, h, c, *kept = _call_forward(params, x, state, masks, reverse=reverse, keep=keep)
        return y, LSTMState(h, c), Kept(*kept) if keep else None

    @run.def_vmap
    def batch(size: int, mapped, params: LSTMCellParams, x: jax.Array, state: LSTMState, masks: Masks):
        operands = _mapped_first(size, tuple(mapped), (params, x, state, masks))
        if any(jax.tree.leaves(mapped[0])):
            out = _unmerge(size, run(*_merge(operands)))
        else:
            out = _unmerge_rows(size, run(params, *_merge_rows(operands[1:])))
        return out, jax.tree.map(lambda _: True, out)

    return run


@functools.cache
def _backward(reverse: bool) -> Callable:
    @jax.custom_batching.custom_vmap
    def run(*operands):
        return _call_backward(*operands, reverse=reverse)

    @run.def_vmap
    def batch(size: int, mapped, *operands):
        out = _unmerge(size, run(*_merge(_mapped_first(size, tuple(mapped), operands))))
        return out, jax.tree.map(lambda _: True, out)

    return run


def _mapped_first(size: int, mapped: Any, operands: Any) -> Any:
    """Every array with the mapped axis in front, repeated where it is not mapped over."""
    return jax.tree.map(
        lambda a, is_mapped: a if is_mapped else jnp.broadcast_to(a, (size, *a.shape)), operands, mapped
    )


def _merge(tree: Any) -> Any:
    """`[V, M, ...]` to `[V M, ...]`."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), tree)


def _unmerge(size: int, tree: Any) -> Any:
    return jax.tree.map(lambda a: a.reshape(size, -1, *a.shape[1:]), tree)


def _row_axis(a: jax.Array) -> int:
    """Of a batch of rows of numbers, or of a mask's rows, which are one number each."""
    return a.ndim - (2 if jnp.issubdtype(a.dtype, jnp.floating) else 1)


def _merge_rows(tree: Any) -> Any:
    """`[V, ..., B, K]` to `[..., V B, K]`."""

    def merge(a):
        axis = _row_axis(a) - 1
        a = jnp.moveaxis(a, 0, axis)
        return a.reshape(*a.shape[:axis], -1, *a.shape[axis + 2 :])

    return jax.tree.map(merge, tree)


def _unmerge_rows(size: int, tree: Any) -> Any:
    def unmerge(a):
        axis = _row_axis(a)
        return jnp.moveaxis(a.reshape(*a.shape[:axis], size, -1, *a.shape[axis + 1 :]), axis, 0)

    return jax.tree.map(unmerge, tree)


def _call(name: str, operands: list[jax.Array | None], results: list[tuple[int, ...] | None], **options: Any):
    """One call of the library. What is None is an array of no elements there."""
    library()
    call = jax.ffi.ffi_call(
        f"jaxlstm_{name}",
        [jax.ShapeDtypeStruct(shape or (0,), jnp.float32) for shape in results],
        input_output_aliases=options.pop("aliases", {}),
    )
    attributes = {name: value if isinstance(value, bool) else np.int64(value) for name, value in options.items()}
    return call(*(jnp.zeros(0, jnp.float32) if a is None else a for a in operands), **attributes)


def _pack(matrix: jax.Array | None, *, turned: bool, groups: int = 1) -> jax.Array | None:
    """Matrices `[M, K, N]`, or `[M, N, K]` turned, as right operands of products (`native/pack.h`)."""
    if matrix is None:
        return None
    M, K, N = (matrix.shape[k] for k in ((0, 2, 1) if turned else (0, 1, 2)))
    columns = groups * (-(-N // groups // LANES) * LANES)
    (packed,) = _call("pack", [matrix], [(M, columns * (K + 1))], M=M, K=K, N=N, groups=groups, turned=turned)
    return packed


def _sizes(x: jax.Array, state: LSTMState) -> dict[str, int]:
    """By the letters of the project's legend, and M."""
    return dict(zip("MTBI", x.shape, strict=True)) | {"H": state.c.shape[-1], "P": state.h.shape[-1]}


def _call_forward(params: LSTMCellParams, x, state: LSTMState, masks: Masks, *, reverse: bool, keep: bool):
    sizes = _sizes(x, state)
    M, T, B, _, H, P = sizes.values()
    bias = None if params.bias_ih is None or params.bias_hh is None else params.bias_ih + params.bias_hh
    weights = (
        _pack(params.weight_ih, turned=True, groups=4),
        _pack(params.weight_hh, turned=True, groups=4),
        _pack(params.weight_hr, turned=True),
    )
    kept = [(M, T, B, 4 * H), (M, T, B, H)] if keep else [None, None]
    results = [(M, T, B, P), (M, B, P), (M, B, H), *kept]
    return _call("forward", [x, *state, *masks, *weights, bias], results, **sizes, reverse=reverse)


def _call_backward(params: LSTMCellParams, x, state: LSTMState, masks: Masks, y, kept: Kept, cotangents, *, reverse):
    sizes = _sizes(x, state)
    M, T, B, I, H, P = sizes.values()  # noqa: E741
    d_y, d_end = cotangents
    weights = (
        _pack(params.weight_ih, turned=False),
        _pack(params.weight_hh, turned=False),
        _pack(params.weight_hr, turned=False),
    )
    projected = params.weight_hr is not None
    arguments = [x, *state, *masks]
    d_x, d_h, d_c, d_z, m, d_m = _call(
        "backward",
        [*arguments, *weights, *kept, d_y, *d_end],
        [
            (M, T, B, I),
            (M, B, P),
            (M, B, H),
            (M, T, B, 4 * H),
            (M, T, B, H) if projected else None,
            (M, T, B, P) if projected else None,
        ],
        aliases={8: 3} | ({9: 4} if projected else {}),  # d_z lies where the gates were, m where c was
        **sizes,
        reverse=reverse,
    )
    d_w_ih, d_w_hh, d_bias, d_w_hr = _call(
        "weights",
        [*arguments, y, d_z, *((m, d_m) if projected else (None, None))],
        [(M, 4 * H, I), (M, 4 * H, P), (M, 4 * H), (M, P, H) if projected else None],
        **sizes,
        reverse=reverse,
    )
    d_params = LSTMCellParams(
        weight_ih=d_w_ih,
        weight_hh=d_w_hh,
        bias_ih=None if params.bias_ih is None else d_bias,
        bias_hh=None if params.bias_hh is None else d_bias,
        weight_hr=d_w_hr if projected else None,
    )
    return d_params, d_x, LSTMState(d_h, d_c)
