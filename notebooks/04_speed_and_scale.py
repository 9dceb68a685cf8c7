# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Speed and scale
#
# How fast is an LSTM, how fast could it be on this machine, and what stops it from growing? This notebook measures
#
# 1. jaxlstm beside the other LSTMs that are installed, with `jaxlstm bench`;
# 2. the time of a training step against T, B and H, with its fitted growth, beside what this machine allows at best
#    (its *roofline*);
# 3. one device beside two, with the batch sharded;
# 4. memory with and without `checkpoint_every`;
#
# and then works out on paper
#
# 5. what limits a data-parallel LSTM on 8, 64 and 512 TPUs or GPUs;
#
# and ends with
#
# 6. how to run all of it on a GPU or TPU.
#
# The legend, as everywhere in jaxlstm: B batch, T time, I input, H hidden, L layers. Times are those of the machine
# named below, and yours will give others, so run it there, with nothing else running: it takes a few minutes on two
# cores. The text says what to look for, and the tables and pictures say what was found.

# %%
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from jax.sharding import PartitionSpec as P

import jaxlstm
from jaxlstm.sharding import input_spec, shardings

# For section 3; it must come before JAX computes anything.
jax.config.update("jax_num_cpu_devices", 2)

print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
print(f"jax {jax.__version__}, jaxlstm {version('jaxlstm')}, devices {jax.devices()}")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
plt.rcParams |= {"figure.dpi": 100, "font.size": 10, "axes.grid": True, "grid.color": "0.88", "axes.axisbelow": True}
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#999999"  # Colour-blind people tell them apart (Okabe and Ito).


def table(head: str, rows: list[str]) -> None:
    """Show rows of cells, both written as `a | b | c`."""
    rule = "|".join([":--", *["--:"] * head.count("|")])
    display(Markdown("\n".join(f"| {row} |" for row in (head, rule, *rows))))


# %% [markdown]
# ## 1. Beside the others
#
# `jaxlstm bench` gives every library that is installed the same weights and the same input, checks that all of them
# answer with the same output and gradients, and only then times them: each in a process of its own, in alternating
# rounds. (`pip install -e '.[bench]'` brings PyTorch, Haiku, Equinox and Keras; Flax comes with jaxlstm.) On the
# command line that is `jaxlstm bench --mode train --json bench.json`, with shapes of its own. Here two small ones do,
# batch x time x input x hidden:

# %%
SHAPES = ["32x64x128x128", "8x128x64x256"]
ROUNDS = 3
CHOICE = []  # All that are installed; ["--peers", "linen,torch"] would choose.

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "bench.json"
    command = ["-m", "jaxlstm", "bench", *SHAPES, "--mode", "train", "--rounds", str(ROUNDS), *CHOICE, "--json", file]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    bench = json.loads(file.read_text())

print(f"{bench['machine']['cpu']}, cores {bench['machine']['cores']}, {bench['settings']['dtype']}, training")
print(", ".join(map(" ".join, bench["versions"].items())))
for peer, remedy in bench["missing"].items():
    print(f"not installed: {peer} ({remedy})")

# %% [markdown]
# The file holds every figure; a table takes a few lines. It has the median of the rounds, jaxlstm's time over theirs
# (below 1, jaxlstm is faster), the rate of the matrix products, also as a share of a plain matrix product's in the same
# rounds, and the temporary memory.


# %%
def shape_of(measurement: dict) -> str:
    """BxTxIxH."""
    return "x".join(str(measurement["shape"][axis]) for axis in ("batch", "time", "input", "hidden"))


trained = [m for m in bench["measurements"] if m["mode"] == "train"]
for m in trained:
    if m["failure"]:
        print(f"{m['peer']} failed at {shape_of(m)}: {m['failure']}")
timed = [m for m in trained if not m["failure"]]


def bench_row(m: dict) -> str:
    memory = "-" if m["temp_bytes"] is None else f"{m['temp_bytes'] / 1e6:.1f} MB"
    rate = f"{m['flops_per_s'] / 1e9:.0f} GFLOP/s | {m['share_of_product']:.0%}"
    return f"{shape_of(m)} {m['peer']} | {1e3 * m['median_s']:.2f} ms | {m['ours_over_theirs']:.2f} | {rate} | {memory}"


table("shape, peer | time a step | ours / theirs | rate | of product | memory", [bench_row(m) for m in timed])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, [panels] = plt.subplots(1, len(SHAPES), figsize=(9, 3.2), layout="constrained", squeeze=False)
for axes, shape in zip(panels, SHAPES, strict=True):
    here = sorted((m for m in timed if shape_of(m) == shape), key=lambda m: -m["median_s"])
    names = [m["peer"] for m in here]
    bars = axes.barh(
        names, [1e3 * m["median_s"] for m in here], color=[BLUE if name == "jaxlstm" else GREY for name in names]
    )
    axes.bar_label(bars, fmt="{:.1f}", padding=3)
    axes.margins(x=0.15)
    axes.grid(visible=False)
    axes.set(title=f"{shape}: {names[-1]} is fastest", xlabel="time of a training step [ms]")
plt.show()

# %% [markdown]
# ## 2. What this machine allows, and how time grows
#
# An LSTM layer multiplies, at each of T steps, a $4H \times I$ and a $4H \times H$ matrix with B columns. A
# multiplication and an addition are two operations, so forward it does
#
# $$8\,T\,B\,H\,(I + H) \text{ floating-point operations,}$$
#
# and in training three times that: the gradient of a product is two more. For the backward pass jaxlstm keeps four
# gates and c, which is $20\,H$ bytes per step and row in float32, written once and read once.
#
# A machine that multiplies matrices at a rate $R$ [FLOP/s] and moves memory at a rate $M$ [bytes/s] can't do it
# faster than
#
# $$t \ge \max\left(\frac{24\,T\,B\,H\,(I+H)}{R},\ \frac{40\,T\,B\,H}{M}\right),$$
#
# its *roofline*. So measure both rates, each as the best of several calls, since a ceiling is what we want.

# %%
AT_LEAST = 0.2  # Seconds that the calls of one measurement take together.


def seconds_of_calls(function, *arguments) -> list[float]:
    """Seconds of each of at least three calls, after one that compiles."""
    jax.block_until_ready(function(*arguments))
    times = []
    while len(times) < 3 or sum(times) < AT_LEAST:
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))  # JAX returns before it has computed.
        times.append(time.perf_counter() - begin)
    return times


size = 1024
square = jnp.ones((size, size))
matrix_rate = 2 * size**3 / min(seconds_of_calls(jax.jit(jnp.matmul), square, square))

long = jnp.ones(2**24)  # 64 MiB: far more than the caches hold.
triad = jax.jit(lambda a, b: a + 0.5 * b)  # Reads two, writes one.
memory_rate = 3 * long.nbytes / min(seconds_of_calls(triad, long, long))
del square, long

print(f"matrix products: {matrix_rate / 1e9:.0f} GFLOP/s in float32")
print(f"memory:          {memory_rate / 1e9:.1f} GB/s")
print(
    f"at I = H both limits are equal at H = {40 / 48 * matrix_rate / memory_rate:.0f}; above it, products are the limit"
)

# %% [markdown]
# Now a training step: the loss and its gradients with respect to all parameters and the input. `jax.jit` compiles it
# once for each shape. One of T, B and H varies, the other two stand still, and I = H.


# %%
def loss(params, x, **options):
    output, _ = jaxlstm.lstm(params, x, **options)
    return jnp.mean(output**2)


def step_with(**options):
    """A training step: the loss and its gradients, by `jaxlstm.lstm` with these options."""
    return jax.jit(jax.value_and_grad(partial(loss, **options), argnums=(0, 1)))


training_step = step_with()


def setup(num_steps: int, batch_size: int, hidden_size: int):
    """Parameters and an input, I = H."""
    params = jaxlstm.init_lstm(jax.random.key(0), hidden_size, hidden_size)
    return params, jax.random.normal(jax.random.key(1), (num_steps, batch_size, hidden_size))


def roofline(num_steps: int, batch_size: int, hidden_size: int) -> float:
    """Seconds that a training step takes at least, I = H."""
    rows = num_steps * batch_size
    return max(48 * rows * hidden_size**2 / matrix_rate, 40 * rows * hidden_size / memory_rate)


FIXED = {"T": 64, "B": 32, "H": 128}
SWEEPS = {"T": [16, 64, 256, 1024], "B": [1, 4, 16, 64, 256], "H": [16, 32, 64, 128, 256, 512]}


class Sweep(NamedTuple):
    sizes: list[int]
    measured: list[float]  # seconds
    bound: list[float]  # seconds
    growth: float  # p in t ~ size^p
    factor: float


def sweep(axis: str) -> Sweep:
    """A training step's time against one axis, and the straight line through it on logarithmic axes."""
    shapes = [tuple((FIXED | {axis: size}).values()) for size in SWEEPS[axis]]
    measured = [statistics.median(seconds_of_calls(training_step, *setup(*shape))) for shape in shapes]
    growth, offset = np.polyfit(np.log(SWEEPS[axis]), np.log(measured), 1)
    return Sweep(SWEEPS[axis], measured, [roofline(*shape) for shape in shapes], growth, np.exp(offset))


sweeps = {axis: sweep(axis) for axis in SWEEPS}


def sweep_rows(axis: str, found: Sweep) -> list[str]:
    return [
        f"{axis} = {size} | {1e3 * took:.2f} ms | {1e3 * bound:.2f} ms | {bound / took:.0%}"
        for size, took, bound in zip(found.sizes, found.measured, found.bound, strict=True)
    ]


print("Where they stand still: " + ", ".join(f"{axis} = {size}" for axis, size in FIXED.items()))
table(
    " | measured | roofline | of roofline", [row for axis, found in sweeps.items() for row in sweep_rows(axis, found)]
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, panels = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained", sharey=True)
for axes, (axis, found) in zip(panels, sweeps.items(), strict=True):
    sizes = np.array(found.sizes)
    axes.loglog(sizes, 1e3 * np.array(found.measured), "o", color=BLUE, label="measured")
    axes.loglog(sizes, 1e3 * found.factor * sizes**found.growth, "--", color=BLUE, label="fit")
    axes.loglog(sizes, 1e3 * np.array(found.bound), "-", color=ORANGE, label="roofline")
    axes.set_xticks(sizes, sizes)
    axes.minorticks_off()
    others = ", ".join(f"{name} = {size}" for name, size in FIXED.items() if name != axis)
    axes.set(title=f"time grows as ${axis}^{{{found.growth:.2f}}}$", xlabel=f"{axis}   (at {others})")
panels[0].set_ylabel("training step [ms]")
panels[0].legend()
plt.show()

# %%
OPERATIONS = {"T": 1, "B": 1, "H": 2}  # As FLOPs grow.


def growth_row(axis: str, found: Sweep) -> str:
    last = np.log(found.measured[-1] / found.measured[-2]) / np.log(found.sizes[-1] / found.sizes[-2])
    return f"{axis} | {found.growth:.2f} | {last:.2f} | {OPERATIONS[axis]} | {found.bound[-1] / found.measured[-1]:.0%}"


table(
    " | growth, fitted | between the last two | of the operations | of roofline, at the largest",
    [growth_row(axis, found) for axis, found in sweeps.items()],
)

# %% [markdown]
# How to read it:
#
# - **T**: each step waits for the one before, so twice the steps take about twice the time. Where the exponent is below
#   1, what a call costs at all still shows; where above, longer arrays no longer fit the caches. Compiling takes no
#   longer: the loop is compiled once, however often it then runs.
# - **B** and **H**: where the exponent is below that of the operations, what a step costs besides its products still
#   shows (the loop itself, and small products that can't fill the machine). There, more rows or more units cost less
#   than in proportion. Where the last exponent has come up to the operations', the products are all that counts.
# - The gap between the dots and the roofline is what is left to win. It holds the gates' `tanh` and `sigmoid`, which
#   no FLOP count of products knows, and products of B columns, which run below the rate of square ones.
#
# ## 3. Two devices
#
# Put the batch on several devices and call as always: each runs the whole recurrence on its own rows, and they meet
# once, to add up the weights' gradients. With `jax_num_cpu_devices` (first cell) a CPU shows itself as several devices,
# so that a program for eight TPUs can be tried on it.
#
# Nothing is gained for certain, for they are the same cores. JAX's one CPU device uses all of them in its own way:
# jaxlstm's C++ kernels (`"native"`) share out the rows, once, and XLA's loop (`"xla"`) shares out the products of each
# step, where they are large enough. As two devices, the rows are halved first.

# %%
mesh = jax.make_mesh((2,), ("batch",), devices=jax.devices("cpu"))
NUM_STEPS, BATCH_SIZE, HIDDEN_SIZE = 128, 64, 128
params, x = setup(NUM_STEPS, BATCH_SIZE, HIDDEN_SIZE)
alone = jax.device_put((params, x), jax.devices("cpu")[0])
sharded = jax.device_put((params, x), shardings(mesh, (P(), input_spec()), (params, x)))


def devices_row(implementation: str) -> str:
    step = step_with(implementation=implementation)
    pairs = zip(jax.tree.leaves(step(*alone)), jax.tree.leaves(step(*sharded)), strict=True)
    apart = max(float(abs(a - jax.device_put(b, a.sharding)).max() / abs(a).max()) for a, b in pairs)
    one, two = (statistics.median(seconds_of_calls(step, *arguments)) for arguments in (alone, sharded))
    sums = step.lower(*sharded).compile().as_text().count(" all-reduce(")
    return f"{implementation} | {1e3 * one:.1f} ms | {1e3 * two:.1f} ms | {two / one:.2f} | {apart:.0e} | {sums}"


print(f"training step at {NUM_STEPS} steps, {BATCH_SIZE} rows, H = {HIDDEN_SIZE}, on {os.cpu_count()} cores")
chosen = jaxlstm.explain(params, x)["cpu"].implementation
table(
    "implementation | one device | two devices | ratio | loss and gradients apart by | all-reduces in the program",
    [devices_row(implementation) for implementation in dict.fromkeys([chosen, "xla"])],
)

# %% [markdown]
# ## 4. Memory: `checkpoint_every`
#
# The backward pass needs what every step of the forward pass found: at least $20\,H\,T\,B$ bytes in float32, and
# passing through it, as much again for the gradients of all steps. For a long sequence that is most of what training
# takes. `checkpoint_every=k` keeps the state of every k-th step only, and computes the steps between a second time
# when the backward pass comes to them: $8\,H\,B\,T/k$ bytes for the states, and some $20\,H\,B\,k$ for one chunk.
# The sum is smallest at a k of about $\sqrt{T}$, where it grows as $\sqrt{T}$ itself. What no k can save is the
# output and its gradient, $8\,H\,T\,B$ bytes, since the loss asks for every step. XLA tells how much temporary
# memory a compiled program takes.

# %%
LENGTHS = [128, 512, 2048, 4096]
ROWS, UNITS = 16, 128


class Cost(NamedTuple):
    memory: int  # bytes
    took: float  # seconds


def cost(num_steps: int, checkpoint_every: int | None) -> Cost:
    arguments = setup(num_steps, ROWS, UNITS)
    gradient = jax.grad(partial(loss, checkpoint_every=checkpoint_every))
    step = jax.jit(gradient).lower(*arguments).compile()
    return Cost(step.memory_analysis().temp_size_in_bytes, statistics.median(seconds_of_calls(step, *arguments)))


def every(num_steps: int) -> int:
    return round(num_steps**0.5)


plain = [cost(num_steps, None) for num_steps in LENGTHS]
checkpointed = [cost(num_steps, every(num_steps)) for num_steps in LENGTHS]

print(f"gradients of all parameters, B = {ROWS}, I = H = {UNITS}")


def cost_row(num_steps: int, a: Cost, b: Cost) -> str:
    memory = f"{a.memory / 1e6:.1f} MB | {b.memory / 1e6:.1f} MB | {b.memory / a.memory:.0%}"
    took = f"{1e3 * a.took:.1f} ms | {1e3 * b.took:.1f} ms | {b.took / a.took:.2f}"
    return f"{num_steps} | {every(num_steps)} | {memory} | {took}"


table(
    "T | k | memory | with k | ratio | time | with k | ratio",
    list(map(cost_row, LENGTHS, plain, checkpointed)),
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
lengths = np.array(LENGTHS)
left.loglog(lengths, [c.memory / 1e6 for c in plain], "o-", color=ORANGE, label="all steps kept")
left.loglog(lengths, [c.memory / 1e6 for c in checkpointed], "s-", color=BLUE, label=r"checkpoint_every = $\sqrt{T}$")
left.loglog(lengths, 20 * UNITS * ROWS * lengths / 1e6, ":", color=ORANGE, label="kept, on paper: 20 H T B")
left.loglog(lengths, 8 * UNITS * ROWS * lengths / 1e6, ":", color=BLUE, label="output and its gradient: 8 H T B")
share = checkpointed[-1].memory / plain[-1].memory
left.set(title=f"at T = {LENGTHS[-1]}, {share:.0%} of the memory", xlabel="T [steps]", ylabel="temporary memory [MB]")
left.set_ylim(top=10 * plain[-1].memory / 1e6)  # Room for the legend.
right.semilogx(lengths, [b.took / a.took for a, b in zip(plain, checkpointed, strict=True)], "s-", color=BLUE)
right.axhline(1, color=ORANGE)
right.set(
    title=f"for {checkpointed[-1].took / plain[-1].took:.2f} times the time",
    xlabel="T [steps]",
    ylabel="time / time with all steps kept",
)
right.set_ylim(bottom=0)
left.legend(fontsize=8.5)
for axes in (left, right):
    axes.set_xticks(lengths, lengths)
    axes.minorticks_off()
plt.show()

# %% [markdown]
# The last column is the price. (With k it is `"xla"` that runs, also where `"native"` would without.) Where it is
# near 1, computing a chunk a second time, in the caches, takes about as long as going out to memory for what had
# been kept: then try it even where memory is plenty. Where it is well above 1, it is for what would not fit
# otherwise.
#
# ## 5. On paper: 8, 64 and 512 devices
#
# **This section is a model, not a measurement.** It asks what a data-parallel LSTM could reach at best, from
# operations, bytes and the makers' published rates, and so what would limit it. It leaves out what is not published,
# above all what starting a step or a kernel costs, so read its times as lower bounds.
#
# | published | TPU v5p | NVIDIA H100 SXM |
# |:--|--:|--:|
# | matrix products, bfloat16, dense | 459 TFLOP/s [1] | 989 TFLOP/s [3] |
# | memory (HBM) | 2765 GB/s [1] | 3350 GB/s [3] |
# | on-chip memory, where W_hh can stay | VMEM: about 22 x HBM [2] | L2: about 5.5 TB/s [4] |
# | links out of a device, one way | 600 GB/s [1], half below 4x4x4 chips [2] | 450 GB/s in a node of 8 [3] |
# | the same, past a node | | 50 GB/s [5] |
#
# 1. Google Cloud documentation, [TPU v5p][1]: 1200 GB/s of ICI both ways.
# 2. *How to Scale Your Model*, chapter [How to Think About TPUs][2]: the rings of fewer than 4x4x4 chips don't close.
# 3. NVIDIA, [H100 Tensor Core GPU][3] data sheet: 1979 TFLOP/s with sparsity, half of it dense; NVLink 900 GB/s both
#    ways.
# 4. Measured by [Chips and Cheese][4] and cited in the same book's chapter [How to Think About GPUs][4b]; NVIDIA
#    publishes none.
# 5. NVIDIA, [DGX SuperPOD with H100, reference architecture][5]: 400 Gb/s of InfiniBand for each GPU.
#
# [1]: https://docs.cloud.google.com/tpu/docs/v5p
# [2]: https://jax-ml.github.io/scaling-book/tpus/
# [3]: https://www.nvidia.com/en-us/data-center/h100/
# [4]: https://chipsandcheese.com/p/nvidias-h100-funny-l2-and-tons-of-bandwidth
# [4b]: https://jax-ml.github.io/scaling-book/gpus/
# [5]: https://docs.nvidia.com/dgx-superpod/reference-architecture-scalable-infrastructure-h100/
#
# A device with b rows does per training step:
#
# - **Products**: $24\,T\,L\,b\,H\,(I+H)$ operations. All but the recurrence's own, $16\,T\,L\,b\,H^2$, can be
#   products over all steps at once.
# - **The recurrence**: T steps forward and T back in each layer, one after another. Each multiplies $W_{hh}$ with
#   only b columns: $8\,b\,H^2$ operations on $8H^2$ bytes of weights (bfloat16), needed anew at every step. And each
#   moves a row's own numbers: forward $38\,H$ bytes (x's projection 16 and what is kept 20, in float32, and the
#   output 2), backward $30\,H$ (what was kept 20, the output's gradient 2, and the gates' 8). With few rows a step
#   waits for the weights, and sharding the batch further no longer shortens it.
# - **The all-reduce** of the gradients of all $N$ parameters in float32: each device sends $2\,\frac{n-1}{n}\,4N$
#   bytes. On GPUs first within each node, then an eighth of it from each GPU to the other nodes. We overlap it with
#   nothing; a training loop can hide some of it behind the layers below.


# %%
class Machine(NamedTuple):
    name: str
    matrix_rate: float  # FLOP/s
    memory_rate: float  # bytes/s
    on_chip_rate: float  # bytes/s
    node: int  # devices that share the fast links
    links: float  # bytes/s out of a device within the node
    links_past_node: float  # bytes/s out of a device to other nodes


TPU = Machine("TPU v5p", 459e12, 2765e9, 22 * 2765e9, 8960, 600e9, 0)
GPU = Machine("H100", 989e12, 3350e9, 5.5e12, 8, 450e9, 50e9)
SMALLEST_RING = 64  # 4x4x4 chips of a TPU v5p.

STEPS, LAYERS, WIDTH = 512, 4, 1024  # T, L, and I = H
PARAMETERS = LAYERS * (8 * WIDTH**2 + 8 * WIDTH)
TOTAL_ROWS = 4096  # B over all devices, strong scaling
ROWS_EACH = 64  # b on each device, weak scaling


def products(machine: Machine, rows: float) -> float:
    """Seconds of all products at the full rate."""
    return STEPS * LAYERS * 48 * rows * WIDTH**2 / machine.matrix_rate


def waiting(machine: Machine, rows: float, *, on_chip: bool) -> float:
    """Seconds by which the recurrence's steps take longer than their products."""
    weights, computing = 8 * WIDTH**2, 8 * rows * WIDTH**2 / machine.matrix_rate
    seconds = 0.0
    for streamed in (38 * rows * WIDTH, 30 * rows * WIDTH):  # Bytes forward and backward.
        if on_chip:
            moving = max(weights / machine.on_chip_rate, streamed / machine.memory_rate)
        else:
            moving = (weights + streamed) / machine.memory_rate
        seconds += STEPS * LAYERS * max(moving - computing, 0)
    return seconds


def all_reduce(machine: Machine, devices: int) -> float:
    """Seconds to add up all gradients, and have them everywhere."""
    near = min(devices, machine.node)
    closed = machine is not TPU or devices >= SMALLEST_RING
    seconds = 2 * (near - 1) / near * 4 * PARAMETERS / (machine.links if closed else machine.links / 2)
    if devices > near:
        nodes = devices / near
        seconds += 2 * (nodes - 1) / nodes * 4 * PARAMETERS / near / machine.links_past_node
    return seconds


def parts(machine: Machine, devices: int, rows: float, *, on_chip: bool) -> dict[str, float]:
    return {
        "products": products(machine, rows),
        "waiting for memory": waiting(machine, rows, on_chip=on_chip),
        "all-reduce": all_reduce(machine, devices),
    }


def share_of_peak(found: dict[str, float]) -> float:
    return found["products"] / sum(found.values())


print(f"T = {STEPS}, L = {LAYERS}, I = H = {WIDTH}: {PARAMETERS / 1e6:.1f} M parameters")
print(f"one W_hh in bfloat16: {8 * WIDTH**2 / 2**20:.0f} MiB")
for machine in (TPU, GPU):
    off, on = (machine.matrix_rate / rate for rate in (machine.memory_rate, machine.on_chip_rate))
    print(f"{machine.name}: below {off:.0f} rows a step waits for a W_hh from HBM, below {on:.0f} for one on the chip")


def paper_row(machine: Machine, devices: int, rows: float, *, on_chip: bool) -> str:
    found = parts(machine, devices, rows, on_chip=on_chip)
    times = " | ".join(f"{1e3 * seconds:.2f} ms" for seconds in found.values())
    name = f"{machine.name} x {devices}, W_hh {'on chip' if on_chip else 'from HBM'}"
    return f"{name} | {rows:g} | {times} | {share_of_peak(found):.0%} | {max(found, key=found.__getitem__)}"


print(f"Strong scaling: {TOTAL_ROWS} rows in all")
table(
    "on paper | rows each | products | waiting for memory | all-reduce | of peak, at best | largest",
    [
        paper_row(machine, devices, TOTAL_ROWS / devices, on_chip=on_chip)
        for machine in (TPU, GPU)
        for on_chip in (False, True)
        for devices in (8, 64, 512)
    ],
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
devices = 2 ** np.arange(10)
figure, (strong, weak) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained", sharey=True)
for machine, colour in ((TPU, BLUE), (GPU, ORANGE)):
    for on_chip, line in ((False, "--"), (True, "-")):
        label = f"{machine.name}, W_hh {'on chip' if on_chip else 'from HBM'}"
        for axes, rows in ((strong, TOTAL_ROWS / devices), (weak, np.full(devices.shape, ROWS_EACH))):
            shares = [share_of_peak(parts(machine, n, b, on_chip=on_chip)) for n, b in zip(devices, rows, strict=True)]
            axes.semilogx(devices, 100 * np.array(shares), line, marker="o", markersize=4, color=colour, label=label)
for axes in (strong, weak):
    axes.set_xticks(devices, devices)
    axes.minorticks_off()
    axes.set(xlabel="devices", ylim=(0, 105))
strong.set(title=f"{TOTAL_ROWS} rows shared out: W_hh sets the end", ylabel="share of peak rate, at best [%]")
weak.set(title=f"{ROWS_EACH} rows on each: the level holds")
strong.legend(fontsize=9)
figure.suptitle("A model on paper, not a measurement", fontsize=10, color="0.35")
plt.show()

# %% [markdown]
# Where do the lines bend? Under strong scaling n devices have B/n rows each; these are the first n at which something
# else takes longer than the products:


# %%
def first(machine: Machine, overhead) -> str:
    """The smallest number of devices whose `overhead(n, rows)` is above their products."""
    counts = range(1, TOTAL_ROWS + 1)
    rows = {n: TOTAL_ROWS / n for n in counts}
    return str(next((n for n in counts if overhead(n, rows[n]) > products(machine, rows[n])), "never"))


def crossings(machine: Machine) -> str:
    from_hbm = first(machine, lambda _, rows: waiting(machine, rows, on_chip=False))
    on_chip = first(machine, lambda _, rows: waiting(machine, rows, on_chip=True))
    return f"{machine.name} | {from_hbm} | {on_chip} | {first(machine, lambda n, _: all_reduce(machine, n))}"


print(f"Devices among which {TOTAL_ROWS} rows are shared out:")
table("on paper | waiting, W_hh from HBM | waiting, W_hh on chip | all-reduce", list(map(crossings, (TPU, GPU))))

# %% [markdown]
# What follows from it:
#
# - With many rows to a device, an LSTM is limited by products, as most networks are.
# - What ends *strong* scaling (the same batch shared out) is the recurrence: it is serial in T, and its steps need
#   the whole W_hh for ever fewer rows. Where W_hh comes from HBM at every step, the curve bends first and falls
#   lowest; where a kernel keeps it on the chip, later. `implementation="pallas"` is such a kernel for TPUs. On GPUs,
#   "Persistent RNNs" (Diamos et al. 2016) keep it in registers, which are faster than the L2 assumed here, if it
#   fits.
# - The all-reduce comes after it, or first where W_hh stays on a TPU's chip: its bytes don't depend on the batch, so
#   its share grows as the rows of a device shrink. Links past a node weigh most.
# - *Weak* scaling (the batch grows with the devices) holds: neither products nor recurrence change with n, and the
#   all-reduce levels off at $8N$ bytes. What more devices can't do is make one sequence faster. For that there is a
#   smaller H, fewer steps, or several layers at work on different steps.
#
# ## 6. The same on a GPU or TPU
#
# **Nothing in this notebook has been measured on a GPU or TPU.** To run it there:
#
# ```sh
# pip install -e '.[bench,cuda13]'         # or cuda12, or tpu: brings the JAX that the device needs
# jaxlstm bench --json gpu.json            # section 1, on the device that JAX finds
# JAX_PLATFORMS=cpu jaxlstm bench          # keep off it
# XLA_PYTHON_CLIENT_PREALLOCATE=false ...  # XLA otherwise takes three quarters of a GPU's memory at its start
# ```
#
# This notebook is written to run there as it is; only section 3 stays on the CPU (give its mesh `jax.devices()` where
# there are several). What to expect:
#
# - **Choice of implementation**: `implementation=None` takes the best proven one on the platform that the program is
#   compiled for: `"native"`, the C++ kernels, on a CPU, and `"xla"`, a scan, elsewhere. `"pallas"` on a TPU and
#   `"cudnn"` on an NVIDIA GPU run where they are named, or raise `NotImplementedError` with the reason. With
#   `checkpoint_every` it is always the scan: the kernels keep every step.
# - **Growth**: the curves of section 2 should lie flat for longer. A step's cost hardly depends on B and H until the
#   device is full, so use large batches there.
# - **Precision**: by default, accelerators multiply float32 in fewer bits (bfloat16 passes on a TPU, TF32 on NVIDIA
#   GPUs). To compare numbers, wrap the calls in `jax.default_matmul_precision("highest")`.
# - **Memory**: an accelerator has less than its host. Section 4 is how long sequences fit.
# - **Timing**: JAX returns before the device is done. Without `jax.block_until_ready`, you time Python.
#
# One can also look before one has the device. From here, this training step lowers for all three platforms, as one
# program:

# %%
exported = jax.export.export(training_step, platforms=["cpu", "cuda", "tpu"])(*setup(64, 8, 128))
lowered = exported.mlir_module()
print(f"lowered for {', '.join(exported.platforms)}: {len(lowered.splitlines())} lines of StableHLO")

# %% [markdown]
# ## What to try next
#
# - `jaxlstm bench --cores 0`: pinned to one core, where products share nothing. Which ratios change, and which way?
# - Section 2 with `x.astype(jnp.bfloat16)` and parameters to match: does your CPU multiply bfloat16 faster than
#   float32?
# - Section 4 with other k: is $\sqrt{T}$ the cheapest? Where does the time go?
# - Section 5 with your own model's T, L and H, and your own network's rate. Which part is largest on the machines
#   that you have?
# - Section 3 on a real mesh, and `jaxlstm train`, which shards its batch the same way.
