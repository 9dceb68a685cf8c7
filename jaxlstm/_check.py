"""Checks at the public door, with their words; those of parameters and states are in `_check_cell`.

A message names the argument, what was expected in the legend's axis letters and in numbers, what came, and how to
mend it. Checks read shapes and dtypes only, so they hold under any transformation; values are looked at where they
are concrete (`lengths`), and tracers pass.
"""

import operator
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

FLOATS = ("float32", "float64", "bfloat16", "float16")


def refuse(name: str, expected: str, got: str, mend: str, error: type[Exception] = ValueError) -> NoReturn:
    """Raise an argument's error, in the words that all have."""
    raise error(f"{name}: expected {expected}, got {got}. {mend}")


def show(shape: Sequence[int]) -> str:
    """A shape as messages have it."""
    return "[" + ", ".join(map(str, shape)) + "]"


def check_shape(name: str, array: Any, axes: str, shape: Sequence[int], mend: str) -> None:
    """An array of just this shape, whose axes have these letters."""
    if tuple(array.shape) != tuple(shape):
        refuse(name, f"[{axes}] = {show(shape)}", show(array.shape), mend)


def check_float(name: str, array: Any, mend: str | None = None) -> None:
    """An array of a dtype to compute in."""
    if mend is None:
        mend = f"Convert it: {name}.astype(jnp.float32)."
        if of_torch(array):
            mend = "It is a tensor of torch: jaxlstm.interop.from_torch(state_dict) converts all parameters."
    if str(array.dtype) not in FLOATS:
        refuse(name, f"one of {', '.join(FLOATS)}", str(array.dtype), mend, TypeError)


def of_torch(value: Any) -> bool:
    """Whether it is PyTorch's, which is not imported here."""
    return type(value).__module__.split(".")[0] == "torch"


def as_array(name: str, value: Any) -> jax.Array:
    """An array of what can be one."""
    torchs = of_torch(value)
    mend = f"Convert it: {name}.detach().cpu().float().numpy()" if torchs else "Pass numbers of one rectangular shape"
    # To read a tensor that requires a gradient is a RuntimeError.
    failures = (TypeError, ValueError, RuntimeError) if torchs else (TypeError, ValueError)
    try:
        return jnp.asarray(value)
    except failures as error:
        raise TypeError(f"{name}: expected an array, got {_kind(value)}. {mend}.") from error


def _kind(value: Any) -> str:
    """What a value is, for a message: its type, and a short one's own text."""
    text = repr(value)
    return f"{type(value).__name__} {text}" if len(text) <= 40 else type(value).__name__


def check_int(name: str, value: Any, least: int) -> int:
    """`value` as an int of at least `least`."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        refuse(name, f"an integer of at least {least}", repr(value), "Pass a Python int.", TypeError)
    if number < least:
        refuse(name, f"an integer of at least {least}", str(number), "Pass a larger one.")
    return number


def check_flag(name: str, value: Any) -> bool:
    """`value` as a bool. Integers 0 and 1 pass for one; any other number is a slip: an argument in another's place."""
    flag = None if isinstance(value, Tracer) else np.asarray(value)
    if flag is None or flag.ndim or flag.dtype.kind not in "biu" or flag.item() not in (0, 1):
        refuse(name, "True or False", repr(value), "Pass a Python bool.", TypeError)
    return bool(flag)


def check_sizes(*, input_size: int, hidden_size: int, num_layers: int = 1, proj_size: int = 0) -> None:
    """The sizes that an LSTM is built from."""
    check_int("input_size", input_size, 1)
    check_int("hidden_size", hidden_size, 1)
    check_int("num_layers", num_layers, 1)
    if check_int("proj_size", proj_size, 0) >= hidden_size:
        refuse(
            "proj_size",
            f"0 < P < H = {hidden_size}, or 0 for none",
            str(proj_size),
            "Project to fewer than hidden_size.",
        )


def check_dtype(name: str, dtype: Any) -> None:
    """A dtype to compute in or to hold parameters in."""
    check_float(name, jax.ShapeDtypeStruct((), jnp.dtype(dtype)), "Its numbers are floating.")


def check_dropout(rate: Any) -> float:
    """A dropout rate: known while tracing, between 0 and 1; a Python or numpy number, or an array of one."""
    if isinstance(rate, Tracer):
        refuse("dropout", "a number from 0 to 1", "a traced value", "It must be known while tracing.", TypeError)
    number = rate.item() if hasattr(rate, "item") and np.ndim(rate) == 0 else rate
    if isinstance(number, bool) or not isinstance(number, float | int):
        refuse("dropout", "a number from 0 to 1", _kind(rate), "It is the share of elements to drop.", TypeError)
    if not 0 <= number <= 1:
        refuse("dropout", "a probability from 0 to 1", str(number), "It is the share of elements to drop.")
    return float(number)


def check_key(name: str, key: Any, mend: str = "Pass jax.random.key(seed).") -> None:
    """One `jax.random` key: typed, or the two numbers of an old one."""
    expected = "one jax.random key"
    if not isinstance(key, jax.Array | np.ndarray):
        refuse(name, expected, _kind(key), mend, TypeError)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape != ():
            refuse(name, expected, f"an array of keys {show(key.shape)}", "Pass one of them.")
    elif key.dtype != jnp.uint32 or key.ndim != 1:
        refuse(name, expected, f"{key.dtype}{show(key.shape)}", mend, TypeError)


def check_init_key(key: Any) -> None:
    """The first argument of what draws parameters."""
    check_key("key", key, "Pass jax.random.key(0) first, and the sizes after it.")


def refuse_packed(x: Any) -> None:
    """Refuse PyTorch's packed sequences, which have no axes of time and batch."""
    if type(x).__name__ == "PackedSequence" and of_torch(x):
        mend = "Pad it: x, lengths = torch.nn.utils.rnn.pad_packed_sequence(x), and pass lengths=lengths."
        refuse("x", "an array", "PackedSequence", mend, TypeError)


def check_x(x: Any, axes: str, unbatched_axes: str, input_size: int) -> jax.Array:
    """An input of as many axes as `axes` ("T, B, I") or one fewer, I last."""
    refuse_packed(x)
    x = as_array("x", x)
    check_float("x", x)
    ndim = axes.count(",") + 1
    if x.ndim not in (ndim, ndim - 1):
        refuse("x", f"[{axes}] or, unbatched, [{unbatched_axes}]", show(x.shape), "Reshape it to one of these.")
    if x.shape[-1] != input_size:
        used = axes if x.ndim == ndim else unbatched_axes
        refuse(
            "x",
            f"[{used}] with I = {input_size}",
            f"I = {x.shape[-1]} in {show(x.shape)}",
            "x.shape[-1] must be the input_size that the parameters were made for.",
        )
    return x


def check_lengths(lengths: Any, batch: tuple[int, ...], num_steps: int) -> jax.Array:
    """`int[B]` (`int[]` unbatched); within `[0, T]` where the values are known while tracing."""
    axes = "B" if batch else ""
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(lengths))
    # By numpy where it can be: inside jit, jnp would trace even a constant, and its values could not be read.
    values = as_array("lengths", lengths) if traced else _numbers("lengths", lengths)
    if values.dtype == bool:
        axis = 1 if values.shape[:1] == batch else 0
        count = f"Count the steps of a mask: lengths=mask.sum({axis})."
        refuse("lengths", f"int[{axes}]", f"bool{show(values.shape)}", count, TypeError)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        refuse("lengths", "an integer dtype", str(values.dtype), "Convert it: lengths.astype(jnp.int32).", TypeError)
    check_shape("lengths", values, axes, batch, "One length for each row of the batch.")
    if isinstance(values, np.ndarray) and values.size:
        least, most = int(values.min()), int(values.max())
        # An exported program may leave T open.
        if least < 0 or (isinstance(num_steps, int) and most > num_steps):
            bad = least if least < 0 else most
            refuse("lengths", f"values from 0 to T = {num_steps}", str(bad), "A length counts a row's valid steps.")
    return jnp.asarray(values)


def _numbers(name: str, value: Any) -> np.ndarray:
    """A concrete value by numpy; no numbers at all are integers."""
    try:
        values = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected one integer for each row, got {_kind(value)}. Pass a flat list.") from error
    return values.astype(int) if isinstance(value, list | tuple) and values.size == 0 else values


def check_loop(checkpoint_every: Any, unroll: Any, num_steps: Any) -> tuple[int | None, int | None]:
    """`(checkpoint_every, unroll)`, each None or at least 1, which a loop of unknown length has no use for."""
    options = {"checkpoint_every": checkpoint_every, "unroll": unroll}
    for name, value in options.items():
        if value is not None and not isinstance(num_steps, int):
            refuse(name, "None, as T is unknown", f"{value} with T = {num_steps}", "Export for a fixed T.")
    checked = (None if value is None else check_int(name, value, 1) for name, value in options.items())
    return next(checked), next(checked)


def check_resets(resets: Any, axes: str, shape: tuple[int, ...]) -> jax.Array:
    """`bool` of x's shape without I."""
    resets = as_array("resets", resets)
    if resets.dtype != jnp.bool_:
        refuse("resets", "dtype bool", str(resets.dtype), "Convert it: resets.astype(bool).", TypeError)
    check_shape("resets", resets, axes, shape, "It has x's shape without the last axis.")
    return resets
