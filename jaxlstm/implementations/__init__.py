"""The ways to run one layer: a table from name to function, and why a way can't serve.

Each file here is one implementation of `jaxlstm._stack.Layer`.
"""

from jaxlstm.implementations import xla

LAYERS = {"xla": xla.layer}
"""Name to layer function."""

COMING = {
    "cudnn": "cuDNN's LSTM is not part of this version of jaxlstm",
    "pallas": "a Pallas kernel is not part of this version of jaxlstm",
}
"""Name to the reason why it can't serve."""


def choose(implementation: str | None) -> str:
    """The name of the layer function to run; None takes the best.

    Raises:
        NotImplementedError: a known name that can't serve, with the reason.
        ValueError: an unknown name.
    """
    if implementation is None:
        return "xla"
    if implementation in COMING:
        raise NotImplementedError(f'implementation="{implementation}": {COMING[implementation]}. Use "xla" or None.')
    if implementation not in LAYERS:
        known = ", ".join(f'"{name}"' for name in LAYERS)
        raise ValueError(f"implementation: expected None or one of {known}, got {implementation!r}.")
    return implementation
