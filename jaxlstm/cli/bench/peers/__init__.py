"""The LSTMs and GRUs that are compared: one file each, and this table of them.

A peer's file has `runner(work)`, which gives a `_runner.Runner`; a JAX peer's is the way into its library and the way
through it, handed to `_jax.JaxRunner`. A new peer is a new file and a new line here.
"""

from typing import NamedTuple

from jaxlstm.cli.bench._work import CELLS, MODES

HERE = __name__


class Peer(NamedTuple):
    """One line of the table.

    Attributes:
        title: as people know it.
        module: the file that runs it.
        package: what it is imported as.
        distribution: what it is installed as.
        is_jax: whether it runs on JAX.
        modes: what it can be timed in.
        cells: what it can be timed with. Haiku's GRU applies the reset gate before the product, and NNX's has no bias
            of the state's: other networks.
    """

    title: str
    module: str
    package: str
    distribution: str
    is_jax: bool = True
    modes: tuple[str, ...] = MODES
    cells: tuple[str, ...] = CELLS


OURS = "jaxlstm"

PEERS = {
    OURS: Peer("jaxlstm", f"{HERE}.ours", "jaxlstm", "jaxlstm"),
    "torch": Peer("PyTorch", f"{HERE}.pytorch", "torch", "torch", is_jax=False),
    "onnxruntime": Peer(
        "ONNX Runtime", f"{HERE}.onnxruntime", "onnxruntime", "onnxruntime onnx", is_jax=False, modes=("fwd",)
    ),
    "linen": Peer("Flax Linen", f"{HERE}.linen", "flax", "flax"),
    "nnx": Peer("Flax NNX", f"{HERE}.nnx", "flax", "flax", cells=("lstm",)),
    "haiku": Peer("Haiku", f"{HERE}.haiku", "haiku", "dm-haiku", cells=("lstm",)),
    "equinox": Peer("Equinox", f"{HERE}.equinox", "equinox", "equinox"),
    "keras": Peer("Keras", f"{HERE}.keras", "keras", "keras"),
}
"""By the name that the command line knows; ours first, as the others' numbers are held against it."""
