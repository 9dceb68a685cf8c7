"""PyTorch's `nn.LSTM`, `nn.GRU` and their cells as pure JAX functions, with Flax modules on top, and any cell of yours.

Legend: `B` batch, `T` time, `I` input, `H` hidden, `P` output width (`proj_size` if projected, else `H`),
`L` layers, `D` directions, `G` gates. An LSTM's lie along `4H` in the order i, f, g, o. Its state is `(h, c)`.

Running:        `lstm`, `gru`, a stack over time; `lstm_cell`, `gru_cell`, one step; `zero_state` to start from
Parameters:     `init_lstm`, `init_lstm_cell`, `init_gru`, `init_gru_cell`; `named_parameters`, `from_named_parameters`
Any cell:       `fold`, `init_fold`, `Cell`; PyTorch's cells and their variants in `jaxlstm.cells`
Pytrees:        `LSTMParams`, `CellParams` (also called `LSTMCellParams`), `LSTMState`
What would run: `explain`, which gives an `Explanation` for each platform
Flax modules:   `LSTM`, `LSTMCell`, `GRU`, `GRUCell`, `Fold`, of `jaxlstm.linen`; NNX's are in `jaxlstm.nnx`
Start values:   `jaxlstm.initializers`
Weights in and out of PyTorch, safetensors, ONNX, Keras, Flax, Haiku, Equinox:  `jaxlstm.interop`
Many devices:   `jaxlstm.sharding`
"""

import typing as _typing

if _typing.TYPE_CHECKING:
    from jaxlstm import cells as cells
    from jaxlstm import initializers as initializers
    from jaxlstm import interop as interop
    from jaxlstm import linen as linen
    from jaxlstm import nnx as nnx
    from jaxlstm import sharding as sharding
    from jaxlstm._explain import Explanation as Explanation
    from jaxlstm._explain import explain as explain
    from jaxlstm._fold import fold as fold
    from jaxlstm._gru import gru as gru
    from jaxlstm._gru import gru_cell as gru_cell
    from jaxlstm._gru import init_gru as init_gru
    from jaxlstm._gru import init_gru_cell as init_gru_cell
    from jaxlstm._init import init_fold as init_fold
    from jaxlstm._init import init_lstm as init_lstm
    from jaxlstm._init import init_lstm_cell as init_lstm_cell
    from jaxlstm._lstm import lstm as lstm
    from jaxlstm._lstm import lstm_cell as lstm_cell
    from jaxlstm._lstm import zero_state as zero_state
    from jaxlstm._names import from_named_parameters as from_named_parameters
    from jaxlstm._names import named_parameters as named_parameters
    from jaxlstm._types import Cell as Cell
    from jaxlstm._types import CellParams as CellParams
    from jaxlstm._types import LSTMCellParams as LSTMCellParams
    from jaxlstm._types import LSTMParams as LSTMParams
    from jaxlstm._types import LSTMState as LSTMState
    from jaxlstm.linen import GRU as GRU
    from jaxlstm.linen import LSTM as LSTM
    from jaxlstm.linen import Fold as Fold
    from jaxlstm.linen import GRUCell as GRUCell
    from jaxlstm.linen import LSTMCell as LSTMCell

    __version__: str

__all__ = [
    "GRU",
    "LSTM",
    "Cell",
    "CellParams",
    "Explanation",
    "Fold",
    "GRUCell",
    "LSTMCell",
    "LSTMCellParams",
    "LSTMParams",
    "LSTMState",
    "explain",
    "fold",
    "from_named_parameters",
    "gru",
    "gru_cell",
    "init_fold",
    "init_gru",
    "init_gru_cell",
    "init_lstm",
    "init_lstm_cell",
    "lstm",
    "lstm_cell",
    "named_parameters",
    "zero_state",
]

_HOMES = {
    "jaxlstm._explain": ("Explanation", "explain"),
    "jaxlstm._fold": ("fold",),
    "jaxlstm._gru": ("gru", "gru_cell", "init_gru", "init_gru_cell"),
    "jaxlstm._init": ("init_fold", "init_lstm", "init_lstm_cell"),
    "jaxlstm._lstm": ("lstm", "lstm_cell", "zero_state"),
    "jaxlstm._names": ("from_named_parameters", "named_parameters"),
    "jaxlstm._types": ("Cell", "CellParams", "LSTMCellParams", "LSTMParams", "LSTMState"),
    "jaxlstm.linen": ("Fold", "GRU", "GRUCell", "LSTM", "LSTMCell"),
}
"""The public names of each module. All are imported when they are first asked for: JAX takes a second, Flax another."""

_SUBMODULES = ("cells", "initializers", "interop", "linen", "nnx", "sharding")


def __getattr__(name: str) -> _typing.Any:
    """Import what is asked for."""
    import importlib

    if name in _SUBMODULES:
        return importlib.import_module(f"jaxlstm.{name}")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("jaxlstm")
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_SUBMODULES, "__version__"]
