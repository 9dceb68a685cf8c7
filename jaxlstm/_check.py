"""Every check at the public door, with its words.

A message names the argument, what was expected in the legend's axis letters and in numbers, what came, and how to
mend it. Checks read shapes and dtypes only, so they hold under any transformation; values are looked at where they
are concrete (`lengths`), and tracers pass.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxlstm._names import suffix
from jaxlstm._types import LSTMCellParams, LSTMState

FLOATS = ("float32", "float64", "bfloat16", "float16")


class Sizes(NamedTuple):
    """What a parameter tree tells of its LSTM: L, D, I, H and P."""

    num_layers: int
    num_directions: int
    input_size: int
    hidden_size: int
    output_size: int


def _refuse(name: str, expected: str, got: str, mend: str, error: type[Exception] = ValueError) -> NoReturn:
    raise error(f"{name}: expected {expected}, got {got}. {mend}")


def _show(shape: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _check_shape(name: str, array: Any, axes: str, shape: Sequence[int], mend: str) -> None:
    if tuple(array.shape) != tuple(shape):
        _refuse(name, f"[{axes}] = {_show(shape)}", _show(array.shape), mend)


def _check_float(name: str, array: Any) -> None:
    if str(array.dtype) not in FLOATS:
        _refuse(
            name, f"one of {', '.join(FLOATS)}", str(array.dtype), f"Convert it: {name}.astype(jnp.float32).", TypeError
        )


def _as_array(name: str, value: Any) -> jax.Array:
    of_torch = type(value).__module__.split(".")[0] == "torch"
    mend = f"Convert it: {name}.detach().cpu().float().numpy()" if of_torch else "Pass numbers of one rectangular shape"
    # To read a tensor that requires a gradient is a RuntimeError.
    failures = (TypeError, ValueError, RuntimeError) if of_torch else (TypeError, ValueError)
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
        _refuse(name, f"an integer of at least {least}", repr(value), "Pass a Python int.", TypeError)
    if number < least:
        _refuse(name, f"an integer of at least {least}", str(number), "Pass a larger one.")
    return number


def check_flag(name: str, value: Any) -> bool:
    """`value` as a bool. Integers 0 and 1 pass for one; any other number is a slip: an argument in another's place."""
    flag = None if isinstance(value, Tracer) else np.asarray(value)
    if flag is None or flag.ndim or flag.dtype.kind not in "biu" or flag.item() not in (0, 1):
        _refuse(name, "True or False", repr(value), "Pass a Python bool.", TypeError)
    return bool(flag)


def check_sizes(*, input_size: int, hidden_size: int, num_layers: int = 1, proj_size: int = 0) -> None:
    """The sizes that an LSTM is built from."""
    check_int("input_size", input_size, 1)
    check_int("hidden_size", hidden_size, 1)
    check_int("num_layers", num_layers, 1)
    if check_int("proj_size", proj_size, 0) >= hidden_size:
        _refuse(
            "proj_size",
            f"0 < P < H = {hidden_size}, or 0 for none",
            str(proj_size),
            "Project to fewer than hidden_size.",
        )


def check_dtype(name: str, dtype: Any) -> None:
    """A dtype to compute in or to hold parameters in."""
    if str(jnp.dtype(dtype)) not in FLOATS:
        _refuse(
            name, f"one of {', '.join(FLOATS)}", str(jnp.dtype(dtype)), "An LSTM's numbers are floating.", TypeError
        )


def check_dropout(rate: Any) -> float:
    """A dropout rate: known while tracing, between 0 and 1; a Python or numpy number, or an array of one."""
    if isinstance(rate, Tracer):
        _refuse("dropout", "a number from 0 to 1", "a traced value", "It must be known while tracing.", TypeError)
    number = rate.item() if hasattr(rate, "item") and np.ndim(rate) == 0 else rate
    if isinstance(number, bool) or not isinstance(number, float | int):
        _refuse("dropout", "a number from 0 to 1", _kind(rate), "It is the share of elements to drop.", TypeError)
    if not 0 <= number <= 1:
        _refuse("dropout", "a probability from 0 to 1", str(number), "It is the share of elements to drop.")
    return float(number)


def check_dropout_key(key: Any) -> None:
    """One `jax.random` key: typed, or the two numbers of an old one."""
    expected, mend = "one jax.random key", "Pass jax.random.key(seed)."
    if not isinstance(key, jax.Array | np.ndarray):
        _refuse("dropout_key", expected, _kind(key), mend, TypeError)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape != ():
            _refuse("dropout_key", expected, f"an array of keys {_show(key.shape)}", "Pass one of them.")
    elif key.dtype != jnp.uint32 or key.ndim != 1:
        _refuse("dropout_key", expected, f"{key.dtype}{_show(key.shape)}", mend, TypeError)


def check_cell_params(params: Any, name: str = "params", input_size: int | None = None, tail: str = "") -> Sizes:
    """One cell's parameters: their kinds, and that their shapes fit together. `tail` is the names' `_l0_reverse`."""
    if not isinstance(params, LSTMCellParams):
        _refuse(
            name,
            "LSTMCellParams",
            type(params).__name__,
            "Make it with init_lstm_cell, or pick one cell of a stack: params[layer][direction].",
            TypeError,
        )
    for field, leaf in params._asdict().items():
        if leaf is None and field in ("weight_ih", "weight_hh"):
            _refuse(f"{name}.{field}{tail}", "an array", "None", "Only biases and weight_hr may be absent.", TypeError)
        if leaf is not None:
            if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
                _refuse(f"{name}.{field}{tail}", "an array", type(leaf).__name__, "Use jnp.asarray on it.", TypeError)
            _check_float(f"{name}.{field}{tail}", leaf)
    if (params.bias_ih is None) != (params.bias_hh is None):
        _refuse(
            f"{name}.bias_ih{tail}, bias_hh{tail}",
            "both or neither",
            "one",
            "For a single bias b use bias_ih=b, bias_hh=0.",
        )

    weight_ih, weight_hh = params.weight_ih, params.weight_hh
    if weight_ih.ndim != 2 or weight_ih.shape[0] % 4:
        _refuse(f"{name}.weight_ih{tail}", "[4H, I]", _show(weight_ih.shape), "Rows are the gates i, f, g, o, H each.")
    hidden = weight_ih.shape[0] // 4
    input_size = weight_ih.shape[1] if input_size is None else input_size
    output = hidden if params.weight_hr is None else params.weight_hr.shape[0]
    fit = "All parameters of a cell must agree in H, P and I."
    _check_shape(f"{name}.weight_ih{tail}", weight_ih, "4H, I", (4 * hidden, input_size), fit)
    if params.weight_hr is not None:
        _check_shape(f"{name}.weight_hr{tail}", params.weight_hr, "P, H", (output, hidden), fit)
        if not 0 < output < hidden:
            _refuse(f"{name}.weight_hr{tail}", f"0 < P < H = {hidden}", f"P = {output}", "Leave it None for P = H.")
    _check_shape(f"{name}.weight_hh{tail}", weight_hh, "4H, P", (4 * hidden, output), fit)
    for field, bias in (("bias_ih", params.bias_ih), ("bias_hh", params.bias_hh)):
        if bias is not None:
            _check_shape(f"{name}.{field}{tail}", bias, "4H", (4 * hidden,), fit)
    return Sizes(1, 1, input_size, hidden, output)


def check_params(params: Any) -> Sizes:
    """A stack's parameters: a tuple over layers of a tuple over directions, of shapes that fit together."""
    remedy = "Make it with init_lstm; one cell as a stack is ((cell,),)."
    if isinstance(params, Mapping):
        named = 'params["params"]' if "params" in params else "params"
        remedy = f"Leaves under PyTorch's names become LSTMParams by jaxlstm.interop.from_torch({named})."
    if isinstance(params, LSTMCellParams) or not isinstance(params, tuple | list) or not params:
        _refuse(
            "params",
            "LSTMParams, a tuple over layers of a tuple over directions",
            type(params).__name__,
            remedy,
            TypeError,
        )
    first: Sizes | None = None
    for layer, cells in enumerate(params):
        name = f"params[{layer}]"
        if isinstance(cells, LSTMCellParams) or not isinstance(cells, tuple | list) or len(cells) not in (1, 2):
            _refuse(name, "a tuple over 1 or 2 directions of LSTMCellParams", type(cells).__name__, remedy, TypeError)
        if first is not None and len(cells) != first.num_directions:
            _refuse(name, f"D = {first.num_directions} directions, as layer 0", str(len(cells)), "Layers share D.")
        for direction, cell in enumerate(cells):
            input_size = None
            if first is not None:
                input_size = first.input_size if layer == 0 else len(cells) * first.output_size
            sizes = check_cell_params(cell, f"{name}[{direction}]", input_size, suffix(layer, direction))
            if first is None:
                first = sizes._replace(num_layers=len(params), num_directions=len(cells))
            elif (sizes.hidden_size, sizes.output_size) != (first.hidden_size, first.output_size):
                _refuse(
                    f"{name}[{direction}]",
                    f"H = {first.hidden_size}, P = {first.output_size}, as layer 0",
                    f"H = {sizes.hidden_size}, P = {sizes.output_size}",
                    "A stack has one size; for layers of different sizes, call lstm or lstm_cell for each.",
                )
    assert first is not None
    return first


def check_x(x: Any, axes: str, unbatched_axes: str, input_size: int) -> jax.Array:
    """An input of as many axes as `axes` ("T, B, I") or one fewer, I last."""
    x = _as_array("x", x)
    _check_float("x", x)
    ndim = axes.count(",") + 1
    if x.ndim not in (ndim, ndim - 1):
        _refuse("x", f"[{axes}] or, unbatched, [{unbatched_axes}]", _show(x.shape), "Reshape it to one of these.")
    if x.shape[-1] != input_size:
        used = axes if x.ndim == ndim else unbatched_axes
        _refuse(
            "x",
            f"[{used}] with I = {input_size}",
            f"I = {x.shape[-1]} in {_show(x.shape)}",
            "x.shape[-1] must be the input_size that the parameters were made for.",
        )
    return x


def check_state(
    state: Any, leading: str, lead: tuple[int, ...], hidden_size: int, output_size: int, argument: str = "state"
) -> LSTMState:
    """A state `(h, c)` whose axes before the last are `lead`, lettered `leading` ("L*D, B, ")."""
    if not isinstance(state, tuple | list) or len(state) != 2:
        _refuse(
            argument, "LSTMState(h, c) or a tuple (h, c)", type(state).__name__, "h comes first, c second.", TypeError
        )
    h, c = (_as_array(f"{argument}.{name}", s) for name, s in zip("hc", state, strict=True))
    for name, s, letter, width in ((f"{argument}.h", h, "P", output_size), (f"{argument}.c", c, "H", hidden_size)):
        _check_float(name, s)
        _check_shape(
            name,
            s,
            f"{leading}{letter}",
            (*lead, width),
            "States are not broadcast over the batch, and batch_first does not move their axes.",
        )
    return LSTMState(h, c)


def check_reset_state(state: Any, leading: str, lead: tuple[int, ...], hidden_size: int, output_size: int) -> LSTMState:
    """A state to begin anew from: one for each row, as a state is, or one for all rows, without B."""
    shared = isinstance(state, tuple | list) and len(state) == 2 and all(np.ndim(s) == 2 for s in state)
    if shared and len(lead) == 2:
        leading, lead = leading.removesuffix("B, "), lead[:1]
    return check_state(state, leading, lead, hidden_size, output_size, "reset_state")


def check_lengths(lengths: Any, batch: tuple[int, ...], num_steps: int) -> jax.Array:
    """`int[B]` (`int[]` unbatched); within `[0, T]` where the values are known while tracing."""
    axes = "B" if batch else ""
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(lengths))
    # By numpy where it can be: inside jit, jnp would trace even a constant, and its values could not be read.
    values = _as_array("lengths", lengths) if traced else _numbers("lengths", lengths)
    if values.dtype == bool:
        axis = 1 if values.shape[:1] == batch else 0
        count = f"Count the steps of a mask: lengths=mask.sum({axis})."
        _refuse("lengths", f"int[{axes}]", f"bool{_show(values.shape)}", count, TypeError)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        _refuse("lengths", "an integer dtype", str(values.dtype), "Convert it: lengths.astype(jnp.int32).", TypeError)
    _check_shape("lengths", values, axes, batch, "One length for each row of the batch.")
    if isinstance(values, np.ndarray) and values.size:
        least, most = int(values.min()), int(values.max())
        # An exported program may leave T open.
        if least < 0 or (isinstance(num_steps, int) and most > num_steps):
            bad = least if least < 0 else most
            _refuse("lengths", f"values from 0 to T = {num_steps}", str(bad), "A length counts a row's valid steps.")
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
            _refuse(name, "None, as T is unknown", f"{value} with T = {num_steps}", "Export for a fixed T.")
    checked = (None if value is None else check_int(name, value, 1) for name, value in options.items())
    return next(checked), next(checked)


def check_resets(resets: Any, axes: str, shape: tuple[int, ...]) -> jax.Array:
    """`bool` of x's shape without I."""
    resets = _as_array("resets", resets)
    if resets.dtype != jnp.bool_:
        _refuse("resets", "dtype bool", str(resets.dtype), "Convert it: resets.astype(bool).", TypeError)
    _check_shape("resets", resets, axes, shape, "It has x's shape without the last axis.")
    return resets
