"""The equations of ONNX's recurrent nodes: which of its variants a node is, as a `Cell`, or that it is PyTorch's.

And back: a cell as a node's attributes.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlstm import cells
from jaxlstm._types import Cell
from jaxlstm.interop._variants import GRURule, RNNRule, gru, rnn


class Kind(NamedTuple):
    """An operator.

    Attributes:
        order: of its gates, in PyTorch's: i, o, f, c to i, f, g, o; z, r, h to r, z, n.
        activations: the default ones.
    """

    order: tuple[int, ...]
    activations: tuple[str, ...]

    @property
    def gates(self) -> int:
        """G."""
        return len(self.order)


KINDS = {
    "LSTM": Kind((0, 2, 3, 1), ("Sigmoid", "Tanh", "Tanh")),
    "GRU": Kind((1, 0, 2), ("Sigmoid", "Tanh")),
    "RNN": Kind((0,), ("Tanh",)),
}
PEEPHOLES = ("peephole_i", "peephole_o", "peephole_f")
"""The order of `P`'s, by their names in a cell's `extra`."""

_PLAIN: dict[str, Callable] = {
    "Relu": jax.nn.relu,
    "Sigmoid": jax.nn.sigmoid,
    "Softplus": jax.nn.softplus,
    "Softsign": jax.nn.soft_sign,
    "Tanh": jnp.tanh,
}
_WITH_ALPHA: dict[str, tuple[Callable, float | None]] = {
    # a function of (x, alpha), alpha's default
    "Elu": (lambda x, alpha: jax.nn.elu(x, alpha), 1.0),
    "LeakyRelu": (lambda x, alpha: jax.nn.leaky_relu(x, alpha), 0.01),
    # The operator's own default is 1, and ONNX Runtime's in a recurrent node is 0.
    "ThresholdedRelu": (lambda x, alpha: jnp.where(x > alpha, x, jnp.zeros_like(x)), None),
}
_WITH_BETA: dict[str, tuple[Callable, float | None, float | None]] = {
    # a function of (x, alpha, beta), their defaults
    "Affine": (lambda x, alpha, beta: alpha * x + beta, None, None),
    "HardSigmoid": (lambda x, alpha, beta: jnp.clip(alpha * x + beta, 0, 1), 0.2, 0.5),
    "ScaledTanh": (lambda x, alpha, beta: alpha * jnp.tanh(beta * x), None, None),
}


_BY_LOWER = {name.lower(): name for name in (*_PLAIN, *_WITH_ALPHA, *_WITH_BETA)}


@dataclasses.dataclass(frozen=True)
class Activation:
    """One of ONNX's that takes parameters: equal ones are equal.

    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html
    """

    name: str
    alpha: float | None
    beta: float | None = None

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.beta is None:
            return _WITH_ALPHA[self.name][0](x, self.alpha)
        return _WITH_BETA[self.name][0](x, self.alpha, self.beta)


_NAMES: dict[Any, Activation | str] = {function: name for name, function in _PLAIN.items()} | {
    jax.nn.elu: Activation("Elu", 1.0),
    jax.nn.hard_sigmoid: Activation("HardSigmoid", 1 / 6, 0.5),
    jax.nn.leaky_relu: Activation("LeakyRelu", 0.01),
}
"""What functions of JAX are called in ONNX."""


def attributes_of(cell: Cell, directions: int) -> dict[str, Any]:
    """The attributes of a node that runs a cell, but for its sizes.

    Raises:
        ValueError: a cell that ONNX has no node for.
    """
    after = {"linear_before_reset": 1} if cell.num_gates == 3 else {}
    rule = cell.rule
    if cell in (cells.LSTM, cells.GRU, cells.RNN):
        return after
    if isinstance(rule, cells.LSTMRule) and not rule.layer_norm:
        functions: tuple[Callable, ...] = rule.gate_activation, rule.cell_activation, rule.output_activation
        after = {"input_forget": 1} if rule.coupled else {}
    elif isinstance(rule, GRURule):
        functions = rule.gate_activation, rule.cell_activation
    elif isinstance(rule, RNNRule):
        functions = (rule.activation,)
    else:
        raise ValueError(
            "cell: expected PyTorch's LSTM, GRU or RNN, or a variant by cells.lstm without layer_norm, got "
            f"{cell.name}, which ONNX has no node for."
        )
    if rule.clip is not None:
        after |= {"clip": rule.clip}
    named = [_named(function) for function in functions] * directions
    parameters = {
        f"activation_{which}": [getattr(each, which) for each in named if getattr(each, which) is not None]
        for which in ("alpha", "beta")
    }
    return after | {"activations": [each.name for each in named]} | {k: v for k, v in parameters.items() if v}


def _named(function: Callable) -> Activation:
    named = function if isinstance(function, Activation) else _NAMES.get(function)
    if named is None:
        raise ValueError(f"cell: expected activations of ONNX's, {', '.join(_BY_LOWER.values())}, got {function}.")
    return Activation(named, None) if isinstance(named, str) else named


def equations(node: Any, attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a node's equations, to be compared."""
    names = ("activations", "activation_alpha", "activation_beta", "clip", "input_forget", "linear_before_reset")
    return node.op_type, has_peepholes(node), *(str(attributes.get(name)) for name in names)


def has_peepholes(node: Any) -> bool:
    """Whether the gates of an LSTM node see c."""
    return node.op_type == "LSTM" and len(node.input) > 7 and bool(node.input[7])


def cell_of(node: Any, attributes: Mapping[str, Any], directions: int) -> Cell:
    """The cell that a node runs; equal nodes have equal cells."""
    _refuse_reset_before_product(node, attributes)
    of_each = _activations(KINDS[node.op_type], attributes, directions)
    if len(set(of_each)) > 1:
        raise ValueError(
            "activations: expected the same in both directions, which run by one rule. Give the node's two directions "
            "as two nodes."
        )
    clip = attributes.get("clip")
    if node.op_type == "GRU":
        return gru(*of_each[0], clip=clip)
    if node.op_type == "RNN":
        return rnn(*of_each[0], clip=clip)
    gate, cell, output = of_each[0]
    return cells.lstm(
        peephole=has_peepholes(node),
        coupled=bool(attributes.get("input_forget", 0)),
        clip=clip,
        gate_activation=gate,
        cell_activation=cell,
        output_activation=output,
    )


def refuse_other_equations(node: Any, attributes: Mapping[str, Any], directions: int) -> None:
    """ONNX's operators have variants that PyTorch's equations have not."""
    _refuse_reset_before_product(node, attributes)
    other = f"PyTorch's {node.op_type} does not: from_onnx_cell reads it"
    if has_peepholes(node):
        raise ValueError(
            "P: this node has peephole weights, which let the gates see c; PyTorch's LSTM has none: from_onnx_cell "
            "reads it."
        )
    if "clip" in attributes:
        raise ValueError(f"clip: this node clips its gates at {attributes['clip']}; {other}.")
    if attributes.get("input_forget", 0):
        raise ValueError(f"input_forget: this node couples its input and forget gates; {other}.")
    given, expected = attributes.get("activations", []), KINDS[node.op_type].activations
    if given and [_BY_LOWER.get(activation.lower()) for activation in given] != list(expected) * directions:
        raise ValueError(
            f"activations: expected {', '.join(expected)} in each direction, got {', '.join(given)}. "
            "from_onnx_cell reads it."
        )


def _refuse_reset_before_product(node: Any, attributes: Mapping[str, Any]) -> None:
    if node.op_type == "GRU" and not attributes.get("linear_before_reset", 0):
        raise ValueError(
            "linear_before_reset: expected 1, the reset gate after the product, r * (R_h h), as in PyTorch and Keras "
            "with reset_after=True; this node has it before, R_h (r * h), which no rule of two products can be."
        )


def _activations(kind: Kind, attributes: Mapping[str, Any], directions: int) -> list[tuple[Callable, ...]]:
    """For each direction; alphas and betas are given in the order of those functions that take one."""
    count = len(kind.activations)
    chosen = attributes.get("activations") or kind.activations * directions
    names = [_BY_LOWER.get(name.lower(), name) for name in chosen]
    if len(names) != count * directions:
        raise ValueError(f"activations: expected {count} for each direction, {count * directions}, got {len(names)}.")
    given = {name: list(attributes.get(f"activation_{name}", ())) for name in ("alpha", "beta")}

    def parameter(which: str, activation: str, default: float | None) -> float:
        value = given[which].pop(0) if given[which] else default
        if value is None:
            raise ValueError(f"activation_{which}: missing; {activation} has no default that all agree on.")
        return float(value)

    def function(name: str) -> Callable:
        if name in _PLAIN:
            return _PLAIN[name]
        if name in _WITH_ALPHA:
            return Activation(name, parameter("alpha", name, _WITH_ALPHA[name][1]))
        if name in _WITH_BETA:
            _, alpha, beta = _WITH_BETA[name]
            return Activation(name, parameter("alpha", name, alpha), parameter("beta", name, beta))
        raise ValueError(f"activations: expected ONNX's, {', '.join(_BY_LOWER.values())}, got {name!r}.")

    functions = [function(name) for name in names]
    for which, left in given.items():
        takes = [name for name in names if name in _WITH_BETA or (which == "alpha" and name in _WITH_ALPHA)]
        if left and takes:
            raise ValueError(
                f"activation_{which}: expected {len(takes)}, one for each of {', '.join(takes)}, got "
                f"{len(takes) + len(left)}."
            )
    return [tuple(functions[k : k + count]) for k in range(0, len(functions), count)]
