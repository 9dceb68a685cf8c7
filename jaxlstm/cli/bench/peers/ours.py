"""`jaxlstm.lstm`."""

import jaxlstm
from jaxlstm.cli.bench._work import Work
from jaxlstm.cli.bench.peers._jax import JaxRunner
from jaxlstm.cli.bench.peers._jax import device as device


def runner(work: Work) -> JaxRunner:
    """PyTorch's layout is jaxlstm's own."""
    return JaxRunner(work, lambda weights: weights, jaxlstm.lstm)
