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
# # An LSTM from its equations
#
# What this notebook shows, each claim by running it:
#
# 1. an LSTM cell is **ten lines** of `jax.numpy`, and folding it over time is one call of `lax.scan`;
# 2. what the cell state and its gates **do**, as pictures: a memory that is written, kept, read and erased;
# 3. why the fold belongs under **`jit`**;
# 4. why an LSTM **learns** over long times where a plain recurrent network can't: the gradient's path, measured;
# 5. a puzzle on which an LSTM learns hardly more than a constant guess, **solved by nothing but better initial
#    biases**.
#
# It needs no network. Nearly all of its time is section 6, which trains twice and says how long each took. Shapes use
# the library's letters: `B` batch, `T` time, `I` input, `H` hidden.

# %%
import os
import time
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from jax import lax
from jax.nn import sigmoid
from matplotlib.colors import LogNorm

import jaxlstm

# %% jupyter={"source_hidden": true} tags=["hide-input"]
plt.rcParams.update(
    {
        "figure.figsize": (9, 3.5),
        "figure.dpi": 100,
        "figure.constrained_layout.use": True,
        "axes.titlelocation": "left",
        "axes.titlesize": "medium",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        # Okabe and Ito's colours, which readers with any kind of colour vision can tell apart.
        "axes.prop_cycle": plt.cycler(color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]),
    }
)

# %% [markdown]
# ## 1. The cell in ten lines
#
# At each step the cell gets an input $x$ and carries two things on from the step before: its output $h$, and its
# **cell state** $c$, which is its memory. From $x$ and $h$ it computes four things, each a vector of $H$ numbers:
#
# $$
# \begin{aligned}
# i &= \sigma(W_{ii}\,x + b_{ii} + W_{hi}\,h + b_{hi}) && \text{input gate: how much to write} \\
# f &= \sigma(W_{if}\,x + b_{if} + W_{hf}\,h + b_{hf}) && \text{forget gate: how much to keep (1 keeps, 0 forgets)} \\
# g &= \tanh(W_{ig}\,x + b_{ig} + W_{hg}\,h + b_{hg}) && \text{candidate: what to write} \\
# o &= \sigma(W_{io}\,x + b_{io} + W_{ho}\,h + b_{ho}) && \text{output gate: how much to show}
# \end{aligned}
# $$
#
# and with them it moves on:
#
# $$c' = f \odot c + i \odot g \qquad\qquad h' = o \odot \tanh(c')$$
#
# The four matrices are stored as one, in the order i, f, g, o: `weight_ih [4H, I]` and `weight_hh [4H, H]`. (There
# are two biases, of which only the sum matters, because PyTorch has two and checkpoints should fit.) This is all of
# it:


# %%
def gates(params, h, x):
    sums = x @ params.weight_ih.T + params.bias_ih + h @ params.weight_hh.T + params.bias_hh
    i, f, g, o = jnp.split(sums, 4, axis=-1)
    return sigmoid(i), sigmoid(f), jnp.tanh(g), sigmoid(o)


def cell(params, state, x):
    i, f, g, o = gates(params, state[0], x)
    c = f * state[1] + i * g
    h = o * jnp.tanh(c)
    return (h, c), h


# %% [markdown]
# Is it the cell that the library has? Random parameters, a random state and a random input will tell.

# %%
params = jaxlstm.init_lstm_cell(jax.random.key(0), input_size=3, hidden_size=5)
key_h, key_c, key_x = jax.random.split(jax.random.key(1), 3)
state = (jax.random.normal(key_h, (2, 5)), jax.random.normal(key_c, (2, 5)))
x = jax.random.normal(key_x, (2, 3))

(h_ours, c_ours), _ = cell(params, state, x)
(h_library, c_library), _ = jaxlstm.lstm_cell(params, state, x)
difference = max(float(abs(h_ours - h_library).max()), float(abs(c_ours - c_library).max()))
print(f"the largest difference between our ten lines and jaxlstm.lstm_cell: {difference:.1g}")

# %% [markdown]
# ## 2. Folding it over time
#
# A cell knows one step. To run a sequence, feed each step's state to the next: a *fold*, which JAX calls `lax.scan`.
# It wants a function `(carry, x) -> (carry, output)`, and that is the cell's signature once its parameters are fixed.


# %%
def fold(params, xs):
    hidden_size = params.weight_hh.shape[1]
    zeros = jnp.zeros((*xs.shape[1:-1], hidden_size))
    (h, c), hs = lax.scan(partial(cell, params), (zeros, zeros), xs)
    return hs, (h, c)


xs = jax.random.normal(jax.random.key(2), (50, 2, 3))  # [T, B, I]
hs, (h, c) = fold(params, xs)
output, (h_n, c_n) = jaxlstm.lstm(((params,),), xs)  # one layer, one direction
print(f"x {xs.shape} -> outputs {output.shape}, last h {h_n.shape}, last c {c_n.shape}")
print(f"the largest difference between the two folds: {abs(hs - output).max():.1g}")

# %% [markdown]
# That is the whole of `jaxlstm.lstm` for one layer. What the library adds is layers, directions, sequences of unequal
# length, dropout, checks, and a gradient that costs less time and memory.
#
# ## 3. What the gates do
#
# A trained cell's weights are hard to read, so let us write some by hand: a memory of a single number ($H = 1$) with
# four input lines. `value` is the number offered; `write`, `erase` and `read` are switches, 0 or 1. Each switch moves
# one gate: its weight is so large that the sigmoid goes from nearly 0 to nearly 1.


# %%
def memory(input_bias=-10.0, forget_bias=10.0, candidate_bias=0.0, output_bias=-10.0):
    weight_ih = jnp.array(
        [  # value, write, erase, read
            [0.0, 20.0, 0.0, 0.0],  # i opens on `write`
            [0.0, 0.0, -20.0, 0.0],  # f closes on `erase`
            [1.0, 0.0, 0.0, 0.0],  # g is tanh(value)
            [0.0, 0.0, 0.0, 20.0],  # o opens on `read`
        ]
    )
    bias = jnp.array([input_bias, forget_bias, candidate_bias, output_bias])
    return jaxlstm.LSTMCellParams(weight_ih, weight_hh=jnp.zeros((4, 1)), bias_ih=bias, bias_hh=jnp.zeros(4))


def trace(params, xs):
    """The fold once more, which also hands out what happens inside: i, f, g, o, c and h at every step."""

    def step(state, x):
        (h, c), _ = cell(params, state, x)
        return (h, c), (*gates(params, state[0], x), c, h)

    zeros = jnp.zeros((*xs.shape[1:-1], params.weight_hh.shape[1]))
    _, inside = lax.scan(step, (zeros, zeros), xs)
    return dict(zip(("i", "f", "g", "o", "c", "h"), inside, strict=True))


# %% [markdown]
# The number offered changes all the time, as noise. We write at t = 5, read at 15, write again at 25, read at 35,
# erase at 42, and at 50 erase and write in the same step.

# %%
values = jax.random.uniform(jax.random.key(3), (64,), minval=-1.0, maxval=1.0).at[jnp.array([5, 25, 50])].set(0.6)


def switch(*on):
    return jnp.zeros(64).at[jnp.array(on)].set(1.0)


write, erase, read = switch(5, 25, 50), switch(42, 50), switch(15, 16, 35, 36, 57, 58)
xs = jnp.stack([values, write, erase, read], axis=1)  # [T, I]
inside = trace(memory(), xs)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def heat_map(axes, rows, names, *, signed, title):
    limits = {"cmap": "RdBu_r", "vmin": -1.1, "vmax": 1.1} if signed else {"cmap": "cividis", "vmin": 0, "vmax": 1}
    picture = axes.imshow(jnp.stack(rows), aspect="auto", interpolation="nearest", **limits)
    axes.set_yticks(range(len(rows)), names)
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    plt.colorbar(picture, ax=axes, pad=0.01, aspect=10)


figure, (upper, lower) = plt.subplots(2, figsize=(9, 4.2), sharex=True)
names = ["i  input gate", "f  forget gate", "o  output gate"]
heat_map(upper, [inside[n][:, 0] for n in "ifo"], names, signed=False, title="The gates open (1) and close (0) ...")
names = ["value offered", "c  cell state", "h  output"]
heat_map(lower, [values, *(inside[n][:, 0] for n in "ch")], names, signed=True, title="... and c keeps what was let in")
lower.set_xlabel("time t (steps)")
plt.show()

# %% [markdown]
# Read it from left to right.
#
# - The **input gate** lets a value in only at t = 5, 25 and 50. The noise in between leaves next to nothing in $c$.
# - The **forget gate** is open nearly always, so $c$ stays as it is. At t = 25 a second value comes in, and is
#   *added*: $c' = f\,c + i\,g$ is a sum. Only where f closes, at 42, is the memory emptied; at 50 it closes while i
#   opens, and what there was is replaced by the new.
# - The **output gate** decides when the rest of the network sees any of it: $h$ is nearly 0 but at the reads.

# %%
c = inside["c"][:, 0]
written = jnp.tanh(0.6)
print(f"one write is tanh(0.6) = {written:.3f}")
print("c at " + ", ".join(f"t = {t}: {c[t]:z.3f}" for t in (15, 35, 45, 60)))

# %% [markdown]
# ### A number kept for 200 steps
#
# How long is kept what was written? With the input gate shut, each step multiplies $c$ by $f$; after $t$ steps $f^t$
# is left. And $f = \sigma(b)$, so the **forget gate's bias sets the memory's length**: $1 / (1 - \sigma(b)) = 1 +
# e^b$ steps. Write once, offer noise for 200 steps, and look.

# %%
offered = jax.random.uniform(jax.random.key(4), (201,), minval=-1.0, maxval=1.0).at[0].set(1.0)
xs = jnp.zeros((201, 4)).at[:, 0].set(offered).at[0, 1].set(1.0)  # write at t = 0

kept = {bias: trace(memory(forget_bias=bias), xs)["c"][:, 0] for bias in (10.0, 6.0, 4.0, 2.0, 0.0)}
for bias, c in kept.items():
    print(f"forget bias {bias:4g}: 1 + exp(b) = {1 + jnp.exp(bias):7.0f} steps; left after 200: {c[200] / c[0]:z.3f}")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = plt.subplots()
for bias, c in kept.items():
    axes.plot(c / c[0], label=f"$b_f$ = {bias:g}:  f = {sigmoid(bias):.5f}")
axes.set(xlabel="time since the write (steps)", ylabel="c, as a share of what was written", ylim=(-0.05, 1.05))
axes.set_title("An open forget gate keeps a number for 200 steps; a half-open one loses it in a few")
figure.legend(title="forget gate's bias", loc="outside right center")
plt.show()

# %% [markdown]
# ### What each bias changes
#
# The same cell with its switches at rest, so that the biases alone set the gates: it is offered 1 for ten steps, and
# then nothing. One bias varies in each picture; the others stay at $b_i = 0$, $b_f = 3$, $b_g = 0$, $b_o = 2$.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
xs = jnp.zeros((60, 4)).at[5:15, 0].set(1.0)
usual = {"input_bias": 0.0, "forget_bias": 3.0, "candidate_bias": 0.0, "output_bias": 2.0}
panels = {
    "forget_bias": ("c", "Forget: how long c lasts"),
    "input_bias": ("c", "Input: how much gets in"),
    "candidate_bias": ("c", "Candidate: what is written when nothing comes"),
    "output_bias": ("h", "Output: how much of c is shown as h"),
}
figure, all_axes = plt.subplots(2, 2, figsize=(9, 5.2), sharex=True)
for axes, (name, (shown, title)) in zip(all_axes.flat, panels.items(), strict=True):
    axes.axvspan(5, 15, color="0.92")
    for bias, colour in zip((-4.0, -2.0, 0.0, 2.0, 4.0), plt.cm.cividis(jnp.linspace(0, 0.95, 5)), strict=True):
        axes.plot(trace(memory(**usual | {name: bias}), xs)[shown][:, 0], color=colour, label=f"{bias:g}")
    axes.set(title=title, ylabel=shown)
for axes in all_axes[1]:
    axes.set_xlabel("time t (steps); grey: value is 1")
figure.legend(*axes.get_legend_handles_labels(), title="that gate's bias", loc="outside right center")
plt.show()

# %% [markdown]
# Note the cost of a long memory in the upper pictures: what lasts also piles up. A unit that is to remember for a
# thousand steps should let in little at each: a high forget bias goes with a low input bias. That will decide the
# puzzle below.
#
# ## 4. Why `jit`
#
# Without `jit`, JAX sends each operation to the device by itself: a dozen a step, each of which takes far longer to
# send than to compute at such sizes. `jit` compiles the function once, for these shapes, and then runs machine code.
# A Python loop under `jit` is compiled too, but as one long program in which the cell stands $T$ times, and compiling
# takes as much longer; in `lax.scan` it stands once. `lax.scan` *without* `jit` around it does compile its body, but
# since `partial(cell, params)` is a new function at each call of `fold`, it does so at each call.


# %%
def loop(params, xs):
    h = c = jnp.zeros((*xs.shape[1:-1], params.weight_hh.shape[1]))
    hs = []
    for x in xs:
        (h, c), _ = cell(params, (h, c), x)
        hs.append(h)
    return jnp.stack(hs), (h, c)


def seconds(function, *arguments, repeats=5):
    """The shortest of some runs, the first of which is not counted."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)


def compilation(function, *arguments):
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled, time.perf_counter() - start


params = jaxlstm.init_lstm_cell(jax.random.key(0), input_size=32, hidden_size=32)
xs = jax.random.normal(jax.random.key(5), (100, 8, 32))
loop_jitted, loop_compilation = compilation(loop, params, xs)
fold_jitted, fold_compilation = compilation(fold, params, xs)

print(f"On this machine ({os.cpu_count()} cores, {jax.default_backend()}), T = {len(xs)}, B = 8, I = H = 32:")
for name, function in {
    "Python loop, no jit": loop,
    "lax.scan, no jit": fold,
    f"Python loop, jit (compiled in {loop_compilation:.2f} s)": loop_jitted,
    f"lax.scan, jit (compiled in {fold_compilation:.2f} s)": fold_jitted,
}.items():
    print(f"  {name:40} {seconds(function, params, xs) * 1e3:9.2f} ms")

# %% [markdown]
# `jaxlstm.lstm` is compiled when you call it by itself, too. But put `jit` around all you do, the training step with
# its gradient and its optimizer, and the compiler sees it as a whole. Below, thousands of training steps will be
# *one* compiled program: a `lax.scan` over steps, with the `lax.scan` over time in it.
#
# ## 5. The gradient's path through c
#
# To learn that something at step $t$ matters at step $T$, a derivative must come back from $T$ to $t$. In a plain
# recurrent network, $h' = \tanh(W_{ih} x + W_{hh} h + b)$, each step back multiplies it by $W_{hh}^\top$ and the
# slope of tanh: many times the same matrix, so it shrinks (or grows) exponentially. In the LSTM there is a second
# way, through $c$: $c' = f \odot c + \dots$, and so $\partial c' / \partial c = f$, a number that the network can
# hold at 1. Where nothing comes back through $h$, the derivative over many steps is the product of the forget gates,
# and that can be checked with our memory cell:

# %%
xs = jnp.zeros((200, 4)).at[:, 0].set(offered[1:])
cell_memory = memory(forget_bias=4.0)


def last_c(first_c):
    (_, c), _ = lax.scan(partial(cell, cell_memory), (jnp.zeros(1), jnp.array([first_c])), xs)
    return c[0]


derivative = jax.grad(last_c)(0.3)
product = jnp.prod(trace(cell_memory, xs)["f"])
print(f"dc_T / dc_0 over 200 steps: {derivative:.6f} by jax.grad, {product:.6f} as the product of the forget gates")

# %% [markdown]
# And in networks of 32 units with random weights? The loss is the sum of the last output, and we measure the size of
# its derivative in each input, $\lVert \partial L / \partial x_t \rVert_\infty$. To be fair, the plain network is
# also given a better start, an orthogonal $W_{hh}$, which by itself neither shrinks nor stretches.


# %%
def plain(params, xs):
    def step(h, x):
        h = jnp.tanh(x @ params["weight_ih"].T + h @ params["weight_hh"].T + params["bias"])
        return h, h

    return lax.scan(step, jnp.zeros((xs.shape[1], 32)), xs)[1]


def gradient_norms(run, xs):
    """The size of dL/dx_t at each t: its largest entry, since the squares of a Euclidean norm underflow sooner."""
    gradient = jax.jit(jax.grad(lambda xs: run(xs)[-1].sum()))(xs)
    return abs(gradient).max(axis=(1, 2))


def with_biases(params, input_bias, forget_bias):
    """The parameters with these biases of the input and forget gates; their second ones, bias_hh, become 0."""
    hidden_size = params.weight_hh.shape[1]
    both = jnp.concatenate([jnp.broadcast_to(b, hidden_size) for b in (input_bias, forget_bias)])
    return params._replace(
        bias_ih=params.bias_ih.at[: 2 * hidden_size].set(both),
        bias_hh=params.bias_hh.at[: 2 * hidden_size].set(0.0),
    )


xs = jax.random.normal(jax.random.key(6), (150, 16, 8))  # [T, B, I]
default = jaxlstm.init_lstm_cell(jax.random.key(7), input_size=8, hidden_size=32)
usual = {
    "weight_ih": default.weight_ih[:32],
    "weight_hh": default.weight_hh[:32],
    "bias": default.bias_ih[:32],
}
orthogonal = usual | {"weight_hh": jax.nn.initializers.orthogonal()(jax.random.key(8), (32, 32))}
networks = {
    "plain, default": partial(plain, usual),
    "plain, orthogonal $W_{hh}$": partial(plain, orthogonal),
    "LSTM, default": lambda xs: fold(default, xs)[0],
    "LSTM, $b_f = 5$, $b_i = -5$": lambda xs: fold(with_biases(default, -5.0, 5.0), xs)[0],
}
norms = {name: gradient_norms(run, xs) for name, run in networks.items()}
for name, norm in norms.items():
    print(f"{name:28} first over last: {norm[0] / norm[-1]:.1e}")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, axes = plt.subplots()
for (name, norm), style in zip(norms.items(), ("--", "--", "-", "-"), strict=True):
    axes.semilogy(jnp.where(norm > 0, norm, jnp.nan), style, label=name)
axes.set(xlabel="time t of the input (steps)", ylabel=r"$\Vert\partial L/\partial x_t\Vert_\infty$")
axes.set_title("Only the open forget gate lets the gradient reach the first step")
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# (Where a curve ends, the derivative has become smaller than float32 can hold.) So the architecture alone doesn't do
# it. The *default* LSTM loses the gradient exponentially, as the default plain network does, and sooner than the
# orthogonal one: with small random weights its forget gates stand near one half, and what is about halved at each of
# 150 steps is gone. The way through $c$ is there, but it must be open.
#
# ## 6. The adding problem
#
# This puzzle was made to test just that (Hochreiter & Schmidhuber 1997). A sequence has two lines: random numbers
# between 0 and 1, and marks, which are 0 but at two places, one in each half. After the last step, tell the **sum of
# the two marked numbers**. All else is distraction.

# %%
sequence_length = 600


def adding_batch(key, batch_size):
    """Sequences `[T, B, 2]` of values and marks, and their answers `[B]`."""
    key_values, key_first, key_second = jax.random.split(key, 3)
    values = jax.random.uniform(key_values, (sequence_length, batch_size))
    half = sequence_length // 2
    first = jax.random.randint(key_first, (batch_size,), 0, half)
    second = jax.random.randint(key_second, (batch_size,), half, sequence_length)
    steps = jnp.arange(sequence_length)[:, None]
    marks = ((steps == first) | (steps == second)).astype(values.dtype)
    return jnp.stack([values, marks], axis=-1), (values * marks).sum(axis=0)


held_out_x, held_out_y = adding_batch(jax.random.key(1000), 1000)
constant_guess = float(jnp.mean((held_out_y - 1.0) ** 2))
print(f"always guessing 1, the mean, has a mean squared error of {constant_guess:.3f} (in theory 1/6 = {1 / 6:.3f})")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
values, marks = held_out_x[:, 0].T
figure, axes = plt.subplots(figsize=(9, 2.6))
axes.vlines(jnp.arange(sequence_length), 0, values, color="0.75", linewidth=0.7)
for t in jnp.flatnonzero(marks):
    axes.vlines(t, 0, values[t], color="#D55E00", linewidth=2)
    axes.text(
        t,
        values[t] + 0.03,
        f"{values[t]:.2f}",
        ha="center",
        color="#D55E00",
        bbox={"color": "white", "alpha": 0.8, "pad": 1},
    )
axes.set(xlabel="time t (steps)", ylabel="value", ylim=(0, 1.25))
axes.set_title(
    f"One sequence of T = {sequence_length}: the answer is the sum of the two marked values, {held_out_y[0]:.2f}"
)
plt.show()

# %% [markdown]
# Bai, Kolter & Koltun (2018, [arXiv:1803.01271](https://arxiv.org/abs/1803.01271)) tried an LSTM on it at T = 600 and
# published a loss of **0.164**: hardly better than the constant guess. Let us see the same here: an LSTM of 32 units,
# a linear layer on its last output (whose bias starts at the mean answer, 1), Adam whose learning rate falls to 0 in
# the second half, gradients clipped. All training steps are one compiled program, in which every batch is drawn anew,
# so there is nothing to learn by heart.

# %%
hidden_size = 32
batch_size = 32
learning_rate = 0.01
training_steps = 1500

rate = optax.linear_schedule(learning_rate, 0.0, training_steps // 2, transition_begin=training_steps // 2)
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def predict(model, x):
    _, (h_n, _) = jaxlstm.lstm(((model["cell"],),), x)
    return h_n[0] @ model["weight"] + model["bias"]


def loss(model, x, y):
    return jnp.mean((predict(model, x) - y) ** 2)


@jax.jit
def train(model, key):
    """The trained model, and the loss of each step."""

    def step(carry, key):
        model, optimizer_state = carry
        value, gradient = jax.value_and_grad(loss)(model, *adding_batch(key, batch_size))
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, model)
        return (optax.apply_updates(model, updates), optimizer_state), value

    keys = jax.random.split(key, training_steps)
    (model, _), losses = lax.scan(step, (model, optimizer.init(model)), keys)
    return model, losses


key_cell, key_weight, key_biases, key_train = jax.random.split(jax.random.key(2), 4)
bound = hidden_size**-0.5
default_model = {
    "cell": jaxlstm.init_lstm_cell(key_cell, input_size=2, hidden_size=hidden_size),
    "weight": jax.random.uniform(key_weight, (hidden_size,), minval=-bound, maxval=bound),
    "bias": jnp.ones(()),
}


def timed_training(model):
    """The trained model, the loss of each step, and the error on sequences that it has not seen."""
    start = time.perf_counter()
    trained, losses = jax.block_until_ready(train(model, key_train))
    print(f"{training_steps} steps in {time.perf_counter() - start:.0f} s on this machine")
    return trained, losses, float(loss(trained, held_out_x, held_out_y))


default_trained, default_losses, default_error = timed_training(default_model)
print(f"held-out error with default biases: {default_error:.3f}; constant guess: {constant_guess:.3f}")

# %% [markdown]
# After all these steps it is where a constant was from the start.
#
# ### Biases for long memory
#
# We have everything to see why, and to mend it. A unit's memory lasts $1 + e^{b_f}$ steps. If the task needs memories
# of up to $T_{max}$ steps, give the units memories of all lengths up to it, and let them write as little at a time as
# they keep long, which was the lesson of the pictures of section 3:
#
# $$b_f \sim \log\,\mathcal U(1,\ T_{max} - 1) \qquad\qquad b_i = -b_f$$
#
# This is **chrono initialization** (Tallec & Ollivier 2018, [arXiv:1804.11188](https://arxiv.org/abs/1804.11188)).
# Nothing else changes: the same weights, the same data in the same order, the same optimizer.

# %%
forget_bias = jnp.log(jax.random.uniform(key_biases, (hidden_size,), minval=1.0, maxval=sequence_length - 1.0))
chrono_model = default_model | {"cell": with_biases(default_model["cell"], -forget_bias, forget_bias)}

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, all_axes = plt.subplots(1, 2, sharey=True)
x = held_out_x[:100, 0]
for axes, (name, model) in zip(all_axes, {"Default": default_model, "Chrono": chrono_model}.items(), strict=True):
    memories = 1 / (1 - trace(model["cell"], x)["f"])  # steps, [T, H]
    by_length = jnp.argsort(memories.mean(axis=0))
    limits = LogNorm(1, sequence_length)
    picture = axes.imshow(memories[:, by_length].T, aspect="auto", origin="lower", cmap="cividis", norm=limits)
    axes.set(xlabel="time t (steps)", title=f"{name}: memories of {memories.min():.1f} to {memories.max():.0f} steps")
all_axes[0].set_ylabel("unit, sorted by its memory")
figure.colorbar(picture, ax=all_axes, label="1 / (1 - f)  (steps)", pad=0.01)
plt.show()

# %%
chrono_trained, chrono_losses, chrono_error = timed_training(chrono_model)
print(f"held-out error with chrono biases: {chrono_error:.4f}")
print(f"with default biases: {default_error:.3f}; constant guess: {constant_guess:.3f}")


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def smooth(losses, width=20):
    """Means of `width` steps each; what is left over at the end is not shown."""
    whole = len(losses) // width * width
    return jnp.arange(whole)[width // 2 :: width], losses[:whole].reshape(-1, width).mean(axis=1)


figure, axes = plt.subplots(figsize=(9, 4))
axes.semilogy(*smooth(default_losses), label=f"default biases: {default_error:.3f} held out")
axes.semilogy(*smooth(chrono_losses), label=f"chrono biases: {chrono_error:.4f} held out")
axes.axhline(constant_guess, color="0.4", linestyle=":", label=f"constant guess: {constant_guess:.3f}")
axes.axhline(0.164, color="0.4", linestyle="--", label="LSTM, published: 0.164")
axes.set(xlabel=f"training step (each on {batch_size} new sequences)", ylabel="mean squared error")
axes.set_title(f"The adding problem at T = {sequence_length}: two biases make the difference")
axes.legend(loc="lower left")
plt.show()

# %% [markdown]
# ### What it has learned
#
# On the left, the two networks' answers to a thousand sequences that neither has seen. On the right, inside the
# network that began with chrono biases: the sequence drawn above is run with its two marks and without them, and we
# see by how much the memories differ. At each mark (the triangles) something enters $c$ and stays to the end, the
# second on top of the first: the network has built itself the memory that we wired by hand in section 3.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), width_ratios=(1, 1.6))
for name, model in {"default": default_trained, "chrono": chrono_trained}.items():
    left.plot(held_out_y, predict(model, held_out_x), ".", markersize=3, alpha=0.6, label=name)
left.plot([0, 2], [0, 2], color="0.4", linewidth=1)
left.set(xlabel="sum of the two marked values", ylabel="network's answer", title="Answers on held-out sequences")
left.legend(markerscale=3)

x = held_out_x[:, 0]
with_marks, without = (trace(chrono_trained["cell"], xs)["c"] for xs in (x, x.at[:, 1].set(0.0)))
difference = (with_marks - without).T  # [H, T]
difference = difference[jnp.argsort(-abs(difference[:, -1]))]
limit = float(abs(difference).max())
picture = right.imshow(difference, aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-limit, vmax=limit)
right.plot(jnp.flatnonzero(marks), [-1.2, -1.2], "v", color="black")
right.set_ylim(31.5, -2.5)  # Room for the triangles.
right.set(xlabel="time t (steps)", ylabel="unit, sorted", title="What the marks changed in the memory c")
figure.colorbar(picture, ax=right, label="change of c", pad=0.01)
plt.show()

# %% [markdown]
# ## What to try next
#
# - **How far does it go?** Set `sequence_length` to 1000 or 2000. Does the number of training steps needed grow?
# - **Which half of chrono matters?** Set only the forget biases, or only the input biases.
# - **A common rule of thumb** sets every forget bias to 1. How many steps of memory is that by $1 + e^b$? Is it
#   enough here?
# - **Other seeds**, all at once: `jax.vmap(train)` over a batch of models and keys, for training is a pure function.
# - **A plain network** in place of `jaxlstm.lstm`, with the orthogonal start of section 5.
# - **What the trained gates do**: draw what `trace` tells of them as heat maps. Which gates react to a mark?
#
# The next notebook, [Coming from PyTorch](02_coming_from_pytorch.ipynb), goes through every argument of `nn.LSTM` and
# its counterpart here.
