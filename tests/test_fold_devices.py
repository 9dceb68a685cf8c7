"""Cells by their native kernels or `xla` over 8 devices: what one device computes, and no row travels.

Eight devices exist only in a process that asked for them before JAX began: run as a script, this file is that process.
"""

import functools
import json
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
from derivatives import MIXED, H, I
from devices import report_of
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from strict import strictly

import jaxlstm
from jaxlstm import cells
from jaxlstm._floats import floats, joined
from jaxlstm.implementations import native
from jaxlstm.implementations._protocol import Masks, Operands
from jaxlstm.sharding import input_spec, param_specs, shardings

T, B = 16, 16  # steps enough for the kernels, however few rows a device has
CELLS = {"LSTM": cells.LSTM, "GRU": cells.GRU, "variant": cells.lstm(layer_norm=True, peephole=True), "mixed": MIXED}
PLACES = (P(), P(None, "batch"), P(None, "batch"), P("batch"), input_spec())


def problem(cell: jaxlstm.Cell) -> tuple:
    """Parameters, x, the initial state, every length from 0 to T, and resets."""
    keys = jax.random.split(jax.random.key(0), 6)
    state = cell.state(*jax.random.normal(keys[0], (len(cell.state._fields), 1, B, H)))
    if cell is MIXED:
        memory, count = jax.random.normal(keys[1], (1, B, H, 2)), jnp.arange(B, dtype=jnp.int32)[None]
        state = state._replace(memory=memory, taken=count, key=jax.random.split(keys[2], (1, B)))
    x, resets = jax.random.normal(keys[3], (T, B, I)), jax.random.bernoulli(keys[4], 0.2, (T, B))
    return jaxlstm.init_fold(keys[5], cell, I, H), x, state, jnp.arange(B, dtype=jnp.int32) % (T + 1), resets


def loss(cell: jaxlstm.Cell, params: Any, x: Any, some: Any, state: Any, lengths: Any, resets: Any) -> jax.Array:
    """A sum over rows, in which every float that comes out counts; `some` are the state's floats."""
    state, options = joined(some, state), {"lengths": lengths, "resets": resets}
    if cell is cells.GRU:
        results = jaxlstm.gru(params, x, state.h, **options)
    else:
        results = jaxlstm.fold(cell, params, x, state, **options)
    return sum((jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(floats(results))), jnp.zeros(()))


def value_and_gradients(function: Any, params: Any, x: Any, state: Any, lengths: Any, resets: Any) -> Any:
    return jax.value_and_grad(function, argnums=(0, 1, 2))(params, x, floats(state), state, lengths, resets)


def by_shard_map(cell: jaxlstm.Cell, mesh: jax.sharding.Mesh, check_vma: bool) -> Any:
    """The loss as a sum over devices, each of which sees its own rows only."""
    params, rows, state, lengths, resets = PLACES
    specs = params, rows, state, state, lengths, resets

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=check_vma)
    def total(*arguments):
        return jax.lax.psum(loss(cell, *arguments), "batch")

    return total


def communication(text: str) -> dict[str, list[str]]:
    """The collectives of a compiled program that it goes through once, and those in its loops."""
    loops, once = text.split("\nENTRY ")
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    return {place: re.findall(rf" ({kinds})(?:-start)?\(", part) for place, part in (("once", once), ("loops", loops))}


def main() -> None:
    """Every case, as JSON on standard output."""
    report = {}
    for name, cell in CELLS.items():
        arguments = problem(cell)
        one = jax.jit(functools.partial(value_and_gradients, functools.partial(loss, cell)))(*arguments)
        auto, explicit = (
            jax.make_mesh((8,), ("batch",), axis_types=(kind,)) for kind in (AxisType.Auto, AxisType.Explicit)
        )
        for way, mesh, function in (
            ("auto", auto, functools.partial(loss, cell)),
            ("explicit", explicit, functools.partial(loss, cell)),
            ("shard_map", auto, by_shard_map(cell, auto, check_vma=False)),
            ("shard_map, check_vma", auto, by_shard_map(cell, auto, check_vma=True)),
        ):
            placed = jax.device_put(arguments, shardings(mesh, PLACES, arguments))
            compiled = jax.jit(functools.partial(value_and_gradients, function)).lower(*placed).compile()
            difference = jax.tree.map(lambda a, b: abs(a - b).max(), *jax.device_get((compiled(*placed), one)))
            report[f"{name}, {way}"] = {
                "difference": max(map(float, jax.tree.leaves(difference))),
                "kernels": "jaxlstm_backward" in str(compiled.as_text()),
                **communication(str(compiled.as_text())),
            }
    report |= split_by_units() | alone()
    json.dump(report, sys.stdout)


def split_by_units() -> dict:
    """A GRU whose gate rows lie on all devices."""
    mesh = jax.make_mesh((1, 8), ("batch", "model"), axis_types=(AxisType.Auto,) * 2)
    params, x = jaxlstm.init_gru(jax.random.key(0), I, 8), jax.random.normal(jax.random.key(1), (T, B, I))
    run = jax.jit(lambda params, x: jaxlstm.gru(params, x)[0])
    placed = jax.device_put(params, shardings(mesh, param_specs(params, "model"), params))
    return {"split by units": {"difference": float(abs(run(placed, x) - run(params, x)).max())}}


def alone() -> dict:
    """What XLA does to a kernel of which it is told nothing: the reason for `implementations/_platform.py`."""
    params, x, *_ = problem(cells.GRU)
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    operands = Operands(params[0][0], x, cells.HiddenState(jnp.zeros((B, H))))
    place = shardings(mesh, (P(), P(None, "batch"), P("batch")), tuple(operands))
    run = jax.jit(functools.partial(native.forward, masks=Masks(None, None), reverse=False, keep=False))
    if native.library() is None:
        return {"alone": None}
    text = run.lower(Operands(*jax.device_put(tuple(operands), place))).compile().as_text()
    return {"alone": "all-gather" in str(text)}


# Where XLA partitions the loop, it sums the gradient of a rule's own parameters over the devices at every step.
BY_STEP = {f"{name}, {way}" for name in ("variant", "mixed") for way in ("auto", "explicit")}


def test_eight_devices_agree_with_one():
    report = report_of(__file__, 8)
    assert report.pop("split by units")["difference"] < 3e-5
    built = native.library() is not None
    assert report.pop("alone") == (True if built else None)
    assert len(report) == 4 * len(CELLS)
    for name, found in report.items():
        assert found["kernels"] == (built and name.split(", ")[0] in ("LSTM", "GRU")), name
        assert found["difference"] < 3e-5, name
        assert set(found["once"]) == {"all-reduce"}, name
        assert set(found["loops"]) <= ({"all-reduce"} if name in BY_STEP else set()), name


if __name__ == "__main__":
    strictly()
    main()
