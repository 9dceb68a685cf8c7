"""One table of LSTMs and inputs, and everything a run of one is judged by; shared by all tests that compare runs."""

import functools
import itertools
from dataclasses import dataclass, replace
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
    """One point of the grid: how a recurrent layer is built and called."""

    bias: bool = True
    bidirectional: bool = False
    batch_first: bool = False
    ragged: bool = False
    proj_size: int = 0
    num_layers: int = 1
    with_state: bool = False
    batched: bool = True
    cell: str = "LSTM"
    """Its name in `jaxlstm.cells` and in `torch.nn`."""

    @property
    def states(self) -> list[str]:
        """The names of the initial states; those of the final ones end in n."""
        return ["h_0", "c_0"] if self.cell == "LSTM" else ["h_0"]

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
                self.cell: self.cell != "LSTM",
            }.items()
            if on
        )


def grid() -> list[Case]:
    """Bias x directions x lengths x projection x layers x initial state, unbatched too; B comes first in half of it."""
    options = itertools.product((True, False), (False, True), (False, True), (0, P), (1, 2), (False, True))
    batched = [
        Case(bias, bidirectional, ragged != with_state, ragged, proj_size, num_layers, with_state)
        for bias, bidirectional, ragged, proj_size, num_layers, with_state in options
    ]
    return batched + [replace(case, ragged=False, batch_first=False, batched=False) for case in batched if case.ragged]


def grid_of(cell: str) -> list[Case]:
    """The same but projections, for another cell of PyTorch's; B comes first in a part of it."""
    options = [
        Case(bias, bidirectional, ragged != with_state, ragged, 0, num_layers, with_state, cell=cell)
        for bias, bidirectional, ragged, num_layers, with_state in itertools.product(
            (True, False), (False, True), (False, True), (1, 2), (False, True)
        )
    ]
    return options + [replace(case, ragged=False, batch_first=False, batched=False) for case in options if case.ragged]


def arrays(case: Case, dtype: Any) -> dict[str, np.ndarray]:
    """Parameters under PyTorch's names, x, initial states, and a cotangent for each result, always the same."""
    random = np.random.default_rng(0)
    directions = 1 + case.bidirectional
    width = case.proj_size or H
    rows = getattr(jaxlstm.cells, case.cell).num_gates * H
    batch = (B,) if case.batched else ()
    state_batch = (case.num_layers * directions, *batch)
    lead = (B, T) if case.batched and case.batch_first else (T, *batch)

    def draw(*shape):
        return random.uniform(-1, 1, shape).astype(dtype)

    result = {}
    for layer in range(case.num_layers):
        for tail in ("", "_reverse")[:directions]:
            name = f"l{layer}{tail}"
            result[f"weight_ih_{name}"] = draw(rows, I if layer == 0 else directions * width)
            result[f"weight_hh_{name}"] = draw(rows, width)
            if case.bias:
                result[f"bias_ih_{name}"] = draw(rows)
                result[f"bias_hh_{name}"] = draw(rows)
            if case.proj_size:
                result[f"weight_hr_{name}"] = draw(case.proj_size, H)
    result["x"] = draw(*lead, I)
    if case.with_state:
        result |= {name: draw(*state_batch, width if name == "h_0" else H) for name in case.states}
    result["ct_output"] = draw(*lead, directions * width)
    result["ct_h_n"] = draw(*state_batch, width)
    if case.cell == "LSTM":
        result["ct_c_n"] = draw(*state_batch, H)
    return result


def run(case: Case, given: dict[str, np.ndarray], cell: jaxlstm.Cell | None = None) -> dict[str, np.ndarray]:
    """output, h_n, c_n and, under `d_` names, the gradients of all inputs, by jaxlstm; by `fold` if given a cell."""
    names = [name for name in given if name not in ("x", "h_0", "c_0") and not name.startswith("ct_")]
    params = unflatten({name: given[name] for name in names}, case.num_layers, 1 + case.bidirectional)
    state = tuple(given[name] for name in case.states) if case.with_state else None
    lengths = LENGTHS if case.ragged else None
    of_case = cell or getattr(jaxlstm.cells, case.cell)
    function = jaxlstm.lstm if of_case is jaxlstm.cells.LSTM else functools.partial(jaxlstm.fold, of_case)

    @jax.jit
    def value_and_gradient(params, x, state):
        call = lambda *args: function(*args, lengths=lengths, batch_first=case.batch_first)  # noqa: E731
        (y, final), pullback = jax.vjp(call, params, x, state)
        cotangents = [jnp.asarray(given[f"ct_{name[0]}_n"]) for name in case.states]
        return (
            y,
            final,
            pullback((jnp.asarray(given["ct_output"]), jax.tree.unflatten(jax.tree.structure(final), cotangents))),
        )

    y, final, (d_params, d_x, d_state) = value_and_gradient(params, given["x"], state)
    result = {"output": y, "d_x": d_x}
    result |= {f"{name[0]}_n": leaf for name, leaf in zip(case.states, final, strict=True)}
    result |= {f"d_{name}": leaf for name, leaf in flatten(d_params).items()}
    if d_state is not None:
        result |= {f"d_{name}": leaf for name, leaf in zip(case.states, d_state, strict=True)}
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
