"""Which arrays of a Keras file are a layer's, and which equations: by its configuration, in files of every age."""

from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_files import H, arrays, both_ways, cells, described, model_of, named, numbered, write_h5, write_zip
from trees import assert_identical

import jaxlstm
from jaxlstm.interop import _files
from jaxlstm.interop._keras import from_keras

# Keras's own `__array__` is older than numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ONE, TWO, THREE = arrays(1), arrays(2), arrays(3)
WIDE = arrays(4, 2 * H)
SMALL = np.zeros((H, 4 * H), np.float32)
LAYERS = [described("lstm_1", return_sequences=True), described("lstm_2")]
OLD = "_layer_checkpoint_dependencies"

READ: dict[str, tuple[str, dict[str, np.ndarray], Any, dict[str | None, list]]] = {
    # ending, arrays, configuration, and what each name is
    "groups by class, 2.15 to 3.3": (
        "keras",
        numbered("layers/lstm/cell", ONE) | numbered("layers/lstm_1/cell", TWO),
        model_of(*LAYERS),
        {"lstm_1": [ONE], "lstm_2": [TWO], None: [ONE, TWO]},
    ),
    "every other number, 2.13": (
        "keras",
        {
            k: v
            for n, w in ((0, ONE), (2, TWO), (4, THREE))
            for k, v in numbered(f"{OLD}/lstm_{n}/cell".replace("_0", ""), w).items()
        },
        model_of(*LAYERS, described("lstm_3")),
        {"lstm_1": [ONE], "lstm_2": [TWO], "lstm_3": [THREE]},
    ),
    "backslashes of Windows": (
        "keras",
        numbered("layers\\bidirectional\\forward_layer/cell", ONE)
        | numbered("layers\\bidirectional\\backward_layer/cell", TWO),
        model_of(both_ways("both", layer=described("lstm"))),
        {"both": [[*ONE, *TWO]], None: [[*ONE, *TWO]]},
    ),
    "a class of one's own": (
        "keras",
        numbered("layers/my_lstm/cell", ONE) | numbered("layers/lstm/cell", TWO),
        model_of(described("enc", "MyLSTM"), described("my_lstm")),
        {"enc": [ONE], "my_lstm": [TWO]},
    ),
    "a model in a model": (
        "keras",
        numbered("layers/sequential/layers/lstm/cell", ONE) | numbered("layers/lstm/cell", TWO),
        model_of(model_of(described("deep")), described("top"), class_name="Functional"),
        {"deep": [ONE], "top": [TWO]},
    ),
    "cells": (
        "keras",
        numbered("layers/rnn/cell/cells/lstm_cell", ONE) | numbered("layers/rnn/cell/cells/lstm_cell_1", TWO),
        model_of(cells("rnn", described("a", "LSTMCell"), described("b", "LSTMCell"))),
        {"a": [ONE], "b": [TWO]},
    ),
    "an optimizer's moments": (
        "keras",
        numbered("layers/lstm/cell", ONE) | numbered("optimizer", [SMALL, SMALL]),
        {},
        {None: [ONE], "lstm": [ONE]},
    ),
    "an optimizer's moments by name": (
        "h5",
        named("model_weights/rnn/rnn/lstm_cell", ONE)
        | named("optimizer_weights/Adam/m/rnn/lstm_cell", TWO)
        | named("optimizer_weights/SGD/m/rnn/lstm_cell", TWO),
        model_of(described("rnn")),
        {None: [ONE], "rnn": [ONE]},
    ),
    "a backward layer of another name": (
        "h5",
        named("model_weights/b/seq/b/custom/lstm_cell", TWO, "")
        | named("model_weights/b/seq/b/forward_x/lstm_cell", ONE, ""),
        model_of(both_ways("b", layer=described("forward_x"), backward_layer=described("custom", go_backwards=True))),
        {"b": [[*ONE, *TWO]]},
    ),
    "a layer in a model in a .h5": (
        "h5",
        named("model_weights/inner/first/lstm_cell", ONE) | named("model_weights/inner/second/lstm_cell_1", TWO),
        model_of(
            {
                "class_name": "Functional",
                "config": {"name": "inner", "layers": [described("second"), described("first")]},
            }
        ),
        {"first": [ONE], "second": [TWO]},
    ),
}


@pytest.mark.parametrize("case", READ)
def test_arrays_are_the_layers_own(case, tmp_path):
    ending, leaves, config, expected = READ[case]
    path = tmp_path / f"model.{ending}"
    (write_zip if ending == "keras" else write_h5)(path, leaves, config)
    for name, weights in expected.items():
        assert_identical(from_keras(path, name), from_keras(weights))


def keras_of(**config: Any) -> dict[str, Any]:
    return model_of(described("it", **config))


REFUSED: dict[str, tuple[dict[str, np.ndarray], Any, str]] = {
    "bias missing": (
        numbered("layers/lstm/cell", ONE[:2]),
        keras_of(),
        "layer 'it': bias: missing, as its config.* True",
    ),
    "bias surplus": (
        numbered("layers/lstm/cell", ONE),
        keras_of(use_bias=False),
        "layer 'it': bias: surplus, .* False",
    ),
    "other units": (numbered("layers/lstm/cell", ONE), keras_of(units=3), "layer 'it': units: expected 3.* of 4"),
    "peepholes": (
        numbered("layers/lstm/cell", [*ONE, ONE[2]]),
        keras_of(),
        "layer 'it': layers/lstm/cell/vars/3: surplus",
    ),
    "norms below the cell": (
        numbered("layers/lstm/cell", ONE) | numbered("layers/lstm/cell/kernel_norm", ONE[2:]),
        keras_of(),
        "layer 'it': layers/lstm/cell/kernel_norm/vars/0: surplus",
    ),
    "other equations of a class of one's own": (
        numbered("layers/my_lstm/cell", ONE),
        model_of(described("it", "MyLSTM", recurrent_activation="hard_sigmoid")),
        "layer 'it': recurrent_activation: .* got 'hard_sigmoid'",
    ),
    "other equations of a cell": (
        numbered("layers/rnn/cell/cells/lstm_cell", ONE),
        model_of(cells("rnn", described("it", "LSTMCell", recurrent_activation="hard_sigmoid"))),
        "layer 'it': recurrent_activation: .* got 'hard_sigmoid'",
    ),
    "other equations backward": (
        numbered("layers/bidirectional/forward_layer/cell", ONE)
        | numbered("layers/bidirectional/backward_layer/cell", TWO),
        model_of(both_ways("it", layer=described("f"), backward_layer=described("b", activation="relu"))),
        "layer 'it': activation: .* got 'relu'",
    ),
    "a layer that the configuration hides": (
        numbered("layers/wrap/rnn/cell", ONE),
        model_of({"class_name": "Wrap", "config": {"name": "wrap", "units": H}}),
        "layer 'rnn': the file's configuration does not tell its equations. Load the model in Keras",
    ),
    "a class that holds all": (
        numbered("rnn/cell", ONE),
        {"class_name": "MyModel", "config": {"units": H}},
        "layer 'rnn': the file's configuration does not tell",
    ),
    "arrays elsewhere": (
        numbered("layers/lstm_7/cell", ONE),
        keras_of(),
        "2 LSTMs found. Choose one by name: 'it', 'lstm_7'",
    ),
    "no arrays": ({}, keras_of(), "layer 'it': the file's arrays are none that its configuration promises"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arrays_that_the_configuration_does_not_fit_are_refused(case, tmp_path):
    leaves, config, words = REFUSED[case]
    path = tmp_path / "model.keras"
    write_zip(path, leaves, config)
    with pytest.raises(ValueError, match=f"^{path}: {words}"):
        from_keras(path)


NOT_STACKED = {
    "an activation between": [LAYERS[0], {"class_name": "Dense", "config": {"name": "d"}}, LAYERS[1]],
    "one step out": [described("lstm_1"), LAYERS[1]],
    "reversed": [described("lstm_1", return_sequences=True, go_backwards=True), LAYERS[1]],
}


@pytest.mark.parametrize("case", NOT_STACKED)
def test_layers_that_do_not_stand_on_one_another_are_to_be_chosen_from(case, tmp_path):
    path = tmp_path / "model.keras"
    leaves = numbered("layers/lstm/cell", ONE) | numbered("layers/lstm_1/cell", TWO)
    write_zip(path, leaves, model_of(*NOT_STACKED[case]))
    with pytest.raises(ValueError, match=r"2 LSTMs found\. Choose one by name: 'lstm_1', 'lstm_2'"):
        from_keras(path)


def test_names_that_are_those_of_groups_are_said_to_be(tmp_path):
    path = tmp_path / "model.weights.h5"
    write_h5(path, numbered("layers/lstm/cell", ONE) | numbered("layers/lstm_1/cell", TWO))
    with pytest.raises(ValueError, match=r"by name: 'lstm', 'lstm_1'\. A name here is a group's name"):
        from_keras(path)
    assert_identical(from_keras(path, "lstm_1"), from_keras(TWO))


@pytest.mark.parametrize("shuffle", [False, True])
def test_compressed_arrays_are_read(shuffle, tmp_path):
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        for name, array in named("lstm_1/lstm_1", arrays(0, 1000)).items():
            chunks = tuple(max(1, n // 3) for n in array.shape)
            file.create_dataset(name, data=array, compression="gzip", shuffle=shuffle, chunks=chunks)
    assert_identical(from_keras(path), from_keras(arrays(0, 1000)))


def test_arrays_in_bfloat16_are_read(tmp_path):
    path = tmp_path / "model.weights.h5"
    half = [np.asarray(array).astype(jnp.bfloat16) for array in ONE]
    with h5py.File(path, "w") as file:
        for name, array in numbered("layers/lstm/cell", half).items():
            file.create_dataset(name, data=array).attrs["dtype"] = "bfloat16"
    assert_identical(from_keras(path), from_keras(half))

    write_h5(tmp_path / "old.h5", named("model_weights/it/it", half), keras_of(dtype="bfloat16"))
    assert_identical(from_keras(tmp_path / "old.h5"), from_keras(half))
    write_h5(tmp_path / "old.h5", named("model_weights/it/it", half), keras_of())
    with pytest.raises(ValueError, match=r"recurrent_kernel: expected one of .* got \|V2"):
        from_keras(tmp_path / "old.h5")


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize("ending", ["keras", "h5", "hdf5"])
def test_our_own_file_comes_back_whole(ending, tmp_path, caplog):
    path = tmp_path / f"model.{ending}"
    params: Any = jaxlstm.init_lstm(jax.random.key(0), 3, H, num_layers=2, bidirectional=True)
    _files.save(params, path)
    assert list(_files.find(path)) == ["lstm_l0", "lstm_l1"]
    loaded = from_keras(path)
    assert len(loaded) == 2
    np.testing.assert_array_equal(loaded[1][1].weight_hh, params[1][1].weight_hh)
    assert not caplog.records  # Keras's advice against its older format.


def test_layers_at_hand_are_asked_for_their_equations_too(keras):
    hard = keras.layers.TimeDistributed(keras.layers.LSTM(H, recurrent_activation="hard_sigmoid"))
    hard.build((None, 2, 3, H))
    both = keras.layers.Bidirectional(keras.layers.LSTM(H))
    both.build((None, 3, H))
    with pytest.raises(ValueError, match=r"weights: recurrent_activation: .* got 'hard_sigmoid'"):
        from_keras(hard)
    whole = from_keras(both)
    both.forward_layer.trainable = False
    assert_identical(from_keras(both), whole)
