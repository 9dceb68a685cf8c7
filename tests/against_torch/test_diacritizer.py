"""A trained stack at work: arabic-diacritizer 1.0.0 (MIT), which puts the vowels into Arabic text.

Its encoder is an embedding of 54 letters in 128 and a bidirectional `nn.LSTM` of 256 in three layers.
"""

from importlib.metadata import distribution
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import jaxlstm
from jaxlstm.interop import _files, from_torch

LENGTHS = np.array([17, 40, 1, 29, 8])


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return Path(str(distribution("arabic-diacritizer").locate_file("diacritize/assets/bilstm_best.pt")))


@pytest.fixture(scope="module")
def embedded(checkpoint) -> np.ndarray:
    """A padded batch of the embedding's own letters, `[B, T, I]`; what stands at padding is no zero."""
    letters = torch.from_numpy(np.random.default_rng(0).integers(0, 54, (len(LENGTHS), LENGTHS.max())))
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["embedding.weight"][letters].numpy()


@pytest.mark.optimized
def test_encoder_agrees_with_torch_on_padded_batches(checkpoint, embedded):
    state_dict = torch.load(checkpoint, map_location="cpu", weights_only=True)
    module = torch.nn.LSTM(128, 256, num_layers=3, bidirectional=True, batch_first=True)
    prefix = "lstm."
    module.load_state_dict({k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)})
    module.double()  # Of c = 23, two float32s may each be half of the tolerance away from the truth.
    with torch.no_grad():
        packed = pack_padded_sequence(
            torch.from_numpy(embedded).double(), torch.from_numpy(LENGTHS), batch_first=True, enforce_sorted=False
        )
        packed_output, final = module(packed)
        expected, _ = pad_packed_sequence(packed_output, batch_first=True)

    params = from_torch(state_dict, prefix)
    output, state = jaxlstm.lstm(params, jnp.asarray(embedded), lengths=jnp.asarray(LENGTHS), batch_first=True)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(state.h, final[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(state.c, final[1], rtol=0, atol=1e-5)


def test_checkpoint_lists_its_one_lstm(checkpoint):
    found = _files.find(checkpoint)
    assert list(found) == ["lstm"]
    assert [len(cells) for cells in found["lstm"].params()] == [2, 2, 2]
