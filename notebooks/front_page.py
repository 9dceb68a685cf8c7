"""Draw `front_page.png`, the README's picture: an LSTM that learned to count.

It reads words of n times `a` and then n times `b`, and predicts each next letter; for the `b`s it must count the `a`s
(Gers & Schmidhuber, "LSTM Recurrent Networks Learn Simple Context-Free and Context-Sensitive Languages", 2001).
Words are packed one after another into a row, and `resets` tells the LSTM where each begins.

Run: python notebooks/front_page.py [PATH], by default runs/front_page.png
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.figure import Figure

import jaxlstm

LETTERS = "ab."
HIDDEN = 6
LONGEST = 20  # The greatest n in training.
SHOWN = (12, 25, 5)
NUM_ROWS, T, BATCH, STEPS = 512, 96, 64, 1500


class Data(NamedTuple):
    """Letters, and where a word begins."""

    letters: Any  # int[..., T]
    resets: Any  # bool[..., T]


def packed(counts: Iterable[int]) -> Data:
    """Words of these n, one after another."""
    letters = [np.repeat([0, 1, 2], [n, n, 1]) for n in counts]
    resets = [np.arange(2 * n + 1) == 0 for n in counts]
    return Data(np.concatenate(letters), np.concatenate(resets))


def one_hot(letters: jax.Array) -> jax.Array:
    """Letters as inputs `[..., I]`."""
    return jax.nn.one_hot(letters, len(LETTERS))


def logits(params, data: Data) -> jax.Array:
    """Of each next letter, `[B, T, letters]`."""
    hidden, _ = jaxlstm.lstm(params["lstm"], one_hot(data.letters), resets=data.resets, batch_first=True)
    return hidden @ params["readout"]


def loss(params, data: Data) -> jax.Array:
    """Mean cross entropy of every next letter of the same word."""
    each = optax.softmax_cross_entropy_with_integer_labels(logits(params, data)[:, :-1], data.letters[:, 1:])
    return each.mean(where=~data.resets[:, 1:])


@jax.jit
def train(params, rows: Data, picks: jax.typing.ArrayLike):
    """Adam, all steps in one program: step k takes the rows `picks[k]`."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, STEPS))

    def step(carry, pick):
        params, state = carry
        gradient = jax.grad(loss)(params, jax.tree.map(lambda a: a[pick], rows))
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), picks)
    return params


def trained():
    """Parameters that have learned to count."""
    random = np.random.default_rng(0)
    counts = random.integers(1, LONGEST + 1, (NUM_ROWS, T))
    rows = jax.tree.map(lambda *a: np.stack([row[:T] for row in a]), *map(packed, counts))
    key_lstm, key_readout = jax.random.split(jax.random.key(0))
    params = {
        "lstm": jaxlstm.init_lstm(key_lstm, len(LETTERS), HIDDEN),
        "readout": jax.random.normal(key_readout, (HIDDEN, len(LETTERS))),
    }
    return train(params, rows, random.integers(0, NUM_ROWS, (STEPS, BATCH)))


def record(params, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """The forget gate and the cell state at every step, each `[T, H]`, by folding the cell."""
    ((cell,),) = params["lstm"]

    def step(state, inputs):
        x, begins = inputs
        start = jax.tree.map(lambda s: jnp.where(begins, 0, s), state)
        gates = cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ start.h + cell.bias_hh
        state, _ = jaxlstm.lstm_cell(cell, start, x)
        return state, (jax.nn.sigmoid(gates[HIDDEN : 2 * HIDDEN]), state.c)

    zero = jaxlstm.LSTMState(jnp.zeros(HIDDEN), jnp.zeros(HIDDEN))
    _, (forget, c) = jax.lax.scan(step, zero, (one_hot(data.letters), data.resets))
    return np.asarray(forget), np.asarray(c)


def figure(data: Data, forget: np.ndarray, c: np.ndarray, ends: np.ndarray) -> Figure:
    """The unit that counts, above all cell states and forget gates; `ends` are the steps before a predicted end."""
    letters = [LETTERS[k] for k in data.letters]
    count = np.concatenate([[*range(1, n + 1), *range(n - 1, -1, -1), 0] for n in SHOWN])
    similar = np.array([np.corrcoef(count, c[:, k])[0, 1] for k in range(HIDDEN)])
    order = np.argsort(-np.abs(similar))
    c, forget = c[:, order] * np.sign(similar[order]), forget[:, order]
    counted = c[:, 0]

    fig, (top, middle, bottom) = plt.subplots(
        3, 1, figsize=(11, 5.4), sharex=True, height_ratios=[2.2, 1, 1], layout="constrained"
    )
    fig.suptitle(
        f"An LSTM of {HIDDEN} units learned to count: trained on $a^n b^n$ with n up to {LONGEST}, reading n = "
        + ", ".join(map(str, SHOWN))
    )
    slope, offset = np.polyfit(count, counted, 1)
    top.plot(slope * count + offset, color="0.6", linestyle="--", label="a's minus b's read so far, to scale")
    top.plot(counted, color="C3", linewidth=2, label="cell state of the unit that counts")
    top.plot(ends, counted[ends], "v", color="black", markersize=8, label="here it predicts the word's end")
    top.set_ylabel("cell state of one unit")
    top.legend(loc="upper left", frameon=False)
    top.spines[["top", "right"]].set_visible(False)

    limit = np.abs(c).max()
    images = [
        middle.imshow(c.T, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"),
        bottom.imshow(forget.T, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest"),
    ]
    for axes, image, name in zip(
        (middle, bottom), images, ("cell state\nof all units *", "forget gate\nof all units"), strict=True
    ):
        fig.colorbar(image, ax=axes, pad=0.01)
        axes.set_ylabel(name)
        axes.set_yticks([])
    bottom.set_xticks(range(len(letters)), letters, fontsize=8, family="monospace")
    for axes in (top, middle, bottom):
        axes.tick_params(axis="x", length=0)
    bottom.set_xlabel("the letter read at each step      (* signs turned to agree with the count as a whole)")
    return fig


def draw(path: Path) -> bool:
    """Train, and draw to the path; whether the LSTM knew every letter that can be known, also of the longer word."""
    params, data = trained(), packed(SHOWN)
    predicted = logits(params, jax.tree.map(lambda a: a[None], data))[0].argmax(-1)[:-1]
    following = data.letters[1:]
    known = (data.letters[:-1] == 1) & (following != 0)
    fig = figure(data, *record(params, data), ends=np.flatnonzero(known & (predicted == 2)))
    fig.savefig(path, dpi=130)
    plt.close(fig)
    return bool((predicted == following)[known].all())


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/front_page.png")
    target.parent.mkdir(parents=True, exist_ok=True)
    draw(target)
