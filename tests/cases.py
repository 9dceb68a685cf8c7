"""One table of LSTMs and inputs, and everything a run of one is judged by; shared by all tests that compare runs."""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxlstm
from jaxlstm._names import flatten, unflatten

T, B, I, H, P = 5, 3, 3, 4, 2  # noqa: E741
LENGTHS = np.array([3, 5, 1])  # unsorted, one full row


@dataclass(frozen=True)
class Case:
    """One point of the grid: how an LSTM is built and called."""

    bias: bool = True
    bidirectional: bool = False
    batch_first: bool = False
    ragged: bool = False
    proj_size: int = 0
    num_layers: int = 1
    with_state: bool = False
    batched: bool = True

    def __str__(self) -> str:
        return "-".join(
            name
            for name, on in {
                "bias": self.bias,
                "bi": self.bidirectional,
                "batch_first": self.batch_first,
                "ragged": self.ragged,
                "proj": self.proj_size,
                f"{self.num_layers}layers": True,
                "state": self.with_state,
                "unbatched": not self.batched,
            }.items()
            if on
        )


def grid() -> list[Case]:
    """Bias x directions x batch_first x lengths x projection x layers x initial state, and the unbatched ones."""
    options = itertools.product(
        (True, False), (False, True), (False, True), (False, True), (0, P), (1, 2), (False, True)
    )
    unbatched = itertools.product((True, False), (False, True), (False,), (False,), (0, P), (1, 2), (False, True))
    return [Case(*option) for option in options] + [Case(*option, batched=False) for option in unbatched]


def arrays(case: Case, dtype: Any) -> dict[str, np.ndarray]:
    """Parameters under PyTorch's names, x, h_0, c_0, and a cotangent for each result, the same for a case always."""
    random = np.random.default_rng(0)
    directions = 1 + case.bidirectional
    width = case.proj_size or H
    batch = (B,) if case.batched else ()
    state_batch = (case.num_layers * directions, *batch)
    lead = (B, T) if case.batched and case.batch_first else (T, *batch)

    def draw(*shape):
        return random.uniform(-1, 1, shape).astype(dtype)

    result = {}
    for layer in range(case.num_layers):
        for tail in ("", "_reverse")[:directions]:
            name = f"l{layer}{tail}"
            result[f"weight_ih_{name}"] = draw(4 * H, I if layer == 0 else directions * width)
            result[f"weight_hh_{name}"] = draw(4 * H, width)
            if case.bias:
                result[f"bias_ih_{name}"] = draw(4 * H)
                result[f"bias_hh_{name}"] = draw(4 * H)
            if case.proj_size:
                result[f"weight_hr_{name}"] = draw(case.proj_size, H)
    result["x"] = draw(*lead, I)
    if case.with_state:
        result |= {"h_0": draw(*state_batch, width), "c_0": draw(*state_batch, H)}
    return result | {
        "ct_output": draw(*lead, directions * width),
        "ct_h_n": draw(*state_batch, width),
        "ct_c_n": draw(*state_batch, H),
    }


def run(case: Case, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """output, h_n, c_n and, under `d_` names, the gradients of all inputs, by jaxlstm."""
    names = [name for name in given if name not in ("x", "h_0", "c_0") and not name.startswith("ct_")]
    params = unflatten({name: given[name] for name in names}, case.num_layers, 1 + case.bidirectional)
    state = (given["h_0"], given["c_0"]) if case.with_state else None
    lengths = LENGTHS if case.ragged else None

    @jax.jit
    def value_and_gradient(params, x, state):
        call = lambda *args: jaxlstm.lstm(*args, lengths=lengths, batch_first=case.batch_first)  # noqa: E731
        (y, final), pullback = jax.vjp(call, params, x, state)
        cotangents = jax.tree.unflatten(jax.tree.structure(final), [given["ct_h_n"], given["ct_c_n"]])
        return y, final, pullback((given["ct_output"], jax.tree.map(jnp.asarray, cotangents)))

    y, (h_n, c_n), (d_params, d_x, d_state) = value_and_gradient(params, given["x"], state)
    result = {"output": y, "h_n": h_n, "c_n": c_n, "d_x": d_x}
    result |= {f"d_{name}": leaf for name, leaf in flatten(d_params).items()}
    if d_state is not None:
        result |= {"d_h_0": d_state[0], "d_c_0": d_state[1]}
    return {name: np.asarray(leaf) for name, leaf in result.items()}


def assert_same(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], values: float, gradients: float) -> None:
    """Same names, shapes and dtypes, and within the absolute tolerance of values or gradients."""
    assert got.keys() == wanted.keys()
    for name, want in wanted.items():
        assert got[name].shape == want.shape, name
        tolerance = gradients if name.startswith("d_") else values
        np.testing.assert_allclose(got[name], want, rtol=0, atol=tolerance, err_msg=name)


TOLERANCES = {
    # Rounding alone: one sum of I + P products and five activations deep per step, over T steps and L layers.
    np.float32: {"values": 2e-6, "gradients": 3e-5},
    np.float64: {"values": 1e-12, "gradients": 1e-12},
}
