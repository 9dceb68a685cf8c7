"""A trained LSTM at work: silero-vad 6.2.3 (MIT), which tells speech from silence.

Its net is a spectrum, four convolutions, an `nn.LSTMCell` of 128 and a 1x1 convolution. All but the cell is run by
PyTorch here, from the TorchScript file in the package.
"""

from importlib.metadata import distribution
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxlstm
from jaxlstm.interop import from_torch

RATE, WINDOW, CONTEXT = 16_000, 512, 64

# torch.jit is on its way out, but it is what the package's file is written in.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")


def waveform() -> np.ndarray:
    """Four seconds of noise, and twice in them voiced syllables at 120 Hz with two formants, one of them moving."""
    rng = np.random.default_rng(0)
    t = np.arange(4 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 15 * np.sin(2 * np.pi * 0.7 * t)) / RATE
    formant = 600 + 250 * np.sin(2 * np.pi * 1.3 * t)
    voice = np.zeros_like(t)
    for k in range(1, 30):
        loudness = np.exp(-(((120 * k - formant) / 200) ** 2)) + 0.4 * np.exp(-(((120 * k - 1800) / 300) ** 2))
        voice += loudness * np.sin(k * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3 * t), 0, None)
    talking = (t % 2) > 0.9
    samples = 0.2 * voice * syllables * talking + 0.003 * rng.standard_normal(t.size)
    return samples.astype(np.float32)


class Run(NamedTuple):
    """What the detector said, window by window: inputs to its cell `[T, 128]`, h and c `[T, 128]`, speech `[T]`."""

    features: np.ndarray
    h: np.ndarray
    c: np.ndarray
    speech: np.ndarray


@pytest.fixture(scope="module")
def detector() -> Any:
    path = distribution("silero-vad").locate_file("silero_vad/data/silero_vad.jit")
    return torch.jit.load(str(path)).eval()


@pytest.fixture(scope="module")
def theirs(detector) -> Run:
    samples = torch.from_numpy(waveform())
    windows = samples[: len(samples) // WINDOW * WINDOW].reshape(-1, 1, WINDOW)
    net, context, steps = detector._model, torch.zeros(1, CONTEXT), []
    detector.reset_states()
    with torch.no_grad():
        for window in windows:
            x = torch.cat([context, window], 1)
            context = x[:, -CONTEXT:]
            features = net.encoder(net.run_extractors(x))[0, :, 0]
            speech = detector(window, RATE)[0, 0]
            h, c = detector._state[:, 0]
            steps.append((features, h, c, speech))
    return Run(*(torch.stack(column).numpy() for column in zip(*steps, strict=True)))


def speech_from(detector, h: np.ndarray) -> np.ndarray:
    """The detector's last layers, run on the cell's h `[T, 128]`."""
    with torch.no_grad():
        return detector._model.decoder.decoder(torch.from_numpy(h)[:, :, None])[:, 0, 0].numpy()


def test_the_waveform_has_speech_and_silence(theirs):
    assert len(theirs.speech) >= 100
    assert (theirs.speech > 0.8).sum() >= 20
    assert (theirs.speech < 0.2).sum() >= 20


def test_cell_agrees_at_every_window(detector, theirs):
    params = from_torch(detector.state_dict(), prefix="_model.decoder.rnn")
    assert isinstance(params, jaxlstm.LSTMCellParams)
    state, states = jaxlstm.LSTMState(jnp.zeros(128), jnp.zeros(128)), []
    for features in theirs.features:
        state, _ = jaxlstm.lstm_cell(params, state, jnp.asarray(features))
        states.append(state)
    h, c = (np.stack(column) for column in zip(*states, strict=True))
    np.testing.assert_allclose(h, theirs.h, atol=1e-5, rtol=0)
    np.testing.assert_allclose(c, theirs.c, atol=1e-5, rtol=0)
    np.testing.assert_allclose(speech_from(detector, h), theirs.speech, atol=1e-5, rtol=0)


def test_stack_of_one_agrees_over_the_whole_waveform(detector, theirs):
    cell = from_torch(detector, prefix="_model.decoder.rnn")
    output, (_, c_n) = jaxlstm.lstm(((cell,),), jnp.asarray(theirs.features))
    np.testing.assert_allclose(output, theirs.h, atol=1e-5, rtol=0)
    np.testing.assert_allclose(c_n[0], theirs.c[-1], atol=1e-5, rtol=0)
    np.testing.assert_allclose(speech_from(detector, np.array(output)), theirs.speech, atol=1e-5, rtol=0)
