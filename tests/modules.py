"""Both flavours of the Flax modules behind one face, for the tests that hold of both."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxlstm

IN, H, T, B = 3, 5, 6, 4


class Built(NamedTuple):
    """A module with its parameters: leaves by name, and how to call it, in training mode and not."""

    leaves: dict[str, Any]
    call: Callable
    train: Callable
    module: Any


def linen(kind: str, *args, **options) -> Built:
    module = getattr(jaxlstm.linen, kind)(*args, **options)
    one_step = (1, int(module.input_size)) if kind.endswith("Cell") else (1, 1, int(module.input_size))
    variables = module.init(jax.random.key(0), jnp.zeros(one_step))

    def train(x, key):
        return module.apply(variables, x, deterministic=False, rngs={"dropout": key})

    return Built(variables["params"], lambda *a, **k: module.apply(variables, *a, **k), train, module)


def of_nnx(kind: str, *args, **options) -> Built:
    module = getattr(jaxlstm.nnx, kind)(*args, **options, rngs=nnx.Rngs(0, dropout=1))
    leaves = {name: param[...] for name, param in nnx.state(module, nnx.Param).items()}
    module.eval()

    def train(x, key):
        module.train()
        nnx.reseed(module, dropout=key)
        result = module(x)
        module.eval()
        return result

    return Built(leaves, module, train, module)


both = pytest.mark.parametrize("build", [linen, of_nnx])


def rand(*shape):
    return jax.random.normal(jax.random.key(sum(shape)), shape)
