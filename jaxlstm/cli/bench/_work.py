"""What is timed: the shapes, the numbers that every peer gets, and the operations that they cost."""

import re
from typing import NamedTuple

import numpy as np

MODES = ("fwd", "train")
"""`fwd`: output and final state. `train`: loss and its gradients with respect to all parameters and the input."""

PRODUCT = "product"
"""The plain matrix product whose rate is the yardstick."""

CELLS = ("lstm", "gru")
"""The cells that are timed."""

DTYPES = ("float32", "bfloat16", "float16", "float64")


class Shape(NamedTuple):
    """The sizes of one stack and its input, in the legend's letters: B, T, I, H, L, D."""

    batch: int
    time: int
    input: int
    hidden: int
    layers: int = 1
    directions: int = 1

    def __str__(self) -> str:
        shown = tuple(self)
        while len(shown) > 4 and shown[-1] == 1:
            shown = shown[:-1]
        return "x".join(map(str, shown))

    def flops(self, cell: str, mode: str) -> int:
        """Floating-point operations of one call's matrix products; training does those of `fwd` three times."""
        from jaxlstm._shapes import layer_input_sizes

        sizes = layer_input_sizes(self.input, self.hidden, self.layers, bidirectional=self.directions == 2)
        forward = sum(2 * self.time * self.batch * self.hidden * (size + self.hidden) for size in sizes)
        return _num_gates(cell) * self.directions * forward * {"fwd": 1, "train": 3}[mode]


SHAPES = (
    Shape(1, 128, 64, 64),
    Shape(1, 1, 256, 256),  # one step of a streaming model
    Shape(8, 200, 40, 256, 3),  # speech
    Shape(32, 128, 128, 128),
    Shape(64, 100, 256, 256),
    Shape(32, 64, 512, 512),
    Shape(16, 256, 128, 256, 2, 2),
)
"""From one step of a streaming model to two bidirectional layers: what is timed by default."""


def parse_shape(text: str) -> Shape:
    """`BxTxIxH[xL[xD]]` as a `Shape`; ValueError, with the remedy, for anything else."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){3,5}", text):
        raise ValueError(
            f"{text!r} is not BxTxIxH[xL[xD]] in positive integers, as in 32x128x128x128 or 8x200x40x256x3"
        )
    shape = Shape(*map(int, text.split("x")))
    if shape.directions > 2:
        raise ValueError(f"{text!r} has D = {shape.directions}; a stack has 1 direction or 2")
    return shape


class Work(NamedTuple):
    """One shape's numbers, the same in every process. Arrays are NumPy's, at float32 or above.

    Attributes:
        shape: the sizes.
        cell: one of `CELLS`.
        dtype: what to convert the arrays to.
        platform: "cpu", "gpu" or "tpu": where to run.
        weights: a `state_dict`: by PyTorch's names, in its layout.
        x: `[T, B, I]`, the input.
        cotangent: `[T, B, D*H]`; the loss of `train` is the sum of output times this.
    """

    shape: Shape
    cell: str
    dtype: str
    platform: str
    weights: dict[str, np.ndarray]
    x: np.ndarray
    cotangent: np.ndarray


def _num_gates(cell: str) -> int:
    # Here, as the command's help does not wait for JAX.
    from jaxlstm import cells

    return getattr(cells, cell.upper()).num_gates


def product_size(platform: str) -> int:
    """The side of the two square matrices of `PRODUCT`.

    Large enough for an accelerator's rate; small enough for a CPU's, which falls again once the caches are full.
    """
    return 1024 if platform == "cpu" else 8192


def wide(dtype: str) -> type[np.floating]:
    """The NumPy dtype in which numbers of `dtype` are drawn and compared."""
    return np.float64 if dtype == "float64" else np.float32


def draw(shape: Shape, cell: str, dtype: str, platform: str) -> Work:
    """The numbers for one shape, always the same."""
    # Here, as the command's help does not wait for JAX.
    from jaxlstm._names import suffix
    from jaxlstm._shapes import cell_shapes, layer_input_sizes

    rng = np.random.default_rng(0)
    bound = 1 / np.sqrt(shape.hidden)
    sizes = layer_input_sizes(shape.input, shape.hidden, shape.layers, bidirectional=shape.directions == 2)
    weights = {
        name + suffix(layer, direction): rng.uniform(-bound, bound, of).astype(wide(dtype))
        for layer, size in enumerate(sizes)
        for direction in range(shape.directions)
        for name, of in cell_shapes(size, shape.hidden, _num_gates(cell)).items()
    }
    steps = (shape.time, shape.batch)
    x = rng.standard_normal((*steps, shape.input)).astype(wide(dtype))
    cotangent = rng.standard_normal((*steps, shape.directions * shape.hidden)).astype(wide(dtype))
    return Work(shape, cell, dtype, platform, weights, x, cotangent)
