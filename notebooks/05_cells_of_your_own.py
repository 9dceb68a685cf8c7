# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Cells of your own
#
# An LSTM layer is two matrix products and a rule for what one row makes of them. jaxlstm lets you write the rule, and does
# all else: layers, directions, lengths, resets, derivatives. This notebook
#
# 1. writes **the LSTM as a rule** of five lines, and compares it with the library's;
# 2. gives a cell **a memory that is a matrix**, which stores pairs of a key and a value;
# 3. trains it and a plain LSTM of seven times its parameters on a task that needs such a memory;
# 4. looks at **what is stored where**, step by step;
# 5. shows what came for free: lengths, two layers in both directions, derivatives, a Flax module.
#
# It needs no network. `T` is time, `B` batch, `I` input, `H` hidden, `G` the
# number of gates.

# %%
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from jax.nn import sigmoid

import jaxlstm
from jaxlstm import Cell, LSTMState

# %% jupyter={"source_hidden": true} tags=["hide-input"]
plt.rcParams |= {"figure.figsize": (9, 3.5), "figure.dpi": 100, "figure.constrained_layout.use": True, "font.size": 9}
plt.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"  # Okabe and Ito's colour-blind safe palette.

# %% [markdown]
# ## 1. The LSTM as a rule
#
# `fold` computes $W_{ih} x + b_{ih}$ and $W_{hh} h + b_{hh}$ and hands each of them to the rule, for one row, as `[G, H]`.
# The rule gives back the state after the step, and the step's output. It never sees the batch.


# %%
def lstm(extra, state, x_sums, h_sums):
    i, f, g, o = x_sums + h_sums
    c = sigmoid(f) * state.c + sigmoid(i) * jnp.tanh(g)
    h = sigmoid(o) * jnp.tanh(c)
    return LSTMState(h, c), h


params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5, num_layers=2, bidirectional=True)
x = jax.random.normal(jax.random.key(1), (20, 4, 3))  # [T, B, I]

ours, _ = jaxlstm.fold(Cell(lstm, num_gates=4), params, x)
library, _ = jaxlstm.lstm(params, x)
print(f"output {ours.shape}; the largest difference to jaxlstm.lstm is {abs(ours - library).max():.0e}")

# %% [markdown]
# ## 2. A memory that is a matrix
#
# An LSTM of H units remembers H numbers. To remember *pairs*, "this key has that value", it must find a place for each,
# with gates that don't know where anything lies. A matrix does it by itself: writing adds the outer product of a value and
# a key, and reading multiplies by a key (fast weights: Schmidhuber 1992, [Learning to control fast-weight
# memories](https://doi.org/10.1162/neco.1992.4.1.131)). So that a key's old value makes room for its new one, what is
# stored under the key is first taken away (the delta rule: Schlag, Irie & Schmidhuber 2021,
# [arXiv:2102.11174](https://arxiv.org/abs/2102.11174)):
#
# $$M' = M + \sigma(w) \odot (v - M k)\,k^\top \qquad\qquad h' = \sigma(s) \odot M' q$$
#
# Key $k$, value $v$, query $q$ and the gates $w$ (write) and $s$ (show) are five "gates" of the cell: sums of x and h. The
# state has h and the matrix, `[H, H]` for each row.


# %%
class Memory(NamedTuple):
    h: jax.Array  # [H]
    matrix: jax.Array  # [H, H]


def unit(vector):
    return vector * jax.lax.rsqrt(jnp.sum(vector**2) + 1e-6)


def fast_weights(extra, state, x_sums, h_sums):
    k, v, q, write, show = x_sums + h_sums
    k, q = unit(k), unit(q)
    matrix = state.matrix + jnp.outer(sigmoid(write) * (v - state.matrix @ k), k)
    h = sigmoid(show) * (matrix @ q)
    return Memory(h, matrix), h


cell = Cell(fast_weights, num_gates=5, state=Memory)

# %% [markdown]
# That is the whole cell. Fields of a state that are not `[H]` have no zeros of their own, so the first state is given:


# %%
def empty(batch_size, hidden_size):
    zeros = partial(jnp.zeros, dtype=jnp.float32)
    return Memory(zeros((1, batch_size, hidden_size)), zeros((1, batch_size, hidden_size, hidden_size)))


# %% [markdown]
# ## 3. Which value did this key have?
#
# At each step a sequence shows a key, a random vector that never came before, and one of eight values; the last step shows
# one of the keys again and asks for its value. Nothing can be learned by heart: every sequence has keys of its own.

# %%
pairs = 8
num_values = 8
key_size = 8


def draw(key, batch_size, pairs=pairs):
    """Sequences `[pairs + 1, B, I]`, the answers `[B]`, and which pair is asked for `[B]`."""
    key_keys, key_values, key_asked = jax.random.split(key, 3)
    keys = jax.random.normal(key_keys, (pairs, batch_size, key_size))
    values = jax.random.randint(key_values, (pairs, batch_size), 0, num_values)
    asked = jax.random.randint(key_asked, (batch_size,), 0, pairs)
    rows = jnp.arange(batch_size)
    shown = jnp.concatenate([keys, jax.nn.one_hot(values, num_values), jnp.zeros((pairs, batch_size, 1))], axis=-1)
    question = jnp.concatenate(
        [keys[asked, rows], jnp.zeros((batch_size, num_values)), jnp.ones((batch_size, 1))], axis=-1
    )
    return jnp.concatenate([shown, question[None]]), values[asked, rows], asked


input_size = key_size + num_values + 1
example, answers, asked = draw(jax.random.key(2), 1)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = plt.subplots(figsize=(9, 3))
picture = axes.imshow(example[:, 0].T, cmap="RdBu_r", vmin=-2.5, vmax=2.5, aspect="auto", interpolation="none")
for edge in (key_size, key_size + num_values):
    axes.axhline(edge - 0.5, color="black", linewidth=0.7)
axes.set(xlabel="time t (steps)", xticks=range(pairs + 1))
axes.set_yticks([(key_size - 1) / 2, key_size + (num_values - 1) / 2, input_size - 1], ["key", "value", "question"])
axes.set_title(f"One sequence: the key of step {asked[0]} comes again at the end, and the answer is value {answers[0]}")
figure.colorbar(picture, ax=axes, pad=0.01)
plt.show()

# %% [markdown]
# Both networks end in a linear layer on the last h. The LSTM gets 64 units, the new cell 16, and so a seventh of its
# parameters. Both get the same data, the same optimizer and the same number of steps. A model is a function of parameters
# and x, and all of training is one compiled program:

# %%
training_steps = 1500
batch_size = 64
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(5e-3, training_steps)))


def with_memory(model, x):
    _, state = jaxlstm.fold(cell, model["cell"], x, empty(x.shape[1], 16))
    return state.h[0] @ model["head"]


def plain(model, x):
    _, state = jaxlstm.lstm(model["cell"], x)
    return state.h[0] @ model["head"]


@partial(jax.jit, static_argnums=0)
def train(network, model, key):
    """The trained model, and the loss of each step."""

    def step(carry, key):
        model, opt_state = carry
        x, answers, _ = draw(key, batch_size)

        def loss(model):
            return optax.softmax_cross_entropy_with_integer_labels(network(model, x), answers).mean()

        value, gradient = jax.value_and_grad(loss)(model)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(model, updates), opt_state), value

    (model, _), losses = jax.lax.scan(step, (model, optimizer.init(model)), jax.random.split(key, training_steps))
    return model, losses


def right(network, model, pairs):
    """The share of right answers to 2000 sequences that were not trained on."""
    x, answers, _ = draw(jax.random.key(1000), 2000, pairs)
    return float((network(model, x).argmax(axis=-1) == answers).mean())


key_cell, key_head, key_train = jax.random.split(jax.random.key(3), 3)
starts = {
    with_memory: jaxlstm.init_fold(key_cell, cell, input_size, 16),
    plain: jaxlstm.init_lstm(key_cell, input_size, 64),
}
names = {with_memory: "fast weights, H = 16", plain: "LSTM, H = 64"}
trained, curves = {}, {}
for network, start in starts.items():
    head = jax.random.normal(key_head, (start[0][0].weight_hh.shape[1], num_values)) / 8
    model = {"cell": start, "head": head}
    trained[network], curves[network] = train(network, model, key_train)
    count = sum(leaf.size for leaf in jax.tree.leaves(model))
    print(
        f"{names[network]:22} {count:6} parameters: {right(network, trained[network], pairs):.0%} of answers are right"
    )

# %% jupyter={"source_hidden": true} tags=["hide-input"]
numbers = [1, 2, 4, 6, 8, 12, 16]
figure, (left, middle) = plt.subplots(1, 2)
for network, color in ((with_memory, BLUE), (plain, ORANGE)):
    width = min(25, training_steps)
    means = curves[network][: training_steps // width * width].reshape(-1, width).mean(axis=1)
    left.plot(width * jnp.arange(len(means)), means, color=color, label=names[network])
    shares = [right(network, trained[network], n) for n in numbers]
    middle.plot(numbers, shares, "o-", color=color, label=names[network])
left.axhline(jnp.log(num_values), color=GREY, linestyle=":", label="a guess")
left.set(xlabel="training step", ylabel="cross-entropy (nats)", ylim=(0, None), title=f"Trained on {pairs} pairs")
middle.axhline(1 / num_values, color=GREY, linestyle=":")
middle.axvline(pairs, color=GREY, linewidth=0.7)
middle.set(xlabel="pairs in a sequence", ylabel="right answers", ylim=(0, 1.05), xticks=numbers)
middle.set_title("Asked with fewer pairs, and with more than in training")
left.legend()
plt.show()

# %% [markdown]
# ## 4. What is stored where
#
# The state is there to be looked at. Run the sequence above a step at a time, and after each step ask the memory for every
# key that the sequence has: with the cell's own question, from the state as it then is.


# %%
def beliefs(model, x):
    """For every step t and pair p: the probability of the right value, asked for key p after t. `[pairs, pairs]`."""
    values = x[:pairs, 0, key_size : key_size + num_values]
    questions = x[:pairs, 0].at[:, key_size:].set(0.0).at[:, -1].set(1.0)

    def ask(state, question):
        _, after = jaxlstm.fold(cell, model["cell"], question[None, None], state)
        return jax.nn.softmax(after.h[0, 0] @ model["head"])

    def step(state, x_t):
        _, state = jaxlstm.fold(cell, model["cell"], x_t[None], state)
        probabilities = jax.vmap(partial(ask, state))(questions)
        return state, (jnp.sum(probabilities * values, axis=-1), state.matrix[0, 0])

    return jax.lax.scan(step, empty(1, 16), x[:pairs])[1]


probability, matrices = beliefs(trained[with_memory], example)
before, after = (jnp.mean(probability, where=w) for w in (jnp.tri(pairs, k=-1).T > 0, jnp.tri(pairs) > 0))
print(f"probability of the right value: {before:.2f} before a pair is shown, {after:.2f} from then on")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, (left, middle) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(1, 1))
picture = left.imshow(probability.T, cmap="cividis", vmin=0, vmax=1, interpolation="none")
left.set(xlabel="after step t", ylabel="asked for the key of step", title="Each pair is known from its step on")
figure.colorbar(picture, ax=left, label="probability of the right value")
change = jnp.linalg.norm(jnp.diff(matrices, axis=0, prepend=0).reshape(pairs, -1), axis=-1)
strength = jnp.linalg.norm(matrices.reshape(pairs, -1), axis=-1)
middle.plot(strength, "o-", color=BLUE, label="size of the matrix")
middle.plot(change, "s--", color=ORANGE, label="its change in this step")
middle.set(xlabel="step t", ylabel="Frobenius norm", ylim=(0, None), title="Each pair is written on top of the others")
middle.legend()
plt.show()

# %% [markdown]
# ## 5. What came for free
#
# Everything that `jaxlstm.lstm` does, `fold` does with this cell. **Lengths**: a row that ends early hands its state
# on, so that a batch of sequences of 1 to 8 pairs runs at once, each with its question at its own end.

# %%
x, answers, _ = draw(jax.random.key(4), 4)
lengths = jnp.array([9, 5, 7, 2])
_, state = jaxlstm.fold(cell, trained[with_memory]["cell"], x, empty(4, 16), lengths=lengths)
_, alone = jaxlstm.fold(cell, trained[with_memory]["cell"], x[:5, 1:2], empty(1, 16))
print(f"in the batch and alone: the largest difference is {abs(state.matrix[:, 1] - alone.matrix[:, 0]).max():.0e}")

# %% [markdown]
# **Two layers in both directions**, with a state for each of the four:

# %%
deep = jaxlstm.init_fold(jax.random.key(5), cell, input_size, 16, num_layers=2, bidirectional=True)
start = jax.tree.map(lambda a: jnp.tile(a, (4, *[1] * (a.ndim - 1))), empty(4, 16))
output, state = jaxlstm.fold(cell, deep, x, start, lengths=lengths)
print(f"output {output.shape}, h {state.h.shape}, matrices {state.matrix.shape}")

# %% [markdown]
# **Derivatives** of any order in both modes, as a product with the Hessian; weight gradients come as one product over all
# steps, as the LSTM's do:


# %%
def squares(params):
    return jnp.sum(jaxlstm.fold(cell, params, x, empty(4, 16))[0] ** 2)


one_layer = trained[with_memory]["cell"]
curvature = jax.jvp(jax.grad(squares), (one_layer,), (one_layer,))[1]
step = 1e-3
nearby = [jax.grad(squares)(jax.tree.map(lambda a, s=s: a * (1 + s * step), one_layer)) for s in (1, -1)]
finite = jax.tree.map(lambda a, b: (a - b) / (2 * step), *nearby)
largest = max(
    float(abs(a - b).max() / abs(b).max()) for a, b in zip(*map(jax.tree.leaves, (curvature, finite)), strict=True)
)
print(f"against finite differences of the gradient: off by {largest:.0e} at most")

# %% [markdown]
# **A Flax module**, with parameters under PyTorch's names; `jaxlstm.nnx.Fold` is its like:

# %%
model = jaxlstm.Fold(cell, input_size=input_size, hidden_size=16)
(output, state), variables = model.init_with_output(jax.random.key(6), x, empty(4, 16))
print("\n".join(f"{name:14} {leaf.shape}" for name, leaf in variables["params"].items()))

# %% [markdown]
# ## What to try next
#
# - **Overwriting**: let keys come twice with another value. The delta rule makes room; leave `state.matrix @ k` out of the
#   rule, and it doesn't.
# - **How much fits?** A matrix of 16 x 16 holds 16 pairs of orthogonal keys. Where do yours begin to interfere?
# - **A decay**: multiply the matrix by a gate at each step, which is a step towards the mLSTM of xLSTM (Beck et al. 2024).
# - **Other cells**, ten lines each: zoneout, layer normalization, attention inside the rule, exponential gates: see
#   [Cells of your own, the how-to page](how_to/cells.md).
# - **Speed**: a cell of your own runs by `"xla"`; see [Speed and scale](04_speed_and_scale.ipynb) for how to measure.
