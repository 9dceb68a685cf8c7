"""Flax NNX modules: they hold parameters under PyTorch's names and call `jaxlstm.lstm`, `gru` and `fold`.

States are `(h, c)`, as PyTorch's, where Flax's own cells carry `(c, h)`.

>>> from jaxlstm.nnx import GRU, LSTM, Fold, GRUCell, LSTMCell
"""

from jaxlstm.nnx._fold import Fold as Fold
from jaxlstm.nnx._gru import GRU as GRU
from jaxlstm.nnx._gru import GRUCell as GRUCell
from jaxlstm.nnx._lstm import LSTM as LSTM
from jaxlstm.nnx._lstm import LSTMCell as LSTMCell

__all__ = ["GRU", "LSTM", "Fold", "GRUCell", "LSTMCell"]

for _module in (GRU, LSTM, Fold, GRUCell, LSTMCell):
    _module.__module__ = __name__
