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
# # Sequences of unequal length
#
# Speech, sensor logs and sentences do not come in one length, yet arrays do. This notebook trains a classifier on
# utterances of 7 to 29 frames and shows
#
# 1. what padding does to an LSTM, above all to one that reads both ways, and how `lengths` undoes it;
# 2. a bidirectional classifier in **Flax Linen** and **optax**, trained with three seeds, beside PyTorch's figures;
# 3. where it errs, how early it knows, and what its states look like;
# 4. the same in **Flax NNX**, in one cell;
# 5. an **ensemble trained by `vmap`**, in one program.
#
# The data are the *Japanese Vowels* of Kudo, Toyama and Shimbo (1999): nine men say two vowels, /a/ then /e/; each
# frame of a recording is 12 cepstrum coefficients; the task is to tell who speaks. They come with the package `sktime`
# (BSD licence; `pip install -e '.[notebooks]'` brings it), so nothing is downloaded here.

# %%
from functools import partial
from itertools import combinations
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from matplotlib.patheffects import withStroke
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix
from sktime.datasets import load_japanese_vowels

import jaxlstm
import jaxlstm.nnx

# %% jupyter={"source_hidden": true} tags=["hide-input"]
plt.rcParams |= {"figure.figsize": (9, 3.5), "figure.dpi": 100, "figure.constrained_layout.use": True, "font.size": 9}
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"  # Okabe and Ito's colour-blind safe palette.

# %% [markdown]
# ## The data, padded with NaN
#
# Every utterance becomes one row of an array `[B, T, I]`, and `lengths` says how many of its frames are real. What
# fills the rest should not matter. To make sure of it, we fill it with **NaN**: if one padded frame reached one number
# below, in a forward pass or in a gradient, the loss would be NaN from then on, and every answer a guess.


# %%
class Split(NamedTuple):
    """Utterances `x [B, T, I]`, padded with NaN, their `lengths [B]` and who speaks, `speaker [B]`."""

    x: jax.Array
    lengths: jax.Array
    speaker: jax.Array


def load(name):
    """The training or the test utterances, as the data set's authors split them."""
    utterances, speaker = load_japanese_vowels(name, return_type="df-list")  # Each utterance is [T, 12], of its own T.
    x = np.full((len(utterances), 29, 12), np.nan, np.float32)
    for row, utterance in zip(x, utterances, strict=True):
        row[: len(utterance)] = utterance
    return Split(jnp.array(x), jnp.array([len(u) for u in utterances]), jnp.array(speaker.astype(int) - 1))


def standardize(data):
    """Each coefficient with mean 0 and deviation 1 over the real frames of the training utterances."""
    mean, deviation = (statistic(train_utterances.x, axis=(0, 1)) for statistic in (jnp.nanmean, jnp.nanstd))
    return data._replace(x=(data.x - mean) / deviation)


train_utterances = load("train")
train_data, test_data = standardize(train_utterances), standardize(load("test"))
for name, data in (("train", train_data), ("test", test_data)):
    shortest, longest = data.lengths.min(), data.lengths.max()
    print(f"{name:5}: x {data.x.shape}, lengths {shortest} to {longest}, {np.isnan(data.x).mean():.0%} of it padding")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, (left, right) = plt.subplots(1, 2)
bins = np.arange(6.5, 30)
left.hist([train_data.lengths, test_data.lengths], bins, stacked=True, color=[BLUE, ORANGE], label=["train", "test"])
left.set(xlabel="frames in an utterance", ylabel="utterances", title="Few utterances are as long as the longest")
left.legend()
shown = train_data.x[::9, :, 0]
image = right.imshow(np.ma.masked_invalid(shown), cmap="viridis", aspect="auto", interpolation="none")
right.set_facecolor("lightgrey")
right.set(xlabel="frame", ylabel="utterance", title="Thirty utterances in one array: padding is grey")
fig.colorbar(image, ax=right, label="first coefficient, standardized")
plt.show()

# %% [markdown]
# ## What padding does, and what `lengths` undoes
#
# A bidirectional layer folds its cell over time twice: from the first frame on, and from the last frame back. In a
# padded row the backward pass would start inside the padding, and the forward pass would run on into it. With
# `lengths`, both stop and start where the row does: exactly what PyTorch's packed sequences do, with neither packing
# nor sorting.
#
# Three checks on an untrained layer: what stands in the padding changes no bit; a row comes out as if it were alone and
# had never been padded; and without `lengths`, padded with zeros, both directions are off: the forward one has run on
# into the padding where it ends, and the reverse one has come out of it where the row's last real frame is.

# %%
params = jaxlstm.init_lstm(jax.random.key(0), input_size=12, hidden_size=100, bidirectional=True)
x, lengths = train_data.x[:30], train_data.lengths[:30]
x_zeros = jnp.nan_to_num(x, nan=0.0)

output, (h_n, c_n) = jaxlstm.lstm(params, x, lengths=lengths, batch_first=True)
output_zeros, _ = jaxlstm.lstm(params, x_zeros, lengths=lengths, batch_first=True)
print(f"padded with NaN or with zeros: the same bits in all of {output.shape}: {(output == output_zeros).all()}")

shortest = int(lengths.argmin())
_, (h_alone, _) = jaxlstm.lstm(params, x[shortest, : lengths[shortest]])
difference = jnp.abs(h_alone - h_n[:, shortest]).max()
print(f"{lengths[shortest]} frames alone, never padded: the final states differ by {difference:.0e} at most")

output_wrong, (h_wrong, _) = jaxlstm.lstm(params, x_zeros, batch_first=True)
last = jnp.arange(30), lengths - 1  # Each row's last real frame.
forward = jnp.abs(h_wrong - h_n)[0].max()
reverse = jnp.abs(output_wrong[last] - output[last])[:, 100:].max()
print(
    f"without lengths: final forward states off by up to {forward:.2f}, reverse ones at the last frame by {reverse:.2f}"
)

# %% [markdown]
# ## A classifier in Linen
#
# `h_n` is `[L*D, B, H]`: for one layer that reads both ways, `h_n[0]` is the forward direction after each row's last
# frame, and `h_n[1]` the reverse direction after its first. Side by side they sum up the whole utterance. (The last
# frame of `output` does not: there the reverse direction has seen one frame only.)


# %%
class Classifier(nn.Module):
    """Who speaks: the logits `[B, 9]` of utterances `x [B, T, 12]`."""

    bidirectional: bool

    @nn.compact
    def __call__(self, x, lengths):
        lstm = jaxlstm.LSTM(12, 100, bidirectional=self.bidirectional, batch_first=True, name="lstm")
        _, (h_n, _) = lstm(x, lengths=lengths)
        return nn.Dense(9, name="dense")(jnp.concatenate(h_n, axis=-1))


variables = Classifier(bidirectional=True).init(jax.random.key(0), x, lengths)
print("\n".join(f"{name:22} {leaf.shape}" for name, leaf in variables["params"]["lstm"].items()))

# %% [markdown]
# ## Training, as one function of a key
#
# Width, epochs and step size are those of the PyTorch runs that we compare with: 100 units, 50 epochs, Adam at 2e-3.
# (Their batch size, and whether they standardized the data, is not on record.) Everything random in a run, the initial
# parameters and the order of the utterances, follows from one key, and both loops are `lax.scan`s. So `train` is a pure
# function from a key to a trained model, which `jit` compiles once, whatever the seed.


# %%
epochs = 50
batch_size = 27
optimizer = optax.adam(2e-3)


def mean_loss(logits, speaker):
    return optax.softmax_cross_entropy_with_integer_labels(logits, speaker).mean()


def accuracy(logits):
    return (logits.argmax(axis=-1) == test_data.speaker).mean()


def batches(key):
    """An epoch's rows `[steps, batch_size]`: every utterance once, in an order of its own."""
    return jax.random.permutation(key, len(train_data.speaker)).reshape(-1, batch_size)


@partial(jax.jit, static_argnums=0)
def train(model, key):
    """Trained variables, and by epoch the training loss and the accuracy on the test utterances."""
    init_key, order_key = jax.random.split(key)

    def step(carry, rows):
        variables, opt_state = carry
        x, lengths, speaker = (a[rows] for a in train_data)
        loss, grads = jax.value_and_grad(lambda v: mean_loss(model.apply(v, x, lengths), speaker))(variables)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(variables, updates), opt_state), loss

    def epoch(carry, key):
        carry, losses = jax.lax.scan(step, carry, batches(key))
        return carry, (losses.mean(), accuracy(model.apply(carry[0], test_data.x, test_data.lengths)))

    variables = model.init(init_key, train_data.x[:1], train_data.lengths[:1])
    carry = variables, optimizer.init(variables)
    (variables, _), curves = jax.lax.scan(epoch, carry, jax.random.split(order_key, epochs))
    return variables, curves


# %%
one_way, both_ways = Classifier(bidirectional=False), Classifier(bidirectional=True)
seeds = range(3)
runs = {model: [train(model, jax.random.key(seed)) for seed in seeds] for model in (one_way, both_ways)}
scores = {model: np.array([curves[1][-1] for _, curves in runs[model]]) for model in runs}

# Measured once with torch 2.13: nn.LSTM of 100 units, 50 epochs, Adam at 2e-3, three seeds.
pytorch = {one_way: np.array([0.954, 0.959, 0.970]), both_ways: np.array([0.968, 0.976, 0.976])}

print(f"{'test accuracy':22}{'three seeds':>24}{'mean':>10}")
for model, name in ((one_way, "one way"), (both_ways, "both ways")):
    for library, values in (("jaxlstm", scores[model]), ("PyTorch", pytorch[model])):
        print(f"{name + ', ' + library:22}{'  '.join(f'{v:.1%}' for v in values):>24}{values.mean():10.1%}")

# %% [markdown]
# Compare the distance between the libraries' means with how far the seeds of one library lie apart. The equations are
# the same, so what differs between the libraries is seeds, batches and preparation of the data. The curves show the
# same runs epoch by epoch; what counts is the last epoch, not the best.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, (left, right) = plt.subplots(1, 2)
for model, color, label in ((one_way, ORANGE, "one way"), (both_ways, BLUE, "both ways")):
    for seed, (_, (losses, accuracies)) in enumerate(runs[model]):
        style = {"color": color, "linewidth": 1.2, "label": label if seed == 0 else None}
        left.semilogy(np.arange(1, epochs + 1), losses, **style)
        right.plot(np.arange(1, epochs + 1), accuracies, **style)
left.set(xlabel="epoch", ylabel="cross-entropy (nats)", title="Training loss of three seeds each")
right.set(xlabel="epoch", ylabel="test accuracy", ylim=(0.9, 1))
right.set_title(f"Both ways end at {scores[both_ways].mean():.1%}, one way at {scores[one_way].mean():.1%}")
right.axhline(pytorch[both_ways].mean(), color=GREY, linestyle="--", label="PyTorch, both ways")
left.legend()
right.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## Where it errs, and how early it knows
#
# Left, the guesses of all three seeds, errors in blue. Right, a question that `lengths` answers in one line: how good is the guess after
# the first `k` frames only? `jnp.minimum(lengths, k)` cuts every utterance there; no array is sliced, so nothing is
# compiled anew for each `k`. (The network was trained on whole utterances, never on beginnings.)


# %%
ks = jnp.arange(1, 30)


@partial(jax.jit, static_argnums=0)
def accuracy_by_k(model, variables):
    """The accuracy on the test utterances after the first k frames, for each of `ks`."""
    return jax.lax.map(lambda k: accuracy(model.apply(variables, test_data.x, jnp.minimum(test_data.lengths, k))), ks)


early = {model: np.mean([accuracy_by_k(model, variables) for variables, _ in runs[model]], axis=0) for model in runs}

# %% jupyter={"source_hidden": true} tags=["hide-input"]
logits = [both_ways.apply(variables, test_data.x, test_data.lengths) for variables, _ in runs[both_ways]]
guesses = np.concatenate(logits).argmax(axis=-1)
counts = confusion_matrix(np.tile(test_data.speaker, len(seeds)), guesses, labels=range(9))
errors = counts - np.diag(np.diag(counts))
worst = np.unravel_index(errors.argmax(), errors.shape)

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), width_ratios=(1, 1.25))
left.imshow(errors, cmap="Blues")
for (row, column), count in np.ndenumerate(counts):
    color = "white" if errors[row, column] > errors.max() / 2 else "black"
    left.text(column, row, count or "", ha="center", va="center", fontsize=8, color=color)
left.set(xlabel="guessed speaker", ylabel="true speaker", xticks=range(9), yticks=range(9))
left.set(xticklabels=range(1, 10), yticklabels=range(1, 10))
left.set_title(
    f"{errors.sum()} errors in {counts.sum()}, {errors.max()} of them {worst[0] + 1} taken for {worst[1] + 1}"
)
for model, style, label in ((one_way, "s", "one way"), (both_ways, "o", "both ways")):
    color = BLUE if model is both_ways else ORANGE
    right.plot(ks, early[model], f"{style}-", color=color, markersize=3.5, label=label)
half = int(np.median(test_data.lengths)) // 2
right.axvline(half, color=GREY, linestyle="--")
right.set(xlabel="frames heard, k", ylabel="test accuracy", ylim=(0, 1.02))
right.set_title(
    f"Halfway, after {half} frames: {early[one_way][half - 1]:.0%} one way, {early[both_ways][half - 1]:.0%} both ways"
)
right.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## A picture of the states
#
# The `output` of one short utterance, forward units and reverse units apart, each sorted by its final state. Time runs
# to the right. The forward states build up from the left; the reverse states build up from the *last real frame* back;
# the padding is exactly zero.

# %%
trained = runs[both_ways][0][0]["params"]
lstm = jaxlstm.LSTM(12, 100, bidirectional=True, batch_first=True)
output, (h_n, _) = lstm.apply({"params": trained["lstm"]}, test_data.x, lengths=test_data.lengths)
row = int(jnp.argmax(test_data.lengths == 18))
length = int(test_data.lengths[row])
print(f"{length} frames; all states in the padding are 0: {(output[row, length:] == 0).all()}")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, sharey=True)
for direction, (axis, name) in enumerate(zip(axes, ("forward", "reverse"), strict=True)):
    order = jnp.argsort(h_n[direction, row])
    states = output[row, :, 100 * direction : 100 * (direction + 1)][:, order]
    image = axis.imshow(states.T, cmap="PuOr", vmin=-1, vmax=1, aspect="auto", interpolation="none")
    axis.axvline(length - 0.5, color="black", linestyle="--", linewidth=1)
    axis.text(length + 5, 50, "padding:\nexactly 0", ha="center", va="center")
    start = "the first frame on" if direction == 0 else f"frame {length - 1}, the last, back"
    axis.set(xlabel="frame", title=f"{name.capitalize()}: from {start}")
axes[0].set_ylabel("unit, sorted by its final state")
fig.colorbar(image, ax=axes, label="h")
plt.show()

# %% [markdown]
# And the states in which all test utterances end, `[h_n[0], h_n[1]]`, seen along their two main axes. Each dot is one
# utterance, its colour the speaker, whose number stands in the middle of them. Untrained, the network already keeps
# some speakers apart, for their voices differ; trained, it gathers them. (Two axes of 200 show only part of it.)


# %%
def final_states(params):
    _, (h_n, _) = lstm.apply({"params": params}, test_data.x, lengths=test_data.lengths)
    return jnp.concatenate(h_n, axis=-1)


untrained = both_ways.init(jax.random.key(0), train_data.x[:1], train_data.lengths[:1])["params"]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
tones = plt.get_cmap("viridis")(np.linspace(0, 0.92, 9))
outline = [withStroke(linewidth=3, foreground="white")]

fig, axes = plt.subplots(1, 2, figsize=(9, 4.2))
for axis, params, name in ((axes[0], untrained["lstm"], "Before training"), (axes[1], trained["lstm"], "After")):
    pca = PCA(2, random_state=0)
    points = pca.fit_transform(final_states(params))
    axis.scatter(*points.T, s=9, color=tones[test_data.speaker])
    for speaker in range(9):
        middle = np.median(points[test_data.speaker == speaker], axis=0)
        axis.text(*middle, speaker + 1, ha="center", va="center", fontsize=12, weight="bold", path_effects=outline)
    axis.set(xlabel="first main axis", ylabel="second main axis")
    axis.set_title(f"{name}: {pca.explained_variance_ratio_.sum():.0%} of the variance shown")
plt.show()

# %% [markdown]
# ## The same in NNX
#
# The layer has the same arguments and the same parameters, held by the module itself; the loop is plain Python, around
# one step that `nnx.jit` compiles.


# %%
class NNXClassifier(nnx.Module):
    def __init__(self, rngs):
        self.lstm = jaxlstm.nnx.LSTM(12, 100, bidirectional=True, batch_first=True, rngs=rngs)
        self.dense = nnx.Linear(200, 9, rngs=rngs)

    def __call__(self, x, lengths):
        _, (h_n, _) = self.lstm(x, lengths=lengths)
        return self.dense(jnp.concatenate(h_n, axis=-1))


@nnx.jit
def nnx_step(model, optimizer, rows):
    x, lengths, speaker = (a[rows] for a in train_data)
    grads = nnx.grad(lambda model: mean_loss(model(x, lengths), speaker))(model)
    optimizer.update(model, grads)


nnx_model = NNXClassifier(nnx.Rngs(0))
nnx_optimizer = nnx.Optimizer(nnx_model, optax.adam(2e-3), wrt=nnx.Param)
for key in jax.random.split(jax.random.key(0), epochs):
    for rows in batches(key):
        nnx_step(nnx_model, nnx_optimizer, rows)

nnx_score = accuracy(nnx_model(test_data.x, test_data.lengths))
print(f"NNX, both ways, one seed: {nnx_score:.1%}")

# %% [markdown]
# ## An ensemble, trained by `vmap` in one program
#
# `train` is a function of a key, so `vmap` over keys trains several networks at once, as one program with one more axis
# on every array, the parameters included. The first member has the key of our first run above, so its loss begins the
# same. Their probabilities are averaged; the picture shows what each further member adds, as the mean over all
# choices of so many members.

# %%
members = 5
keys = jax.vmap(jax.random.key)(jnp.arange(members))
ensemble, (losses, accuracies) = jax.vmap(lambda key: train(both_ways, key))(keys)
print(f"weight_hh_l0 of all members: {ensemble['params']['lstm']['weight_hh_l0'].shape}")

alone = runs[both_ways][0][1][0]
print(f"first epoch's loss with key 0: {losses[0, 0]:.4f} in the ensemble, {alone[0]:.4f} alone")

logits = jax.vmap(lambda variables: both_ways.apply(variables, test_data.x, test_data.lengths))(ensemble)
probabilities = jax.nn.softmax(logits)
sizes = range(1, members + 1)
subsets = {size: [list(chosen) for chosen in combinations(range(members), size)] for size in sizes}
by_size = {size: [float(accuracy(probabilities[jnp.array(s)].mean(axis=0))) for s in subsets[size]] for size in sizes}
means = [np.mean(by_size[size]) for size in sizes]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, axis = plt.subplots()
for size in sizes:
    label = "one choice of members" if size == 1 else None
    axis.plot([size] * len(by_size[size]), by_size[size], "o", color=BLUE, alpha=0.4, label=label)
axis.plot(sizes, means, "_-", color=ORANGE, markersize=16, label="their mean")
axis.set(xlabel="members averaged", ylabel="test accuracy", xticks=sizes)
axis.set_title(f"A member alone is right in {means[0]:.1%} on average, all {members} together in {means[-1]:.1%}")
axis.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## What to try next
#
# - Drop `lengths=lengths` from the classifier. Every number turns into NaN; replace the NaN by zeros and see what the
#   accuracy loses.
# - Stack two layers with `num_layers=2, dropout=0.3`; training then needs `deterministic=False` and `rngs={"dropout":
#   key}`. Which two of the four states in `h_n` are the top layer's?
# - Train on beginnings: draw `k` anew at each step and pass `jnp.minimum(lengths, k)`. How much earlier does it know?
# - Pack several utterances into one row and separate them by `resets`: see
#   [Coming from PyTorch](02_coming_from_pytorch.ipynb).
# - Where time and memory go, and how both grow with `T`, `B` and `H`: [Speed and scale](04_speed_and_scale.ipynb).
