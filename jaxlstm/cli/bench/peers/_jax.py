"""What all JAX peers share: placement, compilation, gradients, and the way back to PyTorch's layout."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm import _names, from_named_parameters
from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.cli.bench._work import PRODUCT, Work, product_size, wide

States = tuple[Sequence[jax.Array] | jax.Array, ...]
"""The final h, and c of an LSTM, of each layer and direction, l0 forward, l0 reverse, ..., each `[B, H]`."""

Load = Callable[[LSTMParams], Any]
"""From PyTorch's layout to a library's own parameters, any pytree; the transpose brings gradients back."""

Apply = Callable[[Any, jax.Array], Any]
"""From parameters and x to output and `States`."""


def reordered(array: jax.Array, order: str, own: str = "ifgo") -> jax.Array:
    """Rows of `[4H, ...]`, gates in PyTorch's order i, f, g, o, in another order such as "igfo"."""
    gates = dict(zip(own, jnp.split(array, len(own)), strict=True))
    return jnp.concatenate([gates[gate] for gate in order])


def bias(cell: LSTMCellParams) -> jax.Array:
    """The one bias `[4H]` that a library with a single bias has in place of PyTorch's two."""
    assert cell.bias_ih is not None
    assert cell.bias_hh is not None
    return cell.bias_ih + cell.bias_hh


def device() -> dict[str, str]:
    """The platform and the kind of device that JAX computes on."""
    first = jax.devices()[0]
    return {"platform": first.platform, "device": first.device_kind}


class JaxRunner:
    """A `Runner` for a network given as `load` and `apply`."""

    def __init__(self, work: Work, load: Load, apply: Apply, *, batch_first: bool = False) -> None:
        """Place the numbers on the device, in the layout that `apply` takes: `[T, B, I]`, or `[B, T, I]`."""
        self._wide = wide(work.dtype)
        self._time_axis = 1 if batch_first else 0
        self._load, self._apply = load, apply
        self._weights = jax.tree.map(lambda a: jnp.asarray(a, work.dtype), from_named_parameters(work.weights))
        # Leaves, not the library's own containers, go in and out of the compiled call: no peer's figure holds the time
        # that Python takes to walk them.
        self._leaves, self._tree = jax.tree.flatten(load(self._weights))
        x, cotangent = (jnp.asarray(np.moveaxis(a, 0, self._time_axis), work.dtype) for a in (work.x, work.cotangent))
        size = product_size(work.platform)
        square = jnp.ones((size, size), work.dtype)
        self._functions: dict[str, tuple[Callable, tuple]] = {
            "fwd": (self._forward, (self._leaves, x)),
            "train": (self._train, (self._leaves, x, cotangent)),
            PRODUCT: (jnp.matmul, (square, square)),
        }
        self._programs: dict[str, jax.stages.Compiled] = {}
        self._product_flops = 2 * size**3

    def _forward(self, leaves: list[jax.Array], x: jax.Array) -> Any:
        return self._apply(jax.tree.unflatten(self._tree, leaves), x)

    def _train(self, leaves: list[jax.Array], x: jax.Array, cotangent: jax.Array):
        def loss(leaves, x):
            return jnp.sum(self._forward(leaves, x)[0] * cotangent)

        return jax.value_and_grad(loss, argnums=(0, 1))(leaves, x)

    def compile(self, mode: str) -> dict[str, float | None]:
        """Trace, lower and compile, with nothing at hand that an earlier mode has traced."""
        function, arguments = self._functions[mode]
        jax.clear_caches()
        begin = time.perf_counter()
        program = jax.jit(function).lower(*arguments).compile()
        seconds = time.perf_counter() - begin
        self._programs[mode] = program
        memory = program.memory_analysis()
        answer: dict[str, float | None] = {
            "compile_s": seconds,
            "temp_bytes": None if memory is None else memory.temp_size_in_bytes,
        }
        return answer | {"flops": self._product_flops} if mode == PRODUCT else answer

    def run(self, mode: str) -> Any:
        """One call, waited for; its result."""
        return jax.block_until_ready(self._programs[mode](*self._functions[mode][1]))

    def numbers(self, mode: str) -> dict[str, np.ndarray]:
        """What one call gives, as `Runner` says."""
        if mode == "fwd":
            y, states = self.run(mode)
            found = {"output": self._steps(y)}
            found |= {name: jnp.stack(list(s)) for name, s in zip(("h_n", "c_n"), states, strict=False)}
        else:
            _, (gradients, x) = self.run(mode)
            _, to_pytorch = jax.vjp(self._load, self._weights)
            (weights,) = to_pytorch(jax.tree.unflatten(self._tree, gradients))
            found = {"gradient of x": self._steps(x)}
            found |= {f"gradient of {name}": leaf for name, leaf in _names.flatten(weights).items()}
        return {name: np.asarray(array, self._wide) for name, array in found.items()}

    def _steps(self, array: jax.Array) -> jax.Array:
        return jnp.moveaxis(array, self._time_axis, 0)
