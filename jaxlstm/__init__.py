"""PyTorch's `nn.LSTM` and `nn.LSTMCell` as pure JAX functions, with Flax modules on top.

Legend: `B` batch, `T` time, `I` input, `H` hidden, `P` output width (`proj_size` if projected, else `H`),
`L` layers, `D` directions. Gates lie along `4H` in the order i, f, g, o. A state is `(h, c)`.

Running:        `lstm`, a stack over time; `lstm_cell`, one step; `zero_state` to start from
Parameters:     `init_lstm`, `init_lstm_cell`; `named_parameters`, `from_named_parameters`
Pytrees:        `LSTMParams`, `LSTMCellParams`, `LSTMState`
What would run: `explain`, which gives an `Explanation` for each platform
Flax modules:   `LSTM`, `LSTMCell`, which are Linen's; all of them in `jaxlstm.linen` and `jaxlstm.nnx`
Start values:   `jaxlstm.initializers`
Weights in and out of PyTorch, safetensors, ONNX, Keras, Flax, Haiku, Equinox:  `jaxlstm.interop`
Many devices:   `jaxlstm.sharding`
"""

import typing as _typing

from jaxlstm._explain import Explanation as Explanation
from jaxlstm._explain import explain as explain
from jaxlstm._init import init_lstm as init_lstm
from jaxlstm._init import init_lstm_cell as init_lstm_cell
from jaxlstm._lstm import lstm as lstm
from jaxlstm._lstm import lstm_cell as lstm_cell
from jaxlstm._lstm import zero_state as zero_state
from jaxlstm._names import from_named_parameters as from_named_parameters
from jaxlstm._names import named_parameters as named_parameters
from jaxlstm._types import LSTMCellParams as LSTMCellParams
from jaxlstm._types import LSTMParams as LSTMParams
from jaxlstm._types import LSTMState as LSTMState

if _typing.TYPE_CHECKING:
    from jaxlstm import initializers as initializers
    from jaxlstm import interop as interop
    from jaxlstm import linen as linen
    from jaxlstm import nnx as nnx
    from jaxlstm import sharding as sharding
    from jaxlstm.linen import LSTM as LSTM
    from jaxlstm.linen import LSTMCell as LSTMCell

    __version__: str

__all__ = [
    "LSTM",
    "Explanation",
    "LSTMCell",
    "LSTMCellParams",
    "LSTMParams",
    "LSTMState",
    "explain",
    "from_named_parameters",
    "init_lstm",
    "init_lstm_cell",
    "lstm",
    "lstm_cell",
    "named_parameters",
    "zero_state",
]

_SUBMODULES = ("initializers", "interop", "linen", "nnx", "sharding")


def __getattr__(name: str) -> _typing.Any:
    """Import what not every user needs when it is first asked for, Flax above all."""
    import importlib

    if name in _SUBMODULES:
        return importlib.import_module(f"jaxlstm.{name}")
    if name in ("LSTM", "LSTMCell"):
        return getattr(importlib.import_module("jaxlstm.linen"), name)
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("jaxlstm")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_SUBMODULES, "__version__"]
