"""PyTorch's `nn.LSTM` and `nn.LSTMCell` as pure JAX functions, with Flax modules on top.

Legend: `B` batch, `T` time, `I` input, `H` hidden, `P` output width (`proj_size` if projected, else `H`),
`L` layers, `D` directions. Gates lie along `4H` in the order i, f, g, o.
"""

from jaxlstm._init import init_lstm as init_lstm
from jaxlstm._init import init_lstm_cell as init_lstm_cell
from jaxlstm._lstm import lstm as lstm
from jaxlstm._lstm import lstm_cell as lstm_cell
from jaxlstm._types import LSTMCellParams as LSTMCellParams
from jaxlstm._types import LSTMParams as LSTMParams
from jaxlstm._types import LSTMState as LSTMState
