"""One direction of one layer as a single call of cuDNN, NVIDIA's own LSTM, by way of `jax.experimental.rnn`.

cuDNN has PyTorch's gate order and two biases, and differs in:
1. its layout, batch before time;
2. its weights, one flat array: W_ih, W_hh, b_ih, b_hh, each row-major (see `pack`);
3. time, which runs forward only, unless both directions are asked for: for the reverse one, each row's valid steps are
   turned around on their way in and out;
4. rows of length 0, at which it fails (https://github.com/jax-ml/jax/issues/17966): they run one step, of which
   nothing is used.

Its buffers' sizes are known to the GPU's driver alone, and JAX asks for them while it traces: without an NVIDIA GPU in
the process the call can't even be traced, let alone compiled for one elsewhere. `why_not` says so beforehand.
"""

import functools
from collections.abc import Callable

import jax
import jax.custom_batching
import jax.numpy as jnp
from jax import lax
from jax.experimental import rnn

from jaxlstm._stack import valid_steps
from jaxlstm._types import LSTMCellParams, LSTMState
from jaxlstm.implementations._protocol import Masks, Operands


def why_not(operands: Operands) -> str | None:
    """The reason why cuDNN can't serve such arguments, known while tracing; None if it can."""
    _, x, _ = operands
    others = {str(a.dtype) for a in jax.tree.leaves(operands)} - {"float32"}
    if others:
        return f"cuDNN's LSTM computes in float32 only, not {min(others)}"
    if not all(isinstance(size, int) for size in x.shape):
        return f"cuDNN's LSTM needs B and T as known numbers, not x as {list(x.shape)}"
    if x.shape[1] == 0:
        return "cuDNN's LSTM takes no empty batch (B = 0)"
    if not _has_gpu():
        return "JAX can trace cuDNN's LSTM only where it finds an NVIDIA GPU, and it finds none here"
    return None


def _has_gpu() -> bool:
    try:
        return len(jax.local_devices(backend="cuda")) > 0
    except RuntimeError:  # So JAX says that there is no such backend.
        return False


def pack(params: LSTMCellParams) -> jax.Array:
    """Parameters as cuDNN's flat array; linear in them, so its transpose unpacks that array's gradient.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_lstm_cell(jax.random.key(0), input_size=3, hidden_size=5)
    >>> (unpacked,) = jax.linear_transpose(pack, params)(pack(params))
    >>> bool((unpacked.weight_hh == params.weight_hh).all())
    True
    """
    no_bias = jnp.zeros_like(params.weight_ih, shape=params.weight_ih.shape[:1])
    biases = (no_bias if bias is None else bias for bias in (params.bias_ih, params.bias_hh))
    return jnp.concatenate([params.weight_ih.ravel(), params.weight_hh.ravel(), *biases])


def flip(a: jax.Array, lengths: jax.Array | None) -> jax.Array:
    """A `[T, B, K]` with each row's valid steps turned around and padding left in place; its own inverse."""
    if lengths is None:
        return a[::-1]
    step = jnp.arange(a.shape[0], dtype=lengths.dtype)[:, None]
    source = jnp.where(step < lengths[None], lengths[None] - 1 - step, step)
    return jnp.take_along_axis(a, source[:, :, None], axis=0, mode="clip")


def forward(
    operands: Operands, masks: Masks, *, reverse: bool, keep: bool
) -> tuple[tuple[jax.Array, LSTMState], jax.Array | None]:
    """`((y, end_state), residuals)`, as `jaxlstm._stack.Layer` describes it.

    The residuals are cuDNN's own record of the run, its reserve space `float32[R]`. It runs the same without `keep`.
    """
    params, x, state = operands
    lengths = _in_range(masks.lengths, x)
    inputs = (_turned(x, lengths, reverse), *_lead(state), pack(params), _taken(lengths, x))
    (y, h, c), (*_, reserve) = _one_at_a_time(rnn.lstm_fwd, params)(*inputs)
    y = _zero_padding(_turned_back(y, lengths, reverse), lengths)
    return (y, _where_taken(lengths, LSTMState(h[0], c[0]), state)), reserve if keep else None


def backward(
    operands: Operands,
    masks: Masks,
    outputs: tuple[jax.Array, LSTMState],
    residuals: jax.Array,
    cotangents: tuple[jax.Array, LSTMState],
    *,
    reverse: bool,
) -> Operands:
    """Cotangents of the operands, from those of `forward`'s outputs and from its residuals."""
    params, x, state = operands
    lengths = _in_range(masks.lengths, x)

    # cuDNN overwrites the reserve space (PyTorch clones it for the same reason), which JAX takes for constant and may
    # hand to another backward pass. So it gets a copy. The barrier keeps XLA from leaving that out and, by holding the
    # cotangents, from making it only once for all passes of a loop over them.
    true, (d_y, d_end) = lax.optimization_barrier((jnp.array(True), cotangents))
    reserve = jnp.where(true, residuals, 0)

    d_y = _zero_padding(d_y, lengths)
    d_last = _where_taken(lengths, d_end, LSTMState(*(jnp.zeros_like(s) for s in d_end)))
    inputs = (_turned(x, lengths, reverse), *_lead(state), pack(params), _taken(lengths, x))
    gradients = (_turned(d_y, lengths, reverse), *_lead(d_last))
    saved = (*inputs, _turned(outputs[0], lengths, reverse), reserve)
    d_x, d_h, d_c, d_weights, _ = _one_at_a_time(rnn.lstm_bwd, params)(residuals=saved, gradients=gradients)
    (d_params,) = jax.linear_transpose(pack, params)(d_weights)
    d_x = _zero_padding(_turned_back(d_x, lengths, reverse), lengths)
    return Operands(d_params, d_x, _where_taken(lengths, LSTMState(d_h[0], d_c[0]), d_end))


def _one_at_a_time(function: Callable, params: LSTMCellParams) -> Callable:
    """A call of `rnn` on one layer, which `vmap`, of which it knows nothing, makes again for each element."""
    gates, input_size = params.weight_ih.shape
    options = {
        "input_size": input_size,
        "hidden_size": gates // 4,
        "num_layers": 1,
        "dropout": 0.0,
        "bidirectional": False,
        "precision": lax.Precision.HIGHEST,  # All of float32, not TF32, which agrees to 1e-3 only.
    }
    call = functools.partial(function, **options)
    one = jax.custom_batching.sequential_vmap(lambda args, kwargs: call(*args, **kwargs))
    return lambda *args, **kwargs: one(args, kwargs)


def _in_range(lengths: jax.Array | None, x: jax.Array) -> jax.Array | None:
    """`int32[B]` within [0, T]: beyond it, cuDNN would read and write past its buffers."""
    return None if lengths is None else jnp.clip(lengths.astype(jnp.int32), 0, x.shape[0])


def _taken(lengths: jax.Array | None, x: jax.Array) -> jax.Array:
    """How many steps cuDNN takes of each row, at least one."""
    return jnp.full(x.shape[1], x.shape[0], jnp.int32) if lengths is None else jnp.maximum(lengths, 1)


def _where_taken(lengths: jax.Array | None, moved: LSTMState, still: LSTMState) -> LSTMState:
    """`still` in the rows of length 0."""
    if lengths is None:
        return moved
    return LSTMState(*(jnp.where(lengths[:, None] > 0, m, s) for m, s in zip(moved, still, strict=True)))


def _zero_padding(a: jax.Array, lengths: jax.Array | None) -> jax.Array:
    return a if lengths is None else jnp.where(valid_steps(lengths, a.shape[0])[:, :, None], a, 0)


def _turned(a: jax.Array, lengths: jax.Array | None, reverse: bool) -> jax.Array:
    """`[T, B, K]` to the `[B, T, K]` that cuDNN runs forward through."""
    return (flip(a, lengths) if reverse else a).swapaxes(0, 1)


def _turned_back(a: jax.Array, lengths: jax.Array | None, reverse: bool) -> jax.Array:
    a = a.swapaxes(0, 1)
    return flip(a, lengths) if reverse else a


def _lead(state: LSTMState) -> tuple[jax.Array, jax.Array]:
    """With cuDNN's axis of layers."""
    return state.h[None], state.c[None]
