"""What a module of Flax's NNX says of its equations, which its parameters don't."""

import sys
from typing import Any

import jax
import jax.numpy as jnp

_OURS = {"gate_fn": (jax.nn.sigmoid, jax.lax.logistic), "activation_fn": (jnp.tanh, jax.nn.tanh, jax.lax.tanh)}


def refuse_other_equations(module: Any, *, backward: bool = False) -> None:
    """Only a module that computes what PyTorch's LSTM or GRU does passes; so does what is no module, and tells nothing.

    Args:
        module: a cell, an `RNN` of one, or a `Bidirectional` of two.
        backward: it is the second direction of a layer.
    """
    nnx = sys.modules.get("flax.nnx")  # What is one of NNX's can only come from where it is imported.
    if nnx is None or not isinstance(module, nnx.Module):
        return
    if isinstance(module, nnx.Bidirectional):
        merged = module.merge_fn
        if merged is not nnx.Bidirectional.merge_fn:
            raise ValueError(f"merge_fn: expected Flax's own, which concatenates as PyTorch does, got {_name(merged)}.")
        refuse_other_equations(module.forward_rnn)
        refuse_other_equations(module.backward_rnn, backward=True)
    elif isinstance(module, nnx.RNN):
        if module.reverse and not backward:
            raise ValueError(
                "reverse: this RNN runs over time in reverse, which no parameter tells. Give its cell, and flip x in "
                "time; or give it as the second of a pair, (forward, backward)."
            )
        refuse_other_equations(module.cell)
    elif isinstance(module, nnx.LSTMCell | nnx.OptimizedLSTMCell | nnx.GRUCell):
        _refuse_other_cells(nnx, module)


def _refuse_other_cells(nnx: Any, cell: Any) -> None:
    theirs = next(kind for kind in (nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell) if isinstance(cell, kind))
    if type(cell).__call__ is not theirs.__call__:
        raise ValueError(f"{type(cell).__name__}: a class of its own equations; expected nnx.{theirs.__name__}'s.")
    for name, ours in _OURS.items():
        given = getattr(cell, name)
        if not any(given is function for function in ours):
            raise ValueError(f"{name}: expected {_name(ours[0])}, as PyTorch's, got {_name(given)}.")


def _name(function: Any) -> str:
    return getattr(function, "__name__", repr(function))
