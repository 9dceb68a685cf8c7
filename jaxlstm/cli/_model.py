"""A character model of embedding, LSTM and dense layer, and the steps that train, score and sample it."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxlstm
from jaxlstm.cli._config import TrainConfig
from jaxlstm.cli._text import UNKNOWN, UNKNOWN_BITS, encode
from jaxlstm.cli._windows import ScoredWindow, Window

EMBEDDING_SIZE = 64


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


def make_model(config: TrainConfig, vocabulary: str) -> CharacterModel:
    """The model of a run; its ids are those of `vocabulary` and `UNKNOWN`."""
    return CharacterModel(len(vocabulary) + 1, config.hidden, config.layers, config.dropout, jnp.dtype(config.dtype))


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    rise = min(int(config.warmup * config.steps), config.steps - 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, rise, config.steps)
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adamw(rate, weight_decay=config.weight_decay))


@functools.partial(jax.jit, static_argnames=("config", "model"))
def init(config: TrainConfig, model: CharacterModel) -> TrainState:
    """The state before the first step."""
    ids = jnp.zeros((1, config.batch), jnp.int32)
    params = model.init(jax.random.key(config.seed), ids)
    _, carry = model.apply(params, ids)
    return TrainState(
        jnp.zeros((), jnp.int32), params, _optimizer(config).init(params), jax.tree.map(jnp.zeros_like, carry)
    )


@functools.partial(jax.jit, static_argnames=("config", "model"), donate_argnames="state")
def train_step(
    config: TrainConfig, model: CharacterModel, state: TrainState, window: Window
) -> tuple[TrainState, jax.Array]:
    """One step of truncated backpropagation: the new state, and the mean loss in nats per character before it."""
    carry = jax.tree.map(lambda a: jnp.where(window.begins, 0, a), state.carry)
    dropout_key = jax.random.fold_in(jax.random.key(config.seed), state.step)

    def loss_of(params):
        logits, after = model.apply(params, window.inputs, carry, deterministic=False, rngs={"dropout": dropout_key})
        return _nats(logits, window.targets).mean(), after

    (loss, carry), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, opt_state = _optimizer(config).update(gradients, state.opt_state, state.params)
    return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state, carry), loss


def _nats(logits: jax.Array, targets: jax.typing.ArrayLike) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), jnp.asarray(targets))


@functools.partial(jax.jit, static_argnames="model")
def score_window(
    model: CharacterModel,
    params: Any,
    carry: jaxlstm.LSTMState,
    window: ScoredWindow,
) -> tuple[Any, jax.Array]:
    """The state after a window, and the bits that its targets take where they count."""
    logits, after = model.apply(params, window.inputs, carry)
    bits = _nats(logits, window.targets) / jnp.log(2.0) + jnp.where(window.targets == UNKNOWN, UNKNOWN_BITS, 0.0)
    return after, jnp.where(window.counts, bits, 0.0).sum()


@functools.partial(jax.jit, static_argnames=("model", "length"))
def generate(
    model: CharacterModel, params: Any, prompt: jax.Array, key: jax.Array, temperature: float, *, length: int
) -> jax.Array:
    """Ids `int32[length]` drawn one after the other behind the ids of the prompt, `int32[T]`."""
    logits, carry = model.apply(params, prompt)

    def draw(before, key):
        logits, carry = before
        logits = logits.astype(jnp.float32).at[UNKNOWN].set(-jnp.inf)
        drawn = jax.random.categorical(key, logits / temperature)
        logits, carry = model.apply(params, drawn[None], carry)
        return (logits[0], carry), drawn

    return jax.lax.scan(draw, (logits[-1], carry), jax.random.split(key, length))[1]


def continuation(
    model: CharacterModel, params: Any, vocabulary: str, prompt: str, length: int, temperature: float, seed: int
) -> str:
    """`length` characters drawn behind the prompt, all of whose characters are in the vocabulary."""
    ids = generate(model, params, encode(prompt, vocabulary), jax.random.key(seed), temperature, length=length)
    return "".join(vocabulary[k - 1] for k in np.asarray(ids))
