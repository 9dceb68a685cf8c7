"""A character model of embedding, LSTM and dense layer, and the steps that train, score and sample it."""

import functools
import os
from typing import Any, NamedTuple

import click
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxlstm
from jaxlstm.cli._config import EMBEDDING_SIZE, TrainConfig
from jaxlstm.cli._devices import BATCH
from jaxlstm.cli._run import Record
from jaxlstm.cli._text import UNKNOWN, UNKNOWN_BITS, encode
from jaxlstm.cli._windows import ScoredWindow, Window
from jaxlstm.sharding import input_spec, shardings, state_specs


class CharacterModel(nn.Module):
    """Scores of the next character: ids `int[T, B]` or `int[T]` to logits `[T, B, V]` or `[T, V]`, and the state."""

    vocabulary_size: int
    hidden_size: int
    num_layers: int
    dropout: float
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(
        self, ids: jax.Array, state: jaxlstm.LSTMState | None = None, *, deterministic: bool = True
    ) -> tuple[jax.Array, jaxlstm.LSTMState]:
        """Read on from `state`; None is the beginning of a text."""
        x = nn.Embed(self.vocabulary_size, EMBEDDING_SIZE, dtype=self.dtype)(ids)
        lstm = jaxlstm.LSTM(
            EMBEDDING_SIZE, self.hidden_size, self.num_layers, dropout=self.dropout, dtype=self.dtype, name="lstm"
        )
        x, state = lstm(x, state, deterministic=deterministic)
        return nn.Dense(self.vocabulary_size, dtype=self.dtype)(x), state


class TrainState(NamedTuple):
    """All that a step changes, and all that a checkpoint holds."""

    step: jax.Array
    params: Any
    opt_state: optax.OptState
    carry: jaxlstm.LSTMState


class Result(NamedTuple):
    """Of a step: the mean loss in nats per character before it, and the signal by which any process was told to stop.

    Without one, `stop` is 0.
    """

    loss: jax.Array
    stop: jax.Array


STATE_SPECS = TrainState._make([P(), P(), P(), state_specs(BATCH)])
"""How the state lies on the mesh: the carry by rows, everything else whole on each device."""

WINDOW_SPECS = Window._make([input_spec(BATCH), input_spec(BATCH), P()])


def _by_device(mesh: Mesh, in_specs: Any, out_specs: Any):
    """A function of one device's part. Not left to XLA, which can't partition a kernel."""
    return functools.partial(jax.shard_map, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def make_model(config: TrainConfig, vocabulary: str) -> CharacterModel:
    """The model of a run; its ids are those of `vocabulary` and `UNKNOWN`."""
    return CharacterModel(len(vocabulary) + 1, config.hidden, config.layers, config.dropout, jnp.dtype(config.dtype))


def learning_rate(config: TrainConfig) -> optax.Schedule:
    """The learning rate as a function of the steps that were made before."""
    rise = min(int(config.warmup * config.steps), config.steps - 1)
    return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, rise, config.steps)


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    adamw = optax.adamw(learning_rate(config), weight_decay=config.weight_decay)
    return optax.chain(optax.clip_by_global_norm(config.clip), adamw)


@functools.partial(jax.jit, static_argnames=("config", "model", "mesh"))
def init(config: TrainConfig, model: CharacterModel, mesh: Mesh) -> TrainState:
    """The state before the first step."""

    @_by_device(mesh, (), STATE_SPECS)
    def on_device() -> TrainState:
        ids = jnp.zeros((1, config.batch // mesh.size), jnp.int32)
        params = model.init(jax.random.key(config.seed), ids)
        _, carry = model.apply(params, ids)
        return TrainState(
            jnp.zeros((), jnp.int32), params, _optimizer(config).init(params), jax.tree.map(jnp.zeros_like, carry)
        )

    return on_device()


def state_shape(config: TrainConfig, model: CharacterModel, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state."""
    shapes = jax.eval_shape(lambda: init(config, model, mesh))

    def laid_out(a: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding)

    return jax.tree.map(laid_out, shapes, shardings(mesh, STATE_SPECS, shapes))


def check_memory(record: Record, mesh: Mesh) -> None:
    """Refuse what can't be held: XLA would crash, or the system would end other programs first.

    Raises:
        click.UsageError: parameters, gradients and optimizer take more than there is, where that is known.
    """
    if mesh.devices.flat[0].platform != "cpu" or not hasattr(os, "sysconf"):
        return
    config = record.config
    shapes = state_shape(config, make_model(config, record.vocabulary), mesh)
    needed = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves((shapes, shapes.params)))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise click.UsageError(
            f"--hidden {config.hidden} --layers {config.layers}: parameters, gradients and optimizer would take "
            f"{needed / 1e9:,.0f} GB, and this machine has {there / 1e9:,.0f} GB. Give smaller ones."
        )


@functools.partial(jax.jit, static_argnames=("config", "model", "mesh"), donate_argnames="state")
def train_step(
    config: TrainConfig, model: CharacterModel, mesh: Mesh, state: TrainState, window: Window, stop_signal: jax.Array
) -> tuple[TrainState, Result]:
    """One step of truncated backpropagation; `stop_signal`, a number for each device, is the signal to stop, or 0."""

    @_by_device(mesh, (STATE_SPECS, WINDOW_SPECS, P(BATCH)), (STATE_SPECS, P()))
    def on_device(state: TrainState, window: Window, stop_signal: jax.Array) -> tuple[TrainState, Result]:
        carry = jax.tree.map(lambda a: jnp.where(window.begins, 0, a), state.carry)
        dropout_key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        dropout_key = jax.random.fold_in(dropout_key, jax.lax.axis_index(BATCH))

        def loss_of(params):
            rngs = {"dropout": dropout_key}
            logits, after = model.apply(params, window.inputs, carry, deterministic=False, rngs=rngs)
            return _nats(logits, window.targets).mean(), after

        (loss, carry), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        loss, gradients = jax.lax.pmean((loss, gradients), BATCH)
        with jax.numpy_dtype_promotion("standard"):  # Adam's count of steps is an integer among floats (optax 0.2.8).
            updates, opt_state = _optimizer(config).update(gradients, state.opt_state, state.params)
        after = TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state, carry)
        return after, Result(loss, jax.lax.pmax(stop_signal.max(), BATCH))

    return on_device(state, window, stop_signal)


def _nats(logits: jax.Array, targets: jax.typing.ArrayLike) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), jnp.asarray(targets))


@functools.partial(jax.jit, static_argnames=("model", "mesh"))
def score_window(
    model: CharacterModel, mesh: Mesh, params: Any, carry: jaxlstm.LSTMState, window: ScoredWindow
) -> tuple[Any, jax.Array]:
    """The state after a window, and the bits that its targets take where they count."""

    @_by_device(mesh, (P(), STATE_SPECS.carry, input_spec(BATCH)), (STATE_SPECS.carry, P()))
    def on_device(params: Any, carry: jaxlstm.LSTMState, window: ScoredWindow):
        logits, after = model.apply(params, window.inputs, carry)
        bits = _nats(logits, window.targets) / jnp.log(2.0) + jnp.where(window.targets == UNKNOWN, UNKNOWN_BITS, 0.0)
        return after, jax.lax.psum(jnp.where(window.counts, bits, 0.0).sum(), BATCH)

    return on_device(params, carry, window)


@jax.jit
def is_finite(state: TrainState) -> jax.Array:
    """Whether all of its numbers are."""
    return jnp.stack([jnp.isfinite(a).all() for a in jax.tree.leaves(state)]).all()


@functools.partial(jax.jit, static_argnames=("model", "length"))
def generate(
    model: CharacterModel, params: Any, prompt: jax.Array, key: jax.Array, temperature: float, *, length: int
) -> jax.Array:
    """Ids `int32[length]` drawn one after the other behind the ids of the prompt, `int32[T]`.

    Temperature 0, and what float32 can hardly tell from it, takes the likeliest each time.
    """
    least = jnp.finfo(jnp.float32).tiny
    logits, carry = model.apply(params, prompt)

    def draw(before, key):
        logits, carry = before
        logits = logits.astype(jnp.float32).at[UNKNOWN].set(-jnp.inf)
        drawn = jnp.where(
            temperature < least,
            logits.argmax(),
            # So that none but the unlikely overflows, to -inf, which is right.
            jax.random.categorical(key, (logits - logits.max()) / jnp.maximum(temperature, least)),
        )
        logits, carry = model.apply(params, drawn[None], carry)
        return (logits[0], carry), drawn

    return jax.lax.scan(draw, (logits[-1], carry), jax.random.split(key, length))[1]


def continuation(
    model: CharacterModel, params: Any, vocabulary: str, prompt: str, length: int, temperature: float, seed: int
) -> str:
    """`length` characters drawn behind the prompt, all of whose characters are in the vocabulary."""
    ids = generate(model, params, encode(prompt, vocabulary), jax.random.key(seed), temperature, length=length)
    return "".join(vocabulary[k - 1] for k in np.asarray(ids))
