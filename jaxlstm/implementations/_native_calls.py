"""What the native kernels' library is asked for: its calls, their operands and results."""

import ctypes
import functools
import importlib.metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm._types import CellParams, HiddenState, LSTMState
from jaxlstm.implementations._protocol import Masks, Operands

State: TypeAlias = LSTMState | HiddenState

FILE = "jaxlstm/native/jaxlstm_native.so"

LANES = 16
"""What columns of a packed matrix are padded to (`native/lstm.h`)."""


class Residuals(NamedTuple):
    """What the backward pass needs."""

    gates: jax.Array  # [T, B, 4H], active
    c: jax.Array | None  # [T, B, H], before the step; None of a GRU


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


def _pack(matrix: jax.Array | None, *, transposed: bool, groups: int = 1) -> jax.Array | None:
    """Matrices `[M, K, N]`, or `[M, N, K]` transposed, as right operands of products (`native/pack.h`)."""
    if matrix is None:
        return None
    M, K, N = (matrix.shape[k] for k in ((0, 2, 1) if transposed else (0, 1, 2)))
    columns = groups * (-(-N // groups // LANES) * LANES)
    (packed,) = _call("pack", [matrix], [(M, columns * (K + 1))], M=M, K=K, N=N, groups=groups, transposed=transposed)
    return packed


def _is_single(operands: Operands) -> bool:
    """Whether it is a step whose weights are read only once: packing them first would take longer."""
    return operands.x.shape[1] == 1 and operands.params.weight_hr is None


def _weights(operands: Operands, *, transposed: bool, groups: int = 1) -> tuple[jax.Array | None, ...]:
    """W_ih, W_hh and W_hr as the kernels read them: packed, or as they lie for a single step."""
    w_ih, w_hh, _, _, w_hr, _ = operands.params
    if _is_single(operands):
        return w_ih, w_hh, w_hr
    of_gates = (_pack(w, transposed=transposed, groups=groups) for w in (w_ih, w_hh))
    return *of_gates, _pack(w_hr, transposed=transposed)


def _sizes(operands: Operands) -> dict[str, int]:
    """By the letters of the project's legend, and M."""
    params, x, state = operands
    H = state[-1].shape[-1]
    sizes = dict(zip("MTBI", x.shape, strict=True)) | {"H": H, "P": state.h.shape[-1]}
    return sizes | {"G": params.weight_hh.shape[-2] // H}


def _bias_of_sums(params: CellParams, H: int) -> jax.Array | None:
    """`[M, 4H]`: each sum's, that is both biases where it is of both products."""
    b_ih, b_hh, joint = params.bias_ih, params.bias_hh, 2 * H
    if b_ih is None or b_hh is None:
        return None
    if b_ih.shape[1] == 4 * H:  # An LSTM's all are.
        return b_ih + b_hh
    return jnp.concatenate([b_ih[:, :joint] + b_hh[:, :joint], b_ih[:, joint:], b_hh[:, joint:]], axis=1)


def _biases(d_bias: jax.Array, params: CellParams, H: int) -> tuple[jax.Array | None, jax.Array | None]:
    """`_bias_of_sums` transposed."""
    if params.bias_ih is None:
        return None, None
    if params.bias_ih.shape[1] == 4 * H:
        return d_bias, d_bias
    return d_bias[:, : 3 * H], jnp.concatenate([d_bias[:, : 2 * H], d_bias[:, 3 * H :]], axis=1)


def forward(
    operands: Operands, masks: Masks, *, reverse: bool, keep: bool
) -> tuple[jax.Array, State, Residuals | None]:
    """y, the state, and the residuals if `keep`, of M models: all arrays have that axis in front, as the result's."""
    params, x, state = operands
    sizes = _sizes(operands)
    M, T, B, _, H, P, G = sizes.values()
    has_c, single = isinstance(state, LSTMState), _is_single(operands)
    y, h, c, gates, c_before = _call(
        "forward",
        [x, *_h_and_c(state), *masks, *_weights(operands, transposed=True, groups=G), _bias_of_sums(params, H)],
        [
            (M * T, B, P),  # Of (M, T, B, P) XLA would make a copy where M = B = 1.
            (M, B, P),
            (M, B, H) if has_c else None,
            (M, T, B, 4 * H) if keep else None,
            (M, T, B, H) if keep and has_c else None,
        ],
        **sizes,
        reverse=reverse,
        single=single,
    )
    residuals = Residuals(gates, c_before if has_c else None) if keep else None
    return y.reshape(M, T, B, P), _state_like(state, h, c), residuals


def backward(operands: Operands, masks: Masks, y, residuals: Residuals, cotangents, *, reverse: bool) -> Operands:
    """The cotangents of the operands, likewise."""
    params, x, state = operands
    sizes = _sizes(operands)
    M, T, B, I, H, P, G = sizes.values()  # noqa: E741
    d_y, d_end = cotangents
    projected, has_c, single = params.weight_hr is not None, isinstance(state, LSTMState), _is_single(operands)
    arguments = [x, *_h_and_c(state), *masks]
    d_x, d_h, d_c, d_z, m, d_m = _call(
        "backward",
        [*arguments, *_weights(operands, transposed=False), y, *residuals, d_y, *_h_and_c(d_end)],
        [
            (M, T, B, I),
            (M, B, P),
            (M, B, H) if has_c else None,
            (M, T, B, 4 * H),
            (M, T, B, H) if projected else None,
            (M, T, B, P) if projected else None,
        ],
        aliases={} if single else {9: 3} | ({10: 4} if projected else {}),  # d_z lies where gates did, m where c did
        **sizes,
        reverse=reverse,
        single=single,
    )
    d_w_ih, d_w_hh, d_bias, d_w_hr = _call(
        "weights",
        [*arguments, y, d_z, *((m, d_m) if projected else (None, None))],
        [(M, G * H, I), (M, G * H, P), (M, 4 * H), (M, P, H) if projected else None],
        **sizes,
        reverse=reverse,
        single=single,
    )
    d_bias_ih, d_bias_hh = _biases(d_bias, params, H)
    d_params = CellParams(d_w_ih, d_w_hh, d_bias_ih, d_bias_hh, d_w_hr if projected else None)
    return Operands(d_params, d_x, _state_like(state, d_h, d_c))


def _h_and_c(state: State) -> tuple[jax.Array, jax.Array | None]:
    return state.h, state.c if isinstance(state, LSTMState) else None


def _state_like(state: State, h: jax.Array, c: jax.Array) -> State:
    return LSTMState(h, c) if isinstance(state, LSTMState) else HiddenState(h)
