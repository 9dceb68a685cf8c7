"""PyTorch's `state_dict`s, in and out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlstm._names import flatten
from jaxlstm._types import CellParams, LSTMParams
from jaxlstm.interop._cells import as_numpy, check, in_jax
from jaxlstm.interop._leaves import assemble, plan_of
from jaxlstm.interop._reparametrized import explicit
from jaxlstm.interop._trees import joined, unwrapped


def from_torch(source: Any, prefix: str = "") -> Any:
    """Parameters from PyTorch, value for value.

    Args:
        source: one of these; weights under weight norm are computed.

            - a `state_dict`, or any mapping of PyTorch's names to arrays: torch's on any device, numpy's or JAX's;
            - a nested one: a checkpoint `{"model": state_dict}`, variables of `jaxlstm.LSTM`, what orbax restores;
            - an `nn.LSTM`, `nn.GRU` or `nn.RNN`, one of their cells, or a module that holds one;
            - a `jaxlstm.nnx.LSTM`.
        prefix: which layer of a larger model: "encoder.lstm" takes the keys that start with "encoder.lstm." (or with
            "encoder.lstm/", where that is how they are joined). Every key below it must belong to the LSTM.

    Returns:
        `LSTMParams`, or `CellParams` where names have no `_l0`; copies, in the source's dtypes. Where JAX's
        `jax_enable_x64` is off, as it is by default, float64 becomes float32. Rows tell the cell: 4H are for
        `jaxlstm.lstm`, 3H for `jaxlstm.gru`, H for `jaxlstm.fold` of `cells.RNN`.

        Not in them are `batch_first` and `dropout`, which are arguments of those functions, and an RNN's nonlinearity:
        `cells.RNN` has tanh.

    Raises:
        ValueError: a missing or surplus key, a wrong shape, or a weight that is quantized, pruned or parametrized
            otherwise; the message names the key. An RNN module whose nonlinearity is not tanh.
        TypeError: a source that is no mapping, or a leaf that is no floating array.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

    >>> import numpy as np, jax.numpy as jnp, jaxlstm
    >>> state_dict = {
    ...     "lstm.weight_ih_l0": np.ones((20, 3), np.float32), "lstm.weight_hh_l0": np.ones((20, 5), np.float32),
    ...     "lstm.bias_ih_l0": np.ones(20, np.float32), "lstm.bias_hh_l0": np.ones(20, np.float32),
    ...     "linear.weight": np.ones((2, 5), np.float32),
    ... }  # or torch.load("model.pt", weights_only=True)
    >>> params = jaxlstm.interop.from_torch(state_dict, prefix="lstm")
    >>> output, state = jaxlstm.lstm(params, jnp.ones((7, 2, 3)))
    """
    if callable(getattr(source, "state_dict", None)):
        _refuse_other_nonlinearity(source, prefix)
        source = source.state_dict()
    source = unwrapped(source)
    if not isinstance(source, Mapping):
        raise TypeError(
            "source: expected a state_dict, an nn.LSTM, nn.GRU, nn.RNN or a mapping of names to arrays, got "
            f"{type(source).__name__}. Load a file first: torch.load(path, weights_only=True)."
        )
    if set(source) == {"params"} and not prefix.startswith("params"):  # Linen's variables.
        source = source["params"]
    return in_jax(from_leaves(joined(source), prefix))


def _refuse_other_nonlinearity(module: Any, prefix: str) -> None:
    for name, inner in getattr(module, "named_modules", dict)():
        given = getattr(inner, "nonlinearity", "tanh")
        if name == prefix.removesuffix(".") and given != "tanh":
            raise ValueError(
                f"{prefix or 'source'}: an RNN whose nonlinearity is {given!r}; cells.RNN has 'tanh'. Give its "
                "state_dict(), and run it by jaxlstm.fold with a Cell whose rule has that."
            )


def from_leaves(source: Mapping[str, Any], prefix: str = "") -> LSTMParams | CellParams:
    """As `from_torch`, from leaves by their whole names, and in numpy."""
    leaves = explicit(source)
    plan = plan_of(leaves, prefix)
    return assemble(plan, {name: as_numpy(key, leaves[key]()) for name, key in plan.keys.items()})


def to_torch(params: LSTMParams | CellParams) -> dict[str, np.ndarray]:
    """Parameters under PyTorch's names, value for value.

    Args:
        params: of a stack or of one cell, of an LSTM, a GRU or an RNN.

    Returns:
        Arrays of numpy by name, copies, in the parameters' dtypes. `torch.from_numpy` takes each, but for bfloat16,
        which torch does not know in numpy: `torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)`.

    Raises:
        ValueError, TypeError: parameters that do not fit together, or that have `extra`, for which PyTorch has no name.

    >>> import jax, jaxlstm
    >>> state_dict = jaxlstm.interop.to_torch(jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5))
    >>> list(state_dict)
    ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']

    In PyTorch: `nn.LSTM(3, 5).load_state_dict({name: torch.from_numpy(a) for name, a in state_dict.items()})`.
    """
    check(params)
    # Row-major, as files want it, and writable, as torch wants it: a JAX array's own numpy view is read-only.
    return {name: np.array(leaf, order="C") for name, leaf in flatten(params).items()}
