"""`jaxlstm.lstm` and `jaxlstm.gru`."""

import jaxlstm
from jaxlstm.cli.bench._work import Work
from jaxlstm.cli.bench.peers._jax import JaxRunner
from jaxlstm.cli.bench.peers._jax import device as device


def runner(work: Work) -> JaxRunner:
    """PyTorch's layout is jaxlstm's own."""
    if work.cell == "lstm":
        return JaxRunner(work, lambda weights: weights, jaxlstm.lstm)

    def gru(weights, x):
        y, h = jaxlstm.gru(weights, x)
        return y, (h,)

    return JaxRunner(work, lambda weights: weights, gru)
