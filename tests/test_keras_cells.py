"""Keras's GRU and SimpleRNN, in and out, and its activations in all three layers, judged by Keras itself."""

import json
import zipfile
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_files import arrays, described, model_of, named, write_h5
from peers import H, I, X, assert_runs_as, shaken
from trees import assert_identical

import jaxlstm
from jaxlstm.interop import _files, from_keras, from_keras_cell, to_keras
from jaxlstm.interop._keras_cell import _ACTIVATIONS

# Keras's own `__array__` is older than numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

CELLS = {"GRU": jaxlstm.cells.GRU, "SimpleRNN": jaxlstm.cells.RNN}


def drawn(layer: Any) -> Any:
    """A layer none of whose weights is at its start."""
    layer.set_weights(shaken(layer.get_weights()))
    return layer


def built(layer: Any) -> Any:
    layer.build(X.shape)
    return drawn(layer)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_there_and_back(keras, kind, bidirectional, bias, tmp_path):
    def layer() -> Any:
        one = getattr(keras.layers, kind)(H, use_bias=bias, return_sequences=True)
        return keras.layers.Bidirectional(one) if bidirectional else one

    model = drawn(keras.Sequential([keras.Input((None, I)), layer(), layer()]))
    params = from_keras(model.layers)
    assert_runs_as(params, model(X), CELLS[kind], **KERAS)
    cell, same = from_keras_cell(model.layers)
    assert cell == CELLS[kind]
    assert_identical(same, params)
    for ending in ("keras", "h5"):
        model.save(tmp_path / f"model.{ending}")
        assert_identical(from_keras(tmp_path / f"model.{ending}"), params)

    _files.save(params, tmp_path / "ours.keras")
    assert_identical(from_keras(tmp_path / "ours.keras"), params)
    if kind == "SimpleRNN" or bias:
        assert_identical(from_keras(to_keras(params)), params)
        model.save_weights(tmp_path / "model.weights.h5")
        assert_identical(from_keras(tmp_path / "model.weights.h5", [each.name for each in model.layers]), params)
    else:
        with pytest.raises(ValueError, match="weights: bias: absent, and nothing else tells whether this GRU"):
            from_keras(to_keras(params))


# Which rounds its activations otherwise.
KERAS = {"rtol": 1e-5, "atol": 2e-6}

PLACES = [(kind, k) for kind, every in (("LSTM", 1), ("GRU", 5), ("SimpleRNN", 5)) for k in range(0, 29, every)]


@pytest.mark.parametrize(("kind", "first"), PLACES)
def test_every_activation_in_every_place(keras, kind, first):
    names = sorted([*_ACTIVATIONS, "hard_sigmoid"])
    assert len(names) == 29
    activation, recurrent = names[first], names[(first + 5) % len(names)]
    gates = {} if kind == "SimpleRNN" else {"recurrent_activation": recurrent}
    # Some grow without bound, and differences of a rounding with them. Keras's tanh is in float32 whatever it gets.
    dtype, bounds = "float64", {"rtol": 1e-9, "atol": 1e-9}
    if "tanh" in (activation, recurrent):
        dtype, bounds = "float32", KERAS
    with jax.enable_x64(dtype == "float64"):
        make = getattr(keras.layers, kind)
        layer = built(make(H, activation=activation, return_sequences=True, dtype=dtype, **gates))
        cell, params = from_keras_cell(layer)
        assert_runs_as(params, layer(X.astype(dtype)), cell, **bounds)
        assert from_keras_cell(layer)[0] == cell


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_files_configuration_tells_the_cell(keras, ending, tmp_path):
    lstm = keras.layers.LSTM(H, activation="relu", recurrent_activation="hard_sigmoid", return_sequences=True)
    model = drawn(keras.Sequential([keras.Input((None, I)), keras.layers.Bidirectional(lstm)]))
    model.save(tmp_path / f"model.{ending}")
    cell, params = from_keras_cell(tmp_path / f"model.{ending}")
    assert cell == jaxlstm.cells.lstm(
        gate_activation=jax.nn.hard_sigmoid, cell_activation=jax.nn.relu, output_activation=jax.nn.relu
    )
    assert_runs_as(params, model(X), cell, **KERAS)


def hard(path: Any, version: str | None) -> None:
    write_h5(path, named("it/it", arrays(0, I)), model_of(described("it", recurrent_activation="hard_sigmoid")))
    if version:
        with h5py.File(path, "a") as file:
            file.attrs["keras_version"] = version


def test_hard_sigmoid_is_what_it_was_in_the_files_keras(tmp_path):
    path = tmp_path / "model.h5"
    hard(path, "2.15.0")
    cell, _ = from_keras_cell(path)
    zero, state = jnp.zeros((4, 1)), jaxlstm.LSTMState(jnp.zeros(1), jnp.ones(1))
    one = cell.rule(None, state, zero.at[1].set(1.0), zero)[0].c - cell.rule(None, state, zero, zero)[0].c
    np.testing.assert_allclose(one, 0.2, atol=1e-6)
    hard(path, "3.3.3")
    assert from_keras_cell(path)[0] == jaxlstm.cells.lstm(gate_activation=jax.nn.hard_sigmoid)
    hard(path, None)
    with pytest.raises(
        ValueError, match=f"^{path}: layer 'it': recurrent_activation: 'hard_sigmoid' is one in Keras 2"
    ):
        from_keras_cell(path)


def test_the_version_in_a_zip_is_read(keras, tmp_path):
    path = tmp_path / "model.keras"
    model = keras.Sequential([keras.Input((None, I)), keras.layers.LSTM(H, recurrent_activation="hard_sigmoid")])
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["metadata.json"] = json.dumps({"keras_version": "2.15.0"}).encode()
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    new, old = (from_keras_cell(tmp_path / name)[0] for name in ("model.keras", "old.keras"))
    assert new == jaxlstm.cells.lstm(gate_activation=jax.nn.hard_sigmoid) != old


def own(x: Any) -> Any:
    return x


def two(layers: Any, first: Any, second: Any) -> list[Any]:
    both = [layers.LSTM(H, activation=each, return_sequences=True) for each in (first, second)]
    both[0].build(X.shape)
    both[1].build((*X.shape[:2], H))
    return both


REFUSED: dict[str, tuple[Any, str]] = {
    "reset before the product": (
        lambda layers: built(layers.GRU(H, reset_after=False)),
        "reset_after: expected True",
    ),
    "an activation of a row's halves": (
        lambda layers: built(layers.SimpleRNN(H, activation="sparsemax")),
        "activation: expected one of .* got 'sparsemax'",
    ),
    "a function of one's own": (
        lambda layers: built(layers.LSTM(H, activation=own)),
        "activation: expected one of .* got",
    ),
    "directions that differ": (
        lambda layers: built(
            layers.Bidirectional(layers.LSTM(H), backward_layer=layers.LSTM(H, activation="relu", go_backwards=True))
        ),
        "activation: expected the same in both directions",
    ),
    "directions of other kinds": (
        lambda layers: built(layers.Bidirectional(layers.GRU(H), backward_layer=layers.LSTM(H, go_backwards=True))),
        "a Bidirectional of something else",
    ),
    "layers that differ": (lambda layers: two(layers, "relu", "tanh"), "expected layers of the same equations"),
    "a GRU's arrays with one bias": (
        lambda _: [np.ones((I, 12), "f"), np.ones((H, 12), "f"), np.ones(12, "f")],
        r"bias: expected \[2, 3H\] = \[2, 12\], as with reset_after=True, got \[12\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_equations_that_are_no_rules_are_refused(keras, case):
    make, words = REFUSED[case]
    with pytest.raises(ValueError, match=f"^weights: {words}"):
        from_keras_cell(make(keras.layers))


def test_layers_of_a_file_that_differ_are_no_stack(keras, tmp_path):
    model = keras.Sequential([keras.Input((None, I)), *two(keras.layers, "relu", "tanh")])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"model\.keras: expected layers of the same equations"):
        from_keras_cell(tmp_path / "model.keras")
    cell, _ = from_keras_cell(tmp_path / "model.keras", model.layers[1].name)
    assert cell == jaxlstm.cells.LSTM


def test_a_configuration_of_another_kind_than_its_arrays_is_refused(tmp_path):
    path = tmp_path / "model.h5"
    write_h5(path, named("it/it", arrays(0, I)), model_of(described("it", "GRU", reset_after=True)))
    with pytest.raises(ValueError, match=f"^{path}: layer 'it': recurrent_kernel: .* of kind GRU, .* got"):
        from_keras(path)
