"""The ways to run one layer: a table from name to function, and why a way can't serve.

Each file here without an underscore is one implementation: `xla` of `jaxlstm._stack.Layer`, which runs everywhere, and
the kernels of `jaxlstm.implementations._kernel.Kernel`.
"""

import functools
from typing import Any, NamedTuple

import jax
from jax import lax

from jaxlstm._stack import Layer
from jaxlstm._types import LSTMCellParams, LSTMState
from jaxlstm._varying import varying_axes
from jaxlstm.implementations import _kernel, cudnn, pallas, xla
from jaxlstm.implementations._platform import zeros_like


class Entry(NamedTuple):
    """A kernel in the table."""

    kernel: _kernel.Kernel
    platform: str
    reference: Layer
    """Where forward mode and higher derivatives come from, when the kernel was asked for by name."""


def _first_gradient_only(*_: Any, **__: Any):
    raise _kernel.refused("cudnn", "it has no forward mode and no second derivative")


KERNELS = {
    "pallas": Entry(pallas, "tpu", xla.layer),
    "cudnn": Entry(cudnn, "cuda", _first_gradient_only),
}
"""Name to kernel."""


def _why_not(kernel: _kernel.Kernel, operands, masks, *, reverse: bool, checkpoint_every, unroll) -> str | None:
    if checkpoint_every is not None:
        return "it keeps every step for the backward pass (checkpoint_every must be None)"
    if varying_axes((operands, masks)):
        return "it can't tell over which mesh axes its results vary (shard_map's check_vma must be False)"
    if unroll is not None:
        return "it has no loop to unroll (unroll must be None)"
    return kernel.why_not(*operands, **masks._asdict(), reverse=reverse)


def _named(
    name: str,
    params: LSTMCellParams,
    x: jax.Array,
    state: LSTMState,
    *,
    lengths: jax.Array | None,
    begins: jax.Array | None,
    reverse: bool,
    **options: int | None,
):
    """One kernel, or the reason why not."""
    kernel, platform, reference = KERNELS[name]
    operands, masks = _kernel.Operands(params, x, state), _kernel.Masks(lengths, begins)
    reason = _why_not(kernel, operands, masks, reverse=reverse, **options)
    if reason is not None:
        raise _kernel.refused(name, reason)

    def elsewhere(*_):
        raise _kernel.refused(name, f"it runs on {platform.upper()}, and this program is made for another platform")

    return _kernel.layer(_kernel.Run(kernel, platform, elsewhere, reference, reverse), operands, masks)


def _best(
    params: LSTMCellParams,
    x: jax.Array,
    state: LSTMState,
    *,
    lengths: jax.Array | None,
    begins: jax.Array | None,
    reverse: bool,
    **options: int | None,
):
    """For each platform that the program may be compiled for: its kernel if that can serve, else `xla`."""
    operands, masks = _kernel.Operands(params, x, state), _kernel.Masks(lengths, begins)

    def by_xla(operands, masks):
        return xla.layer(*operands, **masks._asdict(), reverse=reverse, **options)

    kernels = {
        entry.platform: functools.partial(
            _kernel.layer, _kernel.Run(entry.kernel, entry.platform, zeros_like, xla.layer, reverse)
        )
        for entry in KERNELS.values()
        if _why_not(entry.kernel, operands, masks, reverse=reverse, **options) is None
    }
    if x.shape[0] == 1 or not kernels:  # A single step has no weight to hold.
        return by_xla(operands, masks)
    return lax.platform_dependent(operands, masks, **kernels, default=by_xla)


LAYERS = {None: _best, "xla": xla.layer} | {name: functools.partial(_named, name) for name in KERNELS}
"""Name to layer function; None decides by the platform that the program is compiled for."""


def check(implementation: str | None) -> str | None:
    """The name.

    Raises:
        ValueError: an unknown one.
    """
    if implementation not in LAYERS:
        known = ", ".join(f'"{name}"' for name in LAYERS if name)
        raise ValueError(f"implementation: expected None or one of {known}, got {implementation!r}.")
    return implementation
