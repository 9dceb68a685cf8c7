"""The shapes of parameters, which every way of making them follows."""

from collections.abc import Iterable, Iterator

from jaxlstm._names import suffix
from jaxlstm._types import AXES, BIASES


class Shape(tuple):
    """A parameter's shape that says how many gates lie along its first axis: an initializer sees nothing else.

    `[4H, I]` is four gates of `[H, I]`, and W_hr's `[P, H]` is none of them; sizes alone don't tell which it is.
    """

    num_gates: int

    def __new__(cls, sizes: Iterable[int], num_gates: int):
        """The shape `sizes`, whose rows are `num_gates` gates."""
        shape = super().__new__(cls, sizes)
        shape.num_gates = num_gates
        return shape

    def __getnewargs__(self):
        """So that a copy has its gates, too."""
        return tuple(self), self.num_gates


def cell_shapes(
    input_size: int, hidden_size: int, num_gates: int, *, bias: bool = True, proj_size: int = 0
) -> dict[str, tuple]:
    """The shape of each parameter that a cell of these sizes has, by its name in `CellParams`."""
    sizes = {"G*H": num_gates * hidden_size, "I": input_size, "H": hidden_size, "P": proj_size or hidden_size}
    absent = () if bias else BIASES
    if not proj_size:
        absent = (*absent, "weight_hr")
    return {
        name: Shape((sizes[axis] for axis in axes), num_gates if "G*H" in axes else 1)
        for name, axes in AXES.items()
        if name not in absent
    }


def layer_input_sizes(
    input_size: int, hidden_size: int, num_layers: int, *, bidirectional: bool = False, proj_size: int = 0
) -> Iterator[int]:
    """The input size of each layer: I for the first, D*P for those above."""
    yield input_size
    for _ in range(num_layers - 1):
        yield (1 + bidirectional) * (proj_size or hidden_size)


def stack_shapes(
    input_size: int,
    hidden_size: int,
    num_gates: int,
    num_layers: int = 1,
    *,
    bias: bool = True,
    bidirectional: bool = False,
    proj_size: int = 0,
) -> dict[str, tuple]:
    """The shape of each parameter that a stack of these sizes has, by PyTorch's name."""
    inputs = layer_input_sizes(input_size, hidden_size, num_layers, bidirectional=bidirectional, proj_size=proj_size)
    return {
        name + suffix(layer, direction): shape
        for layer, size in enumerate(inputs)
        for direction in range(1 + bidirectional)
        for name, shape in cell_shapes(size, hidden_size, num_gates, bias=bias, proj_size=proj_size).items()
    }
