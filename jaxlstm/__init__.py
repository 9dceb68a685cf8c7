"""PyTorch's `nn.LSTM` and `nn.LSTMCell` as pure JAX functions, with Flax modules on top.

Legend: `B` batch, `T` time, `I` input, `H` hidden, `P` output width (`proj_size` if projected, else `H`),
`L` layers, `D` directions. Gates lie along `4H` in the order i, f, g, o.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from jaxlstm import linen as linen
from jaxlstm._explain import Explanation as Explanation
from jaxlstm._explain import explain as explain
from jaxlstm._init import init_lstm as init_lstm
from jaxlstm._init import init_lstm_cell as init_lstm_cell
from jaxlstm._lstm import lstm as lstm
from jaxlstm._lstm import lstm_cell as lstm_cell
from jaxlstm._lstm import zero_state as zero_state
from jaxlstm._types import LSTMCellParams as LSTMCellParams
from jaxlstm._types import LSTMParams as LSTMParams
from jaxlstm._types import LSTMState as LSTMState
from jaxlstm.linen import LSTM as LSTM
from jaxlstm.linen import LSTMCell as LSTMCell

if TYPE_CHECKING:
    from jaxlstm import interop as interop
    from jaxlstm import nnx as nnx
    from jaxlstm import sharding as sharding


def __getattr__(name: str) -> ModuleType:
    """Import what not every user needs when it is first asked for: Flax's NNX takes as long as its Linen."""
    if name in ("interop", "nnx", "sharding"):
        return importlib.import_module(f"jaxlstm.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
