"""What the importers and exporters of other libraries share: kinds of cells, gate orders, biases, stacks."""

import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxlstm._check import check_float
from jaxlstm._check_cell import Sizes, check_cell_params, check_params
from jaxlstm._types import Cell, CellParams, LSTMParams
from jaxlstm.cells import GRU, LSTM, RNN

CELLS = LSTM, GRU, RNN
"""PyTorch's cells. Each has another number of gates, so that the rows of a weight say which one it is of."""


def need(module: str, purpose: str, install: str) -> Any:
    """The module that one format needs, or a word on how to get it: what to `pip install`."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(f"{purpose} needs {module.partition('.')[0]}: pip install {install}") from error


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Name the source of whatever goes wrong while it is read, and let it all be one family: `ValueError`."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError, ImportError):
        raise
    except (ValueError, TypeError) as error:
        raise ValueError(f"{source}: {printable(error)}") from error
    except MemoryError as error:
        raise ValueError(f"{source}: takes more memory than there is for it.") from error
    # Parsers of foreign formats raise what they like on a broken or hostile file: none of it may pass unnamed.
    except Exception as error:
        raise ValueError(f"{source}: not readable, {type(error).__name__}: {printable(error)}") from error


def printable(words: object) -> str:
    """Text that may hold a file's own words, in one line, and with what would steer a terminal written out."""
    line = " ".join(str(words).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def file_size(path: str | os.PathLike) -> int:
    """The bytes of a regular file; of another one, such as a pipe or a device, there may be no end."""
    about = os.stat(path)
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("a pipe or device: expected a file.")
    return about.st_size


def check_array(name: str, value: Any, axes: str, shape: Sequence[int | None]) -> np.ndarray:
    """`value` as a floating array of that shape; None stands for any size."""
    array = as_numpy(name, value)
    check_float(name, array, "Convert it first.")
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits:
        numbers = ", ".join("?" if size is None else str(size) for size in shape)
        raise ValueError(f"{name}: expected [{axes}] = [{numbers}], got {list(array.shape)}.")
    return array


def as_numpy(name: str, leaf: Any) -> np.ndarray:
    """A leaf of any framework in numpy, or as numpy sees it if it is none."""
    if isinstance(leaf, Tracer):
        raise TypeError(
            f"{name}: a traced value. Weights are read outside of jit, vmap and grad: import them first, and pass the "
            "parameters in as an argument."
        )
    torch = sys.modules.get("torch")  # A tensor can only come from a torch that somebody has imported.
    try:
        if torch is None or not isinstance(leaf, torch.Tensor):
            return np.asarray(leaf)
        tensor = leaf.detach().cpu().contiguous()
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
        return tensor.numpy()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: expected an array, got {type(leaf).__name__}: {error}") from error


def check_finite(name: str, array: np.ndarray) -> np.ndarray:
    """`array`, if it holds numbers only: in a file, NaN or Inf among the weights says that a training run broke."""
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: NaN or Inf among the weights.")
    return array


def kind_of(cell: Cell) -> str:
    """What a cell is called: "LSTM", "GRU", "RNN"."""
    return cell.name.upper()


def cell_of_shape(weight_hh: Sequence[int], weight_hr: Sequence[int] | None = None) -> Cell | None:
    """PyTorch's cell whose W_hh has the shape `[G*H, P]` and whose W_hr, if it has one, `[P, H]`; None if none has."""
    if len(weight_hh) != 2 or not weight_hh[1]:
        return None
    hidden = weight_hh[1] if weight_hr is None else weight_hr[-1]
    return next((cell for cell in CELLS if weight_hh[0] == cell.num_gates * hidden), None)


def cell_of_params(params: Any) -> Cell:
    """PyTorch's cell that parameters are of; LSTM if they are of none, which the checks that follow then refuse."""
    cell = params
    while isinstance(cell, tuple | list) and not isinstance(cell, CellParams) and cell:
        cell = cell[0]
    weight_hh, weight_hr = (getattr(getattr(cell, f"weight_{name}", None), "shape", None) for name in ("hh", "hr"))
    return cell_of_shape(weight_hh or (), weight_hr) or LSTM


def check(params: Any) -> Sizes:
    """Parameters, of a stack or of one cell, of a cell of PyTorch's."""
    if isinstance(params, CellParams):
        check_cell_params(params, cell=cell_of_params(params))
        return check_stack(((params,),))
    return check_stack(params)


def check_stack(params: Any) -> Sizes:
    """Parameters of a stack of a cell of PyTorch's."""
    cell = cell_of_params(params)
    sizes = check_params(params, cell)
    if any(each.extra is not None for cells in params for each in cells):
        raise ValueError(
            f"params: expected those of PyTorch's {kind_of(cell)}, got extra, which is another cell's and has no name "
            "there. Save the whole tree, by orbax for one."
        )
    return sizes


def reorder(gates: Any, order: Sequence[int]) -> np.ndarray:
    """The gates along axis 0 in another order: block k of the result is block `order[k]` of `gates`."""
    blocks = np.split(np.asarray(gates), len(order))
    return np.concatenate([blocks[k] for k in order])


def cell_params(
    weight_ih: np.ndarray, weight_hh: np.ndarray, bias_ih: np.ndarray | None, bias_hh: np.ndarray | None
) -> CellParams:
    """One cell's parameters, in numpy."""
    return CellParams(weight_ih, weight_hh, bias_ih, bias_hh)  # type: ignore


def one_bias(weight_ih: np.ndarray, weight_hh: np.ndarray, bias: np.ndarray | None) -> CellParams:
    """A cell of a library that has one bias: it becomes `bias_ih`, and `bias_hh` is zero."""
    return cell_params(weight_ih, weight_hh, bias, None if bias is None else np.zeros_like(bias))


def candidate_bias(
    weight_ih: np.ndarray, weight_hh: np.ndarray, bias: np.ndarray | None, bias_n: np.ndarray | None
) -> CellParams:
    """A GRU's cell of a library that has one bias `[3H]`, and a second one `[H]` for n's product with h alone."""
    cell = one_bias(weight_ih, weight_hh, bias)
    if bias_n is None or cell.bias_hh is None:
        return cell
    return cell._replace(bias_hh=np.concatenate([cell.bias_hh[: -len(bias_n)], bias_n]))  # type: ignore


def summed_bias(cell: CellParams) -> np.ndarray | None:
    """The one bias `[G*H]` that a library with one bias takes, or None."""
    if cell.bias_ih is None or cell.bias_hh is None:
        return None
    return np.asarray(cell.bias_ih) + np.asarray(cell.bias_hh)


def in_jax(params: Any) -> Any:
    """Parameters of numpy's arrays in JAX, of copies: the source's owner may go on training it."""
    return jax.tree.map(jnp.array, params)  # jnp.asarray promises no copy.


def stacked(layers: Iterable[Iterable[CellParams]]) -> LSTMParams:
    """A stack over layers and directions of cells, seen to fit."""
    params = tuple(map(tuple, layers))
    check_params(params, cell_of_params(params))
    return params


def single_precision(params: LSTMParams, library: str) -> LSTMParams:
    """`params` as numpy's float32, if that holds their values."""
    if any(leaf.dtype == np.float64 for leaf in jax.tree.leaves(params)):
        raise ValueError(
            f"params: expected float32, bfloat16 or float16, got float64, which {library} has not. "
            "Round it first: jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)."
        )
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)


def check_unprojected(params: LSTMParams, library: str, cell: Cell | None = None) -> LSTMParams:
    """`params`, of a cell or of PyTorch's that they tell, checked, if `library` can hold them."""
    if cell is None:
        check_stack(params)
    else:
        check_params(params, cell)
    if params[0][0].weight_hr is not None:
        raise ValueError(
            f"params: expected no projection (proj_size = 0), got weight_hr {list(params[0][0].weight_hr.shape)}. "
            f"{library}'s {kind_of(cell_of_params(params))} has none: export it to PyTorch or safetensors."
        )
    return params
