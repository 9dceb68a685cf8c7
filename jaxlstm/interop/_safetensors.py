"""Parameters in a safetensors file, under PyTorch's names."""

import os
from typing import Any

import safetensors
import safetensors.numpy

from jaxlstm._types import CellParams, LSTMParams
from jaxlstm._write import replacing
from jaxlstm.interop._cells import check_finite, file_size, in_jax, printable
from jaxlstm.interop._leaves import assemble, plan_of
from jaxlstm.interop._torch import to_torch

_FLOATS = ("F64", "F32", "F16", "BF16")


def load_safetensors(path: str | os.PathLike, prefix: str = "") -> Any:
    """Parameters from a safetensors file that holds them under PyTorch's names, value for value.

    Args:
        path: the file. Only the keys below `prefix` are read.
        prefix: which layer of a larger model: "encoder.lstm" takes the keys that start with "encoder.lstm.". Every key
            below it must belong to the LSTM.

    Returns:
        `LSTMParams`, or `CellParams` where names have no `_l0`, in the file's dtypes; where JAX's
        `jax_enable_x64` is off, as it is by default, float64 becomes float32. Rows tell the cell, as in `from_torch`.

    Raises:
        OSError: no such file, or one that may not be read.
        ValueError: no safetensors file, a truncated one, a missing or surplus key, a wrong shape, NaN or Inf
            among the weights; the message names file and key.
        TypeError: a tensor that is not floating.

    Source: https://github.com/huggingface/safetensors

    >>> import jax, jaxlstm, pathlib, tempfile
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "lstm.safetensors")
    ...     jaxlstm.interop.save_safetensors(params, path)
    ...     loaded = jaxlstm.interop.load_safetensors(path)
    >>> bool((loaded[0][0].weight_ih == params[0][0].weight_ih).all())
    True
    """
    try:
        file_size(path)
        with open(path, "rb"):  # For Python's own words on a path that can't be read.
            pass
        with safetensors.safe_open(path, framework="np") as file:
            plan = plan_of(file.keys(), prefix)
            for key in plan.keys.values():
                if (dtype := file.get_slice(key).get_dtype()) not in _FLOATS:
                    raise TypeError(f"{key}: expected one of {', '.join(_FLOATS)}, got {dtype}. Convert it first.")
            leaves = {name: file.get_tensor(key) for name, key in plan.keys.items()}
        params = in_jax(assemble(plan, leaves))
        for name, key in plan.keys.items():
            check_finite(key, leaves[name])
        return params
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file, got one that can't be read: {printable(error)}. "
            "Fetch or write it anew."
        ) from error
    except (ValueError, TypeError) as error:
        raise type(error)(f"{path}: {printable(error)}") from error


def save_safetensors(params: LSTMParams | CellParams, path: str | os.PathLike) -> None:
    """Write parameters to a safetensors file under PyTorch's names, value for value.

    The file appears whole or not at all, and replaces one that was there.

    Args:
        params: of a stack or of one cell.
        path: the file.

    Raises:
        OSError: a place that can't be written.
        ValueError, TypeError: parameters that `jaxlstm.lstm` would refuse.

    Source: https://github.com/huggingface/safetensors

    >>> import jax, jaxlstm, pathlib, tempfile
    >>> params = jaxlstm.init_lstm_cell(jax.random.key(0), input_size=3, hidden_size=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxlstm.interop.save_safetensors(params, pathlib.Path(folder, "cell.safetensors"))
    """
    data = safetensors.numpy.save(to_torch(params))
    with replacing(path) as temporary:
        temporary.write_bytes(data)
