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
# # Coming from PyTorch
#
# You know `torch.nn.LSTM`. This notebook puts it beside jaxlstm, call by call, and compares the numbers:
#
# 1. every argument of `nn.LSTM`, and the boxes that come out;
# 2. packed sequences, which become `lengths`;
# 3. `LSTMCell`, with layers of different sizes;
# 4. a checkpoint moved over, and back;
#
# and then what only works here:
#
# 5. an ensemble by `vmap` over parameters;
# 6. products with the Hessian, forward over reverse;
# 7. `resets`, for several sequences in one row;
# 8. dropout that depends on its key and on nothing else.
#
# The legend, as everywhere in jaxlstm: `T` time, `B` batch, `I` input, `H` hidden, `P` output width (`proj_size` if
# there is one, else `H`), `L` layers, `D` directions.

# %%
import tempfile
import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import safetensors.torch
import torch
from jax.flatten_util import ravel_pytree
from matplotlib.colors import to_rgb
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import jaxlstm
from jaxlstm.interop import from_torch, load_safetensors, save_safetensors, to_torch

torch.manual_seed(0)


def same(ours, theirs, tolerance=1e-6):
    """Raise unless arrays of both libraries, or tuples of them, have the same shapes and numbers."""
    for array, tensor in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(array, tensor.detach().numpy(), rtol=0, atol=tolerance)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
plt.rcParams |= {"figure.figsize": (9, 3.5), "figure.dpi": 100, "figure.constrained_layout.use": True, "font.size": 9}
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"  # Okabe and Ito's colour-blind safe palette.
# PyTorch says so each time it takes its slower path, which projections need on CPUs.
warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")

# %% [markdown]
# ## The same call
#
# In PyTorch, the module holds its parameters and its options. Here, `lstm` is a function: the parameters are its first
# argument, and they alone tell sizes, layers and directions, whether there is a bias, and whether there is a
# projection. The options that act on a run are keyword arguments. `from_torch` takes a module's parameters over.

# %%
T, B, I, H = 7, 4, 5, 6
x = torch.randn(T, B, I)

module = torch.nn.LSTM(I, H, num_layers=2, bidirectional=True)
output_torch, (h_n_torch, c_n_torch) = module(x)

params = from_torch(module)
output, (h_n, c_n) = jaxlstm.lstm(params, x.numpy())

same((output, h_n, c_n), (output_torch, h_n_torch, c_n_torch))
print(f"output {output.shape}, h_n {h_n.shape}, c_n {c_n.shape}: the same shapes and numbers")

# %% [markdown]
# ## Every argument
#
# | `torch.nn.LSTM(...)` | as a function | as a module: `jaxlstm.LSTM(...)`, `jaxlstm.nnx.LSTM(...)` |
# |---|---|---|
# | `input_size`, `hidden_size` | `init_lstm(key, input_size, hidden_size)` | the same |
# | `num_layers=1` | `init_lstm(..., num_layers=1)` | the same |
# | `bias=True` | `init_lstm(..., bias=True)` | the same |
# | `bidirectional=False` | `init_lstm(..., bidirectional=False)` | the same |
# | `proj_size=0` | `init_lstm(..., proj_size=0)` | the same |
# | `batch_first=False` | `lstm(..., batch_first=False)` | the same |
# | `dropout=0` | `lstm(..., dropout=0.0, dropout_key=None)` | `dropout`, and who says when: see the last section |
# | `dtype` | `init_lstm(..., dtype=jnp.float32)` | `dtype` to compute in, `param_dtype` to store |
# | `device` | `jax.device_put`, or the default device | the same |
#
# Each in turn, in both libraries, with the shapes of what comes out:

# %%
PLAIN = f"input_size={I}, hidden_size={H}"
CASES = {
    PLAIN: {},
    "batch_first=True": {"batch_first": True},
    "bias=False": {"bias": False},
    "num_layers=2": {"num_layers": 2},
    "num_layers=2, dropout=0.5": {"num_layers": 2, "dropout": 0.5},
    "proj_size=3": {"proj_size": 3},
    "bidirectional=True": {"bidirectional": True},
    "num_layers=2, bidirectional=True": {"num_layers": 2, "bidirectional": True},
}


def run_both(arguments):
    """Arrays by name from jaxlstm, once PyTorch's module with these arguments has given the same."""
    module = torch.nn.LSTM(I, H, **arguments).eval()
    batch_first = arguments.get("batch_first", False)
    x = torch.randn((B, T, I) if batch_first else (T, B, I))
    output, (h_n, c_n) = jaxlstm.lstm(from_torch(module), x.numpy(), batch_first=batch_first)
    same((output, (h_n, c_n)), module(x))
    return {"x": x.numpy(), "output": output, "h_n": h_n, "c_n": c_n}


results = {name: run_both(arguments) for name, arguments in CASES.items()}
print(f"{f'T = {T}, B = {B}':34}{'x':>12}{'output':>12}{'h_n':>12}{'c_n':>12}")
for name, arrays in results.items():
    print(f"{name:34}" + "".join(f"{array.shape!s:>12}" for array in arrays.values()))

half = jaxlstm.init_lstm(jax.random.key(0), I, H, dtype=jnp.bfloat16)
output, _ = jaxlstm.lstm(half, jnp.ones((T, B, I), jnp.bfloat16))
print(f"\nThe dtype of the output is the common one of x and parameters, here {output.dtype}.")

# %% [markdown]
# And as boxes, drawn from the arrays' shapes: the first axis runs down, the second into the page, the third to the
# right. Blue is what the forward direction computes, orange what the reverse direction does; the darker shade is the
# top layer's. l0 fwd is layer 0's forward direction, l0 rev its reverse one.
#
# First the plain layer, and `batch_first`. It changes `x` and `output`, and **never the states**.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def cuboid(axis, top, left, shape, color):
    """A box of `shape` (down, into the page, to the right) in oblique projection."""
    down, depth, right = shape
    d = 0.45 * depth
    front = [(left, top), (left + right, top), (left + right, top - down), (left, top - down)]
    lid = [(left, top), (left + right, top), (left + right + d, top + d), (left + d, top + d)]
    side = [
        (left + right, top),
        (left + right + d, top + d),
        (left + right + d, top + d - down),
        (left + right, top - down),
    ]
    for corners, light in ((front, 0.0), (lid, 0.45), (side, 0.25)):
        shade = np.array(to_rgb(color)) * (1 - light) + light
        axis.add_patch(plt.Polygon(corners, facecolor=shade, edgecolor="white", linewidth=0.8))


def draw(axis, name, shape, letters, parts, along):
    """An array as boxes, a `(label, colour)` for each, side by side along axis `along`; `letters` name its axes."""
    down, depth, right = shape
    d = 0.45 * depth
    step = shape[along] / len(parts)
    pieces = [(i * step, *part) for i, part in enumerate(parts)]
    for start, label, color in pieces if along == 2 else reversed(pieces):  # What lies in front is drawn last.
        if along == 2:
            cuboid(axis, 0, start, (down, depth, step), color)
            place = {"ha": "center", "va": "center", "rotation": 0 if step > 4 else 90}
            axis.text(start + step / 2, -down / 2, label, color="white", fontsize=8, **place)
        else:
            cuboid(axis, -start, 0, (step, depth, right), color)
            axis.text(right + d + 0.4, d - start - step / 2, label, fontsize=6.5, va="center")
    axis.text(-0.5, -down / 2, f"{letters[0]} = {down}", ha="right", va="center")
    axis.text(d / 2 - 0.4, d / 2 + 0.2, f"{letters[1]} = {depth}", ha="right", va="bottom")
    axis.text(right / 2, -down - 0.4, f"{letters[2]} = {right}", ha="center", va="top")
    axis.text(right / 2 + d, d + 0.5, name, ha="center", va="bottom", fontsize=11, fontweight="bold")
    axis.set(xlim=(-6, 14), ylim=(-down - 2, d + 2.3), aspect="equal", anchor="NW")
    axis.axis("off")


LIGHT = {"forward": "#56B4E9", "reverse": "#E69F00"}  # A layer below the top.
DARK = {"forward": BLUE, "reverse": ORANGE}


def picture(*names):
    """The boxes of these cases, a row each."""
    figure = plt.figure(figsize=(9, 1.8 * len(names)))
    for subfigure, case in zip(np.ravel(figure.subfigures(len(names), 1)), names, strict=True):
        subfigure.suptitle(case, x=0.01, ha="left", family="monospace")
        arguments, arrays = CASES[case], results[case]
        directions = ["forward", "reverse"][: 1 + arguments.get("bidirectional", False)]
        num_layers = arguments.get("num_layers", 1)
        shades = [LIGHT, DARK][-num_layers:]
        short = {"forward": "fwd", "reverse": "rev"}
        states = [(f"l{n} {short[way]}", shades[n][way]) for n in range(num_layers) for way in directions]
        first = ("B", "T") if arguments.get("batch_first") else ("T", "B")
        width = "P" if arguments.get("proj_size") else "H"
        wide = f"D*{width}" if len(directions) == 2 else width
        x, output, h_n, c_n = subfigure.subplots(1, 4)
        draw(x, "x", arrays["x"].shape, (*first, "I"), [("", GREY)], 2)
        draw(output, "output", arrays["output"].shape, (*first, wide), [(way, DARK[way]) for way in directions], 2)
        draw(h_n, "h_n", arrays["h_n"].shape, ("L*D", "B", width), states, 0)
        draw(c_n, "c_n", arrays["c_n"].shape, ("L*D", "B", "H"), states, 0)
    plt.show()


# %%
picture(PLAIN, "batch_first=True")

# %% [markdown]
# More layers make the states longer, and `output` stays that of the layer on top. A projection makes `output` and `h`
# narrower, and leaves `c` at `H`. Dropout, which acts between layers while training, changes no shape, and neither does
# `bias`.

# %%
picture("num_layers=2", "proj_size=3")

# %% [markdown]
# Two directions make `output` wider: forward on the left, reverse on the right. The states alternate: layer 0 forward,
# layer 0 reverse, layer 1 forward, layer 1 reverse.

# %%
picture("bidirectional=True", "num_layers=2, bidirectional=True")

# %% [markdown]
# So where is the summary of a whole sequence? The forward direction has seen all of it at the last step, the reverse
# direction at the **first**. `output[-1]` holds the one, but not the other, in both libraries:

# %%
both = results["num_layers=2, bidirectional=True"]
output, h_n = both["output"], both["h_n"]
print("the top layer forward is the last step's left half:       ", (h_n[-2] == output[-1, :, :H]).all())
print("the top layer in reverse is the last step's right half:   ", (h_n[-1] == output[-1, :, H:]).all())
print("the top layer in reverse is the first step's right half:  ", (h_n[-1] == output[0, :, H:]).all())
summary = jnp.concatenate([h_n[-2], h_n[-1]], axis=-1)
print(f"a summary of each sequence, [B, D*H]: {summary.shape}")

# %% [markdown]
# ## Packed sequences become `lengths`
#
# In PyTorch, rows of unequal length are packed, run and padded again. Here, `lengths` goes in beside the padded array.
# The numbers are the same: zeros at padding, final states of each row's last valid step, and a reverse direction that
# starts there. Rows need no order. A row of length 0, which PyTorch refuses, hands its initial state on.

# %%
lengths = [7, 3, 5, 1]

packed, state_torch = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
output_torch, _ = pad_packed_sequence(packed, total_length=T)

output, state = jaxlstm.lstm(params, x.numpy(), lengths=lengths)
same((output, state), (output_torch, state_torch))
print(f"largest difference: {np.abs(output - output_torch.detach().numpy()).max():.0e}")

try:
    pack_padded_sequence(x, [7, 3, 0, 1], enforce_sorted=False)
except RuntimeError as error:
    print(f"PyTorch, length 0: {error}")
start = jaxlstm.LSTMState(*jax.random.normal(jax.random.key(0), (2, 4, B, H)))
output, state = jaxlstm.lstm(params, x.numpy(), start, lengths=[7, 3, 0, 1])
kept = all((final[:, 2] == initial[:, 2]).all() for final, initial in zip(state, start, strict=True))
print(f"jaxlstm, length 0: the final state is the initial one: {kept}; the output is 0: {(output[:, 2] == 0).all()}")

# %% [markdown]
# `lengths` may be traced, so that one compiled program serves every mixture of lengths; and nothing at padding reaches
# a gradient, not even NaN. Both at once: the derivative with respect to `x`, under `jit`, with NaN for padding. Below,
# black is padding, where the derivative is exactly 0.


# %%
@jax.jit
def slope(x, lengths):
    """How much the sum of the squared outputs changes with each element of x."""
    return jax.grad(lambda x: (jaxlstm.lstm(params, x, lengths=lengths)[0] ** 2).sum())(x)


valid = np.arange(T)[:, None] < np.array(lengths)
gradient = slope(jnp.where(valid[..., None], x.numpy(), jnp.nan), jnp.array(lengths))
print(f"finite everywhere: {jnp.isfinite(gradient).all()}; 0 at padding: {(gradient[~valid] == 0).all()}")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, axes = plt.subplots(1, B, figsize=(9, 2.6), sharey=True)
limit = float(jnp.abs(gradient).max())
for row, axis in enumerate(axes):
    shown = np.ma.masked_where(np.broadcast_to(~valid[:, row], (I, T)), gradient[:, row].T)
    image = axis.imshow(shown, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    axis.set_facecolor("black")
    axis.set(xlabel="time", title=f"row {row}: length {lengths[row]}")
axes[0].set_ylabel("input feature")
fig.colorbar(image, ax=axes, label="derivative")
plt.show()

# %% [markdown]
# ## `LSTMCell`, with layers of different sizes
#
# A cell has no notion of time; it is what one stacks by hand where layers differ in size. In PyTorch, a Python loop:

# %%
torch_0, torch_1 = torch.nn.LSTMCell(100, 30), torch.nn.LSTMCell(30, 20)
xs = torch.randn(50, 3, 100)

h0, c0, h1, c1 = (torch.zeros(3, n) for n in (30, 30, 20, 20))
loop = []
for x_t in xs:  # x_t: [3, 100]
    h0, c0 = torch_0(x_t, (h0, c0))  # h0: [3, 30]
    h1, c1 = torch_1(h0, (h1, c1))  # h1: [3, 20]
    loop.append(h1)

# %% [markdown]
# Here, the body of the loop is a function that `lax.scan` folds over time. It is compiled once, however long the
# sequence.

# %%
cell_0, cell_1 = from_torch(torch_0), from_torch(torch_1)


def step(states, x_t):  # x_t: [3, 100]
    state_0, h0 = jaxlstm.lstm_cell(cell_0, states[0], x_t)  # h0: [3, 30]
    state_1, h1 = jaxlstm.lstm_cell(cell_1, states[1], h0)  # h1: [3, 20]
    return (state_0, state_1), h1


zeros = tuple(jaxlstm.LSTMState(jnp.zeros((3, n)), jnp.zeros((3, n))) for n in (30, 20))
states, hs = jax.lax.scan(step, zeros, xs.numpy())

same((hs, *states), (torch.stack(loop), (h0, c0), (h1, c1)))
print(f"{len(loop)} steps of two cells, 100 to 30 to 20: output {hs.shape}, the same numbers")

# %% [markdown]
# ## Moving a checkpoint
#
# A model of yours holds an LSTM somewhere inside. Its `state_dict` goes through `from_torch`, with the `prefix` under
# which the LSTM's keys stand. A safetensors file needs no PyTorch at all to be read.


# %%
class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(1000, 16)
        self.encoder = torch.nn.LSTM(16, 32, num_layers=2, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(64, 5)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens))[0])


tagger = Tagger()
tokens = torch.randint(1000, (4, 11))

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "tagger.safetensors")
    safetensors.torch.save_file(tagger.state_dict(), path)
    encoder = load_safetensors(path, prefix="encoder")

direct = from_torch(tagger.state_dict(), prefix="encoder")
equal = jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), encoder, direct))
print(f"from the file and from the state_dict itself: the same bits: {equal}")

embedding, weight, bias = (p.detach().numpy() for p in (tagger.embedding.weight, tagger.head.weight, tagger.head.bias))


def tag(encoder, tokens):
    output, _ = jaxlstm.lstm(encoder, embedding[tokens], batch_first=True)
    return output @ weight.T + bias


same(tag(encoder, tokens.numpy()), tagger(tokens))
print(f"logits {tag(encoder, tokens.numpy()).shape}: the same numbers as in PyTorch")

# %% [markdown]
# The Flax modules keep their parameters under PyTorch's own names, so what `to_torch` gives, arrays by name, is also a
# Linen module's `params`. And the way back:

# %%
by_name = to_torch(encoder)
print("\n".join(f"{name:22} {array.shape}" for name, array in by_name.items() if "_l1" in name))

linen = jaxlstm.LSTM(16, 32, num_layers=2, bidirectional=True, batch_first=True)
output, _ = linen.apply({"params": by_name}, embedding[tokens.numpy()])
same(output, tagger.encoder(tagger.embedding(tokens))[0])

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "encoder.safetensors")
    save_safetensors(encoder, path)
    back = safetensors.torch.load_file(path)
print(torch.nn.LSTM(16, 32, num_layers=2, bidirectional=True).load_state_dict(back))
equal = all(torch.equal(back[name], tensor) for name, tensor in tagger.encoder.state_dict().items())
print(f"there and back: every parameter is equal, bit for bit: {equal}")

# %% [markdown]
# From here on, what only works here.
#
# ## An ensemble by `vmap`
#
# Parameters are a plain tree of arrays, so `vmap` maps over them: eight models at once, as one program with batched
# products. (Training one so is in
# [Sequences of unequal length](03_sequences_of_unequal_length.ipynb).) PyTorch's own `vmap` has no rule for its
# LSTM:

# %%
init = partial(jaxlstm.init_lstm, input_size=I, hidden_size=H)
ensemble = jax.vmap(init)(jax.random.split(jax.random.key(0), 8))
outputs, _ = jax.vmap(lambda params: jaxlstm.lstm(params, x.numpy()))(ensemble)
third, _ = jaxlstm.lstm(jax.tree.map(lambda leaf: leaf[2], ensemble), x.numpy())
print(f"jaxlstm: outputs of eight models, {outputs.shape}")
print(f"the third among them and by itself: {abs(outputs[2] - third).max():.0e} apart at most")

single = torch.nn.LSTM(I, H)
stacked = {name: torch.stack([p.detach()] * 8) for name, p in single.named_parameters()}
try:
    torch.func.vmap(lambda p: torch.func.functional_call(single, p, (x,))[0])(stacked)
except RuntimeError as error:
    print(f"PyTorch: {error}")

# %% [markdown]
# ## Products with the Hessian
#
# The derivative in direction `v` (`jax.jvp`) of the gradient (`jax.grad`) is the Hessian's product with `v`, without ever
# making the Hessian. Forward mode, reverse mode and their mixtures all work through `lstm`, to any order. For a network
# so small that its whole Hessian can be looked at, we compare the two.


# %%
small = jaxlstm.init_lstm(jax.random.key(1), input_size=2, hidden_size=3)
flat, unravel = ravel_pytree(small)
inputs, targets = jax.random.normal(jax.random.key(2), (2, 20, 8, 3))


def loss(flat):
    """Mean squared distance of the output, `[20, 8, 3]`, to random targets."""
    return jnp.mean((jaxlstm.lstm(unravel(flat), inputs[..., :2])[0] - targets) ** 2)


@jax.jit
def hessian_times(v):
    return jax.jvp(jax.grad(loss), (flat,), (v,))[1]


hessian = jax.jit(jax.hessian(loss))(flat)
v = jax.random.normal(jax.random.key(3), flat.shape)
print(f"a product and the whole Hessian times v: {abs(hessian_times(v) - hessian @ v).max():.0e} apart at most")

# The power method: multiply, normalize, repeat; it finds the strongest curvature by products alone.
estimates = []
v /= jnp.linalg.norm(v)
for _ in range(20):
    product = hessian_times(v)
    estimates.append(v @ product)
    v = product / jnp.linalg.norm(product)
eigenvalues = np.linalg.eigvalsh(hessian)
strongest = eigenvalues[np.abs(eigenvalues).argmax()]
print(f"strongest curvature: {estimates[-1]:.4f} by {len(estimates)} products, {strongest:.4f} by the whole Hessian")

# %% [markdown]
# Left, the Hessian of the parameters in their order in the tree. Right, what the products found beside what the whole
# Hessian says. The two biases of a cell always act as a sum, so their blocks are equal: one bias is redundant, and is
# there because checkpoints have it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
ends = np.cumsum([leaf.size for leaf in jax.tree.leaves(small)])
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.9), width_ratios=(1.15, 1))
limit = float(np.percentile(np.abs(hessian), 99))
image = left.imshow(hessian, cmap="PuOr", vmin=-limit, vmax=limit)
for end in ends[:-1]:
    left.axhline(end - 0.5, color="black", linewidth=0.7)
    left.axvline(end - 0.5, color="black", linewidth=0.7)
middles = ends - np.diff(ends, prepend=0) / 2 - 0.5
names = small[0][0]._fields[:4]
left.set_xticks(middles, names, rotation=45, ha="right", rotation_mode="anchor")
left.set_yticks(middles, names)
left.set_title(f"The Hessian of {flat.size} parameters")
fig.colorbar(image, ax=left, label="second derivative")
right.plot(np.arange(1, len(estimates) + 1), estimates, "o-", color=BLUE, markersize=3, label="from products alone")
right.axhline(strongest, color=ORANGE, linestyle="--", label="from the whole Hessian")
right.set(xlabel="products with the Hessian", ylabel="strongest curvature")
right.set_title("The power method, product by product")
right.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## `resets`: several sequences in one row
#
# Short documents packed end to end into one long row, or episodes of an agent's life: where `resets` is True a new
# sequence begins, and the state is zero before that step. In the reverse direction it is zeroed after it, so no
# document sees its neighbour from either side. Three documents in one row, with and without `resets`, beside each run
# alone:

# %%
long_params = jaxlstm.init_lstm(jax.random.key(4), input_size=3, hidden_size=32, bidirectional=True)
documents = [jax.random.normal(jax.random.key(n), (n, 3)) for n in (12, 20, 16)]
row = jnp.concatenate(documents)
starts = np.cumsum([0, *map(len, documents)])[:-1]
resets = jnp.zeros(len(row), bool).at[starts].set(True)

packed, _ = jaxlstm.lstm(long_params, row, resets=resets)
apart = jnp.concatenate([jaxlstm.lstm(long_params, document)[0] for document in documents])
leaky, _ = jaxlstm.lstm(long_params, row)


def distance(output):
    """At each step, to the documents run apart, as a share of their size."""
    return jnp.linalg.norm(output - apart, axis=-1) / jnp.linalg.norm(apart, axis=-1)


print(f"off by up to {distance(packed).max():.0e} with resets, {distance(leaky).max():.0%} without")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, (left, right) = plt.subplots(1, 2, width_ratios=(1.2, 1))
image = left.imshow(packed.T, cmap="PuOr", vmin=-0.3, vmax=0.3, aspect="auto", interpolation="none")
left.axhline(31.5, color="black", linewidth=0.7)
left.set(xlabel="time", yticks=(16, 48), title="With resets: three documents, none sees another")
left.set_yticklabels(["forward", "reverse"], rotation=90, va="center")
fig.colorbar(image, ax=left, label="output")
right.plot(distance(leaky), color=ORANGE, label="without resets")
right.plot(distance(packed), color=BLUE, label="with resets")
right.set(xlabel="time", ylabel="relative distance to running apart", ylim=(-0.03, 1.2 * distance(leaky).max()))
right.set_title(f"Without, outputs are off by up to {distance(leaky).max():.0%}")
right.legend(loc="upper center", ncols=2, framealpha=1)
for axis in (left, right):
    for start in starts[1:]:
        axis.axvline(start - 0.5, color="black", linestyle="--", linewidth=1)
plt.show()

# %% [markdown]
# ## Dropout that depends on its key alone
#
# PyTorch's dropout draws from a global generator: what is dropped depends on whatever was drawn before. Here it is a
# function of `dropout_key`, the same under `jit`, under `vmap`, today and tomorrow. With no key, nothing is dropped:
# that is inference. In the modules, Linen's `deterministic` (True unless you say otherwise) and NNX's `train()` and
# `eval()` decide.

# %%
deep = jaxlstm.init_lstm(jax.random.key(5), input_size=3, hidden_size=16, num_layers=3)


def run(key):
    return jaxlstm.lstm(deep, row, dropout=0.3, dropout_key=key)[0]


key, other = jax.random.split(jax.random.key(6))
plain, _ = jaxlstm.lstm(deep, row)
print("the largest difference of the output to that ...")
for name, output in {
    "of the same key": run(key),
    "of the same key, under jit": jax.jit(run)(key),
    "of another key": run(other),
    "with nothing dropped": plain,
}.items():
    print(f"{name:>32}: {abs(run(key) - output).max():.0e}")
print(f"with no key nothing is dropped: {(run(None) == plain).all()}")

# %% [markdown]
# So a thousand draws are one `vmap` over keys: the spread of an output under dropout, often read as a network's
# uncertainty (Gal and Ghahramani 2016).

# %%
keys = jax.random.split(key, 1000)
draws = jax.vmap(run)(keys)[:, :, 0]
print(f"a draw among them and by itself: {abs(draws[7] - run(keys[7])[:, 0]).max():.0e} apart at most")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
low, middle, high = np.percentile(draws, (5, 50, 95), axis=0)
fig, axis = plt.subplots(figsize=(9, 3))
axis.fill_between(np.arange(len(row)), low, high, color="#56B4E9", alpha=0.5, label="nine tenths of the draws")
axis.plot(middle, color=BLUE, label="their median")
axis.plot(run(None)[:, 0], color=ORANGE, linestyle="--", label="no key: nothing dropped")
axis.set(xlabel="time", ylabel="one unit's output", title=f"{len(keys)} draws of dropout, in one call")
axis.legend(ncols=3)
plt.show()

# %% [markdown]
# ## What to try next
#
# - Move a checkpoint of your own: `from_torch(torch.load("model.pt", weights_only=True), prefix="...")`. Where a key is
#   missing or does not belong, the error names it. `jaxlstm inspect FILE` lists the LSTMs in a file.
# - Run the float64 comparison: `jax.config.update("jax_enable_x64", True)` at the top, `.double()` on the modules, and
#   a tolerance of 1e-12 in `same`.
# - Replace the power method by `scipy.sparse.linalg.eigsh` on a `LinearOperator` around `hessian_times`, and find the
#   most negative curvature too.
# - Give `resets` as an agent's `done` flags, and check that acting step by step with `lstm_cell` gives the same states.
# - Train on [sequences of unequal length](03_sequences_of_unequal_length.ipynb).
