"""Keras's layers and files, in and out, judged by Keras itself."""

import itertools
import json
import re
import sys
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import shaken
from trees import assert_identical

import jaxlstm
from jaxlstm.interop._keras import from_keras, to_keras

# Keras's own `__array__` is older than numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

I, H = 3, 4  # noqa: E741
STACKS = list(itertools.product((1, 2), (False, True), (True, False)))


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def constants(units: int, width: int, bias: float | None = 0.03, forget: float = 1.0) -> list[np.ndarray]:
    """What Keras's own tests fill a layer with; the forget gate's bias starts from 1."""
    kernel, recurrent_kernel = (
        np.full((rows, 4 * units), value, "f") for rows, value in ((width, 0.01), (units, 0.02))
    )
    biases = [] if bias is None else [np.repeat(np.array([bias, forget, bias, bias], np.float32), units)]
    return [kernel, recurrent_kernel, *biases]


LONG, SHORT = np.arange(72.0).reshape(3, 6, 4), np.arange(24.0).reshape(2, 4, 3)
GOLDEN = {
    # x, weights, what else `lstm` is told, the last h of each row: from keras/src/layers/rnn/lstm_test.py
    "correctness": (LONG, constants(3, 4), {}, [0.6288687, 0.86899155, 0.9460773]),
    "go_backwards": (LONG[:, ::-1], constants(3, 4), {}, [0.35622165, 0.74789524, 0.8872726]),
    "no unit_forget_bias": (LONG, constants(3, 4, forget=0.03), {}, [0.57019705, 0.8661914, 0.9459622]),
    "no bias": (LONG, constants(3, 4, bias=None), {}, [0.54986924, 0.86226785, 0.9443936]),
    "initial state": (
        SHORT,
        constants(2, 3),
        {"state": (np.arange(4.0).reshape(1, 2, 2), np.arange(4.0).reshape(1, 2, 2))},
        [[0.20574439, 0.3558822], [0.64930826, 0.66276]],
    ),
    "masking": (SHORT, constants(2, 3), {"lengths": np.array([3, 2])}, [0.11755939, 0.28556206]),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_numbers_of_keras(case):
    x, weights, options, expected = GOLDEN[case]
    params = from_keras(weights)
    x, options = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32 if a.dtype == float else None), (x, options))
    _, (h, _) = jaxlstm.lstm(params, x, batch_first=True, **options)
    expected = np.array(expected) if np.ndim(expected) == 2 else np.repeat(np.array(expected)[:, None], h.shape[2], 1)
    np.testing.assert_allclose(h[0], expected, rtol=0, atol=1e-6)


def layers_of(keras, num_layers, bidirectional, bias) -> list[Any]:
    lstm = [keras.layers.LSTM(H, use_bias=bias, return_sequences=True) for _ in range(num_layers)]
    return [keras.layers.Bidirectional(layer) for layer in lstm] if bidirectional else lstm


@pytest.mark.parametrize(("num_layers", "bidirectional", "bias"), STACKS)
def test_layers_there_and_back(keras, num_layers, bidirectional, bias, tmp_path):
    model = keras.Sequential([keras.Input((None, I)), *layers_of(keras, num_layers, bidirectional, bias)])
    model.set_weights(shaken(model.get_weights()))
    x = draw(2, 5, I)
    params = from_keras(model.layers)
    y, _ = jaxlstm.lstm(params, jnp.asarray(x), batch_first=True)
    np.testing.assert_allclose(y, model(x), rtol=0, atol=1e-6)
    assert_identical(from_keras([layer.get_weights() for layer in model.layers]), params)
    assert_identical(from_keras(to_keras(params)), params)

    names = [layer.name for layer in model.layers]
    for ending in ("keras", "h5", "weights.h5"):
        path = tmp_path / f"model.{ending}"
        model.save_weights(path) if ending == "weights.h5" else model.save(path)
        assert_identical(from_keras(path, names), params)
        assert_identical(from_keras(str(path), names[0]), params[:1])

    ours = jaxlstm.init_lstm(jax.random.key(0), I, H, num_layers, bidirectional=bidirectional, bias=bias)
    for layer, weights in zip(model.layers, to_keras(ours), strict=True):
        layer.set_weights(weights)
    y, _ = jaxlstm.lstm(ours, jnp.asarray(x), batch_first=True)
    np.testing.assert_allclose(model(x), y, rtol=0, atol=1e-6)


def test_one_layer_of_a_larger_model_and_a_layer_of_cells(keras, tmp_path):
    rnn = keras.layers.RNN([keras.layers.LSTMCell(H), keras.layers.LSTMCell(H)], return_sequences=True)
    single = keras.layers.RNN(keras.layers.LSTMCell(H), return_sequences=True, name="single")
    gru, backward = keras.layers.GRU(H, return_sequences=True), keras.layers.LSTM(H, go_backwards=True)
    model = keras.Sequential([keras.Input((None, I)), rnn, single, gru, backward, keras.layers.Dense(2)])
    x = draw(2, 5, I)
    assert_identical(from_keras(single)[0][0].weight_hh, single.get_weights()[1].T)
    y, _ = jaxlstm.lstm(from_keras(list(rnn.cell.cells)), jnp.asarray(x), batch_first=True)
    np.testing.assert_allclose(y, rnn(x), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="weights: a stack of cells"):
        from_keras(rnn)
    with pytest.raises(ValueError, match="weights: a whole model"):
        from_keras(model)
    model.save(tmp_path / "model.keras")
    assert_identical(from_keras(tmp_path / "model.keras", "single"), from_keras(single))
    assert_identical(from_keras(tmp_path / "model.keras", backward.name), from_keras(backward))
    with pytest.raises(ValueError, match=r"model\.keras: 4 LSTMs found. Choose one by name: .*'single'"):
        from_keras(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"model\.keras: name: no LSTM 'dense', only"):
        from_keras(tmp_path / "model.keras", "dense")
    assert_identical(from_keras(tmp_path / "model.keras", gru.name), from_keras(gru))


KERAS_2 = {
    "Keras 2.2": "model_weights/lstm_1/lstm_1/",
    "TensorFlow 2": "model_weights/lstm_1/lstm_1/lstm_cell_3/",
    "weights only": "lstm_1/lstm_1/lstm_cell/",
}


def save_keras_2(path, arrays, config=None) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        if config is not None:
            layer = {"class_name": "LSTM", "config": {"name": "lstm_1"} | config}
            model = {"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense", "config": {}}, layer]}}
            file.attrs["model_config"] = json.dumps(model).encode()


def named(prefix: str, weights: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}{name}:0": a for name, a in zip(("kernel", "recurrent_kernel", "bias"), weights, strict=False)}


def three(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=shape).astype(np.float32) for shape in ((I, 4 * H), (H, 4 * H), (4 * H,))]


@pytest.mark.parametrize("case", KERAS_2)
@pytest.mark.parametrize("bias", [True, False])
def test_layouts_of_keras_2(case, bias, tmp_path):
    path = tmp_path / "old.h5"
    weights = three()[: 2 + bias]
    others = {"model_weights/gru/gru/gru_cell/kernel:0": draw(I, 3 * H), "model_weights/dense/dense/bias:0": draw(2)}
    others["model_weights/gru/gru/gru_cell/recurrent_kernel:0"] = draw(H, 3 * H)
    save_keras_2(path, named(KERAS_2[case], weights) | others)
    assert_identical(from_keras(path), from_keras(weights))
    assert_identical(from_keras(path, "lstm_1"), from_keras(weights))

    way = KERAS_2[case].replace("lstm_1/lstm_1/", "both/both/{}_lstm_1/")
    forward, backward = three(0)[: 2 + bias], three(1)[: 2 + bias]
    arrays = named(way.format("backward"), backward) | named(way.format("forward"), forward)
    save_keras_2(path, arrays | named(KERAS_2[case], weights))
    assert_identical(from_keras(path, name="both"), from_keras([*forward, *backward]))


def test_cudnn_lstm_is_known_by_its_bias():
    """By the rule that Keras 2 converted with: gate by gate, `kernel.T.reshape(kernel.shape)` and `kernel.T`."""
    kernel, recurrent_kernel, bias = three()
    input_bias = draw(4 * H)
    theirs = [
        np.hstack([gate.T.reshape(gate.shape) for gate in np.hsplit(kernel, 4)]),
        np.hstack([gate.T for gate in np.hsplit(recurrent_kernel, 4)]),
        np.concatenate([input_bias, bias - input_bias]),
    ]
    got, want = from_keras(theirs)[0][0], from_keras([kernel, recurrent_kernel, bias])[0][0]
    assert_identical(got[:2], want[:2])
    np.testing.assert_array_equal(got.bias_ih, input_bias)
    np.testing.assert_array_equal(got.bias_hh, bias - input_bias)


REFUSED_LAYERS = {
    "activation": (lambda layers: layers.LSTM(H, activation="relu"), "activation: expected 'tanh'.* got 'relu'"),
    "recurrent_activation": (
        lambda layers: layers.LSTM(H, recurrent_activation="hard_sigmoid"),
        "recurrent_activation: expected 'sigmoid'.* got 'hard_sigmoid'",
    ),
    "merge_mode": (lambda layers: layers.Bidirectional(layers.LSTM(H), "sum"), "merge_mode: .* got 'sum'"),
    "inner activation": (
        lambda layers: layers.Bidirectional(layers.LSTM(H, activation="relu")),
        "activation: expected 'tanh'.* got 'relu'",
    ),
    "backward first": (
        lambda layers: layers.Bidirectional(
            layers.LSTM(H, go_backwards=True, name="it"), backward_layer=layers.LSTM(H, name="backward_it")
        ),
        "go_backwards: ",
    ),
    "GRU": (lambda layers: layers.GRU(H, reset_after=False), "reset_after: expected True, .* it before"),
}


@pytest.mark.parametrize("case", REFUSED_LAYERS)
def test_layers_of_other_equations_are_refused(keras, case, tmp_path):
    make, words = REFUSED_LAYERS[case]
    layer = make(keras.layers)
    model = keras.Sequential([keras.Input((None, I)), layer])
    with pytest.raises(ValueError, match=f"^weights: {words}"):
        from_keras(layer)
    words = f"layer '{layer.name}': {words}"
    for path in (tmp_path / "model.keras", tmp_path / "model.h5"):
        model.save(path)
        with pytest.raises(ValueError, match=f"^{path}: {words}"):
            from_keras(path)


REFUSED_ARRAYS: dict[str, tuple[Any, str]] = {
    "transposed": ([a.T for a in three()], r"recurrent_kernel: expected \[H, 4H\] = \[16, 64\], got \[16, 4\]"),
    "another kernel": ([draw(I, 3), *three()[1:]], r"kernel: expected \[I, 4H\] = \[\?, 16\], got \[3, 3\]"),
    "another bias": ([*three()[:2], draw(12)], r"bias: expected \[4H\] = \[16\], got \[12\]"),
    "integers": ([a.astype(int) for a in three()], "recurrent_kernel: expected one of float32.* got int64"),
    "too few": ([draw(3, 16)], "expected kernel, .* got 1 arrays"),
    "none": ([], "expected kernel, .* got 0 arrays"),
    "layers that do not fit": (
        [three(), three()],
        r"params\[1\]\[0\].weight_ih_l1: expected .* \[16, 4\], got \[16, 3\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED_ARRAYS)
def test_arrays_that_do_not_fit_are_named(case):
    weights, words = REFUSED_ARRAYS[case]
    with pytest.raises(ValueError, match=f"^weights: {words}"):
        from_keras(weights)


def test_projection_and_a_needless_name_are_refused():
    with pytest.raises(ValueError, match="Keras's LSTM has none"):
        to_keras(jaxlstm.init_lstm(jax.random.key(0), I, H, proj_size=2))
    with pytest.raises(ValueError, match="name: picks a layer of a file"):
        from_keras(three(), "lstm")


def test_hard_sigmoid_of_an_old_file_is_refused(tmp_path):
    path = tmp_path / "old.h5"
    save_keras_2(path, named("lstm_1/lstm_1/", three()), {"recurrent_activation": "hard_sigmoid"})
    with pytest.raises(ValueError, match=f"^{path}: layer 'lstm_1': recurrent_activation: .* got 'hard_sigmoid'"):
        from_keras(path)


def test_missing_library_is_named(monkeypatch, tmp_path):
    save_keras_2(tmp_path / "model.h5", named("lstm_1/lstm_1/", three()))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=re.escape("a Keras file needs h5py: pip install 'jaxlstm[keras]'")):
        from_keras(tmp_path / "model.h5")
    assert from_keras(three())[0][0].weight_ih.shape == (4 * H, I)
