"""Under `shard_map` with its check on, any arguments may vary over the devices while others are the same on all.

The value and each gradient are those of a loop over the devices. `jaxlstm._mesh.varying_alike` sees to it, in three
places. The devices exist only in a process that asked for them: run as a script, this file is that process.
"""

import functools
import json
import sys
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from devices import report_of
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from strict import strictly
from table import interpreted, table_of

import jaxlstm

N, T, B, I, H = 2, 3, 2, 3, 4  # noqa: E741
FLOATS = ["params", "x", "state", "reset_state"]
NAMES = [*FLOATS, "lengths", "resets", "dropout_key"]

# Which arguments vary: an ensemble on one input, one model on many inputs, and then a covering array: of any two
# arguments, both vary somewhere, and either does without the other.
COMBINATIONS = [
    {"params"},
    {"x"},
    {"params", "state", "lengths", "resets"},
    {"x", "state", "lengths", "dropout_key"},
    {"x", "reset_state", "resets", "dropout_key"},
    {"params", "x", "state", "reset_state"},
    {"params", "reset_state", "lengths", "resets", "dropout_key"},
]
# The kernel begins anew from zero only, and what it is wrapped in is the same for each argument.
CASES = {"xla": (COMBINATIONS, NAMES), "pallas": (COMBINATIONS[:4], [*NAMES[:3], *NAMES[4:]])}


def members() -> dict[str, Any]:
    """Every argument of `lstm`, one for each of N devices."""
    keys = jax.random.split(jax.random.key(0), 6)
    states = jax.random.normal(keys[1], (4, N, 2, B, H))
    return {
        "params": jax.vmap(lambda key: jaxlstm.init_lstm(key, I, H, 2))(jax.random.split(keys[0], N)),
        "x": jax.random.normal(keys[2], (N, T, B, I)),
        "state": jaxlstm.LSTMState(*states[:2]),
        "reset_state": jaxlstm.LSTMState(*states[2:]),
        "lengths": jnp.arange(N * B).reshape(N, B),
        "resets": jax.random.bernoulli(keys[4], 0.5, (N, T, B)),
        "dropout_key": jax.random.split(keys[5], N),
    }


def member(number: int, tree: Any) -> Any:
    return jax.tree.map(lambda a: a[number], tree)


def loss(implementation: str, floats: dict, others: dict, weight: jax.Array) -> jax.Array:
    arguments = floats | others
    y, final = jaxlstm.lstm(**arguments, dropout=0.5, implementation=implementation)
    return weight * jnp.sum(jnp.sin(y)) + jnp.sum(jnp.sin(final.c))


def halves(arguments: dict) -> tuple[dict, dict]:
    """The arguments to differentiate in, and the others."""
    floats = {name: a for name, a in arguments.items() if name in FLOATS}
    return floats, {name: a for name, a in arguments.items() if name not in FLOATS}


def by_loop(one: Any, arguments: dict, varying: set[str]) -> tuple:
    """The sum over the devices, and its gradients: by device where an argument varies, and summed where it doesn't."""
    parts = []
    for n in range(N):
        chosen = {name: member(n, a) if name in varying else a for name, a in arguments.items()}
        parts.append(one(*halves(chosen), jnp.float32(n + 1)))
    value, gradients = jax.tree.map(lambda *a: jnp.stack(a), *parts)
    summed = {name: g if name in varying else jax.tree.map(lambda a: a.sum(0), g) for name, g in gradients.items()}
    return value.sum(), summed


def by_shard_map(implementation: str, arguments: dict, varying: set[str]) -> tuple:
    specs = {name: P("member") if name in varying else P() for name in arguments}

    mesh = jax.make_mesh((N,), ("member",), axis_types=(AxisType.Auto,))

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=halves(specs), out_specs=P())
    def total(floats, others):
        own = {name: member(0, a) if name in varying else a for name, a in (floats | others).items()}
        weight = jax.lax.axis_index("member").astype(jnp.float32) + 1
        return jax.lax.psum(loss(implementation, *halves(own), weight), "member")

    return jax.jit(jax.value_and_grad(total))(*halves(arguments))


def main() -> None:
    """The largest difference between the two ways in each case, as JSON on standard output."""
    report = {}
    for implementation, (combinations, names) in CASES.items():
        every = {name: a for name, a in members().items() if name in names}
        with table_of(interpreted("cpu")) if implementation == "pallas" else nullcontext():
            one = jax.jit(jax.value_and_grad(functools.partial(loss, implementation)))
            for varying in combinations:
                arguments = {name: a if name in varying else member(0, a) for name, a in every.items()}
                both = by_shard_map(implementation, arguments, varying), by_loop(one, arguments, varying)
                got, wanted = (jax.tree.leaves(jax.device_get(tree)) for tree in both)
                difference = max(float(np.abs(g - w).max()) for g, w in zip(got, wanted, strict=True))
                report[f"{implementation}: {sorted(varying)}"] = difference
    json.dump(report, sys.stdout)


def test_any_arguments_may_vary():
    report = report_of(__file__, N)
    assert len(report) == 7 + 4
    assert {case for case, difference in report.items() if not difference < 1e-5} == set()


if __name__ == "__main__":
    strictly()
    main()
