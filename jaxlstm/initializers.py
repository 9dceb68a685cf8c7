"""How an LSTM's parameters may start: initializers `(key, shape, dtype)`, for `weight_init` and its like.

Gates lie along the first axis, `[4H, K]`, while the initializers of `jax.nn.initializers` take axis -2 for the fan-in,
as in a Dense kernel `[K, H]`. Given bare, `lecun_normal()` scales by 4H where it means K, and `orthogonal()` is
orthogonal over all gates at once: `per_gate` puts both right. There are two biases, which are added, so that
`constant(1)` for both counts twice: `forget_bias` halves it.

>>> import jaxlstm
>>> from jax.nn.initializers import lecun_normal, orthogonal
>>> from jaxlstm.initializers import forget_bias, per_gate
>>> model = jaxlstm.LSTM(
...     8, 16, weight_init=per_gate(lecun_normal()), weight_hh_init=per_gate(orthogonal()), bias_init=forget_bias(1.0)
... )
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxlstm._init import Initializer

__all__ = ["chrono", "forget_bias", "per_gate"]


def _num_gates(shape: Sequence[int]) -> int:
    # A shape given by hand is a plain one: an LSTM's.
    return getattr(shape, "num_gates", 4)


def _drawn_in(dtype: jax.typing.DTypeLike) -> jax.typing.DTypeLike:
    # No less than float32: `orthogonal` decomposes a matrix, which JAX does in no half precision.
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32


def per_gate(init: Initializer) -> Initializer:
    """Draw each gate's `[H, K]` block on its own, as the kernel `[K, H]` of a layer that reads K numbers.

    So `per_gate(lecun_normal())` has the variance 1/K, and `per_gate(orthogonal())` makes W_hh of four orthogonal
    matrices, as Flax's and Haiku's LSTMs start. W_hr, which has no gates, is one kernel; a bias has `[H]` a gate.

    Args:
        init: any initializer of `jax.nn.initializers`, with its axes as they are.

    Returns:
        An initializer. In a module or `init_lstm` it learns the number of gates with the shape; with a shape of
        your own, `[4H, K]` or `[4H]`, there are four. For partitioned parameters wrap what it returns:
        `nn.with_partitioning(per_gate(init), ("gates", None))`.

    Raises:
        ValueError: when it draws, rows that are no multiple of the number of gates.
        TypeError: when it draws, an `init` that gives no array.

    >>> import jax, jaxlstm.initializers
    >>> from jax.nn.initializers import orthogonal
    >>> weight_hh = jaxlstm.initializers.per_gate(orthogonal())(jax.random.key(0), (4 * 5, 5))
    >>> forget = weight_hh[5:10]
    >>> bool(abs(forget @ forget.T - jax.numpy.eye(5)).max() < 1e-6)
    True
    """

    def draw(key: jax.Array, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        num_gates = _num_gates(shape)
        if shape[0] % num_gates:
            raise ValueError(
                f"per_gate: expected a shape of [{num_gates}H, K] or [{num_gates}H], got {list(shape)}. "
                "Rows are the gates, H each."
            )
        kernel = (*shape[1:], shape[0] // num_gates)
        blocks = [init(k, kernel, _drawn_in(dtype)) for k in jax.random.split(key, num_gates)]
        if not all(isinstance(block, jax.Array) for block in blocks):
            raise TypeError(
                f"per_gate: expected an initializer of arrays, got one of {type(blocks[0]).__name__}. "
                "Partition the whole: with_partitioning(per_gate(init), names)."
            )
        return jnp.concatenate([block.T for block in blocks]).astype(dtype)

    return draw


def _lstm_bias(name: str, shape: Sequence[int]) -> int:
    """H, of an LSTM's bias `[4H]`."""
    if len(shape) != 1 or _num_gates(shape) != 4 or shape[0] % 4:
        raise ValueError(f"{name}: expected the shape of an LSTM's bias, [4H], got {list(shape)}. Use it for biases.")
    return shape[0] // 4


def forget_bias(value: float) -> Initializer:
    """For both biases: half of the value in each one's forget gate, so that their sum is the value there; else zero.

        b_ih = b_hh = [0, value/2, 0, 0]        (i, f, g, o)

    Args:
        value: what is added before the forget gate's sigmoid at the start of training; 1 as a rule.

    Returns:
        An initializer for `bias_init`, with `bias_hh_init` left None.

    Raises:
        ValueError: when it draws, a shape that is no LSTM's bias.

    Source: Jozefowicz, Zaremba, Sutskever 2015, https://proceedings.mlr.press/v37/jozefowicz15.html

    >>> import jax, jaxlstm.initializers
    >>> print(jaxlstm.initializers.forget_bias(1.0)(jax.random.key(0), (4 * 2,)))
    [0.  0.  0.5 0.5 0.  0.  0.  0. ]
    """

    def draw(key: jax.Array, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        del key
        hidden_size = _lstm_bias("forget_bias", shape)
        return jnp.zeros(shape, dtype).at[hidden_size : 2 * hidden_size].set(float(value) / 2)

    return draw


def chrono(longest: float) -> Initializer:
    """For the one bias, beside `bias_hh_init=zeros`: cells that remember for 1 to `longest` steps.

        b_f ~ log U(1, longest - 1),  b_i = -b_f,  b_g = b_o = 0

    Args:
        longest: T_max, in steps, the longest dependency expected; more than 2.

    Returns:
        An initializer for `bias_init`. Beside it `bias_hh_init=jax.nn.initializers.zeros`: biases are added.

    Raises:
        ValueError: `longest` of 2 or less; when it draws, a shape that is no LSTM's bias.

    Source: Tallec, Ollivier 2018, https://arxiv.org/abs/1804.11188

    >>> import jax, jaxlstm.initializers
    >>> zeros = jax.nn.initializers.zeros
    >>> params = jaxlstm.init_lstm_cell(
    ...     jax.random.key(0), 3, 5, bias_init=jaxlstm.initializers.chrono(100), bias_hh_init=zeros
    ... )
    >>> bool((params.bias_ih[:5] == -params.bias_ih[5:10]).all())
    True
    """
    if not longest > 2:
        raise ValueError(f"longest: expected more than 2 steps, got {longest}. It is the longest dependency expected.")

    def draw(key: jax.Array, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        hidden_size = _lstm_bias("chrono", shape)
        span = jax.random.uniform(key, (hidden_size,), _drawn_in(dtype), 1, longest - 1)
        forget = jnp.log(span).astype(dtype)
        rest = jnp.zeros((2 * hidden_size,), dtype)
        return jnp.concatenate([-forget, forget, rest])

    return draw
